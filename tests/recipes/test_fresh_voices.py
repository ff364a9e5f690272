"""Labels are judged on voices and sentences that took no part, and planted directions are what they say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from otoscope.audio import Corpus
from recipes.pocket import grammar, voices

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fresh_voices() -> ModuleType:
    return _script("fresh_voices")


def test_judging_voices_and_sentences_are_in_neither_training_nor_the_mini_corpus(
    fresh_voices: ModuleType, mini: Corpus
) -> None:
    order = {each.lower() for each in fresh_voices.ORDER}
    assert not order & {each.lower() for each in (*voices.VARIANTS, *voices.HELD_OUT_VARIANTS)}
    assert not order & {clip.speaker for clip in mini}
    texts = fresh_voices.unused_sentences()
    assert len(set(texts)) == 500
    of_mini = {clip.text for clip in mini if clip.language == "en"}
    assert not set(texts) & of_mini
    assert of_mini < set(grammar.draw_heldout(7, 1000, 60)[0])  # drawn the same way, so an overlap would be seen


def test_a_voice_that_is_not_understood_is_refused_and_the_next_speaks_its_sentences(
    fresh_voices: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = iter([0.5, 0.1])
    monkeypatch.setattr(fresh_voices, "word_error", lambda model, corpus: next(heard))
    texts = ["the dog was near the bridge", "it was the ninth of february"]
    found = fresh_voices.understood(None, tmp_path, ["whisperf", "quincy", "iven"], texts, "accent")
    assert found.refused == ("whisperf",)
    assert found.word_error == {"whisperf": 0.5, "quincy": 0.1}
    assert [(clip.text, clip.speaker) for clip in found.corpus] == [(text, "quincy") for text in texts]
    assert {clip.attributes["accent"] for clip in found.corpus} == {"en-029"}
    assert all(len(clip.tier("words")) == 6 for clip in found.corpus)


def test_the_threshold_of_a_planted_direction_has_the_best_f1_of_all() -> None:
    pairs, rng = _script("planted_pairs"), np.random.default_rng(0)
    own = rng.random(300) < 0.2
    score = rng.standard_normal(300) + own
    f1, threshold = pairs.best_threshold(score, own)
    every = [2 * (own & (score > t)).sum() / ((score > t).sum() + own.sum()) for t in np.sort(score)[:-1]]
    assert f1 == pytest.approx(max(every))
    assert 2 * (own & (score > threshold)).sum() / ((score > threshold).sum() + own.sum()) == pytest.approx(f1)
