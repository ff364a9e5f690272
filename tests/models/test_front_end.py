"""Windows cover every sample, and positions follow one another evenly across them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import otoscope as oto
from otoscope.models.dims import ConvLayer, Dims
from otoscope.models.front_end import spans

SAMPLES = Dims(
    family="wav2vec2",
    n_layers=2,
    d_model=8,
    n_heads=1,
    d_mlp=8,
    convs=tuple(ConvLayer(8, kernel, stride) for kernel, stride in [(10, 5), *4 * [(3, 2)], *2 * [(2, 2)]]),
    window_samples=16000,
)
MEL = replace(SAMPLES, n_mels=80, convs=(ConvLayer(8, 3, 1), ConvLayer(8, 3, 2)), n_positions=50)


@given(st.integers(1, 200_000))
def test_padded_windows_cover_every_sample_once(n_samples: int) -> None:
    found = spans(n_samples, MEL)
    assert [start for start, _ in found] == list(range(0, n_samples, 16000))
    assert sum(stop - start for start, stop in found) == n_samples
    assert sum(MEL.n_frames(stop - start) for start, stop in found) == -(-n_samples // 320)


@given(st.integers(1, 200_000))
def test_windows_of_samples_have_the_positions_of_the_whole_clip_at_the_same_moments(n_samples: int) -> None:
    found = spans(n_samples, SAMPLES)
    frames = [SAMPLES.n_frames(stop - start) for start, stop in found]
    assert sum(frames) == SAMPLES.n_frames(n_samples)
    firsts = np.cumsum([0, *frames[:-1]]) if frames else []
    assert [start for start, _ in found] == [320 * first for first in firsts]


def test_a_click_in_a_later_window_is_where_the_clock_says() -> None:
    """The control: with windows side by side, the third window's positions would come 40 ms too early."""
    config = {
        "model_type": "wav2vec2", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 1,
        "intermediate_size": 16, "conv_dim": [8] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2], "feat_extract_norm": "layer", "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 1, "vocab_size": 32,
    }  # fmt: skip
    model = oto.models.untrained_model(config)
    samples = np.random.default_rng(0).standard_normal(16000 * 65).astype(np.float32) * 1e-3
    clicked = samples.copy()
    clicked[16000 * 63 : 16000 * 63 + 16] += 0.5
    site = "encoder.conv7"
    quiet, loud = (model.run(oto.Clip.from_samples(x, 16000), [site]) for x in (samples, clicked))
    assert len(quiet[site]) == model.dims.n_frames(len(samples))
    changed = (loud[site] - quiet[site]).norm(dim=-1)
    assert abs(quiet.times_s(site)[int(changed.argmax())] - 63.0) <= 0.0125
