"""Near misses: moments at which a feature ought to fire, for all that fires around it, and is silent."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from otoscope.atlas.examples import Example, examples_at, strongest
from otoscope.atlas.format import FEATURES, frames_part
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
MAX_SCANNED = 8
"""Parts of the corpus in which frames of the class are looked for where no partner fires."""


def near_misses(atlas: Atlas, feature: int, top: int = 10) -> list[Example]:
    """Return moments of different clips where a feature ought to fire and does not, the closest first.

    Those are where its partners fire: the features that otherwise fire with it (`cofiring`), or write alike where there
    are none. A frame's score is the mean of their values, each as a share of its maximum and weighted by its mutual
    information. Of a feature with a label, only frames of its class count, also such where no partner fires.
    `Example.value` is the feature's own value there: under the threshold of its label, or 0 (for dense dictionaries:
    under the floor of what the atlas keeps).
    """
    frames, scores = _excitement(atlas, _partners(atlas, feature))
    place = _class_column(atlas, feature)
    if place is not None:
        scanned = np.setdiff1d(_scanned(atlas, place), frames)
        kept = _of_class(atlas, place, frames)
        frames, scores = frames[kept], scores[kept]
        frames = np.concatenate([frames, scanned])
        order = np.argsort(frames, kind="stable")
        frames, scores = frames[order], np.concatenate([scores, np.zeros(len(scanned), np.float32)])[order]
    quiet = _quiet(atlas, feature, frames)
    peaks = atlas.clips.peaks(Entries(frames[quiet], scores[quiet]))
    chosen = peaks.frames[strongest(peaks, atlas.clips, top)]
    values = [_value(atlas, feature, int(frame)) for frame in chosen]
    return examples_at(atlas.clips, atlas.clock, "near_miss", chosen, values)


def _class_column(atlas: Atlas, feature: int) -> tuple[int, int] | None:
    """Column of `frames/` that tells the kind of a feature's label, and the number of the label in it."""
    number = int(atlas.sealed.arrays(FEATURES).read("label", feature, feature + 1)[0])
    if number < 0:
        return None
    for column, kind in enumerate(atlas.meta["labels"]):
        if number < kind["n_classes"]:
            return column, number
        number -= kind["n_classes"]
    return None


def _of_class(atlas: Atlas, place: tuple[int, int], frames: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which of some ascending frames are of a class."""
    column, number = place
    kept = np.zeros(len(frames), dtype=bool)
    firsts = atlas.codes.first_frames
    ends = np.searchsorted(frames, [*firsts[1:], atlas.codes.n_frames])
    for part, (start, stop) in enumerate(itertools.pairwise([0, *ends.tolist()])):
        if stop > start:
            classes = atlas.sealed.arrays(frames_part(part)).read("classes")
            kept[start:stop] = classes[frames[start:stop].astype(np.int64) - firsts[part], column] == number
    return kept


def _scanned(atlas: Atlas, place: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Frames of a class in a few evenly chosen parts."""
    column, number = place
    firsts = atlas.codes.first_frames
    found = [np.zeros(0, dtype=np.int64)]
    for part in range(0, len(firsts), -(-len(firsts) // MAX_SCANNED)):
        classes = atlas.sealed.arrays(frames_part(part)).read("classes")[:, column]
        found.append(firsts[part] + np.flatnonzero(classes == number))
    return np.concatenate(found).astype(np.uint32)


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
    frames, shares = [np.zeros(0, np.uint32)], [np.zeros(0, np.float32)]
    for feature, weight in partners:
        entries = atlas.postings[feature]
        if len(entries.values) > MAX_ENTRIES:
            kept = np.argpartition(-entries.values, MAX_ENTRIES)[:MAX_ENTRIES]
            entries = Entries(entries.frames[kept], entries.values[kept])
        frames.append(entries.frames)
        shares.append(entries.values / max(highest[feature], np.finfo(np.float32).tiny) * np.float32(weight))
    found, at = np.unique(np.concatenate(frames), return_inverse=True)
    total = sum(weight for _, weight in partners) or 1.0
    return found, (np.bincount(at, np.concatenate(shares), len(found)) / total).astype(np.float32)


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


def _value(atlas: Atlas, feature: int, frame: int) -> float:
    entries = atlas.postings[feature]
    at = int(np.searchsorted(entries.frames, frame))
    return float(entries.values[at]) if at < len(entries.frames) and int(entries.frames[at]) == frame else 0.0
