"""Several labels of one feature: classes one after another, each in its band of activation, and their union.

On the fit half only. The best class with the best band of values is taken, its frames and those near it are set aside,
then the best among the rest, while one is found well enough. Bands lie between quantiles of the active values, closer
together towards the strongest. The union is the set of classes that one threshold finds better than any one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

MAX_BANDS = 4
MAX_MEMBERS = 4
MIN_SKILL = 0.2
"""A class must be found this far of the way from always-on to perfect among the frames not yet set aside."""
MIN_HITS = 10
FEW = 0.01
"""With more than this share of a feature's entries above a band, the band has an upper end."""
MIN_GAIN = 0.02
"""What each further class must add to the F1 of a union."""
EDGES = np.array([0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.27, 0.35, 0.45, 0.55, 0.7, 0.85, 1.0])
"""Upper ends of the bins, as shares of the active frames, strongest first."""


@dataclass(frozen=True)
class Bands:
    """What `choose_bands` found for `n` features in one kind.

    Attributes:
        classes: `[n, bands]`, −1 for none; `low`, `high`, `skill` of each: active where low < value ≤ high.
        members: `[n, members]` of the union, −1 for none (no union with fewer than two); `union_low`, `union_skill`.
    """

    classes: npt.NDArray[np.int16]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    skill: npt.NDArray[np.float64]
    members: npt.NDArray[np.int16]
    union_low: npt.NDArray[np.float64]
    union_skill: npt.NDArray[np.float64]


def choose_bands(
    indptr: npt.NDArray[np.int64],
    entries: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int16],
    around: npt.NDArray[np.int16],
    n_fit: npt.NDArray[np.int64],
    near: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.bool_],
) -> Bands:
    """Choose bands and unions for the features of a block.

    Args:
        indptr, entries, values: those of the fit half, by falling value within a feature.
        codes: `[e]` see `otoscope.evaluation.naming.choosing`; `around [e, 2]` the classes two frames before and after.
        n_fit: `[c + 1]` frames of each class in the fit half; the last is "none of them".
        near: `[c + 1, c + 1]` frames of the second class near the first in the fit half.
        wanted: `[n]` the features that are asked; the others get none.
    """
    n = len(indptr) - 1
    classes = np.full((n, MAX_BANDS), -1, dtype=np.int16)
    low, high, skill = (np.full((n, MAX_BANDS), fill) for fill in (0.0, np.inf, 0.0))
    members = np.full((n, MAX_MEMBERS), -1, dtype=np.int16)
    union_low, union_skill = np.full(n, np.inf), np.zeros(n)
    _choose(
        indptr, entries, values, codes, around, n_fit, near, wanted, EDGES, classes, low, high, skill, members,
        union_low, union_skill,
    )  # fmt: skip
    return Bands(classes, low, high, skill, members, union_low, union_skill)


@numba.njit(cache=True, nogil=True)
def _choose(  # type: ignore[no-untyped-def]
    indptr, entries, values, codes, around, n_fit, near, wanted, edges, classes, low, high, skill, members, union_low,
    union_skill,
):  # fmt: skip
    n_bins, size = len(edges), len(n_fit)
    hist = np.zeros((n_bins + 1, size), dtype=np.int64)
    strongest, weakest = np.zeros(n_bins), np.zeros(n_bins)
    longest = np.diff(indptr).max() if len(indptr) > 1 else 0
    own, value = np.empty(longest, dtype=np.int16), np.empty(longest, dtype=np.float32)
    beside, kept = np.empty((longest, 2), dtype=np.int16), np.empty(longest, dtype=np.int64)
    for i in range(len(indptr) - 1):
        n = 0
        for each in range(indptr[i], indptr[i + 1] if wanted[i] else indptr[i]):
            e = entries[each]
            if codes[e] >= 0:
                own[n], value[n], beside[n] = codes[e], values[each], around[e]
                n += 1
        for step in range(classes.shape[1]):
            aside = classes[i, :step]
            m = _rest(own[:n], beside, aside, kept)
            _bins(kept[:m], own, value, edges, hist, strongest, weakest)
            if m < MIN_HITS:
                break
            if step == 0:
                _union(i, hist, strongest, weakest, n_fit, members, union_low, union_skill)
            found = _best_band(hist, n_fit, near, aside)
            if found[0] < MIN_SKILL:
                break
            skill[i, step] = found[0]
            classes[i, step] = np.int16(found[1])
            top = np.int64(found[2])
            while hist[top].sum() == 0:  # a tie filled several bins at once; what `strongest` says of them is old
                top += 1
            above = top - 1
            while above >= 0 and hist[above].sum() == 0:
                above -= 1
            ceiling = np.inf if above < 0 else (weakest[above] + strongest[top]) / 2
            low[i, step], high[i, step] = _refined(kept[:m], own[:n], value, np.int16(found[1]), ceiling, found[4])


@numba.njit(cache=True, nogil=True)
def _rest(own, beside, aside, kept):  # type: ignore[no-untyped-def]
    """List the entries that are not set aside, and return how many there are."""
    m = 0
    for e in range(len(own)):
        free = True
        for c in aside:
            free &= own[e] != c and beside[e, 0] != c and beside[e, 1] != c
        kept[m] = e
        m += free
    return m


