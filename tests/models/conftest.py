"""A model of the real whisper-tiny size with random weights, saved and loaded like any other checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

import otoscope as oto


@pytest.fixture(scope="session")
def tiny_config(pocket: oto.SpeechModel) -> WhisperConfig:
    """Whisper-tiny (4 + 4 layers, 384 units, 6 heads, 80 mel bins, 30 s) with the bundled model's vocabulary."""
    theirs = pocket.checkpoint.config
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "vocab_size")
    return WhisperConfig(**{name: theirs[name] for name in names})


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, pocket: oto.SpeechModel, tiny_config: WhisperConfig) -> Path:
    """A checkpoint folder of that configuration."""
    folder = tmp_path_factory.mktemp("tiny")
    model = WhisperForConditionalGeneration(tiny_config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and name != "model.encoder.embed_positions.weight":
                weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
    model.save_pretrained(folder)
    assert pocket.folder is not None
    shutil.copy(pocket.folder / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> oto.SpeechModel:
    """The model, with random weights of ordinary size, so that no site is nearly constant."""
    return oto.load_model(tiny_folder)


@pytest.fixture(scope="session")
def plain_tiny(tiny_folder: Path) -> WhisperForConditionalGeneration:
    """Hugging Face's own model of the same weights, with its eager attention."""
    return WhisperForConditionalGeneration.from_pretrained(tiny_folder, attn_implementation="eager").eval()


@pytest.fixture(scope="session")
def mel(tiny: oto.SpeechModel) -> torch.Tensor:
    """A full window `[1, 80, 3000]` of something like a spectrogram."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, tiny.dims.n_mels, 2 * tiny.dims.n_positions, generator=generator).cumsum(-1) / 30


@pytest.fixture(scope="session")
def spoken(mini: oto.Corpus) -> oto.Clip:
    """The first clip with words in it."""
    return next(clip for clip in mini if clip.text)
