"""The labels of a corpus as scoring reads them: in parts of whole clips, with the rotations that show chance.

In memory stay only tables of clips and classes; a part holds the classes of its frames and can lie in a mapped file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FIT, SCORE = 0, 1
"""The halves: thresholds and pairs are chosen on the first and everything reported is measured on the second."""
N_SHIFTS = 32
"""Times the labels are moved for the null, at most: moves in many rings tell as much as many moves in few."""
BANDED = ("phone", "word", "sound_class")
"""Kinds in which a feature may have several labels."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelKindClasses:
    """One kind of label: its classes and what whole clips or speakers it holds for (`LabelKind.holds_for`)."""

    name: str
    classes: tuple[str, ...]
    n_intervals: Ints
    holds_for: str = "frames"


@dataclass(frozen=True)
class LabelPart:
    """Labels of a run of whole clips.

    Attributes:
        first: its first frame in the corpus.
        classes: `[t, k]` class of every frame in each kind; −1 dropped, the number of classes for "none of them".
        clip: `[t]` number of its clip in the corpus.
        place: `[t, k]` where the frame's class lies in `track`; −1 unless labelled and of the scored half.
        track: the classes of such frames, kind after kind, clip after clip.
        ring: `[k, clips]` which ring a clip of this part belongs to (−1 none); `first_clip` is the first column's clip.
        ring_start, ring_length: `[r]` where a ring lies in `track`.
        moves: `[r, s]` how far it rotates.
    """

    first: int
    classes: npt.NDArray[np.int16]
    clip: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]
    track: npt.NDArray[np.int16]
    ring: npt.NDArray[np.int32]
    first_clip: int
    ring_start: Ints
    ring_length: Ints
    moves: npt.NDArray[np.int32]

    @property
    def last(self) -> int:
        """The frame after its last."""
        return self.first + len(self.clip)


@dataclass(frozen=True)
class Labelling:
    """Everything that scoring knows about the labels of a corpus.

    Attributes:
        kinds: the kinds, in the order of the columns of the parts; only those with two classes or more are `usable`.
        half: `[k, b]` which half a clip is in.
        n_positive: per kind `[2, c + 1]` frames of each class in either half.
        whole: `[k]` whether labels hold for whole clips, so that they are dealt and not rotated.
        n_moves: `[k]` how many of the moves of the parts are used.
        unit: `[k, b]` number of the unit (a clip, or a speaker with all clips) to which a class is dealt; −1 none.
        dealt: per kind two tables `[u, m]`: numbers of the deals, sorted by the class that they give a unit (empty
            unless `whole`); `dealt_bounds` `[u, c + 2]` where each class begins in them, and `dealt_positive`
            `[c + 1, m]` frames of each class then. In the first, which only the class of speech needs and other kinds
            lack, all clips change places; in the second, clips of speech keep theirs, or whatever fires on any sound
            would pass for a detector of one.
        unit_counts: per kind `[c + 1]` how many units (clips or speakers) of the scored half are of each class.
        cluster: `[b]` cluster of each clip; `cluster_positive` per kind `[c + 1, g]` its frames of each class.
        near: for kinds in `BANDED`, `[2, c + 1, c + 1]`: frames of the second class near the first.
        in_word: `[2, phones + 1, words + 1]` frames of each phone in each word; empty without either kind.
        n_dropped: `[k]` frames without a label.
        speakers: of each clip, if they are known.
        near_frames: what is so many frames away is near.
        n_parts, part: the parts.
    """

    kinds: tuple[LabelKindClasses, ...]
    half: npt.NDArray[np.uint8]
    n_positive: tuple[Ints, ...]
    whole: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    n_moves: Ints
    unit: npt.NDArray[np.int32]
    dealt: tuple[tuple[npt.NDArray[np.int16], ...], tuple[npt.NDArray[np.int16], ...]]
    dealt_bounds: tuple[tuple[npt.NDArray[np.int16], ...], tuple[npt.NDArray[np.int16], ...]]
    dealt_positive: tuple[tuple[Ints, ...], tuple[Ints, ...]]
    unit_counts: tuple[Ints, ...]
    cluster: npt.NDArray[np.int32]
    cluster_positive: tuple[npt.NDArray[np.int32], ...]
    near: dict[str, Ints]
    in_word: Ints
    n_dropped: Ints
    speakers: Sequence[str | None]
    n_shifts: int
    near_frames: int
    n_parts: int
    part: Callable[[int], LabelPart]

    @functools.cached_property
    def first_class(self) -> Ints:
        """`[k + 1]` number of each kind's first class when the classes of all kinds are counted on."""
        return np.cumsum([0, *(len(each.classes) for each in self.kinds)])

    def column(self, kind: str) -> int:
        """Column of a kind; −1 where it is missing or unusable."""
        found = [i for i, each in enumerate(self.kinds) if each.name == kind and self.usable[i]]
        return found[0] if found else -1
