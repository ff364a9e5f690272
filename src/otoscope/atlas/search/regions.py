"""Search by sound: the features that fire in a stretch of sound more than elsewhere, and moments that resemble it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from otoscope.atlas.codes import FrameCode
from otoscope.atlas.search.similar import SimilarMoment, similar_moments
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LEVELS = (("", 0.0), ("q50", 0.5), ("q90", 0.9))
"""Thresholds that a feature is counted above: 0, and quantiles of its active values (column, level)."""


@dataclass(frozen=True)
class RegionFeature:
    """How much more a feature fires in a region than in the corpus.

    Attributes:
        feature: its index.
        frames: frames of the region where it is above `above`.
        share: the same as a share of the region's frames.
        density: share of the corpus's frames where it is above `above`.
        lift: share / density.
        score: the evidence for that in nats (see `Region.features`); the order.
        q_value: false-discovery rate over all features of the dictionary.
        above: the threshold, of those tried (0 and two quantiles of its active values), with the most evidence.
        max: its largest value in the region.
        peak_time_s: when, in seconds from the start of the clip (or of the sound).
    """

    feature: int
    frames: int
    share: float
    density: float
    lift: float
    score: float
    q_value: float
    above: float
    max: float
    peak_time_s: float


class Region:
    """A stretch of sound as the dictionary hears it: a part of a clip of the corpus, or any sound's code."""

    def __init__(self, atlas: Atlas, code: FrameCode, clip: int | None = None, first: int = 0) -> None:
        floors = atlas.column("postings_from")[code.features]
        kept = code.values > floors
        if not kept.all():
            counts = np.add.reduceat(np.append(kept, False), np.minimum(code.indptr[:-1], len(kept)))
            counts[np.diff(code.indptr) == 0] = 0
            indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
            code = FrameCode(indptr, code.features[kept], code.values[kept])
        self.atlas, self.code, self.clip, self.first = atlas, code, clip, first

    @classmethod
    def of_clip(cls, atlas: Atlas, clip_id: str, start_s: float | None = None, end_s: float | None = None) -> Region:
        """Return a region of an indexed clip: the frames whose centres lie in `start_s <= centre < end_s`.

        Raises:
            InputError: no such clip, or the clip has no frame there.
        """
        clip = atlas.clips.index(clip_id, f"Atlas {atlas.name!r}")
        base, end = atlas.clips.span(clip)
        first, stop = 0, end - base
        if start_s is not None or end_s is not None:
            whole_s = atlas.clock.time_s(end - base)
            low, high = start_s or 0.0, whole_s if end_s is None else end_s
            if not low < high or low >= whole_s or high <= 0:
                raise InputError(
                    f"Clip {clip_id!r} has no frames from {low:g} to {high:g} s: it ends at {whole_s:.2f} s."
                )
            first, stop = atlas.clock.span(max(low, 0.0), high)
            first, stop = min(first, end - base - 1), min(stop, end - base)
        return cls(atlas, atlas.codes[base + first : base + stop], clip, first)

    @classmethod
    def of_code(cls, atlas: Atlas, code: FrameCode) -> Region:
        """Return the region of a sound that is not in the corpus.

        Args:
            atlas: where to search.
            code: the sound, encoded by the atlas's own dictionary (`frame_code(dictionary.encode(…))`).

        Raises:
            InputError: it has no frames, or features that the atlas does not have.
        """
        if code.n_frames == 0:
            raise InputError("The sound has no frames; give one of at least 20 ms.")
        if len(code.features) and int(code.features.max()) >= len(atlas):
            raise InputError(
                f"The code has feature {int(code.features.max())}, but atlas {atlas.name!r} has {len(atlas)}: "
                "encode the sound with the dictionary of the atlas."
            )
        return cls(atlas, code)

    @property
    def n_frames(self) -> int:
        """Frames of the region."""
        return self.code.n_frames

    @cached_property
    def _by_feature(self) -> tuple[Ints, Ints, npt.NDArray[np.float32], Ints, Ints]:
        """Entries sorted by feature: distinct features, their first entries, all values, all frames, all features."""
        order = np.argsort(self.code.features, kind="stable")
        features = self.code.features[order].astype(np.int64)
        first = np.flatnonzero(np.concatenate(([True], features[1:] != features[:-1]))[: len(features)])
        return features[first], first, self.code.values[order], self.code.frame_of_entry()[order], features

    def features(self, top: int = 50) -> list[RegionFeature]:
        """Return the features that fire here more than elsewhere, most evidence first.

        Of the T frames of the region, k are above a threshold that the share p of the corpus's frames exceeds. If
        frames were drawn like the corpus, k this large would have a probability of at most exp(−T·KL(k/T ‖ p))
        (Chernoff's bound, the likelihood-ratio statistic of the log-odds). Frames in a row are not independent, so T
        and k are divided by the mean length of a run of frames above the threshold. The exponent, less log 3 for
        taking the best of three thresholds, is the score; p-values are adjusted over all features of the dictionary
        (Benjamini and Hochberg 1995).
        """
        features, first, values, frames, _ = self._by_feature
        if not len(features):
            return []
        above, hits, runs = self._counts(features, first, values, frames)
        active = self.atlas.column("n_active")[features].astype(np.float64)
        rates = (active + 1) / (self.atlas.meta["n_frames"] + 2) * np.array([[1 - level] for _, level in LEVELS])
        evidence = _evidence(hits, runs, self.n_frames, rates)
        best = np.argmax(evidence, axis=0)
        column = np.arange(len(features))
        score = np.maximum(evidence[best, column] - np.log(len(LEVELS)), 0.0)
        q_values = _adjusted(np.exp(-score), len(self.atlas))
        order = np.lexsort((features, -hits[best, column], -score))[:top]
        peaks = np.maximum.reduceat(values, first)
        bounds = np.append(first, len(values))
        found = []
        for i in order.tolist():
            at = int(bounds[i]) + int(np.argmax(values[bounds[i] : bounds[i + 1]]))
            k, rate = int(hits[best[i], i]), float(rates[best[i], i])
            found.append(
                RegionFeature(
                    feature=int(features[i]),
                    frames=k,
                    share=k / self.n_frames,
                    density=rate,
                    lift=k / self.n_frames / rate,
                    score=float(score[i]),
                    q_value=float(q_values[i]),
                    above=float(above[best[i], i]),
                    max=float(peaks[i]),
                    peak_time_s=round(self.atlas.clock.time_s(self.first + int(frames[at])), 6),
                )
            )
        return found

    def similar(self, top: int = 20, exclude_clip: str | None = None) -> list[SimilarMoment]:
        """Return the moments of the corpus most like this region, best first; see `otoscope.atlas.search.similar`.

        Moments do not overlap one another, nor the region itself. `exclude_clip` leaves out a whole clip.

        Raises:
            InputError: no such clip.
        """
        excluded = None if exclude_clip is None else self.atlas.clips.index(exclude_clip, f"Atlas {self.atlas.name!r}")
        return similar_moments(self, top, excluded)

    def _counts(
        self, features: Ints, first: Ints, values: npt.NDArray[np.float32], frames: Ints
    ) -> tuple[Floats, Ints, Ints]:
        """`[levels, f]` thresholds, frames above them, and runs of such frames."""
        counts = np.diff(np.append(first, len(values)))
        above = np.zeros((len(LEVELS), len(features)))
        hits, runs = np.zeros(above.shape, np.int64), np.zeros(above.shape, np.int64)
        owner = np.repeat(np.arange(len(features)), counts)
        for row, (name, _) in enumerate(LEVELS):
            if name:
                above[row] = np.nan_to_num(self.atlas.column(name)[features])
            kept = values > above[row][owner]
            who, when = owner[kept], frames[kept]
            starts = np.ones(len(who), dtype=bool)
            starts[1:] = (who[1:] != who[:-1]) | (when[1:] != when[:-1] + 1)
            hits[row] = np.bincount(who, minlength=len(features))
            runs[row] = np.bincount(who[starts], minlength=len(features))
        return above, hits, runs

    def __repr__(self) -> str:
        where = "a sound" if self.clip is None else f"clip {self.atlas.clips.ids[self.clip]!r}"
        return f"Region({self.n_frames} frames of {where}, {len(self._by_feature[0])} features active)"


def _evidence(hits: Ints, runs: Ints, n_frames: int, rates: Floats) -> Floats:
    """T·KL(k/T ‖ p) in nats with runs as the independent units; 0 where the share is not above the rate."""
    share = hits / n_frames
    length = hits / np.maximum(runs, 1)
    trials = n_frames / np.maximum(length, 1.0)
    rates = np.minimum(rates, 1 - 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(share > 0, share * np.log(share / rates), 0.0)
        outside = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - rates)), 0.0)
    return np.where(share > rates, trials * (inside + outside), 0.0)


def _adjusted(p_values: Floats, n_tests: int) -> Floats:
    """Benjamini–Hochberg over `n_tests` tests of which only these have p < 1."""
    order = np.argsort(p_values)
    scaled = p_values[order] * n_tests / np.arange(1, len(order) + 1)
    q_values = np.empty(len(order))
    q_values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values
