"""The inner loops of the half that is scored: ranks of entries, and targets against their labels and moved labels.

Codes of entries are those of `otoscope.evaluation.naming.choosing`, whose plain versions are told there too.
"""

from __future__ import annotations

import numba
import numpy as np

from otoscope.evaluation.naming.choosing import SCORED


@numba.njit(cache=True, nogil=True)
def rank_scores(indptr, entries, values, codes, n_scored, row_indptr, row_class, ap, auroc):  # type: ignore[no-untyped-def]
    """Fill AP and AUROC of rows (feature, class of the kind that `codes [e]` tells), features' rows being
    `row_indptr[i]:row_indptr[i + 1]`, on the scored half, whose entries are `entries` with their values."""
    size = len(n_scored)
    n_frames = n_scored.sum()
    hits = np.zeros(size, dtype=np.int64)
    group_hits = np.zeros(size, dtype=np.int64)
    beaten = np.zeros(size)  # negatives ranked above each positive, ties counting half
    precision_sum = np.zeros(size)
    for i in range(len(indptr) - 1):
        if row_indptr[i] == row_indptr[i + 1]:
            continue
        hits[:] = 0
        beaten[:] = 0.0
        precision_sum[:] = 0.0
        seen = 0
        start, end = indptr[i], indptr[i + 1]
        while start < end:
            value = values[start]
            stop = start
            group = 0
            while stop < end and values[stop] == value:
                c = codes[entries[stop]]
                if c >= SCORED:
                    group += 1
                    group_hits[c - SCORED] += 1
                stop += 1
            for each in range(start, stop):
                c = codes[entries[each]] - SCORED
                if c >= 0 and group_hits[c] > 0:
                    new = group_hits[c]
                    beaten[c] += new * ((seen - hits[c]) + 0.5 * (group - new))
                    hits[c] += new
                    precision_sum[c] += new * hits[c] / (seen + group)
                    group_hits[c] = 0
            seen += group
            start = stop
        for row in range(row_indptr[i], row_indptr[i + 1]):
            c = row_class[row]
            n = n_scored[c]
            silent = n - hits[c]
            lost = beaten[c] + silent * ((seen - hits[c]) + 0.5 * (n_frames - seen - silent))
            negatives = n_frames - n
            ap[row] = (precision_sum[c] + silent * n / max(n_frames, 1)) / max(n, 1)
            auroc[row] = 1.0 - lost / (n * negatives) if n > 0 and negatives > 0 else np.nan


