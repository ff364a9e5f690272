"""Who speaks, where nothing is said, and what part of a syllable: kinds of label beside phones, words and sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numba
import numpy as np

from otoscope.alignment.inventory import guess_alphabet, to_base
from otoscope.alignment.natural_classes import DIMENSIONS, VOWEL
from otoscope.audio import Clip, Corpus, Interval
from otoscope.audio.tiers import tier_labels
from otoscope.errors import InputError
from otoscope.evaluation.naming.columns import SOME, ClipRun, LabelColumns, Reading, whole_clips
from otoscope.evaluation.naming.contexts import context_kinds
from otoscope.evaluation.naming.label_sets import (
    FOREVER_S,
    KINDS,
    NO_CLASS,
    SOUND_CLASS,
    SPEECH,
    LabelKind,
    natural_kinds,
    spoken,
    spoken_by_start,
)

TRAITS = ("gender", "sex", "age", "accent", "dialect")
"""Attributes of clips that say something of their speaker."""
BEFORE, BETWEEN, AFTER = "before speech", "between words", "after speech"
ONSET, NUCLEUS, CODA = "onset", "nucleus", "coda"
MIN_GAP_S = 0.05
"""Shorter gaps between words are no pause."""
PHONE_KINDS = ("phone", *DIMENSIONS, "diphone")
POSITION_KINDS = ("position", "phrase", "syllable", "pause")
SPEAKER_KINDS = ("speaker", *TRAITS, "language")


def all_kinds(corpus: Corpus) -> list[LabelKind]:
    """Return every kind of label that a corpus may have, finest first: where two say the same, the first is meant."""
    kinds = {
        **KINDS,
        **natural_kinds(corpus),
        **context_kinds(corpus),
        **_syllable_kind(corpus),
        "pause": LabelKind("pause", "pauses", 15, Reading(_pauses, _pauses_of_run)),
        **speaker_kinds(corpus),
    }
    return list(kinds.values())


def speaker_kinds(corpus: Corpus) -> dict[str, LabelKind]:
    """Return the kinds that hold for whole clips because of who speaks: the speaker, and known traits of speakers.

    A trait is chosen on some speakers and scored on others, and chance deals it among speakers: with a handful of
    speakers nothing can be shown. Who the speaker is can only be asked of other clips of the same speakers.
    """
    kinds = {}
    if len({clip.speaker for clip in corpus if clip.speaker}) >= 2:
        kinds["speaker"] = LabelKind("speaker", "speakers", 4, _whole(lambda clip: clip.speaker), "clips", True)
    for trait in TRAITS:
        if len({clip.attributes.get(trait) for clip in corpus} - {None, ""}) >= 2:
            kinds[trait] = LabelKind(trait, f"{trait} of speakers", 4, _whole(_attribute(trait)), "speakers")
    if len({clip.language for clip in corpus if clip.language}) >= 2:
        kinds["language"] = LabelKind("language", "languages", 4, _whole(lambda clip: clip.language), "speakers")
    return kinds


def _attribute(name: str) -> Callable[[Clip], str | None]:
    return lambda clip: clip.attributes.get(name)


def _whole(value: Callable[[Clip], str | None]) -> Reading:
    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        known = value(clip)
        return (Interval(0.0, FOREVER_S, known),) if known else None

    return Reading(intervals, lambda run: whole_clips([value(clip) for clip in run.clips], FOREVER_S))


def _pauses(clip: Clip) -> tuple[Interval, ...] | None:
    words = KINDS["word"].intervals(clip) or KINDS["phone"].intervals(clip)
    if not words:
        sound = clip.attributes.get(SOUND_CLASS)
        return () if sound and sound != SPEECH else None
    found, at, kind = [], 0.0, BEFORE
    for each in sorted(words, key=lambda word: word.start_s):
        if each.start_s - at >= MIN_GAP_S:
            found.append(Interval(at, each.start_s, kind))
        found.append(Interval(each.start_s, each.end_s, NO_CLASS))
        at, kind = max(at, each.end_s), BETWEEN
    return (*found, Interval(at, FOREVER_S, AFTER))


def _pauses_of_run(run: ClipRun) -> LabelColumns:
    words, phones = run.once(spoken, "words"), run.once(spoken, "phones")
    said = words.and_of(phones.take(words.known[phones.clip] != SOME)).by_start()
    n, before_s = len(said.clip), np.zeros(len(said.clip))
    _latest_end(said.clip, said.end_s, before_s)
    changes = said.clip[1:] != said.clip[:-1]
    first, last = np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    first[1:], last[:-1] = changes, changes
    after = np.where(first, 0, 1)
    rests = said.start_s - before_s >= MIN_GAP_S
    # Each word with the pause before it, if there is one, and after the last what follows.
    row = np.repeat(np.arange(n), 1 + rests + last)
    own = np.cumsum(1 + rests + last) - 1 - last
    start_s, end_s, label = said.start_s[row], said.end_s[row], np.full(len(row), 3)
    pause, rest = own[rests] - 1, own[last] + 1
    start_s[pause], end_s[pause], label[pause] = before_s[rests], said.start_s[rests], after[rests]
    start_s[rest], end_s[rest], label[rest] = np.maximum(before_s[last], said.end_s[last]), FOREVER_S, 2
    return LabelColumns(said.known, said.clip[row], start_s, end_s, label, (BEFORE, BETWEEN, AFTER, NO_CLASS))


@numba.njit(cache=True, nogil=True)
def _latest_end(clip, end_s, before_s):  # type: ignore[no-untyped-def]
    """Fill in the latest end of a clip's stretches before each, 0 s for its first."""
    for r in range(1, len(clip)):
        if clip[r] == clip[r - 1]:
            before_s[r] = max(before_s[r - 1], end_s[r - 1])


