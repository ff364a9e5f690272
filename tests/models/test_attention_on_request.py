"""Attention maps of chosen heads, bands and knock-outs: exact, and never as large as all maps together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import otoscope as oto
from otoscope.models import Edit, Run, band_edits

TEXT = "we were behind"
ATTENTIONS = ["encoder.1.attn", "decoder.1.attn", "decoder.1.cross"]


@pytest.fixture(scope="module")
def clip(mini: oto.Corpus) -> oto.Clip:
    return next(clip for clip in mini if clip.text)


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns (views of weights aside)."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, list | tuple) else [result]:
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return result


@pytest.fixture(scope="module")
def wide() -> oto.SpeechModel:
    """A narrow model with many heads and 1500 positions, where a layer's maps outweigh everything else."""
    from otoscope.models import untrained_model

    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 16, "encoder_ffn_dim": 32}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 16, "decoder_ffn_dim": 32, "vocab_size": 60}
    return untrained_model(
        {"model_type": "whisper", "num_mel_bins": 80, "max_source_positions": 1500, **sizes, **decoder}
    )


@pytest.mark.parametrize("what", ["a run", "a band", "statistics"])
def test_maps_of_all_heads_are_never_held(what: str, wide: oto.SpeechModel) -> None:
    clip = oto.Clip.from_samples(torch.randn(16000 * 29, generator=torch.Generator().manual_seed(0)).numpy() / 9, 16000)
    n_heads, n_positions = 16, 1500
    with LargestTensor() as largest:
        if what == "a run":
            run = wide.run(clip, ["encoder.0.attn.pattern[3]", "encoder.1.attn.scores[5]"])
            assert run["encoder.0.attn.pattern[3]"].shape == (1450, 1450)
        elif what == "a band":
            wide.run(clip, ["encoder.ln_post"], band_edits(wide, 20))
        else:
            wide.head_statistics(clip, parts=["encoder"])
    assert n_positions**2 <= largest.numel or what != "a run"
    assert largest.numel < n_heads * n_positions**2 / 4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_what_is_seen_of_one_head_is_its_part_of_all(attention: str, pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    kinds = ("scores", "pattern", "z", "q", "k", "v")
    whole = pocket.run(clip, [f"{attention}.{kind}" for kind in kinds], text=TEXT, language="en")
    parts = pocket.run(clip, [f"{attention}.{kind}[2]" for kind in kinds], text=TEXT, language="en")
    for kind in kinds:
        all_heads = whole[f"{attention}.{kind}"]
        expected = all_heads[2] if kind in ("scores", "pattern") else all_heads[:, 64:96]
        assert torch.equal(parts[f"{attention}.{kind}[2]"], expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_pattern_and_values_make_z(attention: str, pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    """Checked on whole windows: within the sound alone, what is heard in the padding is missing."""
    window = pocket.windows(clip)[0]
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    kinds = ("q", "k", "v", "scores", "pattern", "z")
    found = pocket.encode(window.input[None], [f"{attention}.{kind}" for kind in kinds], ids=ids)
    q, k, v, scores, pattern, z = (found[f"{attention}.{kind}"][0] for kind in kinds)
    q, k, v, z = (x.unflatten(-1, (4, 32)).transpose(0, 1) for x in (q, k, v, z))
    expected = q @ k.transpose(1, 2) / 32**0.5
    if attention == "decoder.1.attn":
        assert torch.equal(scores.isinf(), torch.ones_like(scores).triu(1).bool())
        expected = expected.masked_fill(scores.isinf(), -torch.inf)
    assert torch.allclose(scores, expected, atol=1e-4)
    assert torch.allclose(pattern, scores.softmax(-1), atol=1e-6)
    assert torch.allclose(pattern @ v, z, atol=1e-5)
    assert not torch.allclose(pattern.roll(1, 0) @ v, z, atol=1e-2), "heads in another order must not fit"


@pytest.mark.parametrize("k", [0, 1, 7, 60])
def test_a_band_leaves_weight_only_within_it(k: int, pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.1.attn.pattern"
    window = pocket.windows(clip)[0].input[None]
    found = pocket.encode(window, [site, "encoder.1.attn.scores"], [Edit.band("encoder.1.attn[2]", k)])
    plain = pocket.encode(window, [site, "encoder.1.attn.scores"])
    place = torch.arange(300)
    outside = (place[:, None] - place).abs() > k
    expected = plain["encoder.1.attn.scores"][0].clone()
    expected[2] = expected[2].masked_fill(outside, -torch.inf)
    assert torch.equal(found["encoder.1.attn.scores"][0], expected)
    assert torch.allclose(found[site][0], expected.softmax(-1), atol=1e-6)
    assert not found[site][0, 2][outside].any()
    assert torch.equal(found[site][0, [0, 1, 3]], plain[site][0, [0, 1, 3]])


def test_a_band_as_wide_as_the_window_changes_not_a_bit(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    plain = pocket.run(clip, ["logits"], text=TEXT, language="en")["logits"]
    wide = [*band_edits(pocket, 299), *band_edits(pocket, pocket.dims.n_text_positions - 1, stack="decoder")]
    assert torch.equal(pocket.run(clip, ["logits"], wide, text=TEXT, language="en")["logits"], plain)
    nearly = pocket.run(clip, ["logits"], band_edits(pocket, 298), text=TEXT, language="en")["logits"]
    assert not torch.equal(nearly, plain)


def test_bands_are_laid_over_the_layers_and_heads_named(pocket: oto.SpeechModel) -> None:
    assert [edit.site for edit in band_edits(pocket, 5, layers=[1, 3])] == [
        "encoder.1.attn.scores",
        "encoder.3.attn.scores",
    ]
    assert [edit.site for edit in band_edits(pocket, 5, layers=[0], heads=[1, 2])] == [
        "encoder.0.attn.scores[1]",
        "encoder.0.attn.scores[2]",
    ]
    assert len(band_edits(pocket, 5)) == pocket.dims.n_layers


def test_a_band_in_the_decoder_limits_how_far_back_text_is_read(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "decoder.1.attn.pattern"
    pattern = pocket.run(clip, [site], [Edit.band("decoder.1.attn", 1)], text=TEXT, language="en")[site]
    seen = pattern[0] > 0
    assert torch.equal(seen, torch.ones_like(seen).tril() & torch.ones_like(seen).triu(-1))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_head_is_knocked_out_to_nothing_a_mean_or_another_clip(
    attention: str, pocket: oto.SpeechModel, clip: oto.Clip, mini: oto.Corpus
) -> None:
    z = f"{attention}.z"
    plain = pocket.run(clip, [z], text=TEXT, language="en")[z]
    other = pocket.run(next(c for c in mini if c.text and c is not clip), [z], text="it is", language="en")
    length = len(other[z])
    cyclic = other[z][torch.arange(len(plain)) % length]
    for by, expected in (
        (None, torch.zeros_like(plain)),
        (torch.arange(128.0), torch.arange(128.0).expand_as(plain)),
        (other, cyclic),
    ):
        after = pocket.run(clip, [z], [Edit.knock_out(f"{attention}[1]", by)], text=TEXT, language="en")[z]
        assert torch.equal(after[:, 32:64], expected[:, 32:64])
        assert torch.equal(after[:, :32], plain[:, :32])
        assert torch.equal(after[:, 64:], plain[:, 64:])


def test_key_frames_are_hidden_from_the_text_by_their_time(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "decoder.1.cross.pattern"
    plain = pocket.run(clip, [site], text=TEXT, language="en")[site]
    hidden = pocket.run(
        clip, [site], [Edit.zero(f"{site}[3]", keys_s=(0.5, 1.0), tokens=(4, 6))], text=TEXT, language="en"
    )[site]
    expected = plain.clone()
    expected[3, 4:6, 25:50] = 0
    assert torch.equal(hidden, expected)
    by_number = [Edit.zero(f"{site}[3]", units=range(25, 50), tokens=(4, 6))]
    assert torch.equal(pocket.run(clip, [site], by_number, text=TEXT, language="en")[site], expected)


def test_reading_maps_changes_not_a_bit_of_what_follows(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    alone = pocket.run(clip, ["logits"], text=TEXT, language="en")["logits"]
    maps = [f"{attention}.{kind}" for attention in ATTENTIONS for kind in ("scores", "pattern")]
    watched: Run = pocket.run(clip, [*maps, "logits"], text=TEXT, language="en")
    assert torch.equal(watched["logits"], alone)
