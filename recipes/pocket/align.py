"""Word times from cross-attention: which heads follow the speech, and how well they tell word starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from . import network
from .speech import SAMPLE_RATE, Span

FRAME_S = 0.02


@dataclass(frozen=True)
class AlignedSpeech:
    """Audio whose word times are known."""

    audio: np.ndarray
    words: tuple[Span, ...]
    language: str = "en"


@torch.no_grad()
def cross_attention(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, item: AlignedSpeech
) -> tuple[np.ndarray, list[int]]:
    """Attention [layer, head, token, frame] of the rows that predict the text tokens and, last, the end of the text.

    The list holds the index of each text token's word.
    """
    tokenizer = processor.tokenizer
    ids = tokenizer.convert_tokens_to_ids(
        ["<|startoftranscript|>", f"<|{item.language}|>", "<|transcribe|>", "<|notimestamps|>"]
    )
    n_prompt, word_of_token = len(ids), []
    for w, word in enumerate(item.words):
        pieces = tokenizer(" " + word.label, add_special_tokens=False).input_ids
        ids += pieces
        word_of_token += [w] * len(pieces)
    features = processor(item.audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    encoded = network.encode(model, features)
    _, patterns = network.decode(model, torch.tensor([ids]), encoded)
    n_frames = min(encoded.shape[1], int(np.ceil(len(item.audio) / SAMPLE_RATE / FRAME_S)))
    return torch.cat(patterns)[:, :, n_prompt - 1 :, :n_frames].numpy(), word_of_token


def mass_inside_words(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, items: list[AlignedSpeech]
) -> np.ndarray:
    """Mean share of each head's attention that lies inside the word being predicted, [layer, head]."""
    rows = []
    for item in items:
        attention, word_of_token = cross_attention(model, processor, item)
        times = np.arange(attention.shape[-1]) * FRAME_S
        for i, w in enumerate(word_of_token):
            inside = (times >= item.words[w].start_s - 0.04) & (times <= item.words[w].end_s + 0.04)
            rows.append(attention[:, :, i, inside].sum(-1))
    return np.mean(rows, 0)


def monotonic_path(cost: np.ndarray) -> np.ndarray:
    """Dynamic time warping of tokens (rows) to frames (columns); returns the first frame of each token."""
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    step = np.zeros((n + 1, m + 1), int)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            options = (total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
            step[i, j] = int(np.argmin(options))
            total[i, j] = cost[i - 1, j - 1] + options[step[i, j]]
    i, j, first = n, m, np.zeros(n, int)
    while i > 0:
        first[i - 1] = j - 1
        move = step[i, j]
        i, j = i - (move != 2), j - (move != 1)
    return first


def word_starts(attention: np.ndarray, word_of_token: list[int], heads: list[tuple[int, int]]) -> np.ndarray:
    """Start of each word in seconds, by dynamic time warping over the mean of `heads` as openai-whisper does it."""
    weights = np.stack([attention[layer, head] for layer, head in heads])
    weights = (weights - weights.mean(-2, keepdims=True)) / (weights.std(-2, keepdims=True) + 1e-9)
    pad = np.pad(weights, ((0, 0), (0, 0), (3, 3)), mode="reflect")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(pad, 7, axis=-1), -1).mean(0)
    first = monotonic_path(-smooth)
    return np.array([first[word_of_token.index(w)] * FRAME_S for w in range(max(word_of_token) + 1)])


def start_errors(
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    items: list[AlignedSpeech],
    heads: list[tuple[int, int]],
) -> np.ndarray:
    """Estimated minus true word starts in seconds, without the first word of each clip.

    The path has to begin at the first frame, so it says nothing about the first word.
    """
    errors = []
    for item in items:
        attention, word_of_token = cross_attention(model, processor, item)
        starts = word_starts(attention, word_of_token, heads)
        errors.append((starts - [w.start_s for w in item.words])[1:])
    return np.concatenate(errors)
