"""Interpreting features, rung by rung: a class of labels, how it sounds, and what a language model says of its card."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.atlas.atlas import Atlas
from otoscope.atlas.interpretation.card import Card, make_card
from otoscope.atlas.interpretation.descriptors import named, sentence
from otoscope.atlas.interpretation.detection import Judged, part_of, scorable, score
from otoscope.atlas.interpretation.endpoint import Endpoint, EndpointError, Message
from otoscope.atlas.interpretation.evidence import MIN_EVENTS, Evidence, Trial, World
from otoscope.atlas.interpretation.exchanges import Exchanges, Usage
from otoscope.atlas.interpretation.prompts import (
    PROMPT_VERSION,
    Explanation,
    explain_messages,
    judge_messages,
    read_explanation,
    read_judgement,
)
from otoscope.atlas.interpretation.results import (
    LABEL,
    LANGUAGE_MODEL,
    SOUND,
    Interpretation,
    Rung,
    merge_interpretations,
)
from otoscope.atlas.interpretation.rules import CarriesClass, LabelledMoments, Rule, sounds_like
from otoscope.audio import Corpus
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track
from otoscope.storage import sha256_file

MAX_FAILURES = 3
"""If so many features in a row get no answer before any other does, no more are asked."""
TOO_FEW = f"active fewer than {MIN_EVENTS} times in the voices that are tried on"


@dataclass(frozen=True)
class Trials:
    """How explanations are tried.

    Attributes:
        n_active, n_silent: held-out moments of the feature itself.
        n_null: random features on whose moments rules are tried; `n_null_asked`: the same for a language model.
        n_part: active moments, and as many silent ones, of each of those that a language model reads.
        per_question: moments in one question.
    """

    n_active: int = 20
    n_silent: int = 20
    n_null: int = 8
    n_null_asked: int = 2
    n_part: int = 10
    per_question: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")


@dataclass(eq=False)
class _Subject:
    """A feature on its way up the ladder."""

    evidence: Evidence
    address: str
    card: Card | None = None
    note: str = ""
    trial: Trial | None = None
    rules: dict[int, Rule | None] = field(default_factory=dict)
    rungs: dict[int, Rung] = field(default_factory=dict)
    explanation: Explanation | None = None
    usage: Usage = field(default_factory=Usage)

    def interpretation(self) -> Interpretation:
        rungs = tuple(self.rungs[number] for number in sorted(self.rungs))
        card = self.card.to_markdown() if self.card is not None else ""
        return Interpretation(self.evidence.feature, self.address, rungs, card, self.note)


def card_of(atlas: Atlas, corpus: Corpus, feature: int, *, seed: int = 0) -> Card:
    """Return the card of one feature.

    Raises:
        InputError: there is no such feature, it is active too seldom, or the corpus is not the atlas's.
    """
    evidence = Evidence(World(atlas, corpus, seed), atlas[feature].feature)
    if not evidence.enough:
        raise InputError(f"{atlas[feature].address} has no card: {_too_seldom(evidence)}.")
    return make_card(evidence)


def prompt_of(card: Card) -> list[Message]:
    """Return what a language model is asked about a card."""
    return explain_messages(card.to_markdown())


def interpret(
    atlas: Atlas,
    corpus: Corpus,
    features: Sequence[int] | None = None,
    *,
    endpoint: Endpoint | None = None,
    to: str | os.PathLike[str] | None = None,
    trials: Trials | None = None,
    seed: int = 0,
    progress: bool | ProgressReport = True,
) -> list[Interpretation]:
    """Explain features and try the explanations on voices that they were not made from.

    Rung 1 is the class that the feature detects, rung 2 how its moments sound; both are tried by rule. Rung 3, a
    language model that reads the feature's card, is asked only where an endpoint is given: nothing is sent otherwise.

    Args:
        atlas: of the features.
        corpus: over which the atlas was built.
        features: which; None for the ten with the best labels.
        endpoint: where a language model answers.
        to: file to write (`<dictionary>.jsonl`); what it has of other features stays. Questions and raw answers go
            beside it, and what was answered for the same card by the same model is not asked again. None: no file.
        trials: how explanations are tried.
        seed: decides which moments are drawn.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: there is no such feature, the corpus is not the atlas's, or a clip cannot be decoded.
        EndpointRefused: the endpoint will answer no question; what was found before is in the file.
        EndpointError: no feature of the first few got an answer.
        OtoscopeError: the file is damaged or cannot be written.
    """
    chosen = list(dict.fromkeys(features if features is not None else atlas.find(limit=10).index))
    entries = [atlas[int(feature)] for feature in chosen]
    trials = trials or Trials()
    path = Path(to) if to is not None else None
    beside = path.with_suffix(".exchanges.jsonl") if path is not None else None
    exchanges = Exchanges(endpoint, beside) if endpoint is not None else None
    world, labelled = World(atlas, corpus, seed), LabelledMoments(corpus)
    subjects: list[_Subject] = []
    try:
        with track("cards", len(entries), progress, unit="features") as advance:
            for entry in entries:
                subjects.append(_prepared(Evidence(world, entry.feature), labelled, trials))
                advance(1, entry.address)
        null = _null_pool(world, trials)
        _try_rules(subjects, null, trials, seed)
        if exchanges is not None:
            _climb(subjects, null, exchanges, trials, seed, progress)
    finally:
        found = [each.interpretation() for each in subjects]
        if path is not None and found:
            merge_interpretations(path, _about(atlas), found)
    return found


def _about(atlas: Atlas) -> dict[str, Any]:
    """What a file of interpretations says it is of."""
    return {
        "dictionary": atlas.meta["dictionary"]["name"],
        "site": str(atlas.meta["site"]),
        "corpus": atlas.meta["corpus"]["name"],
        "atlas": sha256_file(atlas.folder / "meta.json"),
    }


def _too_seldom(evidence: Evidence) -> str:
    if evidence.world.frames.atlas[evidence.feature].stats["dead"]:
        return "it is dead, active in no frame of the corpus"
    return f"it is active fewer than {MIN_EVENTS} times in the voices that cards are made of"


def _prepared(evidence: Evidence, labelled: LabelledMoments, trials: Trials) -> _Subject:
    """Make the card, the trial and the rules of a feature."""
    subject = _Subject(evidence, evidence.world.frames.atlas[evidence.feature].address)
    if not evidence.enough:
        subject.note = _too_seldom(evidence)
        return subject
    subject.card = make_card(evidence)
    if evidence.triable:
        trial = evidence.trial(trials.n_active, trials.n_silent)
        subject.trial = trial if scorable(trial) else None
    subject.rungs[1], subject.rules[1] = _label_rung(evidence, labelled)
    subject.rungs[2], subject.rules[2] = _sound_rung(evidence)
    return subject


def _label_rung(evidence: Evidence, labelled: LabelledMoments) -> tuple[Rung, Rule | None]:
    stats = evidence.world.frames.atlas[evidence.feature].stats
    label, kind = stats.get("label"), stats.get("label_kind")
    if not label or not kind:
        return Rung(1, LABEL, "", "", note="it detects no class better than chance"), None
    rung = Rung(1, LABEL, f"/{label}/" if kind == "phone" else f"{label} ({kind})", f"Active {_where(kind, label)}.")
    if kind not in labelled.kinds:
        return replace(rung, note=f"labels of kind {kind!r} cannot be tried by rule"), None
    return rung, CarriesClass(labelled, kind, label)


def _where(kind: str, label: str) -> str:
    sentences = {
        "phone": f"while the phone {label} is said",
        "word": f"while the word {label!r} is said",
        "sound_class": f"while there is {label} to hear",
        "diphone": f"on the way from one phone of {label} to the other",
        "position": f"in phones that are {label} in their word",
        "phrase": f"in words that are {label} in their phrase",
    }
    return sentences.get(kind, f"while a phone is said whose {kind} is {label}")


def _sound_rung(evidence: Evidence) -> tuple[Rung, Rule | None]:
    comparison = evidence.comparison
    if comparison is None:
        return Rung(2, SOUND, "", "", note="too few silent moments to compare with"), None
    text = sentence(comparison.descriptors)
    if not text:
        return Rung(2, SOUND, "", "", note="its moments sound like others of the same clips"), None
    name = ", ".join(each.fragment for each in named(comparison.descriptors)[:2])
    explanation = f"Beside silent moments of the same clips, its moments are or have: {text}."
    return Rung(2, SOUND, name, explanation), sounds_like(comparison.descriptors, comparison.active, comparison.silent)


def _null_pool(world: World, trials: Trials) -> dict[int, Trial]:
    """Trials of random features; one more than needed, as none is tried on its own."""
    atlas = world.frames.atlas
    alive = np.flatnonzero(~atlas.column("dead").astype(np.bool_))
    pool: dict[int, Trial] = {}
    for feature in world.frames.rng(0, 700).permutation(alive):
        evidence = Evidence(world, int(feature))
        if evidence.enough and evidence.triable:
            trial = evidence.trial(trials.n_active, trials.n_silent)
            if scorable(trial):
                pool[int(feature)] = trial
        if len(pool) > max(trials.n_null, trials.n_null_asked):
            break
    return pool


def _others(null: dict[int, Trial], feature: int, count: int) -> list[Trial]:
    return [trial for other, trial in null.items() if other != feature][:count]


def _try_rules(subjects: list[_Subject], null: dict[int, Trial], trials: Trials, seed: int) -> None:
    """Score rungs 1 and 2."""
    for number in (1, 2):
        able = [each for each in subjects if each.rules.get(number) is not None]
        for place, each in enumerate(able):
            rule, other = each.rules[number], able[(place + 1) % len(able)].rules[number]
            assert rule is not None
            assert other is not None
            if each.trial is None:
                each.rungs[number] = replace(each.rungs[number], note=TOO_FEW)
                continue
            shuffled = _by_rule(other, each.trial) if len(able) > 1 else None
            nulls = [_by_rule(rule, trial) for trial in _others(null, each.evidence.feature, trials.n_null)]
            fits = _by_rule(rule, each.trial)[1]
            each.rungs[number] = replace(each.rungs[number], score=score(each.trial, fits, nulls, shuffled, seed))


def _by_rule(rule: Rule, trial: Trial) -> Judged:
    return trial.active, rule(trial.moments, trial.measures)


def _climb(
    subjects: list[_Subject],
    null: dict[int, Trial],
    exchanges: Exchanges,
    trials: Trials,
    seed: int,
    progress: bool | ProgressReport,
) -> None:
    """Ask for rung 3: all explanations first, so that each can be tried beside another, then what they fit."""
    able = [each for each in subjects if each.card is not None]

    def explain(each: _Subject) -> None:
        assert each.card is not None
        each.explanation = exchanges.ask(
            prompt_of(each.card), read_explanation, each.usage, feature=each.evidence.feature, why="explain"
        )

    _for_each(able, explain, exchanges, "explain", progress)
    able = [each for each in able if each.explanation is not None]

    def judge(each: _Subject) -> None:
        _judge(each, able, null, exchanges, trials, seed)

    _for_each(able, judge, exchanges, "try explanations", progress)


def _for_each(
    subjects: list[_Subject],
    do: Callable[[_Subject], None],
    exchanges: Exchanges,
    stage: str,
    progress: bool | ProgressReport,
) -> None:
    """Ask about several features at once; a feature without an answer is noted, and the others go on."""
    failures = answers = 0
    with track(stage, len(subjects), progress, unit="features") as advance:
        pool = ThreadPoolExecutor(exchanges.endpoint.concurrency)
        try:
            waiting = {pool.submit(do, each): each for each in subjects}
            for future in as_completed(waiting):
                each = waiting[future]
                try:
                    future.result()
                    answers += 1
                except EndpointError as error:
                    failures += 1
                    each.rungs[3] = _asked(each, exchanges, note=str(error))
                    if failures >= MAX_FAILURES and not answers:
                        raise
                advance(1, each.address)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judge(
    each: _Subject,
    able: list[_Subject],
    null: dict[int, Trial],
    exchanges: Exchanges,
    trials: Trials,
    seed: int,
) -> None:
    """Try the explanation of a feature on its own moments and on those of others, and another's on its own."""
    if each.trial is None:
        each.rungs[3] = _asked(each, exchanges, note=TOO_FEW)
        return

    def read(explanation: Explanation | None, trial: Trial, why: str) -> Judged:
        assert explanation is not None
        fits: list[bool] = []
        for start in range(0, len(trial.moments), trials.per_question):
            some = trial.moments[start : start + trials.per_question]
            messages = judge_messages(explanation.name, explanation.explanation, some)
            fits += exchanges.ask(
                messages, read_judgement(len(some)), each.usage, feature=each.evidence.feature, why=why
            )
        return trial.active, np.array(fits, dtype=np.bool_)

    own = read(each.explanation, each.trial, "try")
    others = _others(null, each.evidence.feature, trials.n_null_asked)
    nulls = [read(each.explanation, part_of(trial, trials.n_part), "null") for trial in others]
    partner = able[(able.index(each) + 1) % len(able)]
    part = part_of(each.trial, trials.n_part)
    shuffled = read(partner.explanation, part, "shuffled") if partner is not each else None
    each.rungs[3] = replace(_asked(each, exchanges), score=score(each.trial, own[1], nulls, shuffled, seed))


def _asked(each: _Subject, exchanges: Exchanges, note: str = "") -> Rung:
    said = each.explanation
    by = {
        "model": exchanges.endpoint.model,
        "prompt_version": PROMPT_VERSION,
        "confidence": said.confidence if said else None,
        **asdict(each.usage),
    }
    return Rung(
        3, LANGUAGE_MODEL, said.name if said else "", said.explanation if said else "", score=None, note=note, by=by
    )