def _syllable_kind(corpus: Corpus) -> dict[str, LabelKind]:
    symbols = tier_labels((clip.tiers for clip in corpus), "phones")
    if not symbols or not any(clip.tier("words") for clip in corpus):
        return {}
    try:
        alphabet = guess_alphabet(symbols)
    except InputError:
        return {}
    vowels = {symbol for symbol in symbols if _is_vowel(symbol, alphabet)}
    return {"syllable": LabelKind("syllable", "parts of the syllable", 15, _syllables(vowels))}


def _is_vowel(symbol: str, alphabet: str) -> bool:
    base = to_base(symbol, alphabet) or ()
    return any(DIMENSIONS["manner"].get(phone) == VOWEL for phone in base)


def _syllables(vowels: set[str]) -> Reading:
    """Consonants before a word's first vowel are onset, after its last coda; between vowels nobody knows."""

    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        words, phones = KINDS["word"].intervals(clip), KINDS["phone"].intervals(clip)
        if not words or not phones:
            return None if words is None or phones is None else ()
        ranked = sorted(phones, key=lambda phone: phone.start_s)
        found, at = [], 0
        for word in sorted(words, key=lambda each: each.start_s):
            inside = []
            while at < len(ranked) and (ranked[at].start_s + ranked[at].end_s) / 2 < word.end_s:
                if (ranked[at].start_s + ranked[at].end_s) / 2 >= word.start_s:
                    inside.append(ranked[at])
                at += 1
            nuclei = [i for i, phone in enumerate(inside) if phone.label in vowels]
            for i, phone in enumerate(inside):
                if phone.label in vowels:
                    found.append(Interval(phone.start_s, phone.end_s, NUCLEUS))
                elif nuclei and not nuclei[0] < i < nuclei[-1]:
                    found.append(Interval(phone.start_s, phone.end_s, ONSET if i < nuclei[0] else CODA))
        return tuple(found) or None

    def of_run(run: ClipRun) -> LabelColumns:
        words, phones = run.once(spoken_by_start, "words"), run.once(spoken_by_start, "phones")
        is_vowel = np.array([label in vowels for label in phones.labels], dtype=np.bool_)
        part = np.full(len(phones.clip), -1)
        _find_parts(
            words.clip, words.start_s, words.end_s,
            phones.clip, (phones.start_s + phones.end_s) / 2, is_vowel[phones.label], part,
        )  # fmt: skip
        inside = phones.take(part >= 0)
        known = np.minimum(words.known, phones.known)
        return replace(inside, known=known, label=part[part >= 0], labels=(ONSET, NUCLEUS, CODA)).if_any()

    return Reading(intervals, of_run)


@numba.njit(cache=True, nogil=True)
def _find_parts(word_clip, word_start_s, word_end_s, phone_clip, middle_s, is_vowel, part):  # type: ignore[no-untyped-def]
    """Fill in 0 for onsets, 1 for nuclei, 2 for codas; words and phones are in the order of their starts."""
    at = 0
    for w in range(len(word_clip)):
        while at < len(part) and phone_clip[at] < word_clip[w]:
            at += 1
        stop, first, last = at, -1, -1
        while stop < len(part) and phone_clip[stop] == word_clip[w] and middle_s[stop] < word_end_s[w]:
            if is_vowel[stop] and middle_s[stop] >= word_start_s[w]:
                first, last = stop if first < 0 else first, stop
            stop += 1
        for i in range(at, stop):
            if middle_s[i] < word_start_s[w]:
                continue
            if is_vowel[i]:
                part[i] = 1
            elif first >= 0 and not first < i < last:
                part[i] = 0 if i < first else 2
        at = stop
