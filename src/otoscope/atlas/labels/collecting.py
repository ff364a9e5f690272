"""The labels of every frame, painted clip by clip and written in parts that are cut as the codes are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import frames_part
from otoscope.audio import Corpus
from otoscope.evaluation.label_sets import LabelKind, clip_classes, known_classes
from otoscope.evaluation.labelling import LabelCollector, LabelKindClasses, Labelling, LabelPart
from otoscope.evaluation.selectivity import split_groups
from otoscope.models import Clock
from otoscope.storage.arrays import ArrayFile, write_arrays

_SCRATCH = ("clip", "place", "track", "ring", "ring_start", "ring_length", "moves")


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
    halves, found = [], []
    for kind in kinds:
        own = _half_within_speakers(corpus, clip_frames, seed) if kind.within_speakers else half
        classes, n_intervals = known_classes(kind, corpus, own)
        if classes:
            halves.append(own)
            found.append((kind, LabelKindClasses(kind.name, classes, n_intervals, kind.holds_for)))
    all_halves = np.stack(halves) if halves else np.zeros((0, len(clip_frames)), dtype=np.uint8)
    speakers = [clip.speaker for clip in corpus]
    collector = LabelCollector([each for _, each in found], all_halves, seed, n_shifts, speakers)
    indices = [(kind, {name: i for i, name in enumerate(each.classes)}) for kind, each in found]
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = list(itertools.accumulate(part_clips, initial=0))
    parts: list[tuple[Path, Path, int, int]] = []
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        painted = [_paint(corpus, i, indices, clip_frames[i], clock, collector) for i in range(start, stop)]
        first_frame, first_clip = collector.first_frame, start
        part = collector.add(np.concatenate(painted), clip_frames[start:stop])
        write_arrays(folder / frames_part(number), {"classes": part.classes})
        write_arrays(scratch / f"{number:05d}", {name: getattr(part, name) for name in _SCRATCH})
        parts.append((folder / frames_part(number), scratch / f"{number:05d}", first_frame, first_clip))
    opened = [(ArrayFile(frames), ArrayFile(rest), frame, clip) for frames, rest, frame, clip in parts]

    def read(number: int) -> LabelPart:
        for file in opened[number - 1][:2]:  # what was read before it
            file.release()
        frames, rest, first_frame, first_clip = opened[number]
        arrays = {name: rest.read(name) for name in _SCRATCH}
        return LabelPart(first=first_frame, first_clip=first_clip, classes=frames.read("classes"), **arrays)

    return collector.finish(len(parts), read)


def _paint(
    corpus: Corpus,
    number: int,
    indices: Sequence[tuple[LabelKind, dict[str, int]]],
    n_frames: int,
    clock: Clock,
    collector: LabelCollector,
) -> npt.NDArray[np.int16]:
    clip = corpus[number]
    painted = [clip_classes(kind, clip, index, n_frames, clock) for kind, index in indices]
    collector.note([labelled for _, labelled, _ in painted], [constant for _, _, constant in painted])
    columns = [frames for frames, _, _ in painted]
    return np.stack(columns, axis=1) if columns else np.zeros((n_frames, 0), dtype=np.int16)


def _half_within_speakers(corpus: Corpus, clip_frames: Sequence[int], seed: int) -> npt.NDArray[np.uint8]:
    """Halve the clips of every speaker, one by one."""
    half = np.zeros(len(corpus), dtype=np.uint8)
    members: dict[str, list[int]] = {}
    for i, clip in enumerate(corpus):
        members.setdefault(clip.speaker or "", []).append(i)
    for own in members.values():
        half[own] = split_groups([f"clip {i:09d}" for i in own], [float(clip_frames[i]) for i in own], seed=seed)
    return half
