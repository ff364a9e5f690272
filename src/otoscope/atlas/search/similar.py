"""Moments that resemble a region: found through the inverted lists of its telling features, ranked by their codes.

A stretch of T frames is a vector: its weight at feature f is how much the sum of f's values exceeds what the corpus
makes expect (T·E_f, E_f the mean over all frames), 0 if it does not, as a share of the maximum, times the rarity
log(max_f / E_f). For features that are rarely on this is tf-idf (Salton and Buckley 1988); for features that are
always on, only what stands out counts. Two stretches are as similar as the cosine of their vectors.

1. The inverted lists of the region's weightiest features, as many as fit into `MAX_ENTRIES`, vote for windows of the
   region's length that start at multiples of a quarter of it. Of a list that does not fit, only the peak in each clip
   votes. 2. The windows with most votes among their neighbours are scored exactly, from the codes of their frames.
3. Of windows that overlap only the best is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from otoscope.atlas.codes import FrameCode
from otoscope.atlas.search.ranges import seconds
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.search.regions import Region

MAX_ENTRIES = 1 << 17
"""Entries of inverted lists that one search reads at most."""
MAX_LISTS = 48
"""Inverted lists that one search reads at most."""
MIN_WINDOWS = 64
"""Windows scored exactly, at least; three for every moment asked for."""
STEPS = 4
"""Windows start at every quarter of their length."""
N_SHARED = 8
"""Features that a similar moment names at most."""
MAX_TOP = 1000
KEY_BITS = 32
"""What values are summed by is as wide as they are, so that the two are sorted as one number."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SimilarMoment:
    """A stretch of a clip as long as the region searched for (shorter where the clip is).

    `similarity` is the cosine, from 0 to 1; `shared` the features that contribute most to it, most first.
    """

    clip_id: str
    start_s: float
    end_s: float
    similarity: float
    shared: list[int]


def scales(atlas: Atlas, features: Ints) -> tuple[Floats, Floats]:
    """`[f]` what the expected value of a frame is, and what one more counts: log(max / expected) / max."""
    top = atlas.column("max")[features].astype(np.float64)
    expected = atlas.column("mean")[features] * atlas.column("density")[features]
    alive = (top > 0) & (expected > 0)
    top, usual = np.where(alive, top, 1.0), np.where(alive, expected, 1.0)
    return expected, np.maximum(np.log(top / usual), 0.0) / top


