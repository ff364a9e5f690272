"""How far each feature merely follows what can be heard: loudness, spectral tilt, voicing, pitch.

Correlations over all frames from sums alone (a feature is 0 where it has no entry); that with pitch over voiced frames.
Intervals treat clips, or groups of neighbouring clips, as the independent units: linearised variance of a correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import ArrayFile

HEARD = ("energy", "tilt", "voicing", "pitch")
"""What activations are correlated with; pitch in octaves."""
N_TOGETHER = 128
_FLAT = 1e-9
"""A measure whose variance is less than this share of its mean square is constant, up to rounding."""
_N_SUMS = 8  # Σa, Σa², Σa·energy, Σa·tilt, Σa·voicing; over voiced frames Σa, Σa², Σa·pitch

KEPT_FRAMES = 1 << 16
"""What is known of so many frames stays in memory from one block of features to the next: labels and measures take some
8 MB."""
Parts = Sequence[tuple[int, ArrayFile]]
"""First frame of each part, and a file with its `measures [t, 4]`."""
Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]


class AcousticTable:
    """Sums over the measures of all frames, by cluster of clips, and the correlations of features with them.

    Args:
        parts: the measures of all frames, in order.
        cluster: `[b]` cluster of each clip.
        clip_bounds: `[b + 1]` first frame of each clip, and the number of all frames.
    """

    def __init__(
        self,
        parts: Parts,
        cluster: npt.NDArray[np.int32],
        clip_bounds: npt.NDArray[np.int64],
    ) -> None:
        self.cluster, self.bounds = cluster, clip_bounds
        self._parts = [(first, part.read("measures"), part) for first, part in parts]
        self._stay = sum(len(measures) for _, measures, _ in self._parts) <= KEPT_FRAMES
        n = int(cluster.max(initial=0)) + 1
        self.sums = np.zeros((n, 3 + 3 + 2 + 2))  # Σm (3), Σm² (3), N and N voiced, Σpitch, Σpitch²
        self.cross = np.zeros((3, 3))
        for first, measures, part in self._parts:
            _sum_measures(measures, first, clip_bounds, cluster, self.sums, self.cross)
            part.release()

    def of(self, block: Block) -> Columns:
        """Return `correlation`, `low`, `high` (95 %), `partial` `[n, 4]` (see `HEARD`; partial given the others, pitch
        NaN) and `explained [n]`, the variance that energy, tilt and voicing explain together."""
        pieces = [
            self._of(block, start, min(start + N_TOGETHER, len(block))) for start in range(0, len(block), N_TOGETHER)
        ]
        return {name: np.concatenate([each[name] for each in pieces]) for name in pieces[0]}

    def _of(self, block: Block, start: int, stop: int) -> Columns:
        sums = np.zeros((stop - start, len(self.sums), _N_SUMS))
        cursor = block.indptr[start:stop].copy()
        for first, measures, part in self._parts:
            _sum_entries(
                measures, first, self.bounds, self.cluster, block.indptr[start : stop + 1], block.frames,
                block.values, cursor, sums,
            )  # fmt: skip
            if not self._stay:
                part.release()
        n, n_voiced = self.sums[:, 6], self.sums[:, 7]
        columns = []
        for j in range(3):
            heard = self.sums[:, j], self.sums[:, 3 + j]
            columns.append(_correlation(sums[..., 0], sums[..., 1], sums[..., 2 + j], *heard, n))
        columns.append(
            _correlation(sums[..., 5], sums[..., 6], sums[..., 7], self.sums[:, 8], self.sums[:, 9], n_voiced)
        )
        r, low, high = (np.stack([each[i] for each in columns], axis=1) for i in range(3))
        explained, partial = self._together(r[:, :3])
        partial = np.concatenate([partial, np.full((len(partial), 1), np.nan)], axis=1)
        found = {"correlation": r, "low": low, "high": high, "partial": partial, "explained": explained}
        return {name: values.astype(np.float32) for name, values in found.items()}

    def _together(self, r: Floats) -> tuple[Floats, Floats]:
        n = self.sums[:, 6].sum()
        mean = self.sums[:, :3].sum(axis=0) / max(n, 1)
        cov = self.cross / max(n, 1) - np.outer(mean, mean)
        flat = np.diag(cov) <= _FLAT * np.diag(self.cross) / max(n, 1)
        scale = np.sqrt(np.where(flat, 1.0, np.diag(cov)))
        among = np.where(flat[:, None] | flat, 0.0, cov / np.outer(scale, scale)) + np.diag(np.where(flat, 1.0, 1e-6))
        known = np.nan_to_num(r)
        explained = np.clip(np.einsum("ni,ij,nj->n", known, np.linalg.inv(among), known), 0, 1)
        whole = np.empty((len(r), 4, 4))
        whole[:, 1:, 1:], whole[:, 0, 0] = among, 1.0 + 1e-6
        whole[:, 0, 1:] = whole[:, 1:, 0] = known
        inverse = np.linalg.pinv(whole, hermitian=True)
        scales = np.sqrt(np.abs(inverse[:, :1, 0] * np.diagonal(inverse, axis1=1, axis2=2)[:, 1:]))
        return explained, np.clip(-inverse[:, 0, 1:] / np.maximum(scales, 1e-12), -1, 1)


def _correlation(a: Floats, aa: Floats, am: Floats, m: Floats, mm: Floats, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Correlation and its interval from sums by cluster: `a`, `aa`, `am` `[features, g]`, `m`, `mm`, `n` `[g]`."""
    total = max(float(n.sum()), 1.0)
    mean_a, mean_m = a.sum(axis=1) / total, m.sum() / total
    var_a = aa.sum(axis=1) / total - mean_a**2
    var_m = mm.sum() / total - mean_m**2
    known = (var_a > 1e-12 * np.maximum(aa.sum(axis=1) / total, 1e-30)) & (var_m > _FLAT * mm.sum() / total)
    sd_a, sd_m = np.sqrt(np.where(known, var_a, 1.0)), np.sqrt(var_m if var_m > 0 else 1.0)
    r = (am.sum(axis=1) / total - mean_a * mean_m) / (sd_a * sd_m)
    both = (am - mean_a[:, None] * m - mean_m * a + mean_a[:, None] * mean_m * n) / (sd_a[:, None] * sd_m)
    own = (aa - 2 * mean_a[:, None] * a + mean_a[:, None] ** 2 * n) / sd_a[:, None] ** 2
    other = (mm - 2 * mean_m * m + mean_m**2 * n) / sd_m**2
    influence = both - r[:, None] / 2 * (own + other)
    groups = max(int((n > 0).sum()), 2)
    error = 1.96 * np.sqrt(groups / (groups - 1) * (influence**2).sum(axis=1)) / total
    found = (r, np.clip(r - error, -1, 1), np.clip(r + error, -1, 1))
    return tuple(np.where(known, np.clip(each, -1, 1), np.nan) for each in found)  # type: ignore[return-value]


