"""What stands around a frame, as kinds of label: which phones meet there, and where in word and phrase it is."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

from otoscope.audio import Clip, Corpus, Interval
from otoscope.evaluation.naming.label_sets import KINDS, NO_CLASS, LabelKind

MAX_GAP_S = 0.01
"""Phones that lie further apart than this do not meet."""
MIN_PAUSE_S = 0.2
"""Words between which nothing is said for so long belong to two phrases."""
INITIAL, MEDIAL, FINAL, ONLY = "initial", "medial", "final", "only"


def context_kinds(corpus: Corpus) -> dict[str, LabelKind]:
    """Return the kinds "diphone", "position" and "phrase", as far as the tiers of a corpus allow.

    - **diphone**: from the middle of a phone to the middle of the next one, where the two meet, as `m-a`: the unit of
      diphone synthesis. The outer half of a phone beside a pause is of no diphone, and counts against all of them.
    - **position**: frames of the first (`initial`), last (`final`), other (`medial`) or `only` phone of a word.
    - **phrase**: the same for words of a phrase, which ends where nothing is said for `MIN_PAUSE_S`.
    """
    tiers = {tier for tier in ("phones", "words") if any(clip.tier(tier) for clip in corpus)}
    kinds = (
        ({"phones"}, LabelKind("diphone", "diphones", 15, _diphones)),
        ({"phones", "words"}, LabelKind("position", "positions in the word", 15, _positions)),
        ({"words"}, LabelKind("phrase", "positions in the phrase", 15, _phrase_positions)),
    )
    return {kind.name: kind for needed, kind in kinds if needed <= tiers}


def _diphones(clip: Clip) -> tuple[Interval, ...] | None:
    phones = KINDS["phone"].intervals(clip)
    if not phones:
        return phones
    return tuple(piece for run in _runs(phones, MAX_GAP_S) for piece in _halves(run))


def _halves(run: list[Interval]) -> Iterator[Interval]:
    """The diphones of phones that meet, and the outer halves at either end, which are of none."""
    middle = [(phone.start_s + phone.end_s) / 2 for phone in run]
    yield Interval(run[0].start_s, middle[0], NO_CLASS)
    for number, (left, right) in enumerate(itertools.pairwise(run)):
        yield Interval(middle[number], middle[number + 1], f"{left.label.strip()}-{right.label.strip()}")
    yield Interval(middle[-1], run[-1].end_s, NO_CLASS)


def _positions(clip: Clip) -> tuple[Interval, ...] | None:
    words, phones = KINDS["word"].intervals(clip), KINDS["phone"].intervals(clip)
    if not words or not phones:
        return None if words is None or phones is None else ()
    words = tuple(sorted(words, key=lambda word: word.start_s))
    starts = [word.start_s for word in words]
    inside: dict[int, list[Interval]] = {}
    for phone in phones:
        middle = (phone.start_s + phone.end_s) / 2
        word = bisect.bisect_right(starts, middle) - 1
        if word >= 0 and middle < words[word].end_s:
            inside.setdefault(word, []).append(phone)
    return tuple(piece for members in inside.values() for piece in _placed(members)) or None


def _phrase_positions(clip: Clip) -> tuple[Interval, ...] | None:
    words = KINDS["word"].intervals(clip)
    if not words:
        return words
    return tuple(piece for run in _runs(words, MIN_PAUSE_S) for piece in _placed(run))


def _placed(members: list[Interval]) -> Iterator[Interval]:
    """Each member of a word or phrase, labelled with where in it it is."""
    last = len(members) - 1
    for number, each in enumerate(sorted(members, key=lambda member: member.start_s)):
        place = ONLY if last == 0 else INITIAL if number == 0 else FINAL if number == last else MEDIAL
        yield Interval(each.start_s, each.end_s, place)


def _runs(intervals: tuple[Interval, ...], gap_s: float) -> Iterator[list[Interval]]:
    """Cut intervals wherever more than `gap_s` lies between one and the next."""
    run: list[Interval] = []
    for each in sorted(intervals, key=lambda interval: interval.start_s):
        if run and each.start_s - run[-1].end_s > gap_s + 1e-6:
            yield run
            run = []
        run.append(each)
    if run:
        yield run