@numba.njit(cache=True, nogil=True)
def measure(  # type: ignore[no-untyped-def]
    first, first_clip, classes, clip, place, track, ring, ring_start, ring_length, moves, n_moves, cluster, away,
    indptr, frames, values, cursor, target_indptr, kind, low, high, members, aside, outside, whole, member_positive,
    right, speech, unit, dealt_all, dealt_sounds, all_bounds, sounds_bounds, hits, found, chance, rest, dealt_hits,
    dealt_rest, hit_clips, run, squares,
):  # fmt: skip
    """Measure targets on a part's entries of the scored half.

    A target is found where low < value ≤ high; it is right where the frame's class in its kind is one of `members`.
    Frames near a class of `aside`, and frames of the class `outside[1]` in kind `outside[0]`, do not count.
    Targets of a feature are sorted by kind, and what they share is read once for all of them. Those whose labels hold
    for whole clips have a row `whole` (−1 for others).

    Fills, by target, `hits`, `found`; `chance [t, 3]`: the mean of hits over `n_moves [k]` moves of the labels, its
    variance from move to move, and the sum of squares of the variances of single rings; `rest` (the mean of found whose
    moved class is not set aside); for whole clips `dealt_hits`, `dealt_rest` `[w, m]` and `hit_clips [t]`; and Σh²,
    Σh·m, Σf² + 2Σf·n in `squares [t, 3]`, summed over clusters with h hits, f found and n positive frames, m = f + n.
    `run [t, 3]` holds the cluster under way with its h and f.
    """
    last = first + len(clip)
    longest = 0
    for i in range(len(cursor)):
        longest = max(longest, indptr[i + 1] - cursor[i])
    longest = min(longest, len(clip))
    at, value, own = np.empty(longest, np.int32), np.empty(longest, np.float32), np.empty(longest, np.int16)
    turned = np.empty((longest, moves.shape[1]), np.int16)
    sums, left = np.zeros(moves.shape[1], np.int64), np.zeros(moves.shape[1], np.int64)
    for i in range(len(cursor)):
        start, stop = cursor[i], cursor[i]
        while stop < indptr[i + 1] and frames[stop] < last:
            stop += 1
        cursor[i] = stop
        target = target_indptr[i]
        while target < target_indptr[i + 1]:
            k, until, least, rotates = kind[target], target, low[target], False
            while until < target_indptr[i + 1] and kind[until] == k:
                least = min(least, low[until])
                rotates |= whole[until] < 0 and outside[until, 0] < 0
                until += 1
            n = 0
            for entry in range(start, stop):
                t = np.int64(frames[entry]) - first
                if values[entry] > least and place[t, k] >= 0:
                    at[n], value[n], own[n] = t, values[entry], classes[t, k]
                    n += 1
            if rotates:
                _turn(
                    at[:n], turned, place, track, ring, ring_start, ring_length, moves, n_moves[k], clip, first_clip, k
                )
            for each in range(target, until):
                _count(
                    each, k, at[:n], value, own, turned, n_moves[k], sums, left, first_clip, classes, clip, ring,
                    cluster, away, low[each], high[each], members[each], aside[each], outside[each], whole[each],
                    member_positive, right[each], speech[k], unit[k], dealt_all[k], dealt_sounds[k], all_bounds[k],
                    sounds_bounds[k], hits, found, chance, rest, dealt_hits, dealt_rest, hit_clips, run, squares,
                )  # fmt: skip
            target = until


@numba.njit(cache=True, nogil=True)
def _turn(at, turned, place, track, ring, ring_start, ring_length, moves, n_moves, clip, first_clip, k):  # type: ignore[no-untyped-def]
    """Fill `turned [e, s]` with the class that each move of the labels brings to a frame."""
    for e in range(len(at)):
        t = at[e]
        r = ring[k, clip[t] - first_clip]
        start, length = ring_start[r], ring_length[r]
        within = place[t, k] - start
        for s in range(n_moves):
            to = within + moves[r, s]
            to -= length if to >= length else 0
            turned[e, s] = track[start + to]


