"""The labels of every frame, painted clip by clip and written in parts that are cut as the codes are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import frames_part
from otoscope.audio import Corpus
from otoscope.evaluation.naming.label_sets import LabelKind, Painter, Stretches
from otoscope.evaluation.naming.labelling import LabelCollector, LabelKindClasses, Labelling, LabelPart
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
    within = _half_within_speakers(corpus, clip_frames, seed)
    halves = [within if kind.within_speakers else half for kind in kinds]
    painter = Painter(kinds, np.stack(halves) if halves else np.zeros((0, len(clip_frames)), dtype=np.uint8), clock)
    bounds = list(itertools.pairwise(itertools.accumulate(part_clips, initial=0)))
    scratch.mkdir(parents=True, exist_ok=True)
    for number, (start, stop) in enumerate(bounds):
        met = painter.read((corpus[i] for i in range(start, stop)), clip_frames[start:stop])
        write_arrays(scratch / f"stretches-{number:05d}", vars(met))
    all_classes = painter.classes()
    known = [k for k, (classes, _) in enumerate(all_classes) if classes]
    found = [LabelKindClasses(kinds[k].name, *all_classes[k], kinds[k].holds_for) for k in known]
    collector = LabelCollector(found, painter.half[known], seed, n_shifts, [clip.speaker for clip in corpus])
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    parts: list[tuple[Path, Path, int, int]] = []
    for number, (start, stop) in enumerate(bounds):
        file = ArrayFile(scratch / f"stretches-{number:05d}")
        stretches = Stretches(**{name: file.read(name) for name in Stretches.__dataclass_fields__})
        painted, labelled, constant = painter.paint(stretches, known, [each.classes for each in found])
        collector.note(labelled, constant)
        first_frame = collector.first_frame
        part = collector.add(painted, clip_frames[start:stop])
        write_arrays(folder / frames_part(number), {"classes": part.classes})
        write_arrays(scratch / f"{number:05d}", {name: getattr(part, name) for name in _SCRATCH})
        parts.append((folder / frames_part(number), scratch / f"{number:05d}", first_frame, start))
    opened = [(ArrayFile(frames), ArrayFile(rest), frame, clip) for frames, rest, frame, clip in parts]

    def read(number: int) -> LabelPart:
        for file in opened[number - 1][:2]:  # what was read before it
            file.release()
        frames, rest, first_frame, first_clip = opened[number]
        arrays = {name: rest.read(name) for name in _SCRATCH}
        return LabelPart(first=first_frame, first_clip=first_clip, classes=frames.read("classes"), **arrays)

    return collector.finish(len(parts), read)


def _half_within_speakers(corpus: Corpus, clip_frames: Sequence[int], seed: int) -> npt.NDArray[np.uint8]:
    """Halve the clips of every speaker, one by one."""
    half = np.zeros(len(corpus), dtype=np.uint8)
    members: dict[str, list[int]] = {}
    for i, clip in enumerate(corpus):
        members.setdefault(clip.speaker or "", []).append(i)
    for own in members.values():
        half[own] = split_groups([f"clip {i:09d}" for i in own], [float(clip_frames[i]) for i in own], seed=seed)
    return half
