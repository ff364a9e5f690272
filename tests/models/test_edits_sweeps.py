"""Sweeps equal their runs one by one for every kind of model, over long clips and over texts of different lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, WavLMConfig

import otoscope as oto
from otoscope.models import Edit, Run, untrained_model

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "conv_dim": [32] * 7,
    "vocab_size": 20,
}


def noise(seconds: float) -> oto.Clip:
    samples = np.random.default_rng(0).standard_normal(int(16000 * seconds)).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id="noise")


def same(runs: list[Run], alone: list[Run]) -> None:
    for run, one in zip(runs, alone, strict=True):
        assert run.positions == one.positions
        for site in one:
            assert run[site].shape == one[site].shape
            assert torch.allclose(run[site], one[site], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("config", [WavLMConfig, Wav2Vec2Config])
@pytest.mark.parametrize("stable", [False, True])
def test_a_sweep_through_models_of_samples(config: type, stable: bool) -> None:
    """Position biases, too, are made for the one row from which the sweep parts."""
    norm = {"do_stable_layer_norm": stable, "feat_extract_norm": "layer" if stable else "group"}
    head = [config.__name__.replace("Config", "ForCTC")]
    model = untrained_model({**config(**SMALL, **norm).to_dict(), "architectures": head})
    clip, read = noise(1.5), ["encoder.1.attn.pattern", "encoder.1.resid_post", "logits"]
    sweep = [
        [],
        [Edit.band("encoder.0.attn[1]", 4)],
        [Edit.zero("encoder.1.attn.q", time_s=(0.5, 1.0))],
        [Edit.zero("encoder.conv3", units=[1])],
        [Edit.scale("encoder.1.attn.scores[2]", 0.5)],
    ]
    runs = model.run_each(clip, read, sweep)
    same(runs, [model.run(clip, read, edits) for edits in sweep])
    assert all(not torch.equal(run["logits"], runs[0]["logits"]) for run in runs[1:])


def test_a_sweep_over_the_windows_of_a_long_clip(pocket: oto.SpeechModel) -> None:
    clip, read = noise(8.0), ["encoder.ln_post"]
    sweep = [[Edit.zero("encoder.1.mlp.post", time_s=(5.0, 7.0))], [Edit.zero("encoder.0.attn.out", frames=(310, 320))]]
    runs = pocket.run_each(clip, read, sweep)
    same(runs, [pocket.run(clip, read, edits) for edits in sweep])
    plain = pocket.run(clip, read)["encoder.ln_post"]
    assert torch.equal(runs[1]["encoder.ln_post"][:300], plain[:300])
    assert not torch.equal(runs[1]["encoder.ln_post"][300:], plain[300:])


def test_each_list_of_a_sweep_reads_the_text_it_makes_the_model_write(
    pocket: oto.SpeechModel, mini: oto.Corpus
) -> None:
    clip = next(clip for clip in mini if clip.text)
    read = ["decoder.1.attn.pattern[2]", "decoder.1.cross.pattern", "logits"]
    sweep = [[], [Edit.zero("mel", time_s=(0.0, 1.2))], [Edit.scale("decoder.0.mlp.post", 0.5)]]
    runs = pocket.run_each(clip, read, sweep)
    same(runs, [pocket.run(clip, read, edits) for edits in sweep])
    assert len(runs[0].positions) != len(runs[1].positions)


def test_a_sweep_is_a_list_of_lists(pocket: oto.SpeechModel) -> None:
    with pytest.raises(oto.InputError, match="given as a list, even a single one"):
        pocket.run_each(noise(1.0), ["mel"], [Edit.zero("mel")])
