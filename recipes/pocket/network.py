"""Whisper's forward pass over Hugging Face modules, for windows of any length and quick on CPUs.

Hugging Face insists on the full window; training on short windows is several times faster. Attention is
written with plain matrix products (in bfloat16 their CPU backward is faster than fused attention's).
`tests/recipes` holds it equal to Hugging Face's own forward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration


def build_model(vocab_size: int, first_special: int, seed: int) -> WhisperForConditionalGeneration:
    """A pocket-sized Whisper with random weights; `first_special` is the id of `<|endoftext|>`."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=vocab_size, d_model=128, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=512, decoder_ffn_dim=512, num_mel_bins=80,
        max_source_positions=300, max_target_positions=64, pad_token_id=first_special, bos_token_id=first_special,
        eos_token_id=first_special, decoder_start_token_id=first_special + 1, suppress_tokens=None,
        begin_suppress_tokens=None, dropout=0.0,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


def _attend(module: torch.nn.Module, x: Tensor, source: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    b, n, d = x.shape
    heads, size = module.num_heads, module.head_dim
    q = (module.q_proj(x) * size**-0.5).view(b, n, heads, size).transpose(1, 2)
    k = module.k_proj(source).view(b, -1, heads, size).transpose(1, 2)
    v = module.v_proj(source).view(b, -1, heads, size).transpose(1, 2)
    scores = q @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    pattern = scores.softmax(-1)
    z = (pattern.to(v.dtype) @ v).transpose(1, 2).reshape(b, n, d)
    return module.out_proj(z), pattern


def _mlp(layer: torch.nn.Module, x: Tensor) -> Tensor:
    return x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))


def encode(model: WhisperForConditionalGeneration, mels: Tensor) -> Tensor:
    """[b, 80, 2 t] normalised log-mel → [b, t, d] encoder output."""
    encoder = model.model.encoder
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mels)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers:
        normed = layer.self_attn_layer_norm(x)
        x = _mlp(layer, x + _attend(layer.self_attn, normed, normed, None)[0])
    return encoder.layer_norm(x)


def decode(model: WhisperForConditionalGeneration, ids: Tensor, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Token ids [b, n] and encoder output → logits [b, n, vocabulary] and cross-attention [b, h, n, t] by layer."""
    decoder = model.model.decoder
    n = ids.shape[1]
    x = decoder.embed_tokens(ids) + decoder.embed_positions.weight[:n]
    mask = torch.full((n, n), float("-inf"), device=ids.device).triu(1)
    patterns = []
    for layer in decoder.layers:
        normed = layer.self_attn_layer_norm(x)
        x = x + _attend(layer.self_attn, normed, normed, mask)[0]
        out, pattern = _attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), encoded, None)
        patterns.append(pattern)
        x = _mlp(layer, x + out)
    return F.linear(decoder.layer_norm(x), decoder.embed_tokens.weight), patterns


@torch.no_grad()
def greedy(model: WhisperForConditionalGeneration, mels: Tensor, prompt: list[int], end: int) -> list[list[int]]:
    """Greedy transcription of a batch after a forced prompt; returns ids after the prompt, before `end`."""
    encoded = encode(model, mels)
    ids = torch.tensor([prompt] * len(mels), device=mels.device)
    limit = model.config.max_target_positions
    while ids.shape[1] < limit and not bool((ids[:, len(prompt) :] == end).any(1).all()):
        ids = torch.cat([ids, decode(model, ids, encoded)[0][:, -1].argmax(-1, keepdim=True)], 1)
    rows = ids[:, len(prompt) :].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
