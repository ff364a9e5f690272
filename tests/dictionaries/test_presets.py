"""Presets reproduce published runs: each loads, says where it is from, and takes steps on the bundled model."""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from typing import Any

import pytest
import torch

from otoscope.activations import EncoderStream, stream
from otoscope.audio import Corpus
from otoscope.dictionaries import train
from otoscope.dictionaries.training.config import preset, presets
from otoscope.errors import InputError
from otoscope.models import SpeechModel

NAMES = (
    "audiosae",
    "er537",
    "freud-large-v1-audioset",
    "freud-large-v3-l1",
    "freud-tiny-l1",
    "freud-tiny-topk",
    "lesswrong",
    "whisper-sae",
)


@pytest.fixture(scope="module")
def speech(pocket: SpeechModel, mini: Corpus) -> EncoderStream:
    some = mini.select([clip.clip_id for clip in mini[:12]])
    return stream(pocket, some, ["encoder.2.resid_post", "encoder.ln_post"], progress=False)


def test_all_runs_of_the_seeds_are_there() -> None:
    assert tuple(presets()) == NAMES
    with pytest.raises(InputError, match="no preset 'freud-tiny-l2'; did you mean freud-tiny-l1"):
        preset("freud-tiny-l2")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_where_its_values_are_from_and_what_nobody_knows(name: str) -> None:
    config = preset(name)
    assert config.model.startswith("openai/whisper-")
    assert len(config.sites) == 1
    assert config.source
    assert config.title
    file = resources.files("otoscope.dictionaries.training") / "presets" / f"{name}.toml"
    text = file.read_text("utf-8")
    assert set(tomllib.loads(text)["training"]) <= set(config.settings().record()) | {"checkpoint_seconds"}
    for missing in config.unknown:
        assert missing.strip()


PUBLISHED: dict[str, dict[str, Any]] = {
    "freud-tiny-l1": {"n_features": 200, "alpha": 1e4, "steps": 100_000, "lr": 4e-4, "optimiser": "radam", "eps": 1e-5},
    "freud-tiny-topk": {"n_features": 6144, "k": 32, "steps": 100_000, "lr": 1e-4, "dead_after_frames": 10**6},
    "freud-large-v3-l1": {"n_features": 40_960, "steps": 25_000, "tied": True},
    "freud-large-v1-audioset": {"n_features": 20_480, "k": 32, "steps": 25_000},
    "er537": {"n_features": 200, "steps": 20_000, "schedule": "cosine", "alpha": 1e4},
    "whisper-sae": {"n_features": 3072, "k": 32, "batch_size": 128, "aux_coefficient": 0},
    "lesswrong": {"n_features": 1152, "tied": False, "lr": 1e-3, "clip_norm": None},
    "audiosae": {"n_features": 6144, "k": 50, "normalisation": "unit_norm", "steps": 200_000, "lr": 2e-4},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_published_values_are_kept(name: str) -> None:
    config = preset(name)
    found = {**config.spec().settings(), **config.settings().record()}
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_learns_on_the_bundled_model_at_a_reduced_size(name: str, speech: EncoderStream) -> None:
    small = preset(name).scaled(n_features=96, steps=12, batch_size=256)
    fewer = small.scaled(n_features=96, steps=1, batch_size=256)
    site = small.sites[0] if small.sites[0] in speech.sites else "encoder.2.resid_post"
    made = train(speech, small.spec(), site=site, settings=small.settings(), progress=False)
    first = train(speech, fewer.spec(), site=site, settings=fewer.settings(), progress=False)
    kept = ("optimiser", "eps", "schedule", "clip_norm", "centring", "scaling", "normalisation", "lr")
    for key in kept:
        assert made.metadata["training"][key] == preset(name).settings().record()[key], key
    metrics = made.metadata["final_metrics"]
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["loss"] < first.metadata["final_metrics"]["loss"]
    x = torch.from_numpy(speech.clip(site, next(iter(speech.clips))))
    assert made.decode(made.encode(x)).isfinite().all()
