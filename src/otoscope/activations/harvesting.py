"""Harvesting: one pass of a model over a corpus fills a store with the activations of several sites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import otoscope
from otoscope.activations.filling import batch_windows, fill
from otoscope.activations.journal import FILE as JOURNAL
from otoscope.activations.journal import Journal, check_same_job
from otoscope.activations.shards import DTYPES
from otoscope.activations.statistics import SiteStatistics
from otoscope.activations.store import CLIPS, FORMAT, VERSION, ActivationStore
from otoscope.audio import Corpus
from otoscope.errors import InputError
from otoscope.models import Site, SpeechModel
from otoscope.progress import ProgressReport
from otoscope.storage import atomic_path, read_json, write_json

SHARD_FRAMES = 16384
"""A shard is closed with the clip that reaches this many frames (5.5 minutes of sound)."""


def harvest(
    model: SpeechModel,
    corpus: Corpus,
    sites: Sequence[str],
    to: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    shard_frames: int | None = None,
    batch_size: int | None = None,
    progress: bool | ProgressReport = True,
) -> ActivationStore:
    """Store the activations of `sites` for every valid frame of a corpus, and return the store.

    All sites come from one encoder pass. Run again after an interruption, it goes on at the next shard, and the
    finished store is byte for byte that of an uninterrupted run on the same machine. `batch_size` counts windows; by
    default, as many as suit the model and device. Of a finished store of the same job nothing is computed again.

    Raises:
        InputError: unknown or frameless site, a clip that cannot be decoded, values beyond `dtype`, or a folder that
            holds another job.
        OtoscopeError: the disk is full, or the model computes NaN.
    """
    folder = Path(to)
    chosen = frame_sites(model, sites)
    if dtype not in DTYPES:
        raise InputError(f"A store holds float16 or bfloat16, not {dtype!r}.")
    for name, value in (("shard_frames", shard_frames), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}.")
    job = {
        "model": None,
        "weights_hash": model.weights_hash,
        "compute_dtype": str(model.dtype).removeprefix("torch."),
        "sites": [str(site) for site in chosen],
        "dtype": dtype,
        "audio_fingerprint": corpus.audio_fingerprint,
        "shard_frames": shard_frames,
        "batch_size": batch_size,
        "corpus": None,
        "corpus_fingerprint": None,
        "n_clips": None,
        "otoscope_version": None,
    }
    if finished := _finished(folder, job):
        return finished
    _refuse_foreign(folder)
    journal = Journal.open(folder, job)
    try:
        journal.begin(
            {
                "model": model.name,
                "shard_frames": SHARD_FRAMES,
                "batch_size": batch_windows(model),
                "corpus": corpus.name,
                "corpus_fingerprint": corpus.fingerprint,
                "n_clips": len(corpus),
                "otoscope_version": otoscope.__version__,
            }
        )
        chosen = [model.site(name) for name in journal.job["sites"]]  # in the order in which the job was begun
        _clean(folder, journal)
        fill(journal, model, corpus, chosen, progress)
        _finish(journal, model, corpus, chosen)
    finally:
        journal.close()
    (folder / JOURNAL).unlink()
    return ActivationStore.open(folder)


def frame_sites(model: SpeechModel, sites: Sequence[str]) -> list[Site]:
    """Parse the sites; a store holds one vector per 20-ms frame.

    Raises:
        InputError: none, or a site that has no such frames.
    """
    if isinstance(sites, str):
        raise InputError(f"`sites` is a list; write sites=[{sites!r}].")
    chosen = list({site.name: site for site in (model.site(str(text)) for text in sites)}.values())
    if not chosen:
        raise InputError("Name at least one site to harvest, e.g. sites=['encoder.0.resid_post'].")
    for site in chosen:
        if site.is_map:
            raise InputError(
                f"{site} is a map of frames by frames, which a store cannot hold; read it clip by clip with model.run."
            )
        if site.of_text(model.dims):
            raise InputError(
                f"{site} has a row per token and a store one per frame; read it clip by clip with model.run."
            )
        rate_hz = site.clock(model.dims).positions_hz
        if rate_hz != model.clock.positions_hz:
            raise InputError(
                f"{site} has {rate_hz:g} frames per second and a store holds {model.clock.positions_hz:g}; "
                "read it clip by clip with model.run."
            )
    return chosen


def _finished(folder: Path, job: dict[str, Any]) -> ActivationStore | None:
    """Return the store if this job is done already; a damaged one is an error, another job too."""
    if not (folder / "meta.json").exists():
        return None
    meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
    check_same_job(folder, {**meta, "sites": list(meta["sites"])}, job)
    store = ActivationStore.open(folder)
    (folder / JOURNAL).unlink(missing_ok=True)
    return store


def _refuse_foreign(folder: Path) -> None:
    """Never write into a folder that is something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; harvest to a folder.")
    if folder.is_dir() and not (folder / JOURNAL).exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no harvest; choose another folder.")


def _clean(folder: Path, journal: Journal) -> None:
    """Remove what a killed run left beside the shards of the journal."""
    known = {(site, e["file"]) for shard in journal.shards for site, e in shard["files"].items()}
    for site in journal.job["sites"]:
        (folder / site).mkdir(exist_ok=True)
        for path in (folder / site).iterdir():
            if (site, path.name) not in known:
                path.unlink()
    for path in folder.glob(".*.part"):
        path.unlink()


def _finish(journal: Journal, model: SpeechModel, corpus: Corpus, sites: Sequence[Site]) -> None:
    """Write the tables; the store exists once `meta.json` does."""
    rows = []
    for index, shard in enumerate(journal.shards):
        offset = 0
        for clip_id, n_frames in shard["clips"]:
            rows.append({"clip_id": clip_id, "shard": index, "offset": offset, "n_frames": n_frames})
            offset += n_frames
    with atomic_path(journal.folder / "clips.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=CLIPS), temporary)
    facts = {}
    for site in sites:
        shards = [SiteStatistics.from_json(shard["statistics"][str(site)]) for shard in journal.shards]
        total = shards[0]
        for part in shards[1:]:
            total = total + part
        facts[str(site)] = {
            "d": model.width(site),
            "mean_norm": total.mean_norm,
            "scale": total.scale,
            "mean": total.mean.tolist(),
            "shards": [shard["files"][str(site)] for shard in journal.shards],
        }
    meta = {
        "format": FORMAT,
        "version": VERSION,
        **journal.job,
        "family": model.dims.family,
        "clock": {"frame_s": model.clock.frame_s, "offset_s": model.clock.offset_s},
        "n_frames": sum(row["n_frames"] for row in rows),
    }
    write_json(journal.folder / "meta.json", {**meta, "sites": facts})
