"""When tokens and words are spoken: a path through the decoder's attention to the sound.

Source: `whisper.timing` of openai-whisper, whose filter, normalisation and path are kept to the letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import FRAME_S
from otoscope.models.dims import Dims
from otoscope.models.edits import BoundEdit
from otoscope.models.generation.warping import dtw
from otoscope.models.generation.words import Word, split_words
from otoscope.models.networks.taps import Tape, recording
from otoscope.models.sites import parse_site
from otoscope.models.text.tokenizer import Tokenizer

Heads = Sequence[tuple[int, int]]
"""Decoder heads as `(layer, head)`."""
_FILTER_WIDTH = 7  # frames of the median filter


@dataclass(frozen=True)
class AlignedText:
    """The words of a text, punctuation not yet merged, and the times and probabilities of its tokens."""

    words: list[Word]
    token_times: list[tuple[float, float]]
    token_probabilities: list[float]


def alignment_heads(given: Heads | None, generation: Mapping[str, Any], dims: Dims) -> list[tuple[int, int]]:
    """Return the heads to align by: those given, else those that the checkpoint names, else the upper half.

    Raises:
        InputError: no head, or one that the model does not have.
    """
    if given is None:
        named = generation.get("alignment_heads")
        upper = range(dims.n_decoder_layers // 2, dims.n_decoder_layers)
        given = named or [(layer, head) for layer in upper for head in range(dims.n_decoder_heads)]
    heads = [(int(layer), int(head)) for layer, head in given]
    if not heads:
        raise InputError("Word times need at least one alignment head; give (layer, head) pairs.")
    for layer, head in heads:
        if not (0 <= layer < dims.n_decoder_layers and 0 <= head < dims.n_decoder_heads):
            raise InputError(
                f"There is no decoder head ({layer}, {head}); layers are 0 to {dims.n_decoder_layers - 1} and heads "
                f"0 to {dims.n_decoder_heads - 1}."
            )
    return heads


def cross_attention(
    module: Any,
    dims: Dims,
    encoded: Tensor,
    ids: Sequence[int],
    heads: Heads,
    edits: Sequence[BoundEdit] = (),
    start_s: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the scores `[heads, n, k]` of the given heads from tokens `ids` to all frames of one window, and the
    logits `[n, v]`.

    Only the maps of these heads are kept.
    """
    sites = [parse_site(f"decoder.{layer}.cross.scores[{head}]", dims) for layer, head in heads]
    logits = parse_site("logits", dims)
    tape = Tape([*dict.fromkeys(sites), logits], edits, [start_s])
    with torch.no_grad(), recording(tape):
        module.decode(torch.tensor([list(ids)], device=encoded.device), encoded)
    scores = torch.stack([tape.read(site, dims.n_decoder_heads)[0] for site in sites])
    return scores, tape.read(logits, 1)[0]


def align_tokens(
    module: Any,
    dims: Dims,
    tokenizer: Tokenizer,
    encoded: Tensor,
    ids: Sequence[int],
    n_frames: int,
    *,
    prompt: Sequence[int],
    end: int,
    heads: Heads,
    language: str | None,
    edits: Sequence[BoundEdit] = (),
    start_s: float = 0.0,
) -> AlignedText:
    """Align the text tokens `ids` with the first `n_frames` frames of one window `encoded [1, t, d]`.

    `prompt` ends with the "no timestamps" token, as in `whisper.timing.find_alignment`.

    Raises:
        InputError: the text is longer than the decoder can read.
    """
    if not ids:
        return AlignedText([], [], [])
    room = dims.n_text_positions - len(prompt) - 1
    if len(ids) > room:
        raise InputError(f"The text has {len(ids)} tokens; the decoder has room for {room}.")
    scores, logits = cross_attention(module, dims, encoded, [*prompt, *ids, end], heads, edits, start_s)
    first = len(prompt) - 1
    special = torch.tensor(sorted(set(tokenizer.special_ids) | {end}), device=logits.device)
    text = logits[first : first + len(ids)].index_fill(1, special[special < logits.shape[1]], -torch.inf)
    probabilities = text.softmax(-1)[torch.arange(len(ids)), list(ids)].tolist()
    rows, columns = dtw(-token_matrix(scores[..., : max(1, n_frames)])[first:-1].double().cpu().numpy())
    jumps = np.diff(rows, prepend=-1) > 0
    times = start_s + columns[jumps] * FRAME_S
    words, word_ids = split_words([*ids, end], tokenizer, language)
    edges = np.cumsum([0, *map(len, word_ids[:-1])])
    found = [
        Word(
            word,
            float(times[start]),
            float(times[stop]),
            float(np.mean(probabilities[start:stop])),
            tuple(ids[start:stop]),
        )
        for word, start, stop in zip(words, edges[:-1], edges[1:], strict=False)
    ]
    spans = [(float(begin), float(stop)) for begin, stop in pairwise(times)]
    return AlignedText(found, spans, probabilities)


def token_matrix(scores: Tensor) -> Tensor:
    """Return how well tokens fit frames, `[n, k]`, from attention scores `[heads, n, k]` over the valid frames.

    Each head's attention is normalised over the tokens and smoothed along the frames; heads are averaged.
    """
    weights = scores.float().softmax(-1)
    spread, mean = torch.std_mean(weights, dim=-2, keepdim=True, correction=0)
    # a frame that all tokens attend to alike (or a single token's) says nothing
    weights = (weights - mean) / spread.clamp(min=torch.finfo(weights.dtype).tiny)
    return median_filter(weights, _FILTER_WIDTH).mean(0)


def median_filter(x: Tensor, width: int) -> Tensor:
    """Return the running median of odd `width` along the last axis of `x [h, n, k]`, mirrored at the edges.

    Fewer than `width // 2 + 1` frames are returned as they are.
    """
    reach = width // 2
    if x.shape[-1] <= reach:
        return x
    return F.pad(x, (reach, reach), mode="reflect").unfold(-1, width, 1).median(-1).values
