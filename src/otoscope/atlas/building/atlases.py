"""Building atlases: one pass over the clips for any number of dictionaries, then every feature's entries and labels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from otoscope.activations import ActivationStore
from otoscope.atlas.atlas import Atlas
from otoscope.atlas.building.code_pass import CodeWriter
from otoscope.atlas.building.cofiring import CofiringCounter
from otoscope.atlas.building.encoding import Encoding, encode
from otoscope.atlas.building.floors import SHARE
from otoscope.atlas.building.indexing import PostingsWriter, clip_bounds, in_order, index_block, joined
from otoscope.atlas.building.neighbours import WITHOUT_DIRECTIONS
from otoscope.atlas.building.reuse import Donors, fitting
from otoscope.atlas.building.sources import frame_stream
from otoscope.atlas.building.statistics import Uncut
from otoscope.atlas.building.tables import (
    write_acoustics,
    write_bands,
    write_classes,
    write_clips,
    write_features,
    write_labels,
)
from otoscope.atlas.building.transposing import transposed
from otoscope.atlas.exports.parquet import write_tables
from otoscope.atlas.format import FORMAT, TOTALS, VERSION
from otoscope.atlas.labels.collecting import collect_labels
from otoscope.atlas.labels.evidence import Evidence
from otoscope.atlas.labels.judging import judge, kind_facts
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.naming.discovery import RATE
from otoscope.evaluation.naming.label_sets import split_clips
from otoscope.evaluation.naming.labeller import N_SHIFTS
from otoscope.evaluation.naming.traits import all_kinds
from otoscope.models import Clock, SpeechModel
from otoscope.progress import ProgressReport, track
from otoscope.storage import link_or_copy, plain_os_errors
from otoscope.storage.locks import only_one
from otoscope.storage.memory import give_back, large_arrays_apart
from otoscope.storage.sealed import seal

_GIVE_BACK_EVERY = 16  # blocks: memory that was given back must be cleared by the system before it is used again


def build_atlas(
    source: ActivationStore | SpeechModel,
    dictionary: Dictionary,
    corpus: Corpus,
    to: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    n_shifts: int = N_SHIFTS,
    progress: bool | ProgressReport = True,
) -> Atlas:
    """Index what every feature of `dictionary` does on `corpus`, and name what it detects.

    Frames come from an activation store or straight from a model. Memory grows with the number of features, and with
    the active frames of the busiest one (some 30 bytes each), not with all frames; an interrupted build continues when
    called again. An older atlas of the same dictionary and source at `to` lends its codes: only new clips are encoded.
    The same inputs give the same bytes, however they came about.

    Args:
        source: harvested activations of the dictionary's site that hold the corpus's clips, or the model itself.
        dictionary: what to index.
        corpus: the clips, with the tiers and attributes that labels come from.
        to: folder to write; None keeps the atlas in a temporary folder that disappears with it.
        name: what to call it; the dictionary's name if not given.
        seed: decides the halves of the voices and the shifts of the null.
        n_shifts: how often the labels are moved to see what chance gives.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: the source lacks the site or clips, or the dictionary does not fit the site.
        OtoscopeError: the folder cannot be written, or another process is building there.
    """
    holder = None
    if to is None:
        holder = tempfile.TemporaryDirectory(prefix="otoscope-atlas-")
        to = Path(holder.name) / "atlas"
    names = None if name is None else [name]
    (atlas,) = build_atlases(
        source, [dictionary], corpus, [to], names=names, seed=seed, n_shifts=n_shifts, progress=progress
    )
    atlas.holder = holder
    return atlas


def build_atlases(
    source: ActivationStore | SpeechModel,
    dictionaries: Sequence[Dictionary],
    corpus: Corpus,
    to: Sequence[str | os.PathLike[str]],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    n_shifts: int = N_SHIFTS,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> list[Atlas]:
    """Index several dictionaries, of one or several sites, in one pass over the corpus.

    `to` are the folders of the atlases, `names` what they are called (default: as the dictionaries). With `wait`,
    wait for other processes that build there instead of refusing. See `build_atlas`.
    """
    if n_shifts < 2:
        raise InputError(f"n_shifts must be at least 2 to see how far chance varies, got {n_shifts}.")
    folders = [Path(folder) for folder in to]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"Two atlases cannot be built in one folder ({', '.join(map(str, folders))}).")
    stream = frame_stream(source, dictionaries, corpus)
    with contextlib.ExitStack() as locks:
        for folder in folders:
            locks.enter_context(workplace(folder, wait))
        encodings = [
            begin(
                folder,
                each,
                corpus,
                stream.fingerprint,
                fitting(folder, stream.fingerprint, each, corpus),
                whole=corpus,
            )
            for folder, each in zip(folders, dictionaries, strict=True)
        ]
        encode(stream, encodings, corpus, corpus, progress)
        give_back()
        called_so = names or [dictionary.name for dictionary in dictionaries]
        for each, folder, called in zip(encodings, folders, called_so, strict=True):
            facts = {"name": called, "model": stream.model, "source": stream.fingerprint}
            finish(folder, each, corpus, stream.clock, facts, seed=seed, n_shifts=n_shifts, progress=progress)
    return [Atlas.open(folder) for folder in folders]


@contextlib.contextmanager
def workplace(folder: Path, wait: bool) -> Iterator[None]:
    """Keep other processes away from an atlas in the making, and from what it replaces.

    Raises:
        InputError: the folder holds something else.
        OtoscopeError: another process is at it, and `wait` is False.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder.with_name(f".{folder.name}.lock"), f"building {folder}", wait):
        aside = _building(folder) / "replaced"
        if aside.exists() and not folder.exists():  # a run was killed between the two
            os.replace(aside, folder)
        if folder.exists() and not (folder / "meta.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} holds something that is no atlas; move it away or choose another folder.")
        yield


