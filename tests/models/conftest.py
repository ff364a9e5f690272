"""A model of the real whisper-tiny size with random weights, saved and loaded like any other checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import otoscope as oto
from otoscope.models import untrained_model

_TO_HUGGING_FACE = [
    (r"\.blocks\.", ".layers."),
    (r"\.norm_attn\.", ".self_attn_layer_norm."),
    (r"\.norm_cross\.", ".encoder_attn_layer_norm."),
    (r"\.norm_mlp\.", ".final_layer_norm."),
    (r"\.norm_post\.", ".layer_norm."),
    (r"\.(q|k|v|out)\.", r".\1_proj."),
    (r"\.attn\.", ".self_attn."),
    (r"\.cross\.", ".encoder_attn."),
    (r"\.mlp\.up\.", ".fc1."),
    (r"\.mlp\.down\.", ".fc2."),
    (r"\.positions$", ".embed_positions.weight"),
    (r"\.tokens\.", ".embed_tokens."),
    (r"^", "model."),
]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, pocket: oto.SpeechModel) -> Path:
    """Whisper-tiny (4 + 4 layers, 384 units, 6 heads, 80 mel bins, 30 s) with the bundled model's vocabulary."""
    sizes = {"d_model": 384, "encoder_attention_heads": 6, "decoder_attention_heads": 6}
    sizes |= {"encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}
    config = {**pocket.checkpoint.config, **sizes, "max_source_positions": 1500, "max_target_positions": 448}
    weights = {}
    for name, value in untrained_model(config, seed=0).module.state_dict().items():
        for pattern, replacement in _TO_HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        weights[name] = value
    folder = tmp_path_factory.mktemp("tiny")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    assert pocket.folder is not None
    shutil.copy(pocket.folder / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> oto.SpeechModel:
    """The model, with random weights of ordinary size, so that no site is nearly constant."""
    return oto.load_model(tiny_folder)


@pytest.fixture(scope="session")
def mel(tiny: oto.SpeechModel) -> torch.Tensor:
    """A full window `[1, 80, 3000]` of something like a spectrogram."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, tiny.dims.n_mels, 2 * tiny.dims.n_positions, generator=generator).cumsum(-1) / 30


@pytest.fixture(scope="session")
def spoken(mini: oto.Corpus) -> oto.Clip:
    """The first clip with words in it."""
    return next(clip for clip in mini if clip.text)
