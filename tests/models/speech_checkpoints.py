"""Small random checkpoints of the families that hear samples, and what Hugging Face computes at each of their sites."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCTC

BASE = {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
KINDS: dict[str, dict[str, Any]] = {
    "wav2vec2-base": {"model_type": "wav2vec2", **BASE},
    "wav2vec2-large": {"model_type": "wav2vec2", **LARGE},
    "hubert-base": {"model_type": "hubert", **BASE, "feat_proj_layer_norm": False, "num_conv_pos_embeddings": 15},
    "hubert-large": {"model_type": "hubert", **LARGE},
    "hubert-batch-norm": {"model_type": "hubert", **BASE, "conv_pos_batch_norm": True},
    "wavlm-base": {"model_type": "wavlm", **BASE, "num_buckets": 16, "max_bucket_distance": 20},
    "wavlm-large": {"model_type": "wavlm", **LARGE, "num_buckets": 16, "max_bucket_distance": 20},
    "unispeech-sat-base": {"model_type": "unispeech-sat", **BASE},
    "unispeech-sat-large": {"model_type": "unispeech-sat", **LARGE},
    "data2vec-audio": {"model_type": "data2vec-audio", "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7},
}
"""Every family with every arrangement that its checkpoints have."""

SMALL = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "conv_dim": (8,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "vocab_size": 12,
    "pad_token_id": 0,
}
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINS"]


def save_checkpoint(folder: Path, settings: dict[str, Any], *, head: bool = True, seed: int = 0) -> Path:
    """Write a random checkpoint as `save_pretrained` does, with a vocabulary of letters if it has a CTC head."""
    config = AutoConfig.for_model(**{**SMALL, **settings})
    model = (AutoModelForCTC if head else AutoModel).from_config(config)
    shake(model, seed)
    model.save_pretrained(folder)
    if head:
        numbered = {letter: number for number, letter in enumerate(LETTERS)}
        (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    return folder


def shake(model: nn.Module, seed: int) -> None:
    """Draw all weights large enough that no site is nearly constant and no norm or bias can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            drawn = torch.randn(weight.shape, generator=generator)
            if "norm" in name or name.endswith(("original0", "gru_rel_pos_const")):
                weight.copy_((1.0 if "bias" not in name else 0.0) + 0.3 * drawn)
            elif name.endswith("bias"):
                weight.copy_(0.3 * drawn)
            else:
                gain = 2.0 if weight.ndim == 3 or "q_proj" in name else 1.0
                weight.copy_(gain * drawn / math.sqrt(weight[0].numel()))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


def plain(folder: Path) -> nn.Module:
    """Hugging Face's model of a checkpoint, with its eager attention."""
    config = AutoConfig.from_pretrained(folder)
    head = any(name.endswith("ForCTC") for name in config.architectures or ())
    model: nn.Module = (AutoModelForCTC if head else AutoModel).from_pretrained(folder, attn_implementation="eager")
    return model.eval()


def expected_sites(model: nn.Module, samples: Tensor) -> dict[str, Tensor]:
    """Return what Hugging Face computes at every site for `samples [b, n]`, `[b, t, d]` or `[b, h, q, k]`.

    Inputs and outputs of modules are caught by hooks. Where modules do not show a value (attention of WavLM, which
    hands its weights to a function of torch, and everyone's scores), it is computed here from what they read.
    """
    base = getattr(model, model.base_model_prefix, model)
    inputs: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Any] = {}
    with ExitStack() as hooks, torch.no_grad():
        for part in model.modules():
            hooks.callback(part.register_forward_hook(_catch(inputs, outputs), with_kwargs=True).remove)
        result = model(samples, output_attentions=True, output_hidden_states=True)
    encoder = base.encoder
    pre_norm = bool(model.config.__dict__.get("do_stable_layer_norm"))
    convs = base.feature_extractor.conv_layers
    found = {f"encoder.conv{number + 1}": outputs[stage.conv].mT for number, stage in enumerate(convs)}
    found["encoder.features"] = outputs[base.feature_projection.projection]
    found["encoder.embed"] = inputs[encoder.layers[0]]
    for number, layer in enumerate(encoder.layers):
        shown = dict(_block(layer, inputs, outputs, pre_norm)) | _attention(encoder, layer.attention, inputs, outputs)
        found |= {f"encoder.{number}.{kind}": value for kind, value in shown.items()}
        theirs, ours = result.attentions[number], found[f"encoder.{number}.attn.pattern"]
        if hasattr(layer.attention, "gru_rel_pos_const"):  # they return the mean over heads under every head's name
            ours = ours.mean(1, keepdim=True).expand_as(theirs)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    if pre_norm:
        found["encoder.ln_post"] = outputs[encoder.layer_norm]
    if hasattr(model, "lm_head"):
        found["logits"] = result.logits
    for number in range(len(encoder.layers)):
        torch.testing.assert_close(found[f"encoder.{number}.resid_pre"], result.hidden_states[number])
    return found


