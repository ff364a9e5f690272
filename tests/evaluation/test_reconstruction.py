"""Reconstruction is measured with global moments, counts only real activity, and exposes a random basis."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from otoscope.dictionaries import Neurons, RandomBasis, TopKDictionary
from otoscope.errors import InputError
from otoscope.evaluation import reconstruction

SITE = "encoder.2.resid_post"


class Frames:
    """Three clips of unequal length in memory."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames = frames
        self.clips = {"a": (0, 100), "b": (100, 1), "c": (101, len(frames) - 101)}

    def mean(self, site: str) -> np.ndarray:
        return self.frames.double().mean(dim=0).numpy()

    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.frames[start:stop].numpy()


def store(mean: float = 30.0) -> Frames:
    generator = torch.Generator().manual_seed(0)
    return Frames(torch.randn(600, 20, generator=generator) * torch.linspace(0.1, 3, 20) + mean)


def lossy(k: int) -> TopKDictionary:
    """The units themselves as features, without bias: only the `k` largest survive."""
    return TopKDictionary(
        encoder=torch.eye(20),
        encoder_bias=torch.zeros(20),
        decoder=torch.eye(20),
        decoder_bias=torch.full((20,), 30.0),
        k=k,
        site=SITE,
    )


@pytest.mark.parametrize("clips", [None, ["a", "b"]])
def test_fvu_is_the_ratio_of_global_sums(clips: list[str] | None) -> None:
    source, dictionary = store(), lossy(4)
    x = source.frames.double() if clips is None else source.frames[:101].double()
    code = dictionary.encode(x.float())
    error = (x - dictionary.decode(code).double()).square().sum()
    expected = float(error / (x - x.mean(dim=0)).square().sum())
    result = reconstruction(dictionary, source, clips)
    assert result.fvu == pytest.approx(expected, rel=1e-9)
    assert result.n_frames == len(x)
    assert result.l0 == pytest.approx(float(code.l0.double().mean()))
    assert 0.2 < result.fvu < 0.9


def test_neurons_rebuild_everything() -> None:
    result = reconstruction(Neurons(SITE, 20), store(mean=0.0))
    assert result.fvu == 0
    assert result.l0 == pytest.approx(20)
    assert result.dense_share == 1


def test_a_code_of_nothing_leaves_everything() -> None:
    source = store()
    silent = lossy(4)
    silent.encoder_bias.fill_(-1e9)
    silent.decoder_bias.copy_(torch.from_numpy(source.mean(SITE)))
    result = reconstruction(silent, source)
    assert result.fvu == pytest.approx(1, rel=1e-5)
    assert (result.l0, result.dead_share, result.dense_share) == (0, 1, 0)


def test_dead_features_are_those_that_never_fire() -> None:
    dictionary = lossy(20)
    dictionary.encoder_bias[[2, 5, 11]] = -1e9
    assert reconstruction(dictionary, store()).dead_share == pytest.approx(3 / 20)


def test_a_trained_dictionary_is_far_better_than_random_directions(
    trained_on_planted: tuple[TopKDictionary, Frames],
) -> None:
    dictionary, source = trained_on_planted
    mean = torch.from_numpy(source.mean(SITE)).float()
    control = RandomBasis(SITE, dictionary.d_in, dictionary.n_features, seed=0, k=dictionary.k, mean=mean)
    assert reconstruction(dictionary, source).fvu < 0.1
    assert reconstruction(control, source).fvu > 0.4


@pytest.fixture(scope="module")
def trained_on_planted() -> tuple[TopKDictionary, Frames]:
    """A dictionary that is right by construction: its own features make up the data."""
    generator = torch.Generator().manual_seed(1)
    decoder = torch.nn.functional.normalize(torch.randn(40, 24, generator=generator), dim=1)
    chosen = torch.rand(2000, 40, generator=generator).topk(2, dim=1).indices
    frames = 5 * decoder[chosen].sum(dim=1) + 7
    dictionary = TopKDictionary(
        encoder=decoder,
        encoder_bias=torch.zeros(40),
        decoder=decoder,
        decoder_bias=torch.full((24,), 7.0),
        k=2,
        site=SITE,
    )
    return dictionary, Frames(frames)


def test_unknown_clips_and_empty_selections_are_refused() -> None:
    with pytest.raises(InputError, match="no clip 'd'"):
        reconstruction(lossy(3), store(), ["d"])
    with pytest.raises(InputError, match="no frames"):
        reconstruction(lossy(3), store(), [])
