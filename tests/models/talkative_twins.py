"""A small Whisper with random weights that writes varied text with timestamps and ends: openai-whisper's and ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import whisper
from whisper.model import ModelDimensions, Whisper

import otoscope as oto

END, FIRST_TIMESTAMP = 50257, 50364
SIZES = ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=32,
    n_audio_head=2,
    n_audio_layer=1,
    n_vocab=51865,
    n_text_ctx=448,
    n_text_state=32,
    n_text_head=2,
    n_text_layer=2,
)
N_TOKENS = 40
"""Tokens written per window at most."""


@dataclass(frozen=True)
class TalkativeTwins:
    """The same weights in both packages, a recording that is longer than two windows, and its first window."""

    openai: Whisper
    ours: oto.SpeechModel
    samples: np.ndarray
    clip: oto.Clip
    mel: torch.Tensor


def make_talkative_twins(folder: Path) -> TalkativeTwins:
    """Make them; the weights are saved as a `.pt` file and loaded with the real tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # for the biases, which are drawn when layers are made
        model = Whisper(SIZES).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        decoder = model.decoder
        decoder.token_embedding.weight.mul_(6.0)  # logits far apart
        decoder.positional_embedding.normal_(0, 2.0, generator=generator)  # another token at every position
        decoder.ln.bias.normal_(0, 1.0, generator=generator)
        towards = decoder.ln.bias / decoder.ln.bias.norm() ** 2
        decoder.token_embedding.weight[END] += 9.0 * towards  # an end now and then
        decoder.token_embedding.weight[FIRST_TIMESTAMP:] += 3.0 * towards  # and timestamps
    torch.save({"dims": vars(SIZES), "model_state_dict": model.state_dict()}, folder / "talkative.pt")
    tokenizer = Path(whisper.__file__).parent / "assets" / "multilingual.tiktoken"
    ours = oto.load_model(folder / "talkative.pt", tokenizer=tokenizer)
    samples = _sound(16000 * 65 + 777)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    return TalkativeTwins(model, ours, samples, oto.Clip.from_samples(samples, 16000, clip_id="noise"), mel)


def _sound(n_samples: int) -> np.ndarray:
    """Noise whose loudness changes every tenth of a second."""
    random = np.random.default_rng(0)
    loudness = np.repeat(random.random(n_samples // 1600 + 1) ** 2, 1600)[:n_samples]
    return (0.3 * loudness * random.standard_normal(n_samples)).astype(np.float32)
