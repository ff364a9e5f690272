"""The inner loops of labelling: one feature's ranked entries against every class of a kind, exactly.

Each frame has one class, so a single sweep down a feature's values scores all classes at once. Frames where the
feature is silent form one last group of ties at 0. `otoscope.evaluation.selectivity` holds the plain versions.
"""

from __future__ import annotations

import numba
import numpy as np

CHOOSE, SCORE = 0, 1
"""The halves: thresholds and pairs are chosen on the first and everything reported is measured on the second."""


@numba.njit(cache=True, nogil=True)
def choose_thresholds(values, frames, frame_class, half, n_positive, f1, threshold):  # type: ignore[no-untyped-def]
    """Fill `f1 [c]` with each class's best F1 on the CHOOSE half and `threshold [c]` with where it lies.

    A frame is found where value > threshold; thresholds lie half-way between neighbouring values and never below 0.
    `n_positive [2, c]` counts the frames of each class in either half.
    """
    hits = np.zeros(len(f1), dtype=np.int64)
    f1[:] = 0.0
    threshold[:] = np.inf
    seen = 0
    start = 0
    while start < len(values):
        value = values[start]
        stop = start
        while stop < len(values) and values[stop] == value:
            frame = frames[stop]
            if half[frame] == CHOOSE and frame_class[frame] >= 0:
                seen += 1
                hits[frame_class[frame]] += 1
            stop += 1
        below = values[stop] if stop < len(values) else np.float32(0.0)
        for entry in range(start, stop):
            frame = frames[entry]
            c = frame_class[frame]
            if half[frame] == CHOOSE and c >= 0:
                score = 2.0 * hits[c] / (seen + n_positive[CHOOSE, c])
                if score > f1[c]:
                    f1[c] = score
                    threshold[c] = (np.float64(value) + np.float64(below)) / 2.0
        start = stop


@numba.njit(cache=True, nogil=True)
def score_classes(  # type: ignore[no-untyped-def]
    values, frames, frame_class, half, n_positive, threshold, hits_at, found_at, precision_sum, auroc
):
    """Measure every class on the SCORE half: hits and frames found above its threshold, AP and AUROC."""
    n_classes = len(threshold)
    n_frames = n_positive[SCORE].sum()
    hits = np.zeros(n_classes, dtype=np.int64)
    group_hits = np.zeros(n_classes, dtype=np.int64)
    beaten = np.zeros(n_classes)  # negatives ranked above each positive, ties counting half
    hits_at[:] = 0
    found_at[:] = 0
    precision_sum[:] = 0.0
    seen = 0
    start = 0
    while start < len(values):
        value = values[start]
        stop = start
        group = 0
        while stop < len(values) and values[stop] == value:
            frame = frames[stop]
            c = frame_class[frame]
            if half[frame] == SCORE and c >= 0:
                group += 1
                group_hits[c] += 1
                if value > threshold[c]:
                    hits_at[c] += 1
            stop += 1
        for entry in range(start, stop):
            frame = frames[entry]
            c = frame_class[frame]
            if half[frame] == SCORE and c >= 0 and group_hits[c] > 0:
                new = group_hits[c]
                beaten[c] += new * ((seen - hits[c]) + 0.5 * (group - new))
                hits[c] += new
                precision_sum[c] += new * hits[c] / (seen + group)
                group_hits[c] = 0
        seen += group
        start = stop
    for c in range(n_classes):
        n = n_positive[SCORE, c]
        silent = n - hits[c]
        beaten[c] += silent * ((seen - hits[c]) + 0.5 * (n_frames - seen - silent))
        precision_sum[c] += silent * n / max(n_frames, 1)
        negatives = n_frames - n
        auroc[c] = 1.0 - beaten[c] / (n * negatives) if n > 0 and negatives > 0 else np.nan
    _count_found(values, frames, frame_class, half, threshold, found_at)


@numba.njit(cache=True, nogil=True)
def _count_found(values, frames, frame_class, half, threshold, found_at):  # type: ignore[no-untyped-def]
    order = np.argsort(-threshold)
    seen = 0
    entry = 0
    for c in order:
        while entry < len(values) and values[entry] > threshold[c]:
            frame = frames[entry]
            seen += half[frame] == SCORE and frame_class[frame] >= 0
            entry += 1
        found_at[c] = seen


