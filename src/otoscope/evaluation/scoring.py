"""The inner loops of labelling: entries of features against every class of a kind, exactly.

Each frame has one class, so a single sweep down a feature's values scores all classes at once. Frames where the
feature is silent form one last group of ties at 0. `otoscope.evaluation.selectivity` holds the plain versions.

Entries carry their class as a code: −1 where the frame has no label, the class in the half that chooses, the class plus
`SCORED` in the half that is scored.
"""

from __future__ import annotations

import numba
import numpy as np

SCORED = 1 << 14
FIT, SCORE = 0, 1


@numba.njit(cache=True, nogil=True)
def gather(  # type: ignore[no-untyped-def]
    first, classes, clip, half, columns, banded, indptr, frames, cursor, codes, around
):
    """Fill `codes [k, e]` and `around [b, e, 2]` (classes `NEAR` = 2 frames before and after) of a part's entries.

    `cursor [n]` is each feature's next entry, whose frames ascend; it moves on to the first beyond the part.
    """
    last = first + len(clip)
    for i in range(len(cursor)):
        entry = cursor[i]
        while entry < indptr[i + 1] and frames[entry] < last:
            t = np.int64(frames[entry]) - first
            own = clip[t]
            for k in range(len(columns)):
                c = classes[t, columns[k]]
                codes[k, entry] = c if c < 0 or half[columns[k], own] == FIT else c + SCORED
            for b in range(len(banded)):
                around[b, entry, 0] = classes[t - 2, banded[b]] if t >= 2 and clip[t - 2] == own else -1
                around[b, entry, 1] = classes[t + 2, banded[b]] if t + 2 < len(clip) and clip[t + 2] == own else -1
            entry += 1
        cursor[i] = entry


@numba.njit(cache=True, nogil=True)
def choose_thresholds(indptr, values, order, codes, n_fit, skill, threshold):  # type: ignore[no-untyped-def]
    """Fill `skill [n, c]` with each class's best F1 on the fit half, as the share of the way from always-on (0) to
    perfect (1), and `threshold [n, c]` with where it lies.

    A frame is found where value > threshold; thresholds lie half-way between neighbouring values and never below 0.
    `order` ranks each feature's entries by falling value. `n_fit [c]` counts the frames of each class.
    """
    n_classes = skill.shape[1]
    total = n_fit.sum()
    hits = np.zeros(len(n_fit), dtype=np.int64)
    for i in range(len(indptr) - 1):
        hits[:] = 0
        best = np.zeros(len(n_fit))
        at = np.full(len(n_fit), np.inf)
        seen = 0
        start, end = indptr[i], indptr[i + 1]
        while start < end:
            value = values[order[start]]
            stop = start
            while stop < end and values[order[stop]] == value:
                c = codes[order[stop]]
                if 0 <= c < SCORED:
                    seen += 1
                    hits[c] += 1
                stop += 1
            below = values[order[stop]] if stop < end else np.float32(0.0)
            for each in range(start, stop):
                c = codes[order[each]]
                if 0 <= c < SCORED:
                    found = 2.0 * hits[c] / (seen + n_fit[c])
                    if found > best[c]:
                        best[c] = found
                        at[c] = (np.float64(value) + np.float64(below)) / 2.0
            start = stop
        for c in range(n_classes):
            always = 2.0 * n_fit[c] / max(n_fit[c] + total, 1)
            skill[i, c] = (best[c] - always) / (1.0 - always) if always < 1.0 else 0.0
            threshold[i, c] = at[c]


@numba.njit(cache=True, nogil=True)
def rank_scores(indptr, values, order, codes, n_scored, row_indptr, row_class, ap, auroc):  # type: ignore[no-untyped-def]
    """Fill AP and AUROC of rows (feature, class), features' rows being `row_indptr[i]:row_indptr[i + 1]`, on the
    scored half."""
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
            value = values[order[start]]
            stop = start
            group = 0
            while stop < end and values[order[stop]] == value:
                c = codes[order[stop]]
                if c >= SCORED:
                    group += 1
                    group_hits[c - SCORED] += 1
                stop += 1
            for each in range(start, stop):
                c = codes[order[each]] - SCORED
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
def purest_class(indptr, values, order, codes, n_named, share, min_frames, chosen, result):  # type: ignore[no-untyped-def]
    """Fill each feature's most frequent named class among its strongest fit-half frames, and its share among the
    scored half's."""
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


