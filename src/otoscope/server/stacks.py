"""What a feature fires at, value by value: its histogram split by the classes of the frames in every bin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otoscope.atlas import FeatureEntry
from otoscope.atlas.format import frames_part
from otoscope.server.shapes import Stack

MAX_SHOWN = 7
MAX_FRAMES = 1 << 17
"""Of features that fire more often, so many frames are looked at, evenly chosen; counts are scaled up."""

Ints = npt.NDArray[np.int64]


def stacks(entry: FeatureEntry, kind: str | None) -> list[Stack]:
    """Return how many active frames of each class of one kind of label fall into each bin, most frequent class first.

    The last stack, without label, is of all other frames. Empty where the atlas does not say what its frames are.
    """
    kinds = [each["kind"] for each in entry.atlas.meta["labels"]]
    frames, values = entry.entries
    if not len(frames) or not kinds or frames_part(0) not in entry.atlas.sealed:
        return []
    kind = kind if kind in kinds else kinds[0]
    step = -(-len(frames) // MAX_FRAMES)
    edges, counts = entry.histogram
    n_bins = len(counts)
    place = np.minimum((values[::step] / edges[-1] * n_bins).astype(np.int64), n_bins - 1)
    classes = entry.atlas.classes
    names = [label for label, of in zip(classes.labels, classes.kinds, strict=True) if of == kind]
    number = _classes(entry, frames[::step].astype(np.int64), kinds.index(kind))
    known = (number >= 0) & (number < len(names))
    best = np.argsort(-np.bincount(number[known], minlength=len(names)), kind="stable")[:MAX_SHOWN].tolist()
    found = [(names[i], np.bincount(place[number == i], minlength=n_bins)) for i in best if (number == i).any()]
    scaled = [(name, (each * step).clip(0, counts)) for name, each in found]
    rest = (counts - sum(each for _, each in scaled)).clip(0) if scaled else counts
    shown = [Stack(label=name, kind=kind, counts=each.tolist()) for name, each in scaled]
    return [*shown, Stack(label=None, kind=None, counts=rest.tolist())]


def _classes(entry: FeatureEntry, frames: Ints, column: int) -> Ints:
    """`[e]` the class of each frame in one kind, counted within the kind."""
    first = np.asarray(entry.atlas.codes.first_frames)
    part_of = np.searchsorted(first, frames, side="right") - 1
    found = np.full(len(frames), -1, dtype=np.int64)
    for part in np.unique(part_of).tolist():
        inside = part_of == part
        classes = entry.atlas.sealed.arrays(frames_part(part)).read("classes")
        found[inside] = classes[frames[inside] - int(first[part]), column]
    return found
