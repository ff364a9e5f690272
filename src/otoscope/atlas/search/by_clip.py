"""The features that one clip excites and others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas


def clip_peaks(atlas: Atlas, clip: int, top: int) -> dict[str, npt.NDArray[Any]]:
    """Return feature, frame (within the clip), value, share_of_max and score of a clip's best features.

    The score is a feature's peak in the clip as a share of its maximum, times the share of all clips that peak lower
    (between the quantiles that the atlas keeps, by interpolation): what saturates in every clip stands out in none.
    """
    start, stop = atlas.clips.span(clip)
    code = atlas.codes[start:stop]
    order = np.lexsort((code.frame_of_entry(), -code.values, code.features))
    features = code.features[order]
    best = order[np.flatnonzero(np.concatenate(([True], features[1:] != features[:-1])))] if len(order) else order
    feature, value = code.features[best].astype(np.int64), code.values[best]
    share = value / atlas.column("max")[feature]
    active = atlas.column("clip_share")[feature]
    peaks = atlas.column("clip_peaks")[feature]
    levels = np.linspace(0, 1, peaks.shape[1])
    below = np.array([np.interp(v, row, levels) for v, row in zip(value, peaks, strict=True)])
    score = share * (1 - active + active * np.where(value <= peaks[:, 0], 0.0, below))
    kept = np.lexsort((feature, -score))[:top]
    return {
        "feature": feature[kept],
        "frame": code.frame_of_entry()[best][kept],
        "value": value[kept],
        "share_of_max": share[kept].astype(np.float32),
        "score": score[kept].astype(np.float32),
    }