def _catch(inputs: dict[nn.Module, Tensor], outputs: dict[nn.Module, Any]) -> Any:
    def hook(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = next(iter((*args, *kwargs.values())), None)
        if isinstance(given, Tensor):
            inputs[part] = given.clone()
        outputs[part] = output

    return hook


def _block(
    layer: Any, inputs: dict[nn.Module, Tensor], outputs: dict[nn.Module, Any], pre_norm: bool
) -> Iterator[tuple[str, Tensor]]:
    yield "resid_pre", inputs[layer]
    yield "resid_mid", inputs[layer.final_layer_norm if pre_norm else layer.layer_norm]
    yield "mlp.in", inputs[layer.feed_forward]
    yield "mlp.pre", outputs[layer.feed_forward.intermediate_dense]
    yield "mlp.post", inputs[layer.feed_forward.output_dense]
    yield "mlp.out", outputs[layer.feed_forward]
    if not pre_norm:
        yield "resid_sum", inputs[layer.final_layer_norm]
    output = outputs[layer]
    yield "resid_post", output[0] if isinstance(output, tuple) else output


def _attention(
    encoder: Any, attention: Any, inputs: dict[nn.Module, Tensor], outputs: dict[nn.Module, Any]
) -> dict[str, Tensor]:
    x = inputs[attention]
    b, t, d = x.shape
    h = attention.num_heads
    with torch.no_grad():
        flat = {name: getattr(attention, f"{name}_proj")(x) for name in "qkv"}
        q, k, v = (part.view(b, t, h, -1).transpose(1, 2) for part in flat.values())
        scores = q @ k.mT / math.sqrt(d // h)
        if hasattr(attention, "gru_rel_pos_const"):
            scores = scores + _gated_bias(encoder.layers[0].attention, attention, x)
        pattern = scores.softmax(-1)
        z = (pattern @ v).transpose(1, 2).reshape(b, t, d)
        out = outputs[attention][0]
        if attention.out_proj in inputs:
            torch.testing.assert_close(z, inputs[attention.out_proj], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(attention.out_proj(z), out, atol=1e-5, rtol=1e-4)
    named = {f"attn.{name}": value for name, value in flat.items()}
    return named | {"attn.scores": scores, "attn.pattern": pattern, "attn.z": z, "attn.out": out}


def _gated_bias(first: Any, attention: Any, x: Tensor) -> Tensor:
    """WavLM's bias `[b, h, q, k]` from the paper: per distance (of the first block), times a gate per query."""
    b, t, d = x.shape
    h = attention.num_heads
    read = x.view(b, t, h, d // h).transpose(1, 2)
    update, reset = attention.gru_rel_pos_linear(read).view(b, h, t, 2, 4).sum(-1).sigmoid().split(1, -1)
    return (update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0) * first.compute_bias(t, t)


def module_outputs(model: nn.Module, samples: Tensor) -> dict[str, Tensor]:
    """Return what each module of Hugging Face's model returns, by its path; without the model's prefix too."""
    outputs: dict[nn.Module, Any] = {}
    with ExitStack() as hooks, torch.no_grad():
        for part in model.modules():
            hooks.callback(part.register_forward_hook(_catch({}, outputs), with_kwargs=True).remove)
        model(samples)
    firsts = {name: outputs.get(part) for name, part in model.named_modules()}
    shown = {name: value[0] if isinstance(value, tuple) else value for name, value in firsts.items()}
    found = {name: value for name, value in shown.items() if isinstance(value, Tensor)}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return found | {name.removeprefix(prefix): value for name, value in found.items()}