@numba.njit(cache=True, nogil=True)
def _sum_measures(measures, first, bounds, cluster, sums, cross):  # type: ignore[no-untyped-def]
    clip = int(np.searchsorted(bounds, first, side="right")) - 1
    for t in range(len(measures)):
        while first + t >= bounds[clip + 1]:
            clip += 1
        g = cluster[clip]
        for j in range(3):
            value = np.float64(measures[t, j])
            sums[g, j] += value
            sums[g, 3 + j] += value * value
            for other in range(3):
                cross[j, other] += value * measures[t, other]
        sums[g, 6] += 1
        if not np.isnan(measures[t, 3]):
            octaves = np.log2(np.float64(measures[t, 3]))
            sums[g, 7] += 1
            sums[g, 8] += octaves
            sums[g, 9] += octaves * octaves


@numba.njit(cache=True, nogil=True)
def _sum_entries(measures, first, bounds, cluster, indptr, frames, values, cursor, sums):  # type: ignore[no-untyped-def]
    last = first + len(measures)
    for i in range(len(cursor)):
        entry, end = cursor[i], indptr[i + 1]
        while entry < end and frames[entry] < last:
            clip = int(np.searchsorted(bounds, np.int64(frames[entry]), side="right")) - 1
            stop, own = min(bounds[clip + 1], last), sums[i, cluster[clip]]
            s0, s1, s2, s3, s4, s5, s6, s7 = own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7]
            while entry < end and frames[entry] < stop:
                t = np.int64(frames[entry]) - first
                a, pitch = np.float64(values[entry]), measures[t, 3]
                s0 += a
                s1 += a * a
                s2 += a * measures[t, 0]
                s3 += a * measures[t, 1]
                s4 += a * measures[t, 2]
                if not np.isnan(pitch):
                    s5 += a
                    s6 += a * a
                    s7 += a * np.log2(np.float64(pitch))
                entry += 1
            own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7] = s0, s1, s2, s3, s4, s5, s6, s7
        cursor[i] = entry
