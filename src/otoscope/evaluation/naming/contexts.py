"""What stands around a frame, as kinds of label: which phones meet there, and where in word and phrase it is."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from otoscope.audio import Clip, Corpus, Interval
from otoscope.evaluation.naming.columns import ClipRun, LabelColumns, Reading
from otoscope.evaluation.naming.label_sets import KINDS, NO_CLASS, LabelKind, spoken, spoken_by_start

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
        ({"phones"}, LabelKind("diphone", "diphones", 15, Reading(_diphones, _diphones_of_run))),
        (
            {"phones", "words"},
            LabelKind("position", "positions in the word", 15, Reading(_positions, _positions_of_run)),
        ),
        ({"words"}, LabelKind("phrase", "positions in the phrase", 15, Reading(_phrases, _phrases_of_run))),
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


def _phrases(clip: Clip) -> tuple[Interval, ...] | None:
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


def _diphones_of_run(run: ClipRun) -> LabelColumns:
    phones = run.once(spoken_by_start, "phones")
    n, labels = len(phones.clip), [label.strip() for label in phones.labels]
    begins = _begins(phones, MAX_GAP_S)
    ends = np.append(begins[1:], True)[:n]
    middle = (phones.start_s + phones.end_s) / 2
    pair = np.where(ends, -1, phones.label * len(labels) + np.append(phones.label[1:], 0)[:n])
    distinct, second_half = np.unique(np.append(-1, pair), return_inverse=True)  # −1 is of no diphone, and the first
    before = np.flatnonzero(begins)
    after = np.arange(n) + np.cumsum(begins)
    start_s, end_s = np.empty(n + len(before)), np.empty(n + len(before))
    clip, label = np.empty(n + len(before), dtype=np.intp), np.zeros(n + len(before), dtype=np.intp)
    clip[after], start_s[after], label[after] = phones.clip, middle, second_half[1:]
    end_s[after] = np.where(ends, phones.end_s, np.append(middle[1:], 0)[:n])
    outer = after[before] - 1
    clip[outer], start_s[outer], end_s[outer] = phones.clip[before], phones.start_s[before], middle[before]
    names = [f"{labels[each // len(labels)]}-{labels[each % len(labels)]}" for each in distinct[1:].tolist()]
    return LabelColumns(phones.known, clip, start_s, end_s, label, (NO_CLASS, *names))


def _positions_of_run(run: ClipRun) -> LabelColumns:
    words, phones = run.once(spoken_by_start, "words"), run.once(spoken, "phones")
    starts, middles = (np.empty(len(each.clip), dtype=np.complex128) for each in (words, phones))
    starts.real, starts.imag = words.clip, words.start_s  # complex numbers are ordered as pairs are
    middles.real, middles.imag = phones.clip, (phones.start_s + phones.end_s) / 2
    word = np.searchsorted(starts, middles, side="right") - 1
    (inside,) = np.nonzero(word >= 0)
    last = word[inside]
    inside = inside[(words.clip[last] == phones.clip[inside]) & (middles.imag[inside] < words.end_s[last])]
    _, first, number = np.unique(word[inside], return_index=True, return_inverse=True)
    met = first[number]  # words in the order in which phones of theirs are met
    order = np.lexsort((phones.start_s[inside], met))
    held = phones.take(inside[order])
    known = np.minimum(words.known, phones.known)
    return replace(held, known=known, label=_places(_changes(met[order])), labels=_PLACES).if_any()


def _phrases_of_run(run: ClipRun) -> LabelColumns:
    words = run.once(spoken_by_start, "words")
    return replace(words, label=_places(_begins(words, MIN_PAUSE_S)), labels=_PLACES)


_PLACES = (ONLY, INITIAL, FINAL, MEDIAL)


def _places(begins: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Which of `_PLACES` each member has; a word or phrase begins where `begins [n]` is true."""
    ends = np.append(begins[1:], True)[: len(begins)]
    return np.where(begins, np.where(ends, 0, 1), np.where(ends, 2, 3))


def _begins(sorted_: LabelColumns, gap_s: float) -> npt.NDArray[np.bool_]:
    """Where a clip begins, or more than `gap_s` lies between a stretch and the one before."""
    begins = _changes(sorted_.clip)
    begins[1:] |= sorted_.start_s[1:] - sorted_.end_s[:-1] > gap_s + 1e-6
    return begins


def _changes(numbers: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    changes = np.ones(len(numbers), dtype=np.bool_)
    changes[1:] = numbers[1:] != numbers[:-1]
    return changes