def begin(
    folder: Path, dictionary: Dictionary, clips: Corpus, source: str, donors: Donors, *, whole: Corpus
) -> Encoding:
    """Begin, or go on with, the codes of `clips` of the corpus `whole`, beside the folder where they will be."""
    corpora = [clips.audio_fingerprint, whole.audio_fingerprint]
    facts = "\n".join([source, dictionary.fingerprint, *corpora, *donors.names])
    key = hashlib.sha256(facts.encode()).hexdigest()
    writer = CodeWriter(_building(folder), key, n_features=dictionary.n_features, dense=dictionary.dense)
    return Encoding(dictionary, writer, donors)


def finish(
    folder: Path,
    each: Encoding,
    corpus: Corpus,
    clock: Clock,
    facts: Mapping[str, Any],
    *,
    seed: int,
    n_shifts: int,
    progress: bool | ProgressReport,
) -> None:
    """Index and label what was encoded, seal it, and put it in its place."""
    with plain_os_errors(folder), large_arrays_apart():
        new = fresh(folder)
        meta = _index(each, corpus, clock, new, seed, n_shifts, progress)
        write_tables(new)
        seal(new, {**facts, **meta}, format=FORMAT, version=VERSION)
        place(new, folder)


def fresh(folder: Path) -> Path:
    """Return a new folder beside `folder`, for what will be there."""
    new = _building(folder) / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    return new


def place(new: Path, folder: Path) -> None:
    """Put a sealed folder in its place and tidy up; what was there is gone only when the new one is there."""
    aside = _building(folder) / "replaced"
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
    os.replace(new, folder)
    shutil.rmtree(_building(folder), ignore_errors=True)


def link_codes(writer: CodeWriter, to: Path) -> list[dict[str, int]]:
    """Give the written parts a second name in `to / "codes"`, and return what they hold."""
    parts = writer.close()
    (to / "codes").mkdir()
    for path in sorted((writer.folder / "codes").iterdir()):
        link_or_copy(path, to / "codes" / path.name)
    return parts


