"""Rung 3: a language model explains features from their cards, and says at which moments explanations fit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace

import numpy as np

from otoscope.atlas.interpretation.detection import Judged, part_of, score
from otoscope.atlas.interpretation.endpoint import EndpointError
from otoscope.atlas.interpretation.evidence import Trial
from otoscope.atlas.interpretation.exchanges import Exchanges
from otoscope.atlas.interpretation.prompts import (
    Explanation,
    explain_messages,
    judge_messages,
    read_explanation,
    read_judgement,
)
from otoscope.atlas.interpretation.results import LANGUAGE_MODEL, Rung
from otoscope.atlas.interpretation.subject import TOO_FEW, Subject, Trials, others_of
from otoscope.progress import ProgressReport, track

MAX_FAILURES = 3
"""If so many features get no answer before any other does, no more are asked."""


def climb(
    subjects: list[Subject],
    null: dict[int, Trial],
    exchanges: Exchanges,
    trials: Trials,
    seed: int,
    progress: bool | ProgressReport,
) -> None:
    """Ask for rung 3: all explanations first, so that each can be tried beside another, then what they fit."""
    able = [each for each in subjects if each.card]

    def explain(each: Subject) -> None:
        messages = explain_messages(each.card)
        each.explanation = exchanges.ask(messages, read_explanation, each.usage, feature=each.feature, why="explain")

    _for_each(able, explain, exchanges, "explain", progress)
    able = [each for each in able if each.explanation is not None]

    def judge(each: Subject) -> None:
        _judge(each, able, null, exchanges, trials, seed)

    _for_each(able, judge, exchanges, "try explanations", progress)


def _for_each(
    subjects: list[Subject],
    do: Callable[[Subject], None],
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
    each: Subject,
    able: list[Subject],
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
            fits += exchanges.ask(messages, read_judgement(len(some)), each.usage, feature=each.feature, why=why)
        return trial.active, np.array(fits, dtype=np.bool_)

    own = read(each.explanation, each.trial, "try")
    others = others_of(null, each.feature, trials.n_null_asked)
    nulls = [read(each.explanation, part_of(trial, trials.n_part), "null") for trial in others]
    partner = able[(able.index(each) + 1) % len(able)]
    part = part_of(each.trial, trials.n_part)
    shuffled = read(partner.explanation, part, "shuffled") if partner is not each else None
    each.rungs[3] = replace(_asked(each, exchanges), score=score(each.trial, own[1], nulls, shuffled, seed))


def _asked(each: Subject, exchanges: Exchanges, note: str = "") -> Rung:
    said = each.explanation
    answer = exchanges.answer_to(explain_messages(each.card)) if said else None
    by = {
        "model": exchanges.endpoint.model,
        "endpoint": answer.endpoint if answer else None,
        "asked_at": answer.asked_at if answer else None,
        "prompt_version": exchanges.prompt_version,
        "confidence": said.confidence if said else None,
        **asdict(each.usage),
    }
    return Rung(
        3, LANGUAGE_MODEL, said.name if said else "", said.explanation if said else "", score=None, note=note, by=by
    )
