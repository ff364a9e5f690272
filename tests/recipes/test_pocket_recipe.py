"""Pieces of the pocket recipe: front end, forward pass, grammar, pools and batches, and espeak's times."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from recipes.pocket import align, data, grammar, mel, network, sounds, synthesise, vocabulary, voices
from recipes.pocket.settings import Settings
from recipes.pocket.speech import Utterance


def test_log_mel_equals_hugging_faces() -> None:
    rng = np.random.default_rng(0)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=6)
    for name in ("pink_noise", "bird", "cry", "silence"):
        audio = np.zeros(96_000, np.float32)
        audio[8_000:56_000] = sounds.make_sound(name, rng, 3.0)
        theirs = extractor(audio, sampling_rate=16_000, return_tensors="np").input_features[0]
        np.testing.assert_allclose(mel.normalise(mel.log_power(audio)).T, theirs, atol=1e-3)


def test_forward_pass_equals_hugging_faces() -> None:
    model = network.build_model(1367, 1056, seed=0).eval()
    mels, ids = torch.randn(2, 80, 600), torch.randint(0, 1367, (2, 9))
    with torch.no_grad():
        theirs = model(input_features=mels, decoder_input_ids=ids).logits
        ours, _ = network.decode(model, ids, network.encode(model, mels))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_held_out_sentences_are_drawn_the_same_every_time() -> None:
    english, spanish = grammar.draw_heldout(7, 200, 20)
    assert (english, spanish) == grammar.draw_heldout(7, 200, 20)
    assert len(set(english)) == 200
    assert {w for s in english for w in s.split()} <= {*grammar.VOCABULARY, "an"}


def test_held_out_voices_are_not_in_training() -> None:
    assert not set(voices.VARIANTS) & set(voices.HELD_OUT_VARIANTS)
    assert voices.HELD_OUT_ACCENT not in voices.ACCENTS


def test_halves_of_one_recording_stay_on_one_side(shared: Path) -> None:
    train, heldout = synthesise.sound_recordings(shared)
    source = lambda p: p.name.split("-")[1] if p.parent.parent.name == "esc10" else p.stem  # noqa: E731
    assert not {source(p) for p in train} & {source(p) for p in heldout}
    assert 0.2 < len(heldout) / len(train + heldout) < 0.45


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tiny pools of noise with the labels that the synthesiser would give, and a tokenizer."""
    build = tmp_path_factory.mktemp("pocket")
    (build / "pools").mkdir()
    rng, words = np.random.default_rng(0), random.Random(0)
    speech = synthesise.PoolWriter(build / "pools/speech-000")
    for _ in range(80):
        n = int(rng.integers(60, 200)) * 2
        fields = {"text": grammar.english(words), "language": "en", "kind": "english", "end_s": n / 100}
        speech.add(rng.normal(-1, 1, (n, 80)), phones=[1 + i // 5 % 40 for i in range(n // 2)], **fields)
    digits = synthesise.PoolWriter(build / "pools/digits")
    for i in range(40):
        digits.add(rng.normal(-1, 1, (40, 80)), text=grammar.DIGITS[i % 10], language="en", kind="real_digit",
                   source=f"speaker{i % 2}", end_s=0.4)  # fmt: skip
    noises = synthesise.PoolWriter(build / "pools/sounds")
    for i in range(20):
        noises.add(rng.normal(-2, 1, (300, 80)), kind="sound", source="real" if i < 10 else "bird")
    for pool in (speech, digits, noises):
        pool.close()
    vocabulary.train_tokenizer(build / "tokenizer", 7)
    return Settings(shared=build, build=build, assets=build, steps=100)


def test_batches_depend_on_the_step_alone(settings: Settings) -> None:
    ids = data.Vocabulary(vocabulary.load_tokenizer(settings.build / "tokenizer"))
    one, two = data.Batches(settings, ids), data.Batches(settings, ids)
    for step in (0, 50, 95):
        first, second = one[step], two[step]
        assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(one[1]["ids"], one[2]["ids"])


def test_targets_of_speech_and_sounds(settings: Settings) -> None:
    ids = data.Vocabulary(vocabulary.load_tokenizer(settings.build / "tokenizer"))
    batches = data.Batches(settings, ids)
    seen = set()
    for step in range(0, 100, 10):
        batch = batches[step]
        assert batch["mels"].shape[2] == 2 * batch["phones"].shape[1]
        assert bool((batch["ids"][:, 0] == ids.sot).all())
        for row, target in zip(batch["ids"].tolist(), batch["targets"].tolist(), strict=True):
            target = [t for t in target if t != data.IGNORE]
            seen.add(target[0])
            assert target[-1] == ids.end
            if target[0] == ids.nospeech:
                assert set(target[1:-1]) <= {ids.stamp(0.0)}
            else:
                assert target[:-1] == [t for t in row if t != ids.end][1:]
    assert seen == {ids.nospeech, ids.language["en"]}


def test_dynamic_time_warping_follows_a_diagonal() -> None:
    cost = np.ones((4, 12))
    for i in range(4):
        cost[i, 3 * i : 3 * i + 3] = 0
    assert align.monotonic_path(cost).tolist() == [0, 3, 6, 9]


@pytest.fixture(scope="module")
def say() -> Callable[..., Utterance]:
    """The synthesiser, where espeak-ng is installed."""
    try:
        import espeakng_loader  # noqa: F401
    except ImportError:
        message = "espeakng-loader is not installed: tests of the speech synthesiser did not run"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    from recipes.pocket import speech

    return speech.say


def test_spoken_words_and_phones_are_complete(say: Callable[..., Utterance]) -> None:
    text = "there was a bird in the garden on thursday"
    said = say(text, "gmw/en-US+f4")
    assert " ".join(w.label for w in said.words) == text
    edges = [t for p in said.phones for t in (p.start_s, p.end_s)]
    assert edges == sorted(edges)
    assert said.words[0].start_s == said.phones[0].start_s
    assert said.words[-1].end_s == said.phones[-1].end_s <= len(said.audio) / 16_000
    the = next(w for w in said.words if w.label == "the")
    assert [p.label for p in said.phones if the.start_s <= p.start_s < the.end_s] == ["ð", "ə"]


def test_an_unknown_voice_is_refused(say: Callable[..., Utterance]) -> None:
    with pytest.raises(ValueError, match="no voice"):
        say("hello", "gmw/nowhere")
