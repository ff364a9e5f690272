"""Interpreting features, rung by rung: a class of labels, how it sounds, and what a language model says of its card."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otoscope.atlas.atlas import Atlas
from otoscope.atlas.interpretation.asking import climb
from otoscope.atlas.interpretation.card import Card, make_card
from otoscope.atlas.interpretation.endpoint import Endpoint
from otoscope.atlas.interpretation.evidence import Evidence, World
from otoscope.atlas.interpretation.exchanges import Exchanges
from otoscope.atlas.interpretation.results import Interpretation, merge_interpretations
from otoscope.atlas.interpretation.rules import LabelledMoments
from otoscope.atlas.interpretation.subject import Subject, Trials, null_pool, prepared, too_seldom, try_rules
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
    path = Path(to) if to is not None else None
    with contextlib.ExitStack() as held:
        if path is not None:
            held.enter_context(only_one(path.with_name(f".{path.name}.lock"), f"interpreting {atlas.name}"))
        exchanges = None
        if endpoint is not None:
            exchanges = Exchanges(endpoint, None if path is None else path.with_suffix(".exchanges.jsonl"))
        subjects: list[Subject] = []
        try:
            _climbed(subjects, World(atlas, corpus, seed), wanted, exchanges, trials or Trials(), progress)
        finally:
            found = [each.interpretation() for each in subjects]
            if path is not None and found:
                merge_interpretations(path, _about(atlas), found)
        return found


def _climbed(
    subjects: list[Subject],
    world: World,
    features: list[int],
    exchanges: Exchanges | None,
    trials: Trials,
    progress: bool | ProgressReport,
) -> None:
    """Fill `subjects`, so that what is done is there when something fails."""
    labelled, seed = LabelledMoments(world.corpus), world.frames.seed
    with track("cards", len(features), progress, unit="features") as advance:
        for feature in features:
            subjects.append(prepared(Evidence(world, feature), labelled, trials))
            advance(1, subjects[-1].address)
    null = null_pool(world, trials)
    try_rules(subjects, null, trials, seed)
    if exchanges is not None:
        climb(subjects, null, exchanges, trials, seed, progress)


def _about(atlas: Atlas) -> dict[str, Any]:
    """What a file of interpretations says it is of."""
    return {
        "dictionary": atlas.meta["dictionary"]["name"],
        "site": str(atlas.meta["site"]),
        "corpus": atlas.meta["corpus"]["name"],
        "atlas": sha256_file(atlas.folder / "meta.json"),
    }
