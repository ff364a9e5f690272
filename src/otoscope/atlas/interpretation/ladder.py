"""Interpreting features, rung by rung: a class of labels, how it sounds, and what a language model says of its card."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.atlas.atlas import Atlas
from otoscope.atlas.interpretation.asking import climb
from otoscope.atlas.interpretation.card import Card, make_card
from otoscope.atlas.interpretation.endpoint import Endpoint, Message
from otoscope.atlas.interpretation.evidence import Evidence, Trial, World
from otoscope.atlas.interpretation.exchanges import Exchanges
from otoscope.atlas.interpretation.prompts import explain_messages
from otoscope.atlas.interpretation.results import Interpretation, merge_interpretations
from otoscope.atlas.interpretation.rules import LabelledMoments
from otoscope.atlas.interpretation.subject import Subject, Trials, too_seldom, try_rules
from otoscope.atlas.interpretation.unfinished import Unfinished
from otoscope.audio import Corpus
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track
from otoscope.storage import sha256_file
from otoscope.storage.locks import only_one


def card_of(atlas: Atlas, corpus: Corpus, feature: int, *, seed: int = 0) -> Card:
    """Return the card of one feature.

    Raises:
        InputError: there is no such feature, it is active too seldom, or the corpus is not the atlas's.
    """
    evidence = Evidence(World(atlas, corpus, seed), atlas[feature].feature)
    if not evidence.enough:
        raise InputError(f"{atlas[feature].address} has no card: {too_seldom(evidence)}.")
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
    wanted = [atlas[int(feature)].feature for feature in chosen]
    path, trials = Path(to) if to is not None else None, trials or Trials()
    with contextlib.ExitStack() as held:
        if path is not None:
            held.enter_context(only_one(path.with_name(f".{path.name}.lock"), f"interpreting {atlas.name}"))
        exchanges = None
        if endpoint is not None:
            exchanges = Exchanges(endpoint, None if path is None else path.with_suffix(".exchanges.jsonl"))
        world, labelled = World(atlas, corpus, seed), LabelledMoments(corpus)
        kept = None if path is None else path.with_suffix(".unfinished.jsonl")
        unfinished = Unfinished(kept, _about(atlas), labelled, trials, seed)
        subjects = _prepared(world, wanted, unfinished, progress)
        null = _null_pool(world, unfinished, trials)
        try_rules(subjects, null, trials, seed)
        _write(path, atlas, subjects)
        if exchanges is not None:
            try:
                climb(subjects, null, exchanges, trials, seed, progress)
            finally:
                _write(path, atlas, subjects)
        unfinished.ended()
        return [each.interpretation() for each in subjects]


def _prepared(
    world: World, features: list[int], unfinished: Unfinished, progress: bool | ProgressReport
) -> list[Subject]:
    """Make the cards and trials of features, those of a killed run aside."""
    done = [feature for feature in features if feature in unfinished]
    with track("cards", len(features), progress, unit="features", done=len(done)) as advance:
        for feature in features:
            if feature not in unfinished:
                advance(1, unfinished.subject(world, feature).address)
    return [unfinished.subject(world, feature) for feature in features]


def _null_pool(world: World, unfinished: Unfinished, trials: Trials) -> dict[int, Trial]:
    """Trials of random features; one more than needed, as none is tried on its own."""
    alive = np.flatnonzero(~world.frames.atlas.column("dead").astype(np.bool_))
    pool: dict[int, Trial] = {}
    for feature in world.frames.rng(0, 700).permutation(alive).tolist():
        trial = unfinished.trial(world, feature)
        if trial is not None:
            pool[feature] = trial
        if len(pool) > max(trials.n_null, trials.n_null_asked):
            break
    return pool


def _write(path: Path | None, atlas: Atlas, subjects: list[Subject]) -> None:
    if path is not None and subjects:
        merge_interpretations(path, _about(atlas), [each.interpretation() for each in subjects])


def _about(atlas: Atlas) -> dict[str, Any]:
    """What a file of interpretations says it is of."""
    return {
        "dictionary": atlas.meta["dictionary"]["name"],
        "site": str(atlas.meta["site"]),
        "corpus": atlas.meta["corpus"]["name"],
        "atlas": sha256_file(atlas.folder / "meta.json"),
    }