@numba.njit(cache=True, nogil=True)
def _refined(kept, codes, values, own, ceiling, positive):  # type: ignore[no-untyped-def]
    """The ends of a band with the best F1, exactly: the lower one below a ceiling, then the upper one above that."""
    n = len(kept)
    first = 0
    while first < n and values[kept[first]] > ceiling:
        first += 1
    best, low, last, hits = -1.0, ceiling, first, 0
    for r in range(first, n):
        hits += codes[kept[r]] == own
        after = values[kept[r + 1]] if r + 1 < n else np.float32(0.0)
        f1 = 2.0 * hits / (r - first + 1 + positive)
        if after != values[kept[r]] and f1 > best:
            best, low, last = f1, (np.float64(values[kept[r]]) + after) / 2, r
    best, high, hits = -1.0, np.inf, 0
    for r in range(last, -1, -1):
        hits += codes[kept[r]] == own
        before = values[kept[r - 1]] if r > 0 else np.float32(np.inf)
        f1 = 2.0 * hits / (last - r + 1 + positive)
        if before != values[kept[r]] and f1 > best:
            best, high = f1, (np.float64(values[kept[r]]) + before) / 2
    return low, high if high < np.inf else _ceiling(kept, codes, values, own)


@numba.njit(cache=True, nogil=True)
def _ceiling(kept, codes, values, own):  # type: ignore[no-untyped-def]
    """Where nothing lies above a band but what was set aside, and that is much, the band ends above its own frames."""
    top = np.float32(0.0)
    for e in kept:
        if codes[e] == own:
            top = values[e]
            break
    above, next_value = 0, np.inf
    while above < len(codes) and values[above] > top:
        next_value = np.float64(values[above])
        above += 1
    return (top + next_value) / 2 if above >= MIN_HITS and above > FEW * len(codes) else np.inf


@numba.njit(cache=True, nogil=True)
def _bins(kept, codes, values, edges, hist, strongest, weakest):  # type: ignore[no-untyped-def]
    """Count entries by bin of value and class."""
    hist[:] = 0
    fresh, b = -1, 0
    last = np.float32(-1.0)
    for rank in range(len(kept)):
        e = kept[rank]
        if values[e] != last:
            while rank >= edges[b] * len(kept) and b < len(edges) - 1:
                b += 1
            last = values[e]
        if b != fresh:
            strongest[b] = last
            fresh = b
        weakest[b] = last
        hist[b, codes[e]] += 1


@numba.njit(cache=True, nogil=True)
def _best_band(hist, n_fit, near, aside):  # type: ignore[no-untyped-def]
    """Skill, class, first and last bin, and positive frames of the class and band with the best skill."""
    n_bins, n_classes = hist.shape[0] - 1, hist.shape[1] - 1
    found = np.zeros(n_bins + 1)
    for b in range(n_bins):
        found[b + 1] = found[b] + hist[b].sum()
    frames = np.float64(n_fit.sum())
    for a in aside:
        frames -= near[a].sum()
    best = (0.0, -1, 0, 0, 0.0)
    above = np.zeros(n_bins + 1)
    for c in range(n_classes):
        total, positive = 0, np.float64(n_fit[c])
        for b in range(n_bins):
            total += hist[b, c]
        taken = False
        for a in aside:
            positive -= near[a, c]
            taken |= a == c
        if taken or total < MIN_HITS:
            continue
        positive = max(positive, np.float64(total))
        always = 2 * positive / (positive + max(frames, positive))
        if always >= 1 or (2 * total / (total + positive) - always) / (1 - always) <= best[0]:
            continue
        for b in range(n_bins):
            above[b + 1] = above[b] + hist[b, c]
        for bottom in range(n_bins):
            for top in range(bottom + 1):
                hits = above[bottom + 1] - above[top]
                f1 = 2 * hits / (found[bottom + 1] - found[top] + positive)
                skill = (f1 - always) / (1 - always)
                if hits >= MIN_HITS and skill > best[0]:
                    best = (skill, c, top, bottom, positive)
    return best


@numba.njit(cache=True, nogil=True)
def _union(i, hist, strongest, weakest, n_fit, members, union_low, union_skill):  # type: ignore[no-untyped-def]
    """The few classes that one threshold finds best together: at each threshold those with the highest recall."""
    n_bins, n_classes = hist.shape[0] - 1, hist.shape[1] - 1
    hits = np.zeros(n_classes, dtype=np.int64)
    chosen = np.full(members.shape[1], -1, dtype=np.int64)
    frames = n_fit.sum()
    found = 0
    for b in range(n_bins):
        for c in range(n_classes):
            hits[c] += hist[b, c]
        inside = hist[b].sum()
        found += inside
        if inside == 0:
            continue
        right, positive, f1, n = 0, 0, 0.0, 0
        chosen[:] = -1
        while n < len(chosen):
            top, recall = -1, 0.0
            for c in range(n_classes):
                own = hits[c] / n_fit[c] if n_fit[c] > 0 and hits[c] >= MIN_HITS else 0.0
                if own > recall and not (chosen[:n] == c).any():
                    top, recall = c, own
            if top < 0:
                break
            gained = 2.0 * (right + hits[top]) / (found + positive + n_fit[top])
            if gained < f1 + MIN_GAIN:
                break
            right, positive, f1 = right + hits[top], positive + n_fit[top], gained
            chosen[n] = top
            n += 1
        always = 2.0 * positive / max(positive + frames, 1)
        skill = (f1 - always) / (1 - always) if always < 1 else 0.0
        if skill > union_skill[i]:
            below = b + 1
            while below < n_bins and hist[below].sum() == 0:
                below += 1
            union_skill[i] = skill
            union_low[i] = (weakest[b] + (strongest[below] if below < n_bins else 0.0)) / 2
            members[i, :] = -1
            if n >= 2:
                for j in range(n):
                    members[i, j] = chosen[j]
