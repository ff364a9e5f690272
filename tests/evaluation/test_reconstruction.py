"""Reconstruction is measured with global moments, counts only real activity, and exposes a random basis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_speech import PHONES, MemoryStore, N, Speech, value
from planted_speech import SITE as PLANTED

from otoscope.dictionaries import Neurons, RandomBasis, TopKDictionary
from otoscope.errors import InputError
from otoscope.evaluation import LabelledFrames, reconstruction, reconstruction_measures

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


def test_both_conventions_of_fvu_are_reported_under_their_names(speech: Speech) -> None:
    dictionary = speech.dictionary(speech.directions[:20], speech.directions[:20])
    x = torch.from_numpy(speech.store.read(PLANTED)).double()
    error = (x - dictionary.reconstruct(x.float()).double()).square().sum(dim=1)
    deviation = (x - x.mean(dim=0)).square().sum(dim=1)
    measures = reconstruction_measures(dictionary, speech.frames)
    assert value(measures, "reconstruction.fvu") == pytest.approx(float(error.sum() / deviation.sum()), rel=1e-6)
    assert value(measures, "reconstruction.fvu_per_frame") == pytest.approx(float((error / deviation).mean()), rel=1e-6)
    assert value(measures, "reconstruction.fvu") != pytest.approx(value(measures, "reconstruction.fvu_per_frame"), 1e-2)
    (fvu,) = [m for m in measures if m.name == "reconstruction.fvu" and m.of == {}]
    assert fvu.low < fvu.value < fvu.high
    assert (fvu.n, fvu.n_unit) == (len(speech.frames), "frames")


def test_a_direction_that_is_missing_shows_in_the_class_that_has_it_and_in_no_other(speech: Speech) -> None:
    without_s = torch.cat([speech.directions[: PHONES.index("s")], speech.directions[PHONES.index("s") + 1 :]])
    measures = reconstruction_measures(speech.dictionary(without_s, without_s), speech.frames)
    assert value(measures, "reconstruction.fvu", **{"class": "fricative"}) > 0.2
    for name in ("nasal", "stop", "vowel", "silence"):
        assert value(measures, "reconstruction.fvu", **{"class": name}) < 0.05


def test_norms_and_angles_of_a_dictionary_that_halves_what_it_rebuilds(speech: Speech) -> None:
    half = speech.dictionary(speech.directions, 0.5 * speech.directions)
    whole = reconstruction_measures(speech.oracle(), speech.frames)
    measures = reconstruction_measures(half, speech.frames)
    assert value(whole, "reconstruction.norm_ratio") == pytest.approx(1, abs=0.01)
    assert value(whole, "reconstruction.cosine_centred") > 0.98
    assert value(measures, "reconstruction.norm_ratio_centred") == pytest.approx(0.5, abs=0.1)
    assert value(measures, "reconstruction.norm_ratio") > 0.99, "a large mean hides the loss"
    assert value(measures, "reconstruction.cosine") > value(measures, "reconstruction.cosine_centred")


def test_units_far_from_the_others_are_outliers_and_can_be_left_out(speech: Speech) -> None:
    x = speech.store.read(PLANTED).copy()
    x[:, 5] = 500 + 40 * np.random.default_rng(0).normal(size=len(x))
    frames = LabelledFrames.of(MemoryStore({PLANTED: x}, speech.store.clips), speech.corpus)
    blind = speech.directions.clone()
    blind[:, 5] = 0
    measures = reconstruction_measures(speech.dictionary(blind, blind), frames)
    assert value(measures, "reconstruction.outlier_units") == 1
    assert value(measures, "reconstruction.fvu", units="without outliers") < 0.1
    assert value(measures, "reconstruction.fvu") > 2
    assert value(reconstruction_measures(speech.oracle(), speech.frames), "reconstruction.outlier_units") == 0


def test_entries_of_value_zero_are_not_active(speech: Speech) -> None:
    measures = reconstruction_measures(speech.oracle(), speech.frames)
    assert value(measures, "reconstruction.l0") == pytest.approx((speech.code > 0).sum(axis=1).mean())
    assert value(measures, "reconstruction.dead_share") == 0
    dead = speech.oracle()
    dead.encoder_bias[:5] = -1e9
    assert value(reconstruction_measures(dead, speech.frames), "reconstruction.dead_share") == pytest.approx(5 / N)


def test_transcoders_are_held_to_their_target_and_crosscoders_to_all_sites(speech: Speech) -> None:
    x = speech.store.read(PLANTED)
    after = "encoder.3.resid_post"
    frames = LabelledFrames.of(MemoryStore({PLANTED: x, after: x[:, ::-1].copy()}, speech.store.clips), speech.corpus)
    transcoder = speech.dictionary(speech.directions, speech.directions.flip(1))
    assert value(reconstruction_measures(transcoder, frames), "reconstruction.fvu") > 1
    transcoder.target_site = after
    assert value(reconstruction_measures(transcoder, frames), "reconstruction.fvu") < 0.05
    assert reconstruction(transcoder, frames.store).fvu < 0.05
    both = torch.cat([speech.directions, speech.directions.flip(1)], dim=1)
    crosscoder = TopKDictionary(
        encoder=both / 2,
        encoder_bias=torch.full((N,), -0.05),
        decoder=both,
        decoder_bias=torch.full((2 * x.shape[1],), 3.0),
        k=4,
        site=PLANTED,
    )
    crosscoder.sites = (PLANTED, after)
    assert value(reconstruction_measures(crosscoder, frames), "reconstruction.fvu") < 0.05
    crosscoder.sites = (after, PLANTED)
    assert value(reconstruction_measures(crosscoder, frames), "reconstruction.fvu") > 0.3
