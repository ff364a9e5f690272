"""Runs return valid frames only, under any name of a site."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import otoscope as oto

SITE = "encoder.1.resid_post"


def tone(n_samples: int) -> oto.Clip:
    time_s = np.arange(n_samples) / 16000
    return oto.Clip.from_samples(0.3 * np.sin(2 * np.pi * 440 * time_s), 16000, clip_id="tone")


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 16000 * 14))
def test_a_run_has_one_row_for_every_twenty_milliseconds_begun(pocket: oto.SpeechModel, n_samples: int) -> None:
    clip = tone(n_samples)
    run = pocket.run(clip, [SITE, "mel"])
    assert len(run[SITE]) == pocket.frames(clip) == -(-n_samples // 320)
    assert len(run["mel"]) == 2 * len(run[SITE])


def test_a_run_answers_to_aliases_and_prints_canonical_names(pocket: oto.SpeechModel) -> None:
    run = pocket.run(tone(16000), ["encoder.blocks.1", "blocks.1.attn.hook_pattern"])
    assert list(run) == [SITE, "encoder.1.attn.pattern"]
    assert run["encoder.blocks.1"] is run[SITE]
    assert "encoder.blocks.1" in run
    assert "encoder.2.resid_post" not in run
    assert "nothing" not in run
    assert run[SITE].shape == (50, pocket.dims.d_model)
    assert run["encoder.1.attn.pattern"].shape == (pocket.dims.n_heads, 50, 50)
    assert "encoder.1.resid_post (50, " in repr(run)
    with pytest.raises(oto.InputError, match=r"did not read encoder\.2\.resid_post"):
        run["encoder.2.resid_post"]


def test_times_follow_the_clock(pocket: oto.SpeechModel) -> None:
    run = pocket.run(tone(8000), [SITE, "mel"])
    assert run.times_s(SITE)[:3].tolist() == [0.0, 0.02, 0.04]
    assert run.times_s("mel")[:3].tolist() == [0.0, 0.01, 0.02]


def test_windows_of_a_long_clip_equal_the_windows_on_their_own(pocket: oto.SpeechModel) -> None:
    samples = np.random.default_rng(0).standard_normal(int(1.4 * pocket.dims.window_samples)).astype(np.float32)
    whole = oto.Clip.from_samples(samples, 16000)
    cut = pocket.dims.window_samples
    parts = [oto.Clip.from_samples(part, 16000) for part in (samples[:cut], samples[cut:])]
    together = torch.cat([pocket.run(part, [SITE])[SITE] for part in parts])
    assert torch.equal(pocket.run(whole, [SITE])[SITE], together)
    with pytest.raises(oto.InputError, match="cut it with start_s and end_s"):
        pocket.run(whole, ["encoder.1.attn.pattern"])


def test_padding_is_heard_but_never_returned(pocket: oto.SpeechModel) -> None:
    clip = tone(16000)
    (window,) = pocket.windows(clip)
    mel, valid = window.input[None], [window.n_frames]
    full = pocket.encode(mel, [SITE])[SITE]
    assert valid == [50]
    assert full.shape[1] == pocket.dims.n_positions
    assert torch.equal(full[0, :50], pocket.run(clip, [SITE])[SITE])
    assert torch.equal(pocket.encode(mel, [SITE], valid=valid)[SITE], full[:, :50])


@pytest.mark.parametrize(
    ("read", "reason"),
    [([], "at least one site"), ("encoder.1.resid_post", "list of sites"), (["nothing"], "There is no site")],
)
def test_wrong_reads_are_refused(read: list[str], reason: str, pocket: oto.SpeechModel) -> None:
    with pytest.raises(oto.InputError, match=reason):
        pocket.run(tone(16000), read)


def test_mel_of_another_window_is_refused(pocket: oto.SpeechModel) -> None:
    with pytest.raises(oto.InputError, match="windows of shape"):
        pocket.encode(torch.zeros(1, 80, 10), [SITE])
