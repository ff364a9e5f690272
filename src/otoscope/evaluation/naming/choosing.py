"""The inner loops of the half that chooses: entries of features against every class of a kind, exactly.

Each frame has one class, so a single sweep down a feature's values scores all classes at once. Frames where the
feature is silent form one last group of ties at 0. `otoscope.evaluation.selectivity` holds the plain versions.

Entries carry their class as a code: −1 where the frame has no label, the class in the half that chooses, the class plus
`SCORED` in the half that is scored.
"""

from __future__ import annotations

import numba
import numpy as np

from otoscope.evaluation.naming.labelling import FIT, SCORE

SCORED = 1 << 14
_STEP = 16
"""Hits of a class that are passed over together where none of them can be the best."""


@numba.njit(cache=True, nogil=True)
def gather(  # type: ignore[no-untyped-def]
    first, classes, clip, offset, halving, columns, banded, away, indptr, frames, cursor, codes, around, sides
):
    """Fill `codes [k, e]` and `around [b, e, 2]` (classes `away` frames before and after) of a part's entries.

    `offset [clips, k]` is 0 or `SCORED` where a clip is in one half or the other. `sides [h, e]` says so of the entries
    for some of the kinds, `halving [h]`. `cursor [n]` is each feature's next entry, whose frames ascend; it moves on to
    the first beyond the part.
    """
    last, n_kinds = first + len(clip), len(codes)
    tile = np.empty((64, n_kinds), dtype=np.int16)
    for i in range(len(cursor)):
        start = stop = cursor[i]
        while stop < indptr[i + 1] and frames[stop] < last:
            stop += 1
        cursor[i] = stop
        # short loops: compiled, all together take a fraction of what one loop with all of it takes
        for at in range(start, stop, len(tile)):
            n = min(len(tile), stop - at)
            for j in range(n):
                t = np.int64(frames[at + j]) - first
                own = clip[t]
                for k in range(n_kinds):
                    tile[j, k] = classes[t, columns[k]] | offset[own, k]  # −1 stays −1
            for k in range(n_kinds):
                for j in range(n):
                    codes[k, at + j] = tile[j, k]
        for entry in range(start, stop):
            own = clip[np.int64(frames[entry]) - first]
            for h in range(len(halving)):
                sides[h, entry] = offset[own, halving[h]] > 0
        for entry in range(start, stop):
            t = np.int64(frames[entry]) - first
            for way in range(2):
                other = t - away if way == 0 else t + away
                same = 0 <= other < len(clip) and clip[other] == clip[t]
                for b in range(len(banded)):
                    around[b, entry, way] = classes[other, banded[b]] if same else -1


@numba.njit(cache=True, nogil=True)
def halve(indptr, order, values, sides, side):  # type: ignore[no-untyped-def]
    """Return the ranked entries of one half: `indptr [n + 1]`, entries `[m]` and their values."""
    n, m = len(indptr) - 1, 0
    for each in sides:
        m += each == side
    bounds = np.zeros(n + 1, dtype=np.int64)
    entries, sorted_values = np.empty(m + 1, dtype=np.uint32), np.empty(m + 1, dtype=np.float32)
    at = 0
    for i in range(n):
        for each in range(indptr[i], indptr[i + 1]):  # written in any case and overwritten if of the other half
            e = order[each]
            entries[at], sorted_values[at] = e, values[e]
            at += sides[e] == side
        bounds[i + 1] = at
    return bounds, entries[:m], sorted_values[:m]


@numba.njit(cache=True, nogil=True)
def choose_thresholds(  # type: ignore[no-untyped-def]
    indptr, entries, values, codes, rows, first_class, first_column, n_fit, skill, threshold
):
    """Fill `skill [n, c]` with each class's best F1 on the fit half, as the share of the way from always-on (0) to
    perfect (1), and `threshold [n, c]` with where it lies, for the kinds in `rows` of `codes [k, e]`.

    A frame is found where value > threshold; thresholds lie half-way between neighbouring values and never below 0.
    `entries` are those of the fit half and `values` theirs, falling within each feature (see `halve`). The classes of
    kind k, and "none of them" as the last, are `first_class[k]:first_class[k + 1]` of `n_fit`, the frames of each; in
    `skill` and `threshold` they begin at `first_column[k]`.
    """
    longest, most = 0, 0
    for i in range(len(indptr) - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    for k in rows:
        most = max(most, first_class[k + 1] - first_class[k])
    group_end, own = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.uint16)
    labelled, hits = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.int32)
    bounds = np.empty(most + 2, dtype=np.int64)
    always = np.empty(len(n_fit))
    for k in rows:
        total = n_fit[first_class[k] : first_class[k + 1]].sum()
        for c in range(first_class[k], first_class[k + 1]):
            always[c] = 2.0 * n_fit[c] / max(n_fit[c] + total, 1)
    for i in range(len(indptr) - 1):
        ranked, own_entries = values[indptr[i] : indptr[i + 1]], entries[indptr[i] : indptr[i + 1]]
        _ends_of_ties(ranked, group_end)
        for k in rows:
            first, n_classes = first_class[k], first_class[k + 1] - first_class[k] - 1
            _sort_by_class(own_entries, codes[k], group_end, n_classes, own, labelled, bounds, hits)
            for c in range(n_classes):
                best, at = 0.0, np.inf
                if bounds[c + 1] > bounds[c]:
                    best, entry = _best_f1(hits[bounds[c] : bounds[c + 1]], labelled, n_fit[first + c])
                    at = _below(ranked, entry)
                least, column = always[first + c], first_column[k] + c
                skill[i, column] = (best - least) / (1.0 - least) if least < 1.0 else 0.0
                threshold[i, column] = at


