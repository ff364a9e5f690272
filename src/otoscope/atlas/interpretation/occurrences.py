"""Every phone that is said in one half of the voices: how common it is, beside what, and where a feature is active.

What an unknowing reader would expect at a feature's moments comes from here, so that a card can say what is more common
than that: its phones against all phones, its neighbours and words against those that the same phones always have.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.atlas.interpretation.moments import EDGE, MAX_GAP_S, PAUSE, SPEECH
from otoscope.atlas.interpretation.sampling import Bools, Frames, Ints
from otoscope.audio import Clip, Interval
from otoscope.evaluation.naming.label_sets import PAUSES, SOUND_CLASS

MAX_CLIPS = 2000
"""Clips whose phones are counted, drawn at random where there are more."""
NO_WORD = ""
POSITIONS = ("medial", "initial", "final", "only")


@dataclass(frozen=True)
class Occurrences:
    """Phones of some clips, `[o]`, and how the time of these clips is divided.

    Attributes:
        clips: `[b]` which clips.
        phones, words: the labels that the columns point into.
        phone, left, right, word: `[o]` of each occurrence: its phone, its neighbours (`EDGE` where speech begins or
            ends) and its word.
        position: `[o]` index into `POSITIONS`: where in its word it is.
        clip, first, stop: `[o]` its clip and frames (counted from the first of the corpus; `stop` exclusive).
        seconds: `[o]` how long it is.
        grounds: seconds of speech, of pauses, and of every class of sound.
    """

    clips: Ints
    phones: tuple[str, ...]
    words: tuple[str, ...]
    phone: Ints
    left: Ints
    right: Ints
    word: Ints
    position: Ints
    clip: Ints
    first: Ints
    stop: Ints
    seconds: npt.NDArray[np.float64]
    grounds: dict[str, float]

    def hit(self, active: Ints) -> Bools:
        """Return in which occurrences there is one of these frames (ascending)."""
        return np.asarray(np.searchsorted(active, self.stop) > np.searchsorted(active, self.first), dtype=np.bool_)

    def phone_share(self) -> dict[str, float]:
        """Return each phone's share of the time in which phones are said."""
        sums = np.bincount(self.phone, self.seconds, minlength=len(self.phones))
        total = float(sums.sum())
        return {name: float(s) / total for name, s in zip(self.phones, sums, strict=True)} if total else {}

    def expected(self, column: str, of_phones: dict[str, float]) -> dict[str, float]:
        """Return how often each neighbour or word stands by phones that are met with these shares."""
        names = {"word": self.words, "position": POSITIONS}.get(column, self.phones)
        index = {name: i for i, name in enumerate(self.phones)}
        weight = np.zeros(len(self.phones))
        counts = np.bincount(self.phone, minlength=len(self.phones))
        for name, share in of_phones.items():
            if name in index and counts[index[name]]:
                weight[index[name]] = share / counts[index[name]]
        sums = np.bincount(getattr(self, column), weight[self.phone], minlength=len(names))
        return {name: float(s) for name, s in zip(names, sums, strict=True) if s > 0}

    def middle(self, which: Ints) -> Ints:
        """Return the frame in the middle of occurrences."""
        return np.asarray((self.first[which] + np.maximum(self.stop[which] - 1, self.first[which])) // 2)


def occurrences(frames: Frames, half: int) -> Occurrences:
    """Collect the phones of one half of the voices."""
    clips = np.flatnonzero((frames.half == half) & (frames.counts > 0))
    if len(clips) > MAX_CLIPS:
        clips = np.sort(frames.rng(0, 900 + half).choice(clips, MAX_CLIPS, replace=False))
    phones: dict[str, int] = {EDGE: 0}
    words: dict[str, int] = {NO_WORD: 0}
    rows: list[tuple[int, int, int, int, int, int, int, int, float]] = []
    grounds: dict[str, float] = {}
    for c in clips:
        clip, start, count = frames.corpus[int(c)], int(frames.starts[c]), int(frames.counts[c])
        said, spoken = _said(clip, "phones"), _said(clip, "words")
        _add_grounds(grounds, clip, spoken or said, count * frames.atlas.clock.frame_s)
        ids = [phones.setdefault(each.label.strip(), len(phones)) for each in said]
        places = _words_of(said, spoken)
        for i, each in enumerate(said):
            first, stop = frames.atlas.clock.span(each.start_s, each.end_s)
            if first >= count:
                continue
            before = ids[i - 1] if i and each.start_s - said[i - 1].end_s <= MAX_GAP_S else 0
            after = ids[i + 1] if i + 1 < len(said) and said[i + 1].start_s - each.end_s <= MAX_GAP_S else 0
            begins = i == 0 or places[i - 1] != places[i]
            ends = i + 1 == len(said) or places[i + 1] != places[i]
            inside = words.setdefault(spoken[places[i]].label.strip() if places[i] >= 0 else NO_WORD, len(words))
            where = (int(c), start + first, start + min(stop, count), each.end_s - each.start_s)
            rows.append((ids[i], before, after, inside, begins + 2 * ends, *where))
    columns = list(zip(*rows, strict=True)) or [()] * 9
    phone, left, right, word, position, clip_number, begin, end = (
        np.array(each, dtype=np.int64) for each in columns[:8]
    )
    return Occurrences(
        clips=clips,
        phones=tuple(phones),
        words=tuple(words),
        phone=phone,
        left=left,
        right=right,
        word=word,
        position=position,
        clip=clip_number,
        first=begin,
        stop=end,
        seconds=np.array(columns[8], dtype=np.float64),
        grounds=grounds,
    )


def _said(clip: Clip, tier: str) -> list[Interval]:
    kept = (each for each in clip.tier(tier) if each.label.strip() not in PAUSES)
    return sorted(kept, key=lambda each: each.start_s)


def _words_of(phones: list[Interval], words: list[Interval]) -> list[int]:
    """The number of the word that holds the middle of each phone; −1 for none."""
    starts = [each.start_s for each in words]
    found = []
    for phone in phones:
        middle = (phone.start_s + phone.end_s) / 2
        i = bisect.bisect_right(starts, middle) - 1
        found.append(i if i >= 0 and middle < words[i].end_s else -1)
    return found


def _add_grounds(grounds: dict[str, float], clip: Clip, said: list[Interval], duration_s: float) -> None:
    """Divide the time of a clip: what is said, what is heard besides, and pauses."""
    speech = min(duration_s, sum(each.end_s - each.start_s for each in said))
    found = [(SPEECH, speech)]
    if not said:
        found += [(e.label.strip(), max(0.0, min(e.end_s, duration_s) - e.start_s)) for e in _said(clip, "events")]
    whole = "" if said else clip.attributes.get(SOUND_CLASS, "")
    found.append((whole or PAUSE, max(0.0, duration_s - sum(length for _, length in found))))
    for name, length in found:
        grounds[name] = grounds.get(name, 0.0) + length