@numba.njit(cache=True, nogil=True)
def _count(  # type: ignore[no-untyped-def]
    target, k, at, value, own, turned, n_moves, sums, left, first_clip, classes, clip, ring, cluster, away, bottom, top,
    members, aside, outside, row, member_positive, right_row, speech, unit, dealt_all, dealt_sounds, all_bounds,
    sounds_bounds, hits, found, chance, rest, dealt_hits, dealt_rest, hit_clips, run, squares,
):  # fmt: skip
    """Add the entries of one target; see `measure`."""
    c0, c1, c2, c3 = members
    a0, a1, a2 = aside
    own_kind, own_class = outside
    n_frames = len(clip)
    this_clip, in_clip, right_in_clip, this_ring, n_found, n_right = -1, 0, 0, -1, 0, 0
    deals, bounds = (dealt_all, all_bounds) if c0 == speech else (dealt_sounds, sounds_bounds)
    group, group_hits, group_found = run[target]
    for e in range(len(at)):
        if value[e] <= bottom or value[e] > top:
            continue
        t, c = at[e], own[e]
        owner = clip[t]
        if a0 >= 0:
            before = classes[t - away, k] if t >= away and clip[t - away] == owner else -1
            after = classes[t + away, k] if t + away < n_frames and clip[t + away] == owner else -1
            if _either(c, a0, a1, a2) or _either(before, a0, a1, a2) or _either(after, a0, a1, a2):
                continue
        if own_kind >= 0 and classes[t, own_kind] == own_class:
            continue
        right = c == c0 or (c1 >= 0 and _either(c, c1, c2, c3))
        n_found += 1
        n_right += right
        if owner != this_clip:
            if row >= 0 and in_clip:
                _add_deals(
                    deals[unit[this_clip]], bounds[unit[this_clip]], in_clip, members, aside, dealt_hits[row],
                    dealt_rest[row],
                )  # fmt: skip
                hit_clips[target] += right_in_clip > 0
                in_clip, right_in_clip = 0, 0
            this_clip = owner
            if cluster[owner] != group:
                if group >= 0:
                    _flush(squares, target, group_hits, group_found, member_positive[right_row, group])
                group, group_hits, group_found = cluster[owner], 0, 0
            if row < 0 and own_kind < 0 and ring[k, owner - first_clip] != this_ring:
                if this_ring >= 0:
                    _close_ring(sums[:n_moves], left[:n_moves], chance[target], rest, target)
                this_ring = ring[k, owner - first_clip]
        group_hits += right
        group_found += 1
        in_clip += 1
        right_in_clip += right
        if row >= 0 or own_kind >= 0:
            continue
        if c1 < 0 and a0 < 0:
            for s in range(n_moves):
                sums[s] += turned[e, s] == c0
        else:
            for s in range(n_moves):
                moved = turned[e, s]
                sums[s] += moved == c0 or (c1 >= 0 and _either(moved, c1, c2, c3))
                left[s] += not _either(moved, a0, a1, a2)
    if this_ring >= 0:
        _close_ring(sums[:n_moves], left[:n_moves], chance[target], rest, target)
    if row >= 0 and in_clip:
        unit_here = unit[this_clip]
        _add_deals(deals[unit_here], bounds[unit_here], in_clip, members, aside, dealt_hits[row], dealt_rest[row])
        hit_clips[target] += right_in_clip > 0
    run[target, 0], run[target, 1], run[target, 2] = group, group_hits, group_found
    found[target] += n_found
    hits[target] += n_right


@numba.njit(cache=True, nogil=True)
def _either(c, a, b, d):  # type: ignore[no-untyped-def]
    return c >= 0 and c in (a, b, d)


@numba.njit(cache=True, nogil=True)
def _close_ring(sums, left, chance, rest, target):  # type: ignore[no-untyped-def]
    """Add the mean and variance of a ring's hits over moves, and begin another."""
    total, squared, free, n = 0, 0, 0, len(sums)
    for s in range(n):
        total += sums[s]
        squared += sums[s] * sums[s]
        free += left[s]
        sums[s] = 0
        left[s] = 0
    variance = (squared - total * total / n) / (n - 1)
    chance[0] += total / n
    chance[1] += variance
    chance[2] += variance * variance
    rest[target] += free / n


@numba.njit(cache=True, nogil=True)
def _add_deals(deals, bounds, n, members, aside, hits, rest):  # type: ignore[no-untyped-def]
    """Add `n` to the deals that give a clip one of `members`, and to those that give it none of `aside`.

    `deals [m]` are numbers of deals, sorted by the class that they give; `bounds [c]` is where those of a class begin.
    """
    for c in members:
        if c >= 0:
            for each in range(bounds[c], bounds[c + 1]):
                hits[deals[each]] += n
    if aside[0] >= 0:
        rest += n
        for c in aside:
            if c >= 0:
                for each in range(bounds[c], bounds[c + 1]):
                    rest[deals[each]] -= n


@numba.njit(cache=True, nogil=True)
def flush_all(run, squares, member_positive, right):  # type: ignore[no-untyped-def]
    """Add the clusters still under way to the sums of their targets."""
    for target in range(len(run)):
        group = run[target, 0]
        if group >= 0:
            _flush(squares, target, run[target, 1], run[target, 2], member_positive[right[target], group])
            run[target] = (-1, 0, 0)


@numba.njit(cache=True, nogil=True)
def _flush(squares, target, h, f, n):  # type: ignore[no-untyped-def]
    squares[target, 0] += h * h
    squares[target, 1] += h * (f + n)
    squares[target, 2] += f * f + 2 * f * n