@numba.njit(cache=True, nogil=True)
def _ends_of_ties(ranked, group_end):  # type: ignore[no-untyped-def]
    """Fill `group_end [e]` with the last entry of the same value, which are found together or not at all."""
    last = len(ranked) - 1
    for e in range(last, -1, -1):
        if ranked[e] != ranked[last]:
            last = e
        group_end[e] = last


@numba.njit(cache=True, nogil=True)
def _sort_by_class(entries, codes, group_end, n_classes, own, labelled, bounds, hits):  # type: ignore[no-untyped-def]
    """Fill `hits` with the last entries of the ties of each class's entries, class c's from `bounds[c]` on, strongest
    first, and `labelled [e]` with how many entries up to the e-th have a label."""
    bounds[: n_classes + 2] = 0
    n = 0
    for e in range(len(entries)):
        c = codes[entries[e]]
        own[e] = c + 1 if c < n_classes else 0
        n += c >= 0
        labelled[e] = n
        bounds[own[e] + 1] += 1
    for c in range(n_classes):
        bounds[c + 2] += bounds[c + 1]
    # class c begins at bounds[c + 1], those of no class at 0; filling moves each to where the next one begins
    for e in range(len(entries)):
        at = bounds[own[e]]
        hits[at] = group_end[e]
        bounds[own[e]] = at + 1


@numba.njit(cache=True, nogil=True)
def _best_f1(hits, labelled, positive):  # type: ignore[no-untyped-def]
    """Return the best F1 of a class whose entries are `hits`, and the first entry where it is reached.

    No F1 within a step of entries is above the one with all hits of the step and the frames of its first.
    """
    n = len(hits)
    least, of = np.int64(0), np.int64(1)
    for last in range(_STEP - 1, n, _STEP):
        total = labelled[hits[last]] + positive
        if (last + 1) * of > least * total:
            least, of = np.int64(last + 1), total
    right, found, entry = np.int64(0), np.int64(1), np.int64(-1)
    for start in range(0, n, _STEP):
        stop = min(start + _STEP, n)
        if stop * of < least * (labelled[hits[start]] + positive):
            continue
        for h in range(start, stop):
            total = labelled[hits[h]] + positive
            if (h + 1) * found > right * total:
                right, found, entry = np.int64(h + 1), total, np.int64(hits[h])
    return 2.0 * right / found, entry


@numba.njit(cache=True, nogil=True)
def _below(ranked, entry):  # type: ignore[no-untyped-def]
    """The threshold half-way between the value of an entry and that of the next (0 below all)."""
    after = entry + 1
    return (np.float64(ranked[entry]) + (np.float64(ranked[after]) if after < len(ranked) else 0.0)) / 2.0


@numba.njit(cache=True, nogil=True)
def purest_class(indptr, values, order, codes, n_named, share, min_frames, chosen, result):  # type: ignore[no-untyped-def]
    """Fill each feature's most frequent named class of the first kind among its strongest fit-half frames, and its
    share among the scored half's."""
    counts = np.zeros(n_named + 1, dtype=np.int64)
    for i in range(len(indptr) - 1):
        for side in (FIT, SCORE):
            offset = SCORED * side
            active = 0
            for each in range(indptr[i], indptr[i + 1]):
                active += offset <= codes[each] < offset + SCORED
            if active < min_frames:
                chosen[i] = -1
                break
            take = max(min_frames, np.int64(np.ceil(share * active)))
            counts[:] = 0
            taken = 0
            last = np.float32(0.0)
            for each in range(indptr[i], indptr[i + 1]):
                c = codes[order[each]] - offset
                if 0 <= c < SCORED:
                    if taken >= take and values[order[each]] < last:
                        break
                    last = values[order[each]]
                    counts[c] += 1
                    taken += 1
            if side == FIT:
                chosen[i] = np.argmax(counts[:n_named])
                if counts[chosen[i]] == 0:
                    chosen[i] = -1
                    break
            else:
                result[i] = counts[chosen[i]] / taken
