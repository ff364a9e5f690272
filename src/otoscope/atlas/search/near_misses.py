"""Near misses: moments at which a feature ought to fire, for all that fires around it, and is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from otoscope.atlas.examples import Example, strongest
from otoscope.atlas.format import FEATURES
from otoscope.atlas.postings import Entries
from otoscope.atlas.search.neighbours import cofiring, neighbours
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

GUARD = 5
"""Frames on either side of one in which the feature fires that are no misses: an onset a little late is not silence."""
MIN_COSINE = 0.3
"""Where nothing fires together with a feature, neighbours of at least this cosine stand for what should excite it."""
MAX_ENTRIES = 1 << 16
"""Strongest entries of each partner that are looked at."""


def near_misses(atlas: Atlas, feature: int, top: int = 10) -> list[Example]:
    """Return moments of different clips where the partners of a feature fire most and it does not, closest first.

    The partners are the features that otherwise fire with it (`cofiring`), or write alike where there are none. A
    frame's score is the mean of their values, each as a share of its maximum and weighted by its mutual information;
    `Example.value` is the feature's own value there: under the threshold of its label, or 0 (for dense dictionaries:
    under the floor of what the atlas keeps).
    """
    partners = _partners(atlas, feature)
    if not partners:
        return []
    frames, scores = _excitement(atlas, partners)
    quiet = _quiet(atlas, feature, frames)
    chosen = strongest(Entries(frames[quiet], scores[quiet]), atlas.clips, top)
    return [_example(atlas, feature, int(frame)) for frame in frames[quiet][chosen]]


def _partners(atlas: Atlas, feature: int) -> list[tuple[int, float]]:
    """Features that should fire where it does, and how much each says."""
    found = [(each.feature, each.pmi) for each in cofiring(atlas, feature) if each.pmi > 0]
    if found:
        return found
    try:
        return [(each.feature, each.cosine) for each in neighbours(atlas, feature) if each.cosine >= MIN_COSINE]
    except InputError:  # too many features to keep neighbours
        return []


def _excitement(
    atlas: Atlas, partners: list[tuple[int, float]]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Frames in which partners fire, ascending, and how strongly, from 0 to 1."""
    highest = atlas.column("max")
    frames, shares = [], []
    for feature, weight in partners:
        entries = atlas.postings[feature]
        if len(entries.values) > MAX_ENTRIES:
            kept = np.argpartition(-entries.values, MAX_ENTRIES)[:MAX_ENTRIES]
            entries = Entries(entries.frames[kept], entries.values[kept])
        frames.append(entries.frames)
        shares.append(entries.values * np.float32(weight / highest[feature]))
    found, at = np.unique(np.concatenate(frames), return_inverse=True)
    total = sum(weight for _, weight in partners)
    return found, (np.bincount(at, np.concatenate(shares)) / total).astype(np.float32)


def _quiet(atlas: Atlas, feature: int, frames: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which of some frames have no firing of the feature near."""
    entries = atlas.postings[feature]
    firing = entries.frames[entries.values > _threshold(atlas, feature)].astype(np.int64)
    ends = np.concatenate(([-(1 << 40)], firing, [1 << 40]))
    at = np.searchsorted(ends, frames)
    return np.asarray((ends[at] - frames > GUARD) & (frames - ends[at - 1] > GUARD))


def _threshold(atlas: Atlas, feature: int) -> float:
    file = atlas.sealed.arrays(FEATURES)
    labelled = int(file.read("label", feature, feature + 1)[0]) >= 0
    found = float(file.read("threshold", feature, feature + 1)[0]) if labelled else 0.0
    return found if np.isfinite(found) else 0.0


def _example(atlas: Atlas, feature: int, frame: int) -> Example:
    clip = int(np.searchsorted(atlas.clips.starts, frame, side="right")) - 1
    within = frame - int(atlas.clips.starts[clip])
    entries = atlas.postings[feature]
    at = int(np.searchsorted(entries.frames, frame))
    fires = at < len(entries.frames) and int(entries.frames[at]) == frame
    return Example(
        clip_id=atlas.clips.ids[clip],
        frame=within,
        time_s=round(atlas.clock.time_s(within), 6),
        value=float(entries.values[at]) if fires else 0.0,
        kind="near_miss",
    )