def similar_moments(region: Region, top: int, excluded: int | None) -> list[SimilarMoment]:
    """Return the `top` windows of the corpus most like a region, best first, none overlapping another or the region."""
    if not 0 < top <= MAX_TOP:
        raise InputError(f"Ask for 1 to {MAX_TOP} similar moments, got {top}.")
    atlas, n_frames = region.atlas, region.n_frames
    step = max(1, n_frames // STEPS)
    features, weights = _vector(atlas, region.code)
    blocks, votes = _votes(atlas, features, weights, step)
    blocks = _best_windows(
        blocks,
        votes,
        -(-n_frames // step),
        lambda blocks: _outside(region, blocks * step + n_frames // 2, blocks * step, excluded),
        max(MIN_WINDOWS, 3 * top),
    )
    starts = _inside_clips(atlas, blocks * step, n_frames)
    starts = starts[_outside(region, starts, starts, excluded)]
    stops = np.minimum(starts + n_frames, atlas.clips.bounds[np.searchsorted(atlas.clips.bounds, starts, "right")])
    cosines, shared = _exact(atlas, features, weights, starts, stops)
    found: list[SimilarMoment] = []
    taken: list[tuple[int, int]] = []
    for i in np.lexsort((starts, -cosines)).tolist():
        start, stop = int(starts[i]), int(stops[i])
        if cosines[i] <= 0 or len(found) == top:
            break
        if not any(start < last and first < stop for first, last in taken):
            taken.append((start, stop))
            found.append(_moment(atlas, start, stop, float(cosines[i]), features[shared(i)].tolist()))
    return found


def _moment(atlas: Atlas, start: int, stop: int, cosine: float, shared: list[int]) -> SimilarMoment:
    clip = int(np.searchsorted(atlas.clips.starts, start, side="right")) - 1
    base = int(atlas.clips.starts[clip])
    return SimilarMoment(atlas.clips.ids[clip], *seconds(atlas, start - base, stop - base), min(cosine, 1.0), shared)


def _vector(atlas: Atlas, code: FrameCode) -> tuple[Ints, Floats]:
    """Features of a code and their weights."""
    numbers, where = np.unique(code.features, return_inverse=True)
    features = numbers.astype(np.int64)
    expected, scale = scales(atlas, features)
    sums = np.bincount(where, code.values, len(features))
    return features, np.maximum(sums - code.n_frames * expected, 0.0) * scale


def _votes(atlas: Atlas, features: Ints, weights: Floats, step: int) -> tuple[Ints, Floats]:
    """Blocks of `step` frames in which telling features fire, ascending, and the votes for each."""
    factors = (weights * scales(atlas, features)[1]).astype(np.float32)
    postings, room = atlas.postings, MAX_ENTRIES
    moments, votes = [np.zeros(0, np.uint32)], [np.zeros(0, np.float32)]
    for i in np.lexsort((features, -weights)).tolist():
        if len(votes) > MAX_LISTS or weights[i] <= 0 or room < MAX_ENTRIES // 16:
            break
        feature = int(features[i])
        if postings.count(feature) <= room:
            frames, values = postings[feature]
        else:
            _, at, values, _ = atlas[feature].peaks()
            if len(at) > room and len(votes) > 1:
                continue
            frames = at.astype(np.uint32)
        room -= len(frames)
        moments.append(frames)
        votes.append(values * factors[i])
    return _summed((np.concatenate(moments) // np.uint32(step)).astype(np.uint64), np.concatenate(votes))


def _summed(keys: npt.NDArray[np.uint64], values: npt.NDArray[np.float32]) -> tuple[Ints, Floats]:
    """Keys (`KEY_BITS` bits), each once, ascending, and the sum of its values: one plain sort brings those together."""
    packed = np.sort(keys << np.uint64(32) | values.view(np.uint32))
    sorted_keys = (packed >> np.uint64(32)).view(np.int64)
    new = np.ones(len(packed), dtype=bool)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=new[1:])
    first = np.flatnonzero(new)
    if not len(first):
        return np.zeros(0, np.int64), np.zeros(0)
    # the lower halves; a sum in the order of the values' bits depends on nothing but the values
    return sorted_keys[first], np.add.reduceat(packed.astype(np.uint32).view(np.float32).astype(np.float64), first)


def _best_windows(blocks: Ints, votes: Floats, n_steps: int, kept: Callable[[Ints], Bools], n: int) -> Ints:
    """First blocks of the `n` windows of `n_steps` blocks with most votes, none half inside a better one."""
    sums = np.concatenate(([0.0], np.cumsum(votes)))
    total = sums[np.searchsorted(blocks, blocks + n_steps)] - sums[:-1]
    real = kept(blocks)
    blocks, total = blocks[real], total[real]
    if len(blocks) > n:
        beaten = np.zeros(len(blocks), dtype=bool)
        for shift in range(1, n_steps // 2 + 1):
            near = blocks[shift:] - blocks[:-shift] <= n_steps // 2
            worse = total[shift:] <= total[:-shift]
            beaten[shift:] |= near & worse
            beaten[:-shift] |= near & ~worse
        blocks, total = blocks[~beaten], total[~beaten]
    if len(blocks) > n:
        edge = np.partition(total, len(total) - n)[len(total) - n]
        blocks, total = blocks[total >= edge], total[total >= edge]
    return blocks[np.lexsort((blocks, -total))[:n]]


def _outside(region: Region, middles: Ints, starts: Ints, excluded: int | None) -> Bools:
    """Which windows overlap neither the region itself nor the excluded clip."""
    clips = region.atlas.clips
    kept = np.ones(len(starts), dtype=bool)
    if region.clip is not None:
        own = int(clips.starts[region.clip]) + region.first
        kept &= (starts + region.n_frames <= own) | (starts >= own + region.n_frames)
    if excluded is not None:
        low, high = clips.span(excluded)
        kept &= (middles < low) | (middles >= high)
    return kept


def _inside_clips(atlas: Atlas, starts: Ints, n_frames: int) -> Ints:
    """Move windows into the clip that holds their middle; a window longer than its clip starts with it."""
    bounds = atlas.clips.bounds
    middles = np.minimum(starts + n_frames // 2, bounds[-1] - 1)
    clip = np.searchsorted(bounds, middles, side="right") - 1
    _, first = np.unique(moved := np.maximum(np.minimum(starts, bounds[clip + 1] - n_frames), bounds[clip]), True)
    return np.asarray(moved[np.sort(first)])


def _exact(
    atlas: Atlas, features: Ints, weights: Floats, starts: Ints, stops: Ints
) -> tuple[Floats, Callable[[int], Ints]]:
    """`[w]` cosines with the region, and which of its features contribute most to each."""
    n = len(starts)
    if not n:
        return np.zeros(0), lambda _: np.zeros(0, np.int64)
    owner, feature, sums = _window_sums(atlas, starts, stops)
    expected, scale = scales(atlas, feature)
    sums = np.maximum(sums - (stops - starts)[owner] * expected, 0.0) * scale
    at = np.minimum(np.searchsorted(features, feature), len(features) - 1)
    products = np.where(features[at] == feature, sums * weights[at], 0.0)
    norms = np.sqrt(np.bincount(owner, sums * sums, n) * np.dot(weights, weights))
    dots = np.bincount(owner, products, n)

    def shared(number: int) -> Ints:
        lo, hi = owner.searchsorted([number, number + 1])
        best = lo + np.lexsort((feature[lo:hi], -products[lo:hi]))[:N_SHARED]
        return np.asarray(at[best[products[best] > 0]])

    return np.divide(dots, norms, out=np.zeros(n), where=norms > 0), shared


def _window_sums(atlas: Atlas, starts: Ints, stops: Ints) -> tuple[Ints, Ints, Floats]:
    """`[k]` windows (ascending), features active in each (ascending), and the sums of their values there."""
    bits = len(atlas).bit_length()
    at_once = 1 << (KEY_BITS - bits)  # so many windows can be told apart
    found = []
    for first in range(0, len(starts), at_once):
        numbers, features, values = [], [np.zeros(0, np.uint32)], [np.zeros(0, np.float32)]
        some = slice(first, first + at_once)
        for number, (start, stop) in enumerate(zip(starts[some].tolist(), stops[some].tolist(), strict=True)):
            for active, strength in atlas.codes.entries(start, stop):
                numbers += [number, len(active)]
                features.append(active)
                values.append(strength)
        owners, lengths = np.array(numbers, dtype=np.int64).reshape(-1, 2).T
        keys: npt.NDArray[np.uint64] = np.repeat((owners << bits).view(np.uint64), lengths) | np.concatenate(features)
        summed, sums = _summed(keys, np.concatenate(values))
        found.append((first + (summed >> bits), summed & ((1 << bits) - 1), sums))
    windows, owned, totals = zip(*found, strict=True)
    return np.concatenate(windows), np.concatenate(owned), np.concatenate(totals)