def _building(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.building")


def dictionary_facts(dictionary: Dictionary) -> dict[str, Any]:
    """What `meta.json` says about a dictionary."""
    return {
        "name": dictionary.name,
        "kind": dictionary.kind,
        "fingerprint": dictionary.fingerprint,
        "dense": dictionary.dense,
    }


def floor_facts(each: Encoding) -> dict[str, Any] | None:
    """What `meta.json` says about floors; None for sparse dictionaries, which have none."""
    return {"share": SHARE, "pilot": each.pilot} if each.dictionary.dense else None


def _index(
    each: Encoding,
    corpus: Corpus,
    clock: Clock,
    folder: Path,
    seed: int,
    n_shifts: int,
    progress: bool | ProgressReport,
) -> dict[str, Any]:
    """Write everything but the seal and return what goes into `meta.json`."""
    dictionary, writer = each.dictionary, each.writer
    clip_frames = writer.clip_frames
    bounds = clip_bounds(clip_frames)
    n_frames = int(bounds[-1])
    half, held_out = split_clips(corpus, clip_frames, seed)
    parts = link_codes(writer, folder)
    labelling = collect_labels(
        corpus, all_kinds(corpus), clip_frames, [part["n_clips"] for part in parts], half, clock, folder,
        writer.folder / "labels", seed=seed, n_shifts=n_shifts,
    )  # fmt: skip
    give_back()
    totals = each.totals()
    uncut = None if totals is None or each.floors is None else Uncut(each.floors, totals)
    if uncut is not None:
        uncut.totals.save(folder / TOTALS, uncut.floors)
    numbered = [(part["first_frame"], writer.part(number)) for number, part in enumerate(parts)]
    turned = transposed(numbered, writer.folder / "transposed", dictionary.n_features)
    ids = [clip.clip_id for clip in corpus]
    evidence = Evidence(labelling, numbered, ids, bounds, turned.counts, writer.folder / "labels", seed=seed)
    give_back()
    partners = CofiringCounter(numbered, turned.counts, n_frames, correlate=dictionary.kind in WITHOUT_DIRECTIONS)
    postings = PostingsWriter(folder, bounds)
    statistics, named, acoustic = [], [], []
    with track("index and label", dictionary.n_features, progress, unit="features") as advance:
        found_of = in_order(
            turned.blocks(evidence.effort),
            lambda block: index_block(block, bounds[:-1], n_frames, evidence, uncut, partners),
        )
        for number, found in enumerate(found_of, start=1):
            postings.append(found.block)
            statistics.append(found.statistics)
            named.append(found.named)
            acoustic.append(found.acoustic)
            advance(len(found.block))
            if number % _GIVE_BACK_EVERY == 0:
                give_back()
    posting_parts = postings.close()
    turned.close()
    of_features = joined(statistics)
    partners.complete(of_features)
    shutil.rmtree(writer.folder / "labels", ignore_errors=True)
    judged = judge(labelling, named, joined(acoustic), dictionary.n_features)
    write_clips(folder, corpus, clip_frames, half)
    purities = joined([each.purities for each in named])
    write_features(folder, dictionary, of_features, purities, judged, evidence.share, each.floors)
    write_labels(folder, judged.pairs, dictionary.n_features, each.floors)
    write_bands(folder, judged.bands, dictionary.n_features)
    write_acoustics(folder, joined(acoustic))
    write_classes(folder, labelling, judged.pairs)
    return {
        "site": dictionary.site,
        "dictionary": dictionary_facts(dictionary),
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        "n_features": dictionary.n_features,
        "n_frames": n_frames,
        "n_clips": len(clip_frames),
        "frame_s": clock.frame_s,
        "first_frame_s": clock.offset_s,
        "seed": seed,
        "n_shifts": n_shifts,
        "floors": floor_facts(each),
        "held_out": held_out,
        "false_discovery": {"rate": RATE, "method": "Benjamini-Bogomolov 2014: features by Simes, classes within"},
        "labels": kind_facts(labelling),
        "codes": {"parts": parts},
        "postings": {"parts": posting_parts, "n_entries": postings.n_entries},
    }
