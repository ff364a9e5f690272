"""Building atlases: one pass over the clips for any number of dictionaries, then every feature's entries and labels."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otoscope.activations import ActivationStore
from otoscope.atlas.atlas import Atlas
from otoscope.atlas.build.code_pass import CodeWriter, frame_code
from otoscope.atlas.build.indexing import Indexed, PostingsWriter, clip_bounds, in_order, index_block, joined
from otoscope.atlas.build.measures import frame_measures
from otoscope.atlas.build.sources import FrameStream, frame_stream
from otoscope.atlas.build.tables import (
    ranked_labels,
    write_classes,
    write_clips,
    write_features,
    write_labels,
)
from otoscope.atlas.build.transposing import transposed
from otoscope.atlas.exports.parquet import write_tables
from otoscope.atlas.format import FORMAT, VERSION
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.label_sets import label_sets, split_clips
from otoscope.evaluation.labeller import N_SHIFTS, Labeller
from otoscope.models import Clock, SpeechModel
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_folder
from otoscope.storage.sealed import seal


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

    Frames come from an activation store or straight from a model. Memory grows with the number of features, not of
    frames; an interrupted build continues when called again. The same inputs give the same bytes.

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
        OtoscopeError: the folder cannot be written.
    """
    holder = None
    if to is None:
        holder = tempfile.TemporaryDirectory(prefix="otoscope-atlas-")
        to = Path(holder.name) / "atlas"
    names = {} if name is None else {dictionary.name: name}
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
    names: Mapping[str, str] | None = None,
    seed: int = 0,
    n_shifts: int = N_SHIFTS,
    progress: bool | ProgressReport = True,
) -> list[Atlas]:
    """Index several dictionaries, of one or several sites, in one pass over the corpus.

    `to` are the folders of the atlases, `names` what they are called, by dictionary (default: the same). See
    `build_atlas`.
    """
    if n_shifts < 2:
        raise InputError(f"n_shifts must be at least 2 to see how far chance varies, got {n_shifts}.")
    stream = frame_stream(source, dictionaries, corpus)
    folders = [Path(folder) for folder in to]
    writers = []
    for dictionary, folder in zip(dictionaries, folders, strict=True):
        facts = f"{stream.fingerprint} {dictionary.fingerprint} {corpus.fingerprint}"
        key = hashlib.sha256(facts.encode()).hexdigest()
        folder.parent.mkdir(parents=True, exist_ok=True)
        writers.append(CodeWriter(folder.with_name(f".{folder.name}.building"), key))
    _encode(stream, dictionaries, writers, corpus, progress)
    atlases = []
    for dictionary, writer, folder in zip(dictionaries, writers, folders, strict=True):
        called = (names or {}).get(dictionary.name, dictionary.name)
        with atomic_folder(folder) as temporary:
            meta = _index(writer, dictionary, corpus, stream.clock, temporary, seed, n_shifts, progress)
            meta = {"name": called, "model": stream.model, "source": stream.fingerprint, **meta, "key": writer.key}
            write_tables(temporary)
            seal(temporary, meta, format=FORMAT, version=VERSION)
        shutil.rmtree(writer.folder, ignore_errors=True)
        atlases.append(Atlas.open(folder))
    return atlases


def _encode(
    stream: FrameStream,
    dictionaries: Sequence[Dictionary],
    writers: Sequence[CodeWriter],
    corpus: Corpus,
    progress: bool | ProgressReport,
) -> None:
    """Encode the clips that are not on disk yet, each by itself, so that a code depends on its clip alone."""
    done = min(writer.n_clips for writer in writers)
    with track("encode", len(corpus), progress, unit="clips", done=done) as advance:
        for index in range(done, len(corpus)):
            clip = corpus[index]
            frames = stream.frames(clip, dictionaries)
            measures = frame_measures(clip, stream.clock, len(frames[0]))
            for each, dictionary, writer in zip(frames, dictionaries, writers, strict=True):
                if writer.n_clips == index:
                    with torch.inference_mode():
                        writer.append(frame_code(dictionary.encode(torch.from_numpy(each))), measures)
            advance(1)
    for writer in writers:
        writer.close()


def _index(
    writer: CodeWriter,
    dictionary: Dictionary,
    corpus: Corpus,
    clock: Clock,
    folder: Path,
    seed: int,
    n_shifts: int,
    progress: bool | ProgressReport,
) -> dict[str, Any]:
    """Write everything but the seal and return what goes into `meta.json`."""
    clip_frames = writer.clip_frames
    bounds = clip_bounds(clip_frames)
    n_frames = int(bounds[-1])
    half, held_out = split_clips(corpus, clip_frames, seed)
    sets = label_sets(corpus, clip_frames, half, clock)
    clip_of_frame = np.repeat(np.arange(len(clip_frames), dtype=np.int32), clip_frames)
    labeller = Labeller(sets, clip_of_frame, half, seed=seed, n_shifts=n_shifts)

    parts = writer.close()
    turned = transposed(
        ((part["first_frame"], writer.part(number)) for number, part in enumerate(parts)),
        writer.folder / "transposed",
        dictionary.n_features,
    )
    postings = PostingsWriter(folder)
    found: list[Indexed] = []
    with track("index and label", dictionary.n_features, progress, unit="features") as advance:
        for each in in_order(turned.blocks(), lambda block: index_block(block, bounds[:-1], n_frames, labeller)):
            postings.append(each.block)
            advance(len(each.block))
            each.block = None  # type: ignore[assignment]  # its entries are on disk
            found.append(each)
    posting_parts = postings.close()
    turned.close()
    labels = ranked_labels(joined([each.labels for each in found]))
    write_clips(folder, corpus, clip_frames, half)
    write_features(folder, dictionary, [each.statistics for each in found], [each.purities for each in found], labels)
    write_labels(folder, labels, dictionary.n_features)
    write_classes(folder, sets, labels)
    shutil.copytree(writer.folder / "codes", folder / "codes")
    return {
        "site": dictionary.site,
        "dictionary": {
            "name": dictionary.name,
            "kind": dictionary.kind,
            "fingerprint": dictionary.fingerprint,
            "dense": dictionary.dense,
        },
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        "n_features": dictionary.n_features,
        "n_frames": n_frames,
        "n_clips": len(clip_frames),
        "frame_s": clock.frame_s,
        "first_frame_s": clock.offset_s,
        "seed": seed,
        "n_shifts": n_shifts,
        "held_out": held_out,
        "labels": [
            {
                "kind": each.kind,
                "n_classes": len(each.classes),
                "n_dropped": each.n_dropped,
                "whole_clips": each.whole_clips,
            }
            for each in sets
        ],
        "codes": {"parts": parts},
        "postings": {"parts": posting_parts, "n_entries": postings.n_entries},
    }
