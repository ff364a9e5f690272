"""The card of a feature: all that an expert, or a language model, needs to say what it responds to.

A card is made of one half of the voices; explanations are tried on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from otoscope.atlas.interpretation.descriptors import Descriptor, with_sound
from otoscope.atlas.interpretation.evidence import Evidence, shares
from otoscope.atlas.interpretation.moments import Moment, neighbour
from otoscope.atlas.interpretation.occurrences import NO_WORD, POSITIONS
from otoscope.atlas.interpretation.page import card_page
from otoscope.atlas.interpretation.sampling import CARD, Bools

N_STRONGEST, N_ACROSS = 5, 10
"""Active moments that a card shows: the strongest, and some of every decile."""
N_CONTRASTS = 5
LEAST_SHARE = 0.03
LEAST_Z = 3.0
"""Neighbours and words are listed where they are more common, by so many standard errors, than the phones explain."""
MIN_OCCURRENCES = 8
N_ROWS = 8
_NONE = "none"
PARTS = ("first third", "middle third", "last third")


@dataclass(frozen=True)
class Row:
    """One label of a table.

    Attributes:
        label: the phone, class, neighbour or word.
        share: of all its active moments.
        strongest: of the strongest fifth of them.
        expected: what it would be if the feature did not care (see the table's title).
        active_in: share of the label's occurrences in which the feature is active; NaN where not counted.
    """

    label: str
    share: float
    strongest: float
    expected: float
    active_in: float = float("nan")


@dataclass(frozen=True)
class Rate:
    """In which share of the occurrences of its commonest sound, in some neighbourhood, a feature is active."""

    where: str
    active_in: float
    count: int


@dataclass(frozen=True)
class Card:
    """What is known about when one feature is active.

    Attributes:
        address: `dictionary:index`; `site` where it is read; `corpus` the recordings.
        figures: n_events, clips, voices, per_minute, density, duration_ms (quartiles), maximum, active_from.
        tables: rows by table: "heard", "phone", "class", "part", "left", "right", "word", "position", "voice".
        rates: where its commonest sound excites it most and least.
        descriptors: how its moments sound, beside silent moments of the same clips.
        active: moments of every strength, strongest first.
        same_sound, near_sound, silent: silent moments in its own sounds, in the sounds most like them, and anywhere.
    """

    address: str
    site: str
    corpus: str
    figures: dict[str, float | tuple[float, ...]]
    tables: dict[str, tuple[Row, ...]]
    rates: tuple[Rate, ...]
    descriptors: tuple[Descriptor, ...]
    active: tuple[Moment, ...]
    same_sound: tuple[Moment, ...]
    near_sound: tuple[Moment, ...]
    silent: tuple[Moment, ...]

    def to_markdown(self) -> str:
        """Return the card as a page that people and language models read."""
        return card_page(self)


def make_card(evidence: Evidence) -> Card:
    """Make the card of a feature that has `enough` events.

    Raises:
        InputError: a clip cannot be decoded.
    """
    frames, feature = evidence.world.frames, evidence.feature
    corpus = evidence.world.corpus
    shown = (evidence.moments.strongest(CARD, N_STRONGEST), evidence.moments.across_levels(CARD, N_ACROSS, 4))
    examples = {int(f): float(v) for each in shown for f, v in zip(each.frame, each.value, strict=True)}
    examples = dict(sorted(examples.items(), key=lambda item: -item[1]))
    silent = evidence.moments.silent.anywhere(CARD, N_CONTRASTS, frames.rng(feature, 5))
    comparison = evidence.comparison
    return Card(
        address=frames.atlas[feature].address,
        site=str(frames.atlas.meta["site"]),
        corpus=frames.corpus.name,
        figures=_figures(evidence),
        tables=_tables(evidence),
        rates=_rates(evidence),
        descriptors=tuple(comparison.descriptors) if comparison else (),
        active=tuple(with_sound(corpus, frames.moments(np.array(list(examples)), np.array(list(examples.values()))))),
        same_sound=tuple(with_sound(corpus, frames.moments(evidence.same_sound(CARD, N_CONTRASTS)))),
        near_sound=tuple(with_sound(corpus, frames.moments(evidence.near_sound(CARD, N_CONTRASTS)))),
        silent=tuple(with_sound(corpus, frames.moments(silent))),
    )


def _figures(evidence: Evidence) -> dict[str, float | tuple[float, ...]]:
    frames, events = evidence.world.frames, evidence.moments.events(CARD)
    frame_s = frames.atlas.clock.frame_s
    minutes = float(frames.counts[frames.half == CARD].sum()) * frame_s / 60
    lengths = 1000 * frame_s * (events.last - events.first + 1)
    voices = {frames.corpus[int(c)].speaker for c in np.unique(events.clip)} - {None}
    return {
        "n_events": float(evidence.moments.n_events(CARD)),
        "clips": float(len(np.unique(events.clip))),
        "voices": float(len(voices)),
        "per_minute": evidence.moments.n_events(CARD) / minutes,
        "density": float(frames.atlas[evidence.feature].stats["density"]),
        "duration_ms": tuple(np.quantile(lengths, (0.25, 0.5, 0.75)).tolist()),
        "maximum": float(frames.atlas[evidence.feature].stats["max"]),
        "active_from": evidence.moments.active_from,
    }


def _tables(evidence: Evidence) -> dict[str, tuple[Row, ...]]:
    said, peaks = evidence.world.said[CARD], evidence.peaks
    strong = evidence.strong
    seconds = sum(said.grounds.values()) or 1.0
    grounds = {name: length / seconds for name, length in said.grounds.items()}
    phone_base = said.phone_share()
    hit = said.hit(evidence.moments.active)
    in_phone = dict(zip(said.phones, _means(said.phone, hit, len(said.phones)), strict=True))
    in_word = dict(zip(said.words, _means(said.word, hit, len(said.words)), strict=True))

    def rows(label: Callable[[Moment], str | None], expected: dict[str, float]) -> list[Row]:
        return _rows([label(each) for each in peaks], strong, expected)

    def beside(label: Callable[[Moment], str | None], column: str) -> list[Row]:
        of_all, of_strong = (said.expected(column, each) for each in (evidence.phone_shares, evidence.strong_shares))
        labels = [None if each.phone is None else label(each) for each in peaks]
        return _uncommon(labels, strong, of_all, of_strong)

    words = [each for each in beside(lambda each: each.word, "word") if each.label != NO_WORD]
    tables = {
        "heard": _heard(evidence, grounds),
        "phone": [_with_rate(each, in_phone) for each in rows(lambda each: each.phone, phone_base)],
        "class": _class_rows(evidence, phone_base),
        "part": rows(_part, dict.fromkeys(PARTS, 1 / 3)),
        "left": beside(lambda each: neighbour(each, left=True), "left"),
        "right": beside(lambda each: neighbour(each, left=False), "right"),
        "word": [_with_rate(each, in_word) for each in words],
        "position": beside(_position, "position"),
        "voice": _voices(evidence),
    }
    return {name: tuple(each) for name, each in tables.items() if each}


def _heard(evidence: Evidence, expected: dict[str, float]) -> list[Row]:
    """Where the time lies in which it is active: a long event counts for more than a short one."""
    events = evidence.moments.events(CARD)
    lengths = (events.last - events.first + 1).astype(np.float64)
    grounds = [each.ground for each in evidence.peaks]
    of = [np.where(kept, lengths, 0.0) / lengths[kept].sum() for kept in (lengths > 0, evidence.strong)]
    sums = [{name: float(w[[g == name for g in grounds]].sum()) for name in set(grounds)} for w in of]
    found = [Row(name, sums[0][name], sums[1][name], expected.get(name, 0.0)) for name in sorted(set(grounds))]
    found = [row for row in found if max(row.share, row.strongest) >= LEAST_SHARE]
    return sorted(found, key=lambda row: -max(row.share, row.strongest))[:N_ROWS]


def _with_rate(row: Row, rates: dict[str, float]) -> Row:
    return replace(row, active_in=rates.get(row.label, float("nan")))


def _rows(labels: list[str | None], strong: Bools, expected: dict[str, float]) -> list[Row]:
    """Shares of labels (None is left out), commonest first, without rare ones."""
    of_all = shares(each for each in labels if each is not None)
    of_strong = shares(each for each, is_strong in zip(labels, strong, strict=True) if is_strong and each is not None)
    found = [
        Row(label, share, of_strong.get(label, 0.0), expected.get(label, 0.0))
        for label, share in of_all.items()
        if max(share, of_strong.get(label, 0.0)) >= LEAST_SHARE
    ]
    return sorted(found, key=lambda row: -max(row.share, row.strongest))[:N_ROWS]


def _uncommon(
    labels: list[str | None], strong: Bools, expected: dict[str, float], of_strong: dict[str, float]
) -> list[Row]:
    """Only labels that are too common, among all moments or among the strongest, to follow from what is expected."""
    known = np.array([each is not None for each in labels])
    sizes = int(known.sum()), int((known & strong).sum())

    def clear(share: float, base: float, n: int) -> bool:
        least = LEAST_Z * np.sqrt(max(base * (1 - base), 1 / max(n, 1)) / max(n, 1))
        return share - base >= max(LEAST_SHARE, float(least))

    return [
        row
        for row in _rows(labels, strong, expected)
        if clear(row.share, row.expected, sizes[0]) or clear(row.strongest, of_strong.get(row.label, 0.0), sizes[1])
    ]


def _class_rows(evidence: Evidence, base: dict[str, float]) -> list[Row]:
    """Natural classes that hold most of the moments in speech, and more than their share of all speech."""
    classes, peaks = evidence.world.classes, evidence.peaks
    found = []
    for dimension in sorted({name for each in classes.values() for name in each}):
        of = {phone: each[dimension] for phone, each in classes.items() if dimension in each}
        expected: dict[str, float] = {}
        for phone, share in base.items():
            name = of.get(phone, _NONE)
            expected[name] = expected.get(name, 0.0) + share
        labels = [None if each.phone is None else of.get(each.phone, _NONE) for each in peaks]
        for row in _uncommon(labels, evidence.strong, expected, expected):
            if row.label != _NONE and max(row.share, row.strongest) >= 0.5:
                found.append(replace(row, label=f"{dimension}: {row.label}"))
    return sorted(found, key=lambda row: -row.share / max(row.expected, 1e-9))


def _voices(evidence: Evidence) -> list[Row]:
    """Voices that hold much more of its moments than of all speech."""
    corpus, said = evidence.world.corpus, evidence.world.said[CARD]
    seconds: dict[str, float] = {}
    for clip, length in zip(said.clip, said.seconds, strict=True):
        voice = corpus[int(clip)].speaker
        if voice is not None:
            seconds[voice] = seconds.get(voice, 0.0) + float(length)
    total = sum(seconds.values()) or 1.0
    expected = {name: length / total for name, length in seconds.items()}
    rows = _uncommon([corpus.get(each.clip_id).speaker for each in evidence.peaks], evidence.strong, expected, expected)
    return [row for row in rows if row.share >= 1.5 * row.expected]


def _rates(evidence: Evidence) -> tuple[Rate, ...]:
    """Neighbours in which the commonest sound excites the feature clearly more, or less, often than in others."""
    said, own = evidence.world.said[CARD], evidence.own_sounds
    if not own:
        return ()
    phone = said.phones.index(own[0]) if own[0] in said.phones else -1
    of_phone = said.phone == phone
    hit = said.hit(evidence.moments.active)
    if of_phone.sum() < MIN_OCCURRENCES:
        return ()
    overall = float(hit[of_phone].mean())
    found = []
    for side, words in (("left", "after"), ("right", "before")):
        column = getattr(said, side)[of_phone]
        counts = np.bincount(column, minlength=len(said.phones))
        means = _means(column, hit[of_phone], len(said.phones))
        for i in np.flatnonzero(counts >= MIN_OCCURRENCES):
            if abs(means[i] - overall) >= 2 * np.sqrt(overall * (1 - overall) / counts[i]) + 0.1:
                found.append(Rate(f"{own[0]} {words} {said.phones[i]}", float(means[i]), int(counts[i])))
    found.sort(key=lambda rate: -rate.active_in)
    return (
        Rate(f"{own[0]} anywhere", overall, int(of_phone.sum())),
        *(found if len(found) <= 6 else found[:3] + found[-3:]),
    )


def _means(group: np.ndarray, hit: Bools, n: int) -> list[float]:
    counts = np.bincount(group, minlength=n)
    with np.errstate(invalid="ignore"):
        return [float(each) for each in np.bincount(group, hit.astype(np.float64), minlength=n) / counts]


def _part(moment: Moment) -> str | None:
    if moment.phone is None or not moment.phone_s > 0:
        return None
    return PARTS[min(2, int(3 * moment.passed_s / moment.phone_s))]


def _position(moment: Moment) -> str | None:
    if moment.phone is None or moment.word is None:
        return None
    begins = not moment.before or moment.before[-1] == " "
    ends = not moment.after or moment.after[0] == " "
    return POSITIONS[begins + 2 * ends]
