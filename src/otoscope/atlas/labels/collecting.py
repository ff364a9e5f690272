"""The labels of every frame, painted clip by clip and written in parts that are cut as the codes are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import PART_FRAMES, frames_part
from otoscope.atlas.labels.acoustic import KEPT_FRAMES, Parts
from otoscope.audio import Corpus
from otoscope.evaluation.naming.collector import MAX_DEALT, LabelCollector
from otoscope.evaluation.naming.label_sets import LabelKind, Painter, Stretches
from otoscope.evaluation.naming.labelling import LabelKindClasses, Labelling, LabelPart
from otoscope.evaluation.selectivity import split_groups
from otoscope.models import Clock
from otoscope.storage.arrays import ArrayFile, write_arrays

SAMPLE_PART_FRAMES = PART_FRAMES // 4
"""Frames of a part of a sample: there may be several samples, each with a part in memory."""
_SCRATCH = ("clip", "place", "track", "ring", "ring_start", "ring_length", "moves")


class _PartsOnDisk:
    """Parts of labels in two files each: classes, which an atlas may keep, and what only scoring needs.

    All parts stay mapped; of many, the memory is that of the one in use.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._files: list[tuple[ArrayFile, ArrayFile]] = []
        self._parts: list[LabelPart] = []
        self._n_frames = 0

    def __len__(self) -> int:
        return len(self._files)

    def add(self, part: LabelPart, classes: Path) -> None:
        """Write the next part, its classes to a file of their own."""
        path = self._scratch / f"{len(self):05d}"
        write_arrays(classes, {"classes": part.classes})
        write_arrays(path, {name: getattr(part, name) for name in _SCRATCH})
        frames, rest = ArrayFile(classes), ArrayFile(path)
        self._files.append((frames, rest))
        arrays = {name: rest.read(name) for name in _SCRATCH}
        self._parts.append(
            LabelPart(first=part.first, first_clip=part.first_clip, classes=frames.read("classes"), **arrays)
        )
        self._n_frames += len(part.clip)

    def read(self, number: int) -> LabelPart:
        """Return a part, and let go of the memory of the one before it unless there are few."""
        if self._n_frames > KEPT_FRAMES:
            for file in self._files[number - 1]:
                file.release()
        return self._parts[number]


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


@dataclass(frozen=True)
class FrameSample:
    """Some of the frames of some of the clips; these then follow one another.

    Attributes:
        chosen: `[b]` the clips.
        stride: one of so many frames is kept, a power of two; `phase [b]` is the first of each clip.
        clip_frames: `[b]` frames of every clip.
    """

    chosen: npt.NDArray[np.bool_]
    stride: int
    phase: npt.NDArray[np.int64]
    clip_frames: npt.NDArray[np.int64]

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """`[b]` frames of the sample in every clip."""
        kept = (self.clip_frames - self.phase + self.stride - 1) // self.stride
        return np.where(self.chosen, np.maximum(kept, 0), 0)

    @functools.cached_property
    def bounds(self) -> npt.NDArray[np.int64]:
        """First frame of each clip of the sample, as these are counted, and the number of all its frames."""
        return np.concatenate(([0], np.cumsum(self.sizes[self.chosen])))

    @functools.cached_property
    def first_frame(self) -> npt.NDArray[np.int64]:
        """`[b]` first frame of every clip among those of the sample; −1 for clips that are not in it."""
        return np.where(self.chosen, np.cumsum(self.sizes) - self.sizes, -1)

    def of(self, first_frame: int, n_frames: int) -> npt.NDArray[np.int64]:
        """Return which frames of a run are kept, counted from its first; it may begin and end within clips."""
        starts = np.concatenate(([0], np.cumsum(self.clip_frames)))
        first, last = np.searchsorted(starts, [first_frame, first_frame + n_frames - 1], side="right") - 1
        here = slice(int(first), int(last) + 1)
        clip = np.repeat(np.arange(here.start, here.stop), self.clip_frames[here])
        within = np.arange(starts[here.start], starts[here.stop]) - starts[clip]
        kept = self.chosen[clip] & (within % self.stride == self.phase[clip])
        own: npt.NDArray[np.int64] = np.flatnonzero(kept[first_frame - starts[here.start] :][:n_frames])
        return own


def sampled_labels(labelling: Labelling, sample: FrameSample, scratch: Path, *, seed: int) -> Labelling:
    """Return the labels of a sample of frames: same kinds, classes and halves. What is near stays so many frames away,
    but at least one.

    Args:
        labelling: the labels of all clips.
        sample: which frames.
        scratch: folder for them; the caller removes it.
        seed: of the moves of the labels.
    """
    clips = np.flatnonzero(sample.chosen)
    collector = LabelCollector(
        labelling.kinds,
        labelling.half[:, clips],
        seed,
        labelling.n_shifts,
        [labelling.speakers[i] for i in clips.tolist()],
        MAX_DEALT // 4,
        max(1, labelling.near_frames // sample.stride),
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
        held.append(part.classes[sample.of(part.first, len(part.clip))])
        sizes += sample.sizes[clips[first:last]].tolist()
        if sum(sizes) >= SAMPLE_PART_FRAMES:
            close()
    if sizes:
        close()
    found = collector.finish(len(parts), parts.read, whole=labelling.whole)
    both = zip(labelling.kinds, labelling.n_positive, found.n_positive, strict=True)
    return replace(found, kinds=tuple(_fewer(kind, n, left * sample.stride) for kind, n, left in both))


def sampled_measures(parts: Parts, sample: FrameSample, scratch: Path) -> Parts:
    """Return the acoustic measures of a sample of frames, in parts.

    Args:
        parts: the measures of all frames.
        sample: which frames.
        scratch: folder for them; the caller removes it.
    """
    found: list[tuple[int, ArrayFile]] = []
    held: list[npt.NDArray[np.float32]] = []
    n_done = n_held = 0
    for number, (first, part) in enumerate(parts, start=1):
        measures = part.read("measures")
        held.append(measures[sample.of(first, len(measures))])
        part.release()
        n_held += len(held[-1])
        if n_held and (n_held >= PART_FRAMES or number == len(parts)):
            path = scratch / f"measures-{len(found):05d}"
            write_arrays(path, {"measures": np.concatenate(held)})
            found.append((n_done, ArrayFile(path)))
            n_done, n_held = n_done + n_held, 0
            held.clear()
    return found


def _fewer(kind: LabelKindClasses, n_all: npt.NDArray[np.int64], n_left: npt.NDArray[np.int64]) -> LabelKindClasses:
    """The kind, with as many stretches of each class as its frames that are left would have at their usual length."""
    share = np.minimum(n_left.sum(axis=0)[:-1] / np.maximum(n_all.sum(axis=0)[:-1], 1), 1.0)
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
