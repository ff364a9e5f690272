"""A model of the real whisper-tiny size with random weights, saved and loaded like any other checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

import otoscope as oto


@pytest.fixture(scope="session")
def tiny_config(pocket: oto.SpeechModel) -> WhisperConfig:
    """Whisper-tiny's encoder (4 layers, 384 units, 6 heads, 80 mel bins, 30 s) with a decoder as small as can be."""
    theirs = pocket.module.config
    tokens = {name: getattr(theirs, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return WhisperConfig(
        decoder_layers=1,
        vocab_size=theirs.vocab_size,
        decoder_start_token_id=theirs.decoder_start_token_id,
        **tokens,
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, pocket: oto.SpeechModel, tiny_config: WhisperConfig) -> Path:
    """A checkpoint folder of that configuration."""
    folder = tmp_path_factory.mktemp("tiny")
    WhisperForConditionalGeneration(tiny_config).save_pretrained(folder)
    pocket.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> oto.SpeechModel:
    """The model with random weights of ordinary size, so that no site is nearly constant."""
    return oto.load_model(tiny_folder).random_weights(0)


@pytest.fixture(scope="session")
def plain_tiny(tiny: oto.SpeechModel, tiny_config: WhisperConfig) -> WhisperForConditionalGeneration:
    """Hugging Face's own model with the same weights, untouched by us, with its eager attention."""
    plain = WhisperForConditionalGeneration._from_config(tiny_config, attn_implementation="eager").eval()
    plain.load_state_dict(tiny.module.state_dict())
    return plain


@pytest.fixture(scope="session")
def mel(tiny: oto.SpeechModel) -> torch.Tensor:
    """A full window `[1, 80, 3000]` of something like a spectrogram."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, tiny.dims.n_mels, 2 * tiny.dims.n_positions, generator=generator).cumsum(-1) / 30


@pytest.fixture(scope="session")
def spoken(mini: oto.Corpus) -> oto.Clip:
    """The first clip with words in it."""
    return next(clip for clip in mini if clip.text)