@numba.njit(cache=True, nogil=True)
def purest_class(values, frames, frame_class, half, n_named, share, min_frames):  # type: ignore[no-untyped-def]
    """Most frequent named class among the strongest CHOOSE-half frames, and its share among the SCORE half's."""
    chosen = np.int64(-1)
    result = np.nan
    for side in (CHOOSE, SCORE):
        active = 0
        for frame in frames:
            active += half[frame] == side and frame_class[frame] >= 0
        if active < min_frames:
            return -1, np.nan
        take = max(min_frames, np.int64(np.ceil(share * active)))
        counts = np.zeros(n_named + 1, dtype=np.int64)
        taken = 0
        last = np.float32(0.0)
        for entry in range(len(frames)):
            frame = frames[entry]
            if half[frame] == side and frame_class[frame] >= 0:
                if taken >= take and values[entry] < last:
                    break
                last = values[entry]
                counts[frame_class[frame]] += 1
                taken += 1
        if side == CHOOSE:
            chosen = np.argmax(counts[:n_named])
            if counts[chosen] == 0:
                return -1, np.nan
        else:
            result = counts[chosen] / taken
    return chosen, result


@numba.njit(cache=True, nogil=True)
def rotated_hits(values, frames, threshold, position, clip, start, rings, moves, hits):  # type: ignore[no-untyped-def]
    """Count hits `[s, c]` above each class's threshold (inf: not asked for), each clip's labels rotated, `s` times.

    `position [t]` numbers the labelled frames of the SCORE half (−1 elsewhere), clip after clip from `start`;
    `clip [p]` is their clip. `rings` holds each clip's labels twice in a row, so that a rotation by `moves [s, clip]`
    never wraps.
    """
    lowest = threshold.min()
    place = np.empty(len(values), dtype=np.int64)
    home = np.empty(len(values), dtype=np.int32)
    strength = np.empty(len(values), dtype=np.float32)
    n = 0
    for entry in range(len(values)):
        if values[entry] <= lowest:
            break
        at = position[frames[entry]]
        if at >= 0:
            home[n] = clip[at]
            place[n] = at + start[home[n]]
            strength[n] = values[entry]
            n += 1
    for s in range(len(moves)):
        for i in range(n):
            c = rings[place[i] + moves[s, home[i]]]
            if strength[i] > threshold[c]:
                hits[s, c] += 1


@numba.njit(cache=True, nogil=True)
def dealt_hits(values, frames, threshold, position, clip, wanted, dealt, hits):  # type: ignore[no-untyped-def]
    """Count hits `[s, c]` of the `wanted` classes with whole clips' labels dealt to other clips: `dealt [s, clip]`."""
    n_clips = dealt.shape[1]
    for c in wanted:
        found = np.zeros(n_clips, dtype=np.int64)
        for entry in range(len(values)):
            if values[entry] <= threshold[c]:
                break
            at = position[frames[entry]]
            if at >= 0:
                found[clip[at]] += 1
        for s in range(len(dealt)):
            for each in range(n_clips):
                if dealt[s, each] == c:
                    hits[s, c] += found[each]


@numba.njit(cache=True, nogil=True)
def clustered_variance(  # type: ignore[no-untyped-def]
    values, frames, threshold, wanted, position, clip, cluster, frame_class, cluster_positive, f1, found, variance
):
    """Fill `variance` of the F1 of each `wanted` class, treating clusters of clips as the independent units.

    Linearised (Taylor) variance of the ratio F1 = 2·hits / (found + positive) over G clusters:
    G/(G−1) · Σ_g (2·hits_g − F1·(found_g + positive_g))² / (found + positive)².
    """
    n_clusters = len(cluster_positive)
    for w in range(len(wanted)):
        c = wanted[w]
        residual = np.zeros(n_clusters)
        total = np.float64(found[c])
        for g in range(n_clusters):
            residual[g] = -f1[c] * cluster_positive[g, c]
            total += cluster_positive[g, c]
        for entry in range(len(values)):
            if values[entry] <= threshold[c]:
                break
            place = position[frames[entry]]
            if place >= 0:
                g = cluster[clip[place]]
                residual[g] += 2.0 * (frame_class[frames[entry]] == c) - f1[c]
        squares = 0.0
        for g in range(n_clusters):
            squares += residual[g] * residual[g]
        variance[w] = n_clusters / max(n_clusters - 1, 1) * squares / (total * total) if total > 0 else 0.0
