"""The same feature elsewhere: in a dictionary of another seed, at another layer, in another model.

Two atlases are compared on the clips they share (the same recording and span). Frames are paired by time, so models of
different clocks can be compared; features by the correlation of their values over these frames. Dictionaries of one
site also share a space: there, the cosine of decoder rows counts as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.atlas.codes import FrameCode
from otoscope.atlas.format import CLIPS
from otoscope.errors import InputError
from otoscope.storage.arrays import Strings

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.dictionaries import Dictionary

MIN_TOGETHER = 8
"""Frames in which two features must both fire for their correlation to count: two single frames may well coincide."""
MAX_ONE_TO_ONE = 4096
MAX_COMPARED = 1 << 16
"""Wider dictionaries are matched by when they fire alone: their decoder rows would take gigabytes."""
_BLOCK_BYTES = 1 << 26

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """For each feature of one atlas, the most similar one of another.

    Attributes:
        feature, partner: `[m]` indices in the first and second atlas; partner −1 where nothing is similar at all.
        score: `[m]` the correlation; where the two share a site, the mean of it and the cosine.
        correlation: `[m]` of the values over the common frames (Pearson; a frame without entry counts as 0).
        iou: `[m]` frames in which both fire over frames in which either does.
        cosine: `[m]` of the decoder rows; NaN where the dictionaries do not share a site, or were not given.
        mutual: `[m]` whether the feature is in turn the partner's best match.
        n_frames, n_clips: what they were compared on.
    """

    feature: Ints
    partner: Ints
    score: Floats
    correlation: Floats
    iou: Floats
    cosine: Floats
    mutual: npt.NDArray[np.bool_]
    n_frames: int
    n_clips: int

    def __len__(self) -> int:
        """Number of features."""
        return len(self.feature)

    def rows(self) -> list[dict[str, Any]]:
        """One plain dictionary per feature."""
        names = [each.name for each in fields(self) if not each.name.startswith("n_")]
        columns = [getattr(self, name).tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def match_features(
    atlas_a: Atlas,
    dictionary_a: Dictionary | None,
    atlas_b: Atlas,
    dictionary_b: Dictionary | None,
    *,
    features: Sequence[int] | None = None,
    one_to_one: bool = False,
    max_frames: int = 200_000,
    shuffled: bool = False,
) -> Matches:
    """Find for features of one atlas the most similar feature of another.

    Args:
        atlas_a, atlas_b: atlases over common clips, of any site and model.
        dictionary_a, dictionary_b: what they were built from; given both, of one site and of at most
            `MAX_COMPARED` features, decoder rows count too.
        features: features of `atlas_a`; all if None.
        one_to_one: let no two features have one partner: the assignment with the largest sum of scores (Hungarian
            method, Kuhn 1955); for all features of two dictionaries of at most `MAX_ONE_TO_ONE`.
        max_frames: compare on so many evenly chosen frames, by whole clips. Memory does not grow with it.
        shuffled: pair every clip with another one, for the correlation that chance gives (cosines stay what they are).

    Raises:
        InputError: no common clips, no such feature, or too many features to assign.
    """
    wanted = np.arange(len(atlas_a)) if features is None else np.array([atlas_a[f].feature for f in features], np.int64)
    if one_to_one and (features is not None or max(len(atlas_a), len(atlas_b)) > MAX_ONE_TO_ONE):
        raise InputError(
            f"A one-to-one match takes all features of two dictionaries of at most {MAX_ONE_TO_ONE}, got "
            f"{len(wanted)} of {len(atlas_a)} and {len(atlas_b)}; leave one_to_one out."
        )
    clips = _common_clips(atlas_a, atlas_b, max_frames, shuffled)
    rows = _shared_space(atlas_a, dictionary_a, atlas_b, dictionary_b)
    there = _Comparison(atlas_a, atlas_b, clips, rows)
    if one_to_one:
        return _assigned(there)
    partner, figures = there.best(wanted)
    back = _Comparison(atlas_b, atlas_a, clips[:, ::-1], None if rows is None else rows[::-1])
    partners = np.unique(partner[partner >= 0])
    returned, _ = back.best(partners)
    mutual = np.zeros(len(wanted), dtype=bool)
    mutual[partner >= 0] = returned[np.searchsorted(partners, partner[partner >= 0])] == wanted[partner >= 0]
    return there.matches(wanted, partner, figures, mutual)


def _assigned(there: _Comparison) -> Matches:
    from scipy.optimize import linear_sum_assignment

    every = np.arange(there.n_a)
    tables = [
        np.concatenate(parts) for parts in zip(*(there.figures(block) for block in there.blocks(every)), strict=True)
    ]
    feature, partner = linear_sum_assignment(tables[0], maximize=True)
    partners = np.full(there.n_a, -1, dtype=np.int64)
    partners[feature] = partner
    figures = np.full((4, there.n_a), np.nan)
    figures[:, feature] = [table[feature, partner] for table in tables]
    mutual = (tables[0].argmax(axis=0)[partners] == every) & (tables[0].argmax(axis=1) == partners) & (partners >= 0)
    return there.matches(every, partners, figures, mutual)


def _common_clips(a: Atlas, b: Atlas, max_frames: int, shuffled: bool) -> Ints:
    """`[c, 2]` positions of evenly chosen common clips in both atlases."""
    in_a, in_b = (Strings(each.sealed.arrays(CLIPS), "fingerprint").all() for each in (a, b))
    places = {fingerprint: i for i, fingerprint in reversed(list(enumerate(in_b)))}
    common = np.array([(i, places[f]) for i, f in enumerate(in_a) if f in places], dtype=np.int64).reshape(-1, 2)
    if not len(common):
        raise InputError(
            f"Atlases {a.name!r} and {b.name!r} have no clips in common; build both over one corpus to compare them."
        )
    sizes = np.diff(a.clips.bounds)[common[:, 0]]
    common = common[:: max(1, -(-int(sizes.sum()) // max_frames))]
    if shuffled:
        common = np.stack([common[:, 0], np.roll(common[:, 1], max(1, len(common) // 2))], axis=1)
    return common


def _shared_space(
    atlas_a: Atlas, a: Dictionary | None, atlas_b: Atlas, b: Dictionary | None
) -> tuple[Floats, Floats] | None:
    """Decoder rows of length 1 where the two write into one space, else None."""
    for atlas, dictionary in ((atlas_a, a), (atlas_b, b)):
        if dictionary is not None and dictionary.n_features != len(atlas):
            raise InputError(
                f"Dictionary {dictionary.name!r} has {dictionary.n_features} features, but atlas {atlas.name!r} has "
                f"{len(atlas)}; give the dictionary that the atlas was built from."
            )
    if a is None or b is None or a.d_out != b.d_out or (a.sites, a.target_site) != (b.sites, b.target_site):
        return None
    if atlas_a.meta["model"].get("weights_hash") != atlas_b.meta["model"].get("weights_hash"):
        return None
    if max(a.n_features, b.n_features) > MAX_COMPARED:
        return None
    from otoscope.atlas.building.neighbours import unit_rows

    first, second = (unit_rows(each, range(each.n_features)).numpy() for each in (a, b))
    return first, second


class _Comparison:
    """Scores of features of one atlas against all of another, a block of them at a time."""

    def __init__(self, a: Atlas, b: Atlas, clips: Ints, rows: tuple[Floats, Floats] | None) -> None:
        self.a, self.b, self.clips, self.rows = a, b, clips, rows
        self.n_a, self.n_b = len(a), len(b)
        self._moments_a, self._moments_b = np.zeros((3, self.n_a)), np.zeros((3, self.n_b))
        self.n_frames = 0
        for code_a, code_b, pairs in self._paired():
            _add_moments(*code_a, pairs[:, 0], self._moments_a)
            _add_moments(*code_b, pairs[:, 1], self._moments_b)
            self.n_frames += len(pairs)

    def blocks(self, features: Ints) -> Iterator[Ints]:
        """Cut features so that the tables of a block stay small."""
        size = max(1, _BLOCK_BYTES // (16 * self.n_b))
        return (features[start : start + size] for start in range(0, len(features), size))

    def best(self, features: Ints) -> tuple[Ints, Floats]:
        """Return the best partner of each feature, and `[4, m]` the figures of the two."""
        partners, found = [np.zeros(0, dtype=np.int64)], [np.zeros((4, 0))]
        for block in self.blocks(features):
            tables = self.figures(block)
            partner = tables[0].argmax(axis=1)
            figures = np.stack([table[np.arange(len(block)), partner] for table in tables])
            partners.append(np.where(figures[0] > 0, partner, -1))
            found.append(figures)
        return np.concatenate(partners), np.concatenate(found, axis=1)

    def matches(self, feature: Ints, partner: Ints, figures: Floats, mutual: npt.NDArray[np.bool_]) -> Matches:
        """Put together what was found."""
        score, correlation, iou, cosine = figures
        return Matches(feature, partner, score, correlation, iou, cosine, mutual, self.n_frames, len(self.clips))

    def figures(self, features: Ints) -> tuple[Floats, Floats, Floats, Floats]:
        """Return score, correlation, IoU and cosine of features with all of the other atlas, `[m, n_b]` each."""
        row = np.full(self.n_a, -1, dtype=np.int64)
        row[features] = np.arange(len(features))
        together = np.zeros((len(features), self.n_b), dtype=np.int32)
        products = np.zeros((len(features), self.n_b))
        for code_a, code_b, pairs in self._paired():
            _count_together(*code_a, *code_b, pairs, row, together, products)
        n = max(1, self.n_frames)
        count_a, sum_a, square_a = self._moments_a[:, features, None]
        count_b, sum_b, square_b = self._moments_b[:, None, :]
        spread = np.sqrt((square_a / n - (sum_a / n) ** 2).clip(0) * (square_b / n - (sum_b / n) ** 2).clip(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = (products / n - sum_a / n * (sum_b / n)) / spread
            iou = np.nan_to_num(together / (count_a + count_b - together))
        correlation[(together < MIN_TOGETHER) | (spread == 0)] = 0.0
        correlation = correlation.clip(-1.0, 1.0)
        if self.rows is None:
            return correlation, correlation, iou, np.full(correlation.shape, np.nan)
        cosine = (self.rows[0][features] @ self.rows[1].T).astype(np.float64)
        return (correlation + cosine) / 2, correlation, iou, cosine

    def _paired(self) -> Iterator[tuple[FrameCode, FrameCode, Ints]]:
        """Yield the codes of every common clip, and which frames `[t, 2]` of the two stand for one moment."""
        clock_a, clock_b = self.a.clock, self.b.clock
        half = max(clock_a.frame_s, clock_b.frame_s) / 2 + 1e-9
        for clip_a, clip_b in self.clips.tolist():
            code_a = self.a.codes[slice(*self.a.clips.span(clip_a))]
            code_b = self.b.codes[slice(*self.b.clips.span(clip_b))]
            time_s = np.arange(code_a.n_frames) * clock_a.frame_s + clock_a.offset_s
            other = np.rint((time_s - clock_b.offset_s) / clock_b.frame_s).astype(np.int64)
            near = np.abs(other * clock_b.frame_s + clock_b.offset_s - time_s) <= half
            kept = np.flatnonzero(near & (other >= 0) & (other < code_b.n_frames))
            yield code_a, code_b, np.stack([kept, other[kept]], axis=1)


@numba.njit(cache=True, nogil=True)
def _add_moments(indptr, features, values, frames, moments):  # type: ignore[no-untyped-def]
    for t in frames:
        for entry in range(indptr[t], indptr[t + 1]):
            value = np.float64(values[entry])
            moments[0, features[entry]] += 1
            moments[1, features[entry]] += value
            moments[2, features[entry]] += value * value


@numba.njit(cache=True, nogil=True)
def _count_together(  # type: ignore[no-untyped-def]
    indptr_a, features_a, values_a, indptr_b, features_b, values_b, pairs, row, together, products
):
    for p in range(len(pairs)):
        start, stop = indptr_b[pairs[p, 1]], indptr_b[pairs[p, 1] + 1]
        for entry in range(indptr_a[pairs[p, 0]], indptr_a[pairs[p, 0] + 1]):
            at = row[features_a[entry]]
            if at < 0:
                continue
            value = np.float64(values_a[entry])
            for other in range(start, stop):
                together[at, features_b[other]] += 1
                products[at, features_b[other]] += value * values_b[other]
