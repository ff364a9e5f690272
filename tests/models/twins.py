"""One set of random weights in three programs: ours, openai-whisper and Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import whisper
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration
from whisper.model import ModelDimensions

import otoscope as oto

TINY = ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)
"""whisper-tiny as released."""
LARGE_V3_LAYOUT = ModelDimensions(128, 1500, 64, 2, 3, 51866, 448, 64, 4, 2)
"""The input and vocabulary of large-v3, with fewer decoder layers as in turbo, and narrow."""

_TO_HUGGING_FACE = [
    (r"\bblocks\b", "layers"),
    (r"\bcross_attn_ln\b", "encoder_attn_layer_norm"),
    (r"\battn_ln\b", "self_attn_layer_norm"),
    (r"\bmlp_ln\b", "final_layer_norm"),
    (r"\bcross_attn\b", "encoder_attn"),
    (r"(?<!_)\battn\b", "self_attn"),
    (r"\bquery\b", "q_proj"),
    (r"\bkey\b", "k_proj"),
    (r"\bvalue\b", "v_proj"),
    (r"\bout\b", "out_proj"),
    (r"\bmlp\.0\b", "fc1"),
    (r"\bmlp\.2\b", "fc2"),
    (r"\bln_post\b|\bln\b", "layer_norm"),
    (r"\bpositional_embedding\b", "embed_positions.weight"),
    (r"\btoken_embedding\b", "embed_tokens"),
]


@dataclass(frozen=True, eq=False)
class Twins:
    """The same model three times, where its files are, and something for it to hear and read."""

    openai: whisper.model.Whisper
    hugging_face: WhisperForConditionalGeneration
    file: Path
    folder: Path
    ours: oto.SpeechModel
    mel: Tensor
    """A full window `[1, m, T]` of something like a spectrogram."""
    ids: Tensor
    """Tokens `[1, n]` for the decoder."""


def make_twins(where: Path, sizes: ModelDimensions) -> Twins:
    """Make the three models and write their files."""
    openai = random_openai(sizes, seed=0)
    file, folder = where / "model.pt", where / "folder"
    save_openai(openai, file)
    hugging_face = to_hugging_face(openai)
    hugging_face.save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(1, sizes.n_mels, 2 * sizes.n_audio_ctx, generator=generator).cumsum(-1) / 30
    ids = torch.randint(sizes.n_vocab, (1, 9), generator=generator)
    return Twins(openai, hugging_face, file, folder, oto.load_model(folder), mel, ids)


def random_openai(sizes: ModelDimensions, seed: int) -> whisper.model.Whisper:
    """openai-whisper's model with weights of ordinary size; biases and norms differ from 0 and 1, so that none can
    be mistaken for another."""
    model = whisper.model.Whisper(sizes).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
            else:
                weight.normal_(1.0 if "ln" in name and name.endswith("weight") else 0.0, 0.1, generator=generator)
    return model


def save_openai(model: whisper.model.Whisper, file: Path) -> None:
    """Write a file as openai-whisper's releases are."""
    torch.save({"dims": asdict(model.dims), "model_state_dict": model.state_dict()}, file)


def to_hugging_face(openai: whisper.model.Whisper) -> WhisperForConditionalGeneration:
    """Hugging Face's model of the same weights, with its eager attention."""
    sizes = openai.dims
    config = WhisperConfig(
        vocab_size=sizes.n_vocab,
        num_mel_bins=sizes.n_mels,
        d_model=sizes.n_audio_state,
        encoder_layers=sizes.n_audio_layer,
        encoder_attention_heads=sizes.n_audio_head,
        decoder_layers=sizes.n_text_layer,
        decoder_attention_heads=sizes.n_text_head,
        encoder_ffn_dim=4 * sizes.n_audio_state,
        decoder_ffn_dim=4 * sizes.n_text_state,
        max_source_positions=sizes.n_audio_ctx,
        max_target_positions=sizes.n_text_ctx,
        pad_token_id=50256,
        bos_token_id=50257,
        eos_token_id=50257,
        decoder_start_token_id=50258,
        attn_implementation="eager",
    )
    model = WhisperForConditionalGeneration(config).eval()
    renamed = {}
    for name, value in openai.state_dict().items():
        for pattern, replacement in _TO_HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        renamed[f"model.{name}"] = value
    unset = model.load_state_dict(renamed, strict=False)
    assert unset.missing_keys == ["proj_out.weight"]
    assert not unset.unexpected_keys
    model.tie_weights()
    return model


def watch(model: torch.nn.Module, call: Callable[[], Any]) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
    """Return what each module of a model was given (its first argument) and what it made, and the call's result."""
    given: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if isinstance(tensor, Tensor):
                made[name] = tensor
            first = args[0] if args else options.get("hidden_states")
            if isinstance(first, Tensor):
                given[name] = first

        return hook

    handles = [part.register_forward_hook(note(name), with_kwargs=True) for name, part in model.named_modules()]
    try:
        with torch.no_grad():
            result = call()
    finally:
        for handle in handles:
            handle.remove()
    return given, made, result


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest value; infinities (masked scores) must agree."""
    if ours.shape != theirs.shape:
        return float("inf")
    largest = theirs.abs().max()
    if largest.isinf():
        finite = theirs.isfinite()
        if not torch.equal(ours[~finite], theirs[~finite]):
            return float("inf")
        ours, theirs = ours[finite], theirs[finite]
        largest = theirs.abs().max()
    return float((ours - theirs).abs_().max() / largest)
