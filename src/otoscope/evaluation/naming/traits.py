"""Who speaks, where nothing is said, and what part of a syllable: kinds of label beside phones, words and sounds."""

from __future__ import annotations

from collections.abc import Callable

from otoscope.alignment.inventory import guess_alphabet, to_base
from otoscope.alignment.natural_classes import DIMENSIONS, VOWEL
from otoscope.audio import Clip, Corpus, Interval
from otoscope.errors import InputError
from otoscope.evaluation.naming.contexts import context_kinds
from otoscope.evaluation.naming.label_sets import (
    FOREVER_S,
    KINDS,
    NO_CLASS,
    SOUND_CLASS,
    SPEECH,
    LabelKind,
    natural_kinds,
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
        "pause": LabelKind("pause", "pauses", 15, _pauses),
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


def _whole(value: Callable[[Clip], str | None]) -> Callable[[Clip], tuple[Interval, ...] | None]:
    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        known = value(clip)
        return (Interval(0.0, FOREVER_S, known),) if known else None

    return intervals


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


def _syllable_kind(corpus: Corpus) -> dict[str, LabelKind]:
    symbols = {each.label for clip in corpus for each in clip.tier("phones")}
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


def _syllables(vowels: set[str]) -> Callable[[Clip], tuple[Interval, ...] | None]:
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

    return intervals