@numba.njit(cache=True, nogil=True)
def measure(  # type: ignore[no-untyped-def]
    first, first_clip, classes, clip, place, track, ring, ring_start, ring_length, moves, cluster,
    indptr, frames, values, cursor, target_indptr, kind, low, high, members, aside, outside, whole, member_positive,
    speech, dealt_all, dealt_sounds, hits, found, moved, rest, dealt_hits, dealt_rest, hit_clips, run, squares,
):  # fmt: skip
    """Measure targets on a part's entries of the scored half.

    A target is found where low < value ≤ high; it is right where the frame's class in its kind is one of `members`.
    Frames near a class of `aside`, and frames of the class `outside[1]` in kind `outside[0]`, do not count.
    Targets whose labels hold for whole clips have a row `whole` (−1 for others).

    Fills, by target, `hits`, `found`, `moved [t, s]` (hits after each move of the labels), `rest [t, s]` (found whose
    moved class is not set aside), for whole clips `dealt_hits`, `dealt_rest` `[w, m]` likewise and `hit_clips [t]`, and
    Σh², Σh·m, Σf² + 2Σf·n in `squares [t, 3]`, summed over clusters with h hits, f found and n positive frames,
    m = f + n. `run [t, 3]` holds the cluster under way with its h and f.
    """
    last = first + len(clip)
    n_frames = len(clip)
    for i in range(len(cursor)):
        start, stop = cursor[i], cursor[i]
        while stop < indptr[i + 1] and frames[stop] < last:
            stop += 1
        cursor[i] = stop
        for target in range(target_indptr[i], target_indptr[i + 1]):
            k = kind[target]
            bottom, top = low[target], high[target]
            c0, c1, c2, c3 = members[target]
            a0, a1, a2 = aside[target]
            own_kind, own_class = outside[target]
            which, away = (c0, c1, c2, c3), (a0, a1, a2)
            row = whole[target]
            in_clip, right_in_clip, this_clip = 0, 0, -1
            for entry in range(start, stop):
                value = values[entry]
                if value <= bottom or value > top:
                    continue
                t = np.int64(frames[entry]) - first
                at = place[t, k]
                if at < 0:
                    continue
                owner = clip[t]
                c = classes[t, k]
                if a0 >= 0:
                    before = classes[t - 2, k] if t >= 2 and clip[t - 2] == owner else -1
                    after = classes[t + 2, k] if t + 2 < n_frames and clip[t + 2] == owner else -1
                    if _either(c, a0, a1, a2) or _either(before, a0, a1, a2) or _either(after, a0, a1, a2):
                        continue
                if own_kind >= 0 and classes[t, own_kind] == own_class:
                    continue
                right = c == c0 or (c1 >= 0 and _either(c, c1, c2, c3))
                found[target] += 1
                hits[target] += right
                group = cluster[owner]
                if group != run[target, 0]:
                    if run[target, 0] >= 0:
                        _flush(run, squares, target, member_positive)
                    run[target, 0] = group
                run[target, 1] += right
                run[target, 2] += 1
                if own_kind >= 0:
                    continue
                if row >= 0:
                    if owner != this_clip:
                        if in_clip:
                            deal = dealt_all[k][this_clip] if c0 == speech[k] else dealt_sounds[k][this_clip]
                            _count_deals(deal, in_clip, which, away, dealt_hits[row], dealt_rest[row])
                            hit_clips[target] += right_in_clip > 0
                        in_clip, right_in_clip, this_clip = 0, 0, owner
                    in_clip += 1
                    right_in_clip += right
                    continue
                r = ring[k, owner - first_clip]
                own = track[ring_start[r] : ring_start[r] + ring_length[r]]
                _count_moves(own, at - ring_start[r], moves[r], which, away, moved[target], rest[target])
            if in_clip:
                deal = dealt_all[k][this_clip] if c0 == speech[k] else dealt_sounds[k][this_clip]
                _count_deals(deal, in_clip, which, away, dealt_hits[row], dealt_rest[row])
                hit_clips[target] += right_in_clip > 0


@numba.njit(cache=True, nogil=True)
def _either(c, a, b, d):  # type: ignore[no-untyped-def]
    return c >= 0 and c in (a, b, d)


@numba.njit(cache=True, nogil=True)
def _count_moves(ring, within, moves, members, aside, moved, rest):  # type: ignore[no-untyped-def]
    c0, c1, c2, c3 = members
    length = len(ring)
    if c1 < 0 and aside[0] < 0:
        for s in range(len(moves)):
            turned = within + moves[s]
            turned -= length if turned >= length else 0
            moved[s] += ring[turned] == c0
        return
    a0, a1, a2 = aside
    for s in range(len(moves)):
        turned = within + moves[s]
        turned -= length if turned >= length else 0
        c = ring[turned]
        moved[s] += c == c0 or (c1 >= 0 and _either(c, c1, c2, c3))
        rest[s] += not _either(c, a0, a1, a2)


@numba.njit(cache=True, nogil=True)
def _count_deals(deal, n, members, aside, hits, rest):  # type: ignore[no-untyped-def]
    c0, c1, c2, c3 = members
    if c1 < 0 and aside[0] < 0:
        for m in range(len(deal)):
            hits[m] += n if deal[m] == c0 else 0
        return
    a0, a1, a2 = aside
    for m in range(len(deal)):
        c = deal[m]
        hits[m] += n if c == c0 or (c1 >= 0 and _either(c, c1, c2, c3)) else 0
        rest[m] += 0 if _either(c, a0, a1, a2) else n


@numba.njit(cache=True, nogil=True)
def flush_all(run, squares, member_positive):  # type: ignore[no-untyped-def]
    """Add the clusters still under way to the sums of their targets."""
    for target in range(len(run)):
        if run[target, 0] >= 0:
            _flush(run, squares, target, member_positive)


@numba.njit(cache=True, nogil=True)
def _flush(run, squares, target, member_positive):  # type: ignore[no-untyped-def]
    h, f, n = run[target, 1], run[target, 2], member_positive[target, run[target, 0]]
    squares[target, 0] += h * h
    squares[target, 1] += h * (f + n)
    squares[target, 2] += f * f + 2 * f * n
    run[target, 1] = 0
    run[target, 2] = 0
