"""The labels of every frame, painted clip by clip and written in parts that are cut as the codes are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import PART_FRAMES, frames_part
from otoscope.audio import Corpus
from otoscope.evaluation.naming.label_sets import LabelKind, Painter, Stretches
from otoscope.evaluation.naming.labelling import MAX_DEALT, LabelCollector, LabelKindClasses, Labelling, LabelPart
from otoscope.evaluation.selectivity import split_groups
from otoscope.models import Clock
from otoscope.storage.arrays import ArrayFile, write_arrays

SAMPLE_PART_FRAMES = PART_FRAMES // 4
"""Frames of a part of a sample: there may be several samples, each with a part in memory."""
_SCRATCH = ("clip", "place", "track", "ring", "ring_start", "ring_length", "moves")


class _PartsOnDisk:
    """Parts of labels in two files each: classes, which an atlas may keep, and what only scoring needs."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._files: list[tuple[ArrayFile, ArrayFile, int, int]] = []

    def __len__(self) -> int:
        return len(self._files)

    def add(self, part: LabelPart, classes: Path) -> None:
        """Write the next part, its classes to a file of their own."""
        rest = self._scratch / f"{len(self):05d}"
        write_arrays(classes, {"classes": part.classes})
        write_arrays(rest, {name: getattr(part, name) for name in _SCRATCH})
        self._files.append((ArrayFile(classes), ArrayFile(rest), part.first, part.first_clip))

    def read(self, number: int) -> LabelPart:
        """Map a part into memory, and let go of the one before it."""
        for file in self._files[number - 1][:2]:
            file.release()
        frames, rest, first_frame, first_clip = self._files[number]
        arrays = {name: rest.read(name) for name in _SCRATCH}
        return LabelPart(first=first_frame, first_clip=first_clip, classes=frames.read("classes"), **arrays)


def collect_labels(
    corpus: Corpus,
    kinds: Sequence[LabelKind],
    clip_frames: Sequence[int],
    part_clips: Sequence[int],
    half: npt.NDArray[np.uint8],
    clock: Clock,
    folder: Path,
    scratch: Path,
    *,
    seed: int,
    n_shifts: int,
) -> Labelling:
    """Write `frames/` of an atlas and return its labels, as scoring reads them.

    Args:
        corpus: the clips, with tiers and attributes.
        kinds: which labels to paint; those of which the corpus has no class are left out.
        clip_frames: frames of every clip.
        part_clips: clips of every part.
        half: `[b]` the half each clip is in; kinds that ask who speaks halve each speaker's clips instead.
        clock: when each frame is.
        folder: of the atlas.
        scratch: folder for what only scoring needs; the caller removes it.
        seed: of the moves of the labels, and of halves.
        n_shifts: how often labels are moved.
    """
    within = _half_within_speakers(corpus, clip_frames, seed)
    halves = [within if kind.within_speakers else half for kind in kinds]
    painter = Painter(kinds, np.stack(halves) if halves else np.zeros((0, len(clip_frames)), dtype=np.uint8), clock)
    bounds = list(itertools.pairwise(itertools.accumulate(part_clips, initial=0)))
    parts = _PartsOnDisk(scratch)
    for number, (start, stop) in enumerate(bounds):
        met = painter.read((corpus[i] for i in range(start, stop)), clip_frames[start:stop])
        write_arrays(scratch / f"stretches-{number:05d}", vars(met))
    all_classes = painter.classes()
    known = [k for k, (classes, _) in enumerate(all_classes) if classes]
    found = [LabelKindClasses(kinds[k].name, *all_classes[k], kinds[k].holds_for) for k in known]
    collector = LabelCollector(found, painter.half[known], seed, n_shifts, [clip.speaker for clip in corpus])
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    for number, (start, stop) in enumerate(bounds):
        file = ArrayFile(scratch / f"stretches-{number:05d}")
        stretches = Stretches(**{name: file.read(name) for name in Stretches.__dataclass_fields__})
        painted, labelled, constant = painter.paint(stretches, known, [each.classes for each in found])
        collector.note(labelled, constant)
        parts.add(collector.add(painted, clip_frames[start:stop]), folder / frames_part(number))
    return collector.finish(len(parts), parts.read)


def sampled_labels(
    labelling: Labelling, clip_frames: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_], scratch: Path, *, seed: int
) -> Labelling:
    """Return the labels of some clips, which then follow one another: same kinds, classes and halves.

    Args:
        labelling: the labels of all clips.
        clip_frames: `[b]` frames of every clip.
        chosen: `[b]` the clips.
        scratch: folder for them; the caller removes it.
        seed: of the moves of the labels.
    """
    clips = np.flatnonzero(chosen)
    collector = LabelCollector(
        labelling.kinds,
        labelling.half[:, clips],
        seed,
        labelling.n_shifts,
        [labelling.speakers[i] for i in clips.tolist()],
        MAX_DEALT // 4,
    )
    parts = _PartsOnDisk(scratch)
    held: list[npt.NDArray[np.int16]] = []
    sizes: list[int] = []

    def close() -> None:
        parts.add(collector.add(np.concatenate(held), sizes), scratch / f"classes-{len(parts):05d}")
        held.clear()
        sizes.clear()

    for number in range(labelling.n_parts):
        part = labelling.part(number)
        first, last = np.searchsorted(clips, [part.first_clip, part.first_clip + part.ring.shape[1]])
        held.append(part.classes[chosen[part.clip]])
        sizes += clip_frames[clips[first:last]].tolist()
        if sum(sizes) >= SAMPLE_PART_FRAMES:
            close()
    if sizes:
        close()
    found = collector.finish(len(parts), parts.read, whole=labelling.whole)
    return replace(
        found,
        kinds=tuple(
            _fewer(*each) for each in zip(labelling.kinds, labelling.n_positive, found.n_positive, strict=True)
        ),
    )


def _fewer(kind: LabelKindClasses, n_all: npt.NDArray[np.int64], n_left: npt.NDArray[np.int64]) -> LabelKindClasses:
    """The kind, with as many stretches of each class as its frames that are left would have at their usual length."""
    share = n_left.sum(axis=0)[:-1] / np.maximum(n_all.sum(axis=0)[:-1], 1)
    return replace(kind, n_intervals=np.maximum(np.rint(kind.n_intervals * share), 1).astype(np.int64))


def _half_within_speakers(corpus: Corpus, clip_frames: Sequence[int], seed: int) -> npt.NDArray[np.uint8]:
    """Halve the clips of every speaker, one by one."""
    half = np.zeros(len(corpus), dtype=np.uint8)
    members: dict[str, list[int]] = {}
    for i, clip in enumerate(corpus):
        members.setdefault(clip.speaker or "", []).append(i)
    for own in members.values():
        half[own] = split_groups([f"clip {i:09d}" for i in own], [float(clip_frames[i]) for i in own], seed=seed)
    return half
