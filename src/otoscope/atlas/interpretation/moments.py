"""A moment of a recording, and how it is put in words: what is said just there, before and after."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import lru_cache

from otoscope.audio import Clip, Corpus, Interval
from otoscope.evaluation.naming.label_sets import PAUSES, SOUND_CLASS

N_PHONES = 5
"""Phones told before and after a moment."""
N_WORDS = 2
"""Words told before and after a moment."""
PAUSE, SPEECH = "pause", "speech"
EDGE = "#"
"""The neighbour of the first and the last phone of a stretch of speech."""
MAX_GAP_S = 0.1
"""Phones between which nothing is said for longer than this are not neighbours."""
CACHED_CLIPS = 4096


@dataclass(frozen=True)
class Moment:
    """One frame of a clip with what surrounds it.

    Attributes:
        clip_id, frame, time_s: where; `time_s` counts from the start of the clip.
        value: of the feature; 0 where it is silent.
        phone: the phone being said; None in a pause, or where no phones are known.
        passed_s, phone_s: how much of that phone has passed, and how long it is; in a pause, how long it has lasted
            and how long it will (NaN where nothing was said before, or nothing follows).
        before, after: neighbouring phones, nearest last and nearest first; " " stands between words.
        word, words_before, words_after: the same for words.
        sound: the event or sound class there; empty where none is known.
        has_phones: whether phones of this clip are known.
        measured: what was measured there, in words; empty where nothing was.
    """

    clip_id: str
    frame: int
    time_s: float
    value: float
    phone: str | None
    passed_s: float
    phone_s: float
    before: tuple[str, ...]
    after: tuple[str, ...]
    word: str | None
    words_before: tuple[str, ...]
    words_after: tuple[str, ...]
    sound: str
    has_phones: bool
    measured: str = ""

    @property
    def ground(self) -> str:
        """What there is to hear at all: speech, a pause in it, or a class of sound."""
        if self.phone is not None or self.word is not None:
            return SPEECH
        return self.sound or PAUSE

    def describe(self) -> str:
        """Return one line that says what is heard, without the clip's name and the feature's value.

        >>> moment.describe()                                             # doctest: +SKIP
        'words: we were [behind] the bakery; phones: w ɜː b ᵻ [h] aɪ n d; 30 of 70 ms into h'
        """
        parts = []
        if self.word is not None or self.words_before or self.words_after:
            here = f"[{self.word}]" if self.word is not None else "[–]"
            parts.append("words: " + " ".join((*self.words_before, here, *self.words_after)))
        if self.has_phones and (self.phone is not None or self.before or self.after):
            here = f"[{self.phone or PAUSE}]"
            parts.append("phones: " + " ".join((*self.before, here, *self.after)).replace("   ", "  "))
            parts.append(self._timing())
        if self.sound and self.ground != SPEECH:
            parts.append(f"sound: {self.sound}")
        parts.append(self.measured)
        return "; ".join(part for part in parts if part) or "nothing is known of this moment"

    def _timing(self) -> str:
        passed, total = round(1000 * self.passed_s) if self.passed_s == self.passed_s else None, self.phone_s
        if self.phone is not None:
            return f"{passed} of {1000 * total:.0f} ms into {self.phone}"
        behind = "" if passed is None else f"{passed} ms after the last phone"
        ahead = "" if total != total else f"{1000 * total:.0f} ms before the next phone"
        return ", ".join(part for part in (behind, ahead) if part)


@dataclass(frozen=True)
class _Tier:
    """Intervals in order of time, without pauses."""

    starts: tuple[float, ...]
    intervals: tuple[Interval, ...]

    @classmethod
    def of(cls, clip: Clip, name: str) -> _Tier:
        kept = sorted(
            (each for each in clip.tier(name) if each.label.strip() not in PAUSES), key=lambda each: each.start_s
        )
        return cls(tuple(each.start_s for each in kept), tuple(kept))

    def at(self, time_s: float) -> int | None:
        """Which interval holds the moment."""
        i = bisect.bisect_right(self.starts, time_s + 1e-9) - 1
        return i if i >= 0 and time_s < self.intervals[i].end_s else None

    def around(self, time_s: float, count: int) -> tuple[list[Interval], Interval | None, list[Interval]]:
        """The intervals before, at and after the moment."""
        i = self.at(time_s)
        split = bisect.bisect_right(self.starts, time_s + 1e-9) if i is None else i
        after = split if i is None else split + 1
        here = None if i is None else self.intervals[i]
        return list(self.intervals[max(0, split - count) : split]), here, list(self.intervals[after : after + count])


class Surroundings:
    """Looks up what is said and heard at moments of the clips of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._tiers = lru_cache(maxsize=CACHED_CLIPS)(self._read)

    def _read(self, index: int) -> tuple[_Tier, _Tier, _Tier]:
        clip = self.corpus[index]
        return _Tier.of(clip, "phones"), _Tier.of(clip, "words"), _Tier.of(clip, "events")

    def moment(self, clip_index: int, frame: int, time_s: float, value: float) -> Moment:
        """Describe one frame of the clip with this number."""
        clip = self.corpus[clip_index]
        phones, words, events = self._tiers(clip_index)
        before, phone, after = phones.around(time_s, N_PHONES)
        words_before, word, words_after = words.around(time_s, N_WORDS)
        event = events.at(time_s)
        if phone is not None:
            passed_s, phone_s = time_s - phone.start_s, phone.end_s - phone.start_s
        else:
            passed_s = time_s - before[-1].end_s if before else float("nan")
            phone_s = after[0].start_s - time_s if after else float("nan")
        sound = clip.attributes.get(SOUND_CLASS, "") if event is None else events.intervals[event].label.strip()
        return Moment(
            clip_id=clip.clip_id,
            frame=frame,
            time_s=round(time_s, 6),
            value=value,
            phone=None if phone is None else phone.label.strip(),
            passed_s=passed_s,
            phone_s=phone_s,
            before=_spaced(before, phone, words, last=True),
            after=_spaced(after, phone, words, last=False),
            word=None if word is None else word.label.strip(),
            words_before=tuple(each.label.strip() for each in words_before),
            words_after=tuple(each.label.strip() for each in words_after),
            sound=sound,
            has_phones=bool(phones.intervals),
        )


def _spaced(phones: list[Interval], here: Interval | None, words: _Tier, *, last: bool) -> tuple[str, ...]:
    """Labels with a blank wherever another word begins, also towards the phone in the middle."""
    chain = ([*phones, here] if last else [here, *phones]) if here is not None else phones
    found: list[str] = []
    for number, each in enumerate(chain):
        if number and words.intervals:
            left, right = (words.at((p.start_s + p.end_s) / 2) for p in (chain[number - 1], each))
            found += [" "] * (left != right)
        if each is not here:
            found.append(each.label.strip())
    return tuple(found)


def neighbour(moment: Moment, *, left: bool) -> str | None:
    """Return the phone before (or after) the one being said, `EDGE` where there is none; None in a pause."""
    if moment.phone is None:
        return None
    labels = [each for each in (reversed(moment.before) if left else moment.after) if each != " "]
    return labels[0] if labels else EDGE
