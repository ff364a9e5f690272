"""Lexical or phonetic: whether a feature knows a word, or a phone that happens to occur in it.

A feature that fires on /m/ finds "morning" too. So its best word is held against its best phone **in all other words**:
a feature is lexical if the F1 for its word beats the F1 for its phone outside that word, phonetic the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from otoscope.dictionaries import Dictionary
from otoscope.evaluation.frames import FIT, TEST, Floats, Ints, LabelledFrames
from otoscope.evaluation.measure import Measure, drawn_sums, percentiles
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.label_sets import LabelSet
from otoscope.evaluation.naming.labeller import N_SHIFTS, Labeller, always_on_f1
from otoscope.evaluation.selectivity import benjamini_hochberg

LEXICAL, PHONETIC, OPEN, ALONE, NEITHER = "lexical", "phonetic", "open", "alone", "neither"
VERDICTS = (LEXICAL, PHONETIC, OPEN, ALONE, NEITHER)
MIN_ELSEWHERE = 10
"""Frames of the phone in other words, of each half, without which nothing can be decided."""
PART = 512
"""Features whose intervals are drawn at a time."""
MAX_Q = 0.05
"""False-discovery rate (Benjamini and Hochberg 1995) under which a feature is said to detect its word, or its phone."""


@dataclass(frozen=True)
class Lexicality:
    """What each of `n` features detects better: its word, or its phone in other words.

    Attributes:
        words, phones: names of the classes.
        word, phone: `[n]` class with the best F1 on the first half; −1: never active where the class is known.
        word_f1: `[n]` F1 for the word on the second half; NaN without a word.
        phone_f1: `[n]` F1 for the phone on the second half, in frames of all other words; its threshold is fixed in
            such frames of the first half; NaN without a phone.
        low, high: `[n]` interval of `word_f1 − phone_f1` (bootstrap over clusters of clips); NaN: not compared.
        word_q, phone_q: `[n]` of either F1 against shifted labels, adjusted over features.
        verdict: of each feature: "lexical" or "phonetic" where the interval excludes 0 (or there is no phone, or no
            word, to compare with) and the better F1 is not chance; "open" where it does not; "alone" where the
            phone is (nearly) never met in other words; "neither" where both F1 may be chance.
    """

    words: tuple[str, ...]
    phones: tuple[str, ...]
    word: Ints
    phone: Ints
    word_f1: Floats
    phone_f1: Floats
    low: Floats
    high: Floats
    word_q: Floats
    phone_q: Floats
    verdict: tuple[str, ...]

    def count(self, verdict: str) -> int:
        """Return the number of features with a verdict."""
        return self.verdict.count(verdict)


def lexicality(
    dictionary: Dictionary, frames: LabelledFrames, *, seed: int = 0, n_shifts: int = N_SHIFTS
) -> Lexicality:
    """Compare, for every feature, its best word with its best phone in other words.

    Words, phones and thresholds are chosen on the first half of the voices; everything reported is measured on the
    second, in frames of which both the word and the phone are known.

    Raises:
        InputError: the frames have no labels of words, or none of phones.
    """
    return _lexicality(dictionary, frames, frames.label_set("word"), seed, n_shifts)


def lexical_measures(
    dictionary: Dictionary, frames: LabelledFrames, *, seed: int = 0, n_shifts: int = N_SHIFTS
) -> list[Measure]:
    """Count the features of each verdict of `lexicality`: `lexical.features`, `of` verdict.

    `lexical.share` is that of the lexical among the lexical and the phonetic. Each has `.chance`: the same with the
    words (not the phones) moved as `LabelledFrames.moved` has them.

    Raises:
        InputError: the frames have no labels of words, or none of phones.
    """
    words = frames.label_set("word")
    found = _lexicality(dictionary, frames, words, seed, n_shifts)
    moved = replace(words, frame_class=frames.moved(words, seed))
    chance = _lexicality(dictionary, frames, moved, seed, n_shifts)
    measures = []
    for suffix, each in (("", found), (".chance", chance)):
        for verdict in VERDICTS:
            of, n = {"verdict": verdict}, dictionary.n_features
            value = float(each.count(verdict))
            measures.append(Measure(f"lexical.features{suffix}", value, of=of, n=n, n_unit="features"))
        decided = each.count(LEXICAL) + each.count(PHONETIC)
        share = each.count(LEXICAL) / decided if decided else float("nan")
        measures.append(Measure(f"lexical.share{suffix}", share, n=decided, n_unit="features"))
    return measures


@dataclass(frozen=True)
class _Found:
    """The chosen class of each feature (−1: none), where it is said, and how well on the second half."""

    best: Ints
    threshold: Floats
    f1: Floats
    p_value: Floats


def _lexicality(
    dictionary: Dictionary, frames: LabelledFrames, words: LabelSet, seed: int, n_shifts: int
) -> Lexicality:
    phones = frames.label_set("phone")
    both = (words.frame_class >= 0) & (phones.frame_class >= 0)
    words, phones = (_only(each, both) for each in (words, phones))
    block = frames.by_feature(dictionary)
    word = _detected(block, frames, words, seed, n_shifts)
    best_phone = _detected(block, frames, phones, seed, n_shifts).best
    phone, enough = _elsewhere(block, frames, words, phones, word.best, best_phone, seed, n_shifts)
    compared = (word.best >= 0) & (best_phone >= 0) & enough
    low, high = _intervals(block, frames, words, phones, word, phone, np.flatnonzero(compared))
    word_q, phone_q = (np.asarray(benjamini_hochberg(each.p_value), dtype=np.float64) for each in (word, phone))
    with np.errstate(invalid="ignore"):
        says_word, says_phone = word_q < MAX_Q, phone_q < MAX_Q
        conditions = {
            NEITHER: ~says_word & ~says_phone,
            LEXICAL: says_word & ((low > 0) | (best_phone < 0)),
            PHONETIC: says_phone & ((high < 0) | (word.best < 0)),
            ALONE: ~enough,
        }
    verdict = np.select(list(conditions.values()), list(conditions), default=OPEN)
    return Lexicality(
        words=words.classes,
        phones=phones.classes,
        word=word.best,
        phone=best_phone,
        word_f1=word.f1,
        phone_f1=phone.f1,
        low=low,
        high=high,
        word_q=word_q,
        phone_q=phone_q,
        verdict=tuple(str(each) for each in verdict),
    )


def _only(labels: LabelSet, kept: npt.NDArray[np.bool_]) -> LabelSet:
    """The same labels with all frames but `kept` dropped."""
    return replace(labels, frame_class=np.where(kept, labels.frame_class, -1).astype(np.int16))


def _detected(
    block: Block, frames: LabelledFrames, labels: LabelSet, seed: int, n_shifts: int, best: Ints | None = None
) -> _Found:
    """Score each feature of a block for the class it finds best on the first half, or for `best` where given."""
    labeller = Labeller.of([labels], frames.clip_of_frame, frames.half, seed=seed, n_shifts=n_shifts)
    skill, thresholds = labeller.chosen(block)
    n, every = len(block), np.arange(len(block))
    if best is None:
        always = always_on_f1(labeller.n_positive[0][FIT])[: len(labels.classes)]
        f1 = skill * (1 - always) + always
        best = np.where(f1.max(axis=1) > 0, f1.argmax(axis=1), -1).astype(np.int64)
    keep = np.zeros_like(skill, dtype=bool)
    keep[best >= 0, best[best >= 0]] = True
    rows = labeller.scored(block, keep, skill, thresholds)
    f1, p_value = np.full(n, np.nan), np.full(n, np.nan)
    own = rows["feature"] - block.first
    f1[own], p_value[own] = rows["f1"], rows["p_value"]
    return _Found(best, np.where(best >= 0, thresholds[every, best], np.inf), f1, p_value)


def _elsewhere(
    block: Block,
    frames: LabelledFrames,
    words: LabelSet,
    phones: LabelSet,
    word: Ints,
    phone: Ints,
    seed: int,
    n_shifts: int,
) -> tuple[_Found, npt.NDArray[np.bool_]]:
    """Score each feature for its phone outside its word; and say where the phone is met there often enough."""
    n = len(block)
    found = _Found(phone, np.full(n, np.inf), np.full(n, np.nan), np.full(n, np.nan))
    enough = np.zeros(n, dtype=bool)
    for each in np.unique(word):
        features = np.flatnonzero(word == each)
        outside = _only(phones, words.frame_class != each)
        counts = [
            np.bincount(outside.frame_class[(outside.frame_class >= 0) & (frames.half_of_frame == half)],
                        minlength=len(phones.classes) + 1)
            for half in (FIT, TEST)
        ]  # fmt: skip
        enough[features] = np.minimum(*counts)[phone[features]] >= MIN_ELSEWHERE
        own = _detected(_subset(block, features), frames, outside, seed, n_shifts, phone[features])
        found.threshold[features], found.f1[features], found.p_value[features] = own.threshold, own.f1, own.p_value
    return found, enough


def _subset(block: Block, features: Ints) -> Block:
    """The entries of some features, numbered anew from 0."""
    spans = [slice(int(block.indptr[i]), int(block.indptr[i + 1])) for i in features]
    lengths = [span.stop - span.start for span in spans]
    frames, values = (np.concatenate([column[span] for span in spans]) for column in (block.frames, block.values))
    return Block(0, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64), frames, values)


def _intervals(
    block: Block,
    frames: LabelledFrames,
    words: LabelSet,
    phones: LabelSet,
    word: _Found,
    phone: _Found,
    features: Ints,
) -> tuple[Floats, Floats]:
    """The interval of `word_f1 − phone_f1` of some features; NaN for the others, and with a single cluster."""
    low, high = np.full(len(block), np.nan), np.full(len(block), np.nan)
    at = np.flatnonzero((words.frame_class >= 0) & (frames.half_of_frame == TEST))
    _, cluster = np.unique(frames.clusters[frames.clip_of_frame[at]], return_inverse=True)
    place = np.full(len(frames), -1)
    place[at] = np.arange(len(at))
    said_word, said_phone = words.frame_class[at], phones.frame_class[at]
    n_clusters = int(cluster.max()) + 1 if len(at) else 0
    for part in np.split(features, range(PART, len(features), PART)) if n_clusters > 1 and len(features) else ():
        sums = np.zeros((n_clusters, len(part), 4))
        for number, i in enumerate(part):
            value = _values(block, int(i), place, len(at))
            in_word = said_word == word.best[i]
            of_word = _f1_terms(value > word.threshold[i], in_word)
            of_phone = _f1_terms((value > phone.threshold[i]) & ~in_word, (said_phone == phone.best[i]) & ~in_word)
            for column, terms in enumerate((*of_word, *of_phone)):
                sums[:, number, column] = np.bincount(cluster, terms, minlength=n_clusters)
        drawn = drawn_sums(sums.reshape(n_clusters, -1)).reshape(-1, len(part), 4)
        with np.errstate(divide="ignore", invalid="ignore"):
            low[part], high[part] = percentiles(drawn[..., 0] / drawn[..., 1] - drawn[..., 2] / drawn[..., 3])
    return low, high


def _values(block: Block, feature: int, place: Ints, n: int) -> Floats:
    """The values of a feature in `n` frames, whose number among them is their `place` (−1: not one of them)."""
    span = slice(int(block.indptr[feature]), int(block.indptr[feature + 1]))
    own = place[block.frames[span]]
    values = np.zeros(n)
    values[own[own >= 0]] = block.values[span][own >= 0]
    return values


def _f1_terms(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Per frame, what sums to the numerator and the denominator of F1."""
    return 2.0 * (found & true).astype(np.float64), found.astype(np.float64) + true.astype(np.float64)
