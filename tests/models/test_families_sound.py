"""From a clip to the samples that a family hears, and back from its frames to moments of the clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from speech_checkpoints import KINDS, LETTERS, save_checkpoint
from transformers import Wav2Vec2FeatureExtractor

import otoscope as oto


@pytest.fixture(scope="module", params=["wav2vec2-base", "hubert-large", "wavlm-base", "data2vec-audio"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp(request.param), KINDS[request.param])


@pytest.fixture(scope="module")
def model(folder: Path) -> oto.SpeechModel:
    return oto.load_model(folder)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples) + 0.05).astype(np.float32)


def clip_of(samples: np.ndarray) -> oto.Clip:
    return oto.Clip.from_samples(samples, 16000)


def moved_by_a_click(model: oto.SpeechModel, site: str, at_s: float) -> torch.Tensor:
    """How far each frame of a site moves, `[t]`, when one sample of 1.5 s of noise gets louder."""
    plain = noise(24000)
    click = plain.copy()
    click[round(at_s * 16000)] += 0.5
    before, after = (model.encode(torch.from_numpy(given)[None], [site])[site][0] for given in (plain, click))
    return (after - before).norm(dim=-1)


@pytest.mark.parametrize("frame", [0, 1, 30, 73])
def test_a_click_moves_the_frame_centred_on_it_most(model: oto.SpeechModel, frame: int) -> None:
    """Frame t is centred at 0.02 t + 0.0125 s."""
    assert model.clock.time_s(frame) == pytest.approx(0.02 * frame + 0.0125)
    for site in ("encoder.conv7", "encoder.features"):
        assert int(moved_by_a_click(model, site, 0.02 * frame + 0.0125).argmax()) == frame


@pytest.mark.parametrize("number", range(1, 8))
def test_each_convolution_has_the_clock_of_its_own_windows(tmp_path: Path, number: int) -> None:
    """Without a norm over time a click moves just the frames whose windows hold it, as many before as after."""
    model = oto.load_model(save_checkpoint(tmp_path, KINDS["wav2vec2-large"]))
    clock = model.site(f"encoder.conv{number}").clock(model.dims)
    at_s = clock.time_s(50)
    moved = moved_by_a_click(model, f"encoder.conv{number}", at_s).nonzero()[:, 0]
    middle_s = (clock.time_s(int(moved.min())) + clock.time_s(int(moved.max()))) / 2
    assert abs(middle_s - at_s) <= clock.frame_s / 2 + 1e-9
    reach_s = model.dims.conv_stride(number)[1] / 16000 / 2
    assert all(abs(clock.time_s(int(frame)) - at_s) <= reach_s + 1e-9 for frame in moved)


def test_the_deepest_frames_carry_the_same_times(model: oto.SpeechModel) -> None:
    run = model.run(clip_of(noise(16000)), ["encoder.features", "encoder.2.resid_post", "logits"])
    expected = 0.0125 + 0.02 * np.arange(49)
    for name in run:
        np.testing.assert_allclose(run.times_s(name), expected, atol=1e-9)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(400, 1), (719, 1), (720, 2), (16000, 49), (480_000, 1499)])
def test_only_whole_windows_of_the_convolutions_count(model: oto.SpeechModel, n_samples: int, n_frames: int) -> None:
    clip = clip_of(noise(n_samples))
    assert model.frames(clip) == n_frames
    if n_samples <= 16000:
        assert model.run(clip, ["encoder.embed"])["encoder.embed"].shape[0] == n_frames


def test_a_clip_shorter_than_one_frame_is_refused(model: oto.SpeechModel) -> None:
    with pytest.raises(oto.InputError, match=r"too short \(399 samples\)"):
        model.run(clip_of(noise(399)), ["encoder.embed"])


def test_long_clips_are_cut_and_a_rest_without_frames_is_dropped(model: oto.SpeechModel) -> None:
    """The second window begins a hop after the last frame of the first, at 29.98 s; of 30 s it would hold no frame."""
    assert [window.n_frames for window in model.windows(clip_of(noise(480_000)))] == [1499]
    windows = model.windows(clip_of(noise(480_000 + 3200)))
    assert [(window.n_frames, window.start_s) for window in windows] == [(1499, 0.0), (10, 29.98)]


def test_the_second_window_is_read_as_a_clip_of_its_own(model: oto.SpeechModel) -> None:
    samples = noise(480_000 + 8000)
    whole = model.run(clip_of(samples), ["encoder.embed"])["encoder.embed"]
    rest = model.run(clip_of(samples[479_680:]), ["encoder.embed"])["encoder.embed"]
    assert torch.equal(whole[1499:], rest)


@pytest.mark.parametrize("settings", [None, {}, {"do_normalize": True}, {"do_normalize": False}])
def test_samples_are_brought_to_one_loudness_as_hugging_face_does(
    tmp_path: Path, settings: dict[str, bool] | None
) -> None:
    folder = save_checkpoint(tmp_path, KINDS["wav2vec2-base"])
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    given = noise(5000)
    theirs = Wav2Vec2FeatureExtractor(**settings or {})(given, sampling_rate=16000, return_tensors="pt").input_values[0]
    ours = oto.load_model(folder).windows(clip_of(given))[0].input
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (abs(float(ours.mean())) < 1e-5) == (settings != {"do_normalize": False})


def test_silence_stays_silence(model: oto.SpeechModel) -> None:
    run = model.run(clip_of(np.zeros(4000, np.float32)), ["logits"])
    assert bool(run["logits"].isfinite().all())
    assert run["logits"].shape == (12, len(LETTERS))


def test_a_model_that_hears_another_rate_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, KINDS["wav2vec2-base"])
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
    with pytest.raises(oto.InputError, match="8000 Hz"):
        oto.load_model(folder).windows(clip_of(noise(5000)))


def test_a_batch_of_spectrograms_is_refused_by_a_model_that_hears_samples(model: oto.SpeechModel) -> None:
    with pytest.raises(oto.InputError, match="shape"):
        model.encode(torch.zeros(1, 80, 3000), ["encoder.embed"])
    with pytest.raises(oto.InputError, match="hears samples"):
        model.encode(torch.zeros(1, 4000), ["mel"])
