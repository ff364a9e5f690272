"""Edits of features in dictionaries that normalise every frame: `h' = h + decode(f') − decode(f)`, exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.dictionaries import SparseCode, TopKDictionary
from otoscope.dictionaries.autoencoder import Normalisation

SITE, D, N, FEATURE = "encoder.2.resid_post", 128, 300, 7
OPERATIONS: dict[str, tuple[Callable[[oto.Dictionary], oto.Edit], Callable[[Tensor], Tensor]]] = {
    "zero": (lambda d: d.feature(FEATURE).zero(), torch.zeros_like),
    "scale": (lambda d: d.feature(FEATURE).scale(-2.0), lambda f: -2 * f),
    "add": (lambda d: d.feature(FEATURE).add(0.5), lambda f: f + 0.5),
    "clamp": (lambda d: d.feature(FEATURE).clamp(3.0), lambda f: torch.full_like(f, 3.0)),
}


def made(normalisation: Normalisation) -> TopKDictionary:
    drawn = torch.Generator().manual_seed(3)
    return TopKDictionary(
        encoder=torch.randn(N, D, generator=drawn),
        encoder_bias=torch.zeros(N),
        decoder=torch.nn.functional.normalize(torch.randn(N, D, generator=drawn), dim=1),
        decoder_bias=0.1 * torch.randn(D, generator=drawn),
        k=N // 2,
        normalisation=normalisation,
        site=SITE,
    )


@pytest.fixture(scope="module")
def clip() -> oto.Clip:
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id="noise")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("normalisation", ["none", "unit_norm", "constant_norm", "layer_norm"])
def test_an_edit_changes_the_activation_by_what_decoding_changes(
    pocket: oto.SpeechModel, clip: oto.Clip, normalisation: Normalisation, operation: str
) -> None:
    dictionary = made(normalisation)
    edit, change = OPERATIONS[operation]
    before = pocket.run(clip, [SITE])[SITE]
    after = pocket.run(clip, [SITE], [edit(dictionary)])[SITE]
    code = dictionary.encode(before)
    dense = code.dense()
    dense[:, FEATURE] = change(dense[:, FEATURE])
    everything = torch.arange(N).expand(len(before), N)
    changed = SparseCode(dense, everything, N, code.scale, code.shift)
    expected = before + dictionary.decode(changed) - dictionary.decode(code)
    assert (expected - before).abs().max() > 0
    assert float((after - expected).abs().max() / (expected - before).abs().max()) < 2e-3  # two roundings of decode


def test_the_same_edit_is_as_strong_as_its_frame_is_loud() -> None:
    """The control: without the scale of the frame the edit would be of one size everywhere."""
    x = torch.randn(20, D, generator=torch.Generator().manual_seed(1))
    scale = made("unit_norm").feature_scale(torch.cat([x, 10 * x]))
    assert scale is not None
    assert torch.allclose(scale[20:], 10 * scale[:20])
    assert made("none").feature_scale(x) is None
