"""Every address inside a model, as one table: parser, listings, refusals and documentation derive from it.

Shape letters: `t` frame, `d` model width, `m` mel bin, `h` head, `q` query, `k` key, `n` token of the decoder's text,
`v` vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otoscope.models.dims import Dims

REASONS = {
    "mel": "it hears samples, not a mel spectrogram",
    "samples": "it hears a mel spectrogram; its input is the site mel",
    "decoder": "it has no text decoder",
    "text": "it writes no text (no decoder and no CTC head)",
    "pre-norm": "its blocks normalise after adding, so the last block's resid_post is normalised already",
    "post-norm": "its blocks normalise before they read; the sum is resid_post itself",
    **{f"conv{number}": f"its front end has fewer than {number} convolutions" for number in range(1, 8)},
}
"""Why a model lacks the sites that need a trait (`Dims.traits`); each completes "This model has no …: "."""


@dataclass(frozen=True)
class Alias:
    """Another system's name of a site; `needs` are the traits of the models in which it means this site."""

    name: str
    needs: str = ""

    def fits(self, dims: Dims) -> bool:
        """Whether the name means this site in a model of these sizes."""
        return dims.traits.issuperset(self.needs.split())


@dataclass(frozen=True)
class SiteKind:
    """One row of the table; `L` in a name stands for the layer number."""

    name: str
    shape: str
    width: str
    """Name of the size in `Dims` of the last axis; empty for attention maps (as wide as the keys) and convolutions."""
    meaning: str
    heads: bool = False
    """Whether `[h]` selects one head."""
    writable: bool = True
    needs: str = ""
    """The trait of `Dims` without which a model lacks the site; empty for sites every model has."""
    hz: int = 50
    """Frames per second along the first axis of a Whisper model; 0 where a position is a token."""
    aliases: tuple[Alias, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether the site is a map of queries times keys rather than a vector per frame."""
        return self.shape == "[h, q, k]"

    @property
    def layered(self) -> bool:
        """Whether the name carries a layer number."""
        return ".L." in self.name

    @property
    def kind(self) -> str:
        """The name without stack and layer, e.g. `attn.pattern`."""
        return re.sub(r"^(encoder|decoder)\.(L\.)?", "", self.name)

    @property
    def stack(self) -> str:
        """`encoder`, `decoder`, or `""` for the model's input and output."""
        head, dot, _ = self.name.partition(".")
        return head if dot else ""

    @property
    def of_keys(self) -> bool:
        """Whether a decoder site has a row per frame of the sound (the keys and values of attention to it)."""
        return self.kind in ("cross.k", "cross.v")

    def at(self, layer: int | None) -> str:
        """Return the canonical name in `layer`."""
        return self.name if layer is None else self.name.replace(".L.", f".{layer}.")

    def missing_from(self, dims: Dims) -> str:
        """Return why a model of these sizes lacks the site; empty if it has it."""
        return REASONS[self.needs] if self.needs and self.needs not in dims.traits else ""


_SPEECH_PREFIXES = ("", "wav2vec2.", "hubert.", "wavlm.", "unispeech_sat.", "data2vec_audio.")


def _block(
    kind: str,
    meaning: str,
    *,
    width: str = "d_model",
    heads: bool = False,
    needs: str = "",
    openai: Sequence[str] = (),
    hf: Sequence[str] = (),
    speech: Sequence[str | Alias] = (),
    lens: Sequence[str] = (),
) -> SiteKind:
    """A row of the encoder's blocks, with its names in openai-whisper, Hugging Face (Whisper and the wav2vec2-like
    models) and TransformerLens."""
    aliases = [Alias(f"encoder.blocks.L{name}") for name in openai]
    aliases += [Alias(f"{prefix}encoder.layers.L{name}", "mel") for name in hf for prefix in ("", "model.")]
    for item in speech:
        alias = item if isinstance(item, Alias) else Alias(item, "samples")
        needed = alias.needs if "samples" in alias.needs else f"samples {alias.needs}"
        aliases += [Alias(f"{prefix}encoder.layers.L{alias.name}", needed) for prefix in _SPEECH_PREFIXES]
    aliases += [Alias(f"{prefix}blocks.L.{name}") for name in lens for prefix in ("", "encoder.")]
    shape = "[t, d]" if width else "[h, q, k]"
    return SiteKind(f"encoder.L.{kind}", shape, width, meaning, heads, needs=needs, aliases=tuple(aliases))


_BLOCK_ROWS = (
    _block("resid_pre", "residual stream entering the block", lens=["hook_resid_pre"]),
    _block(
        "attn.q",
        "query projection, before its scaling by 1/sqrt(width of a head); heads side by side",
        heads=True,
        openai=[".attn.query"],
        hf=[".self_attn.q_proj"],
        speech=[".attention.q_proj"],
        lens=["attn.hook_q"],
    ),
    _block(
        "attn.k",
        "key projection; heads side by side",
        heads=True,
        openai=[".attn.key"],
        hf=[".self_attn.k_proj"],
        speech=[".attention.k_proj"],
        lens=["attn.hook_k"],
    ),
    _block(
        "attn.v",
        "value projection; heads side by side",
        heads=True,
        openai=[".attn.value"],
        hf=[".self_attn.v_proj"],
        speech=[".attention.v_proj"],
        lens=["attn.hook_v"],
    ),
    _block(
        "attn.scores",
        "scaled attention logits with position biases and masks, before the softmax",
        width="",
        heads=True,
        lens=["attn.hook_attn_scores"],
    ),
    _block("attn.pattern", "attention weights, after the softmax", width="", heads=True, lens=["attn.hook_pattern"]),
    _block("attn.z", "pattern @ v; heads side by side", heads=True, lens=["attn.hook_z"]),
    _block(
        "attn.out",
        "what attention adds to the residual stream",
        openai=[".attn", ".attn.out"],
        hf=[".self_attn", ".self_attn.out_proj"],
        speech=[".attention", ".attention.out_proj"],
        lens=["hook_attn_out"],
    ),
    _block(
        "resid_mid",
        "residual stream between attention and MLP: resid_pre + attn.out",
        lens=["hook_resid_mid"],
    ),
    _block(
        "mlp.in",
        "normalised input of the MLP",
        openai=[".mlp_ln"],
        hf=[".final_layer_norm"],
        speech=[Alias(".final_layer_norm", "pre-norm"), Alias(".layer_norm", "post-norm")],
        lens=["ln2.hook_normalized"],
    ),
    _block(
        "mlp.pre",
        "hidden units before the non-linearity",
        width="d_mlp",
        openai=[".mlp.0"],
        hf=[".fc1"],
        speech=[".feed_forward.intermediate_dense"],
        lens=["mlp.hook_pre"],
    ),
    _block(
        "mlp.post",
        "hidden units after the non-linearity: the neurons",
        width="d_mlp",
        openai=[".mlp.1"],
        hf=[".activation_fn"],
        speech=[".feed_forward.intermediate_act_fn"],
        lens=["mlp.hook_post"],
    ),
    _block(
        "mlp.out",
        "what the MLP adds to the residual stream",
        openai=[".mlp", ".mlp.2"],
        hf=[".fc2"],
        speech=[".feed_forward", ".feed_forward.output_dense"],
        lens=["hook_mlp_out"],
    ),
    _block(
        "resid_sum",
        "mlp.in + mlp.out, before the norm that closes a post-norm block",
        needs="post-norm",
    ),
    _block(
        "resid_post",
        "residual stream leaving the block",
        openai=[""],
        hf=[""],
        speech=["", Alias(".final_layer_norm", "post-norm")],
        lens=["hook_resid_post"],
    ),
)


def _decoder_row(row: SiteKind) -> SiteKind:
    """The row of the decoder that mirrors one of the encoder's."""
    aliases = tuple(
        Alias(alias.name.replace("encoder.", "decoder."))
        for alias in row.aliases
        if alias.needs in ("", "mel") and "encoder." in alias.name
    )
    width = row.width.replace("d_mlp", "d_decoder_mlp")
    shape = row.shape.replace("t", "n")
    name, needs = row.name.replace("encoder.", "decoder."), "decoder"
    meaning = row.meaning.replace("attention and MLP", "the two attentions")
    return SiteKind(name, shape, width, meaning, row.heads, needs=needs, hz=0, aliases=aliases)


def _cross_row(kind: str, meaning: str, openai: str = "", hf: str = "", shape: str = "[n, d]") -> SiteKind:
    """A row of the decoder's attention to the sound; its output is also the whole module's."""
    of_openai = ["", ".out"] if kind == "out" else [openai] * bool(openai)
    of_hf = ["", ".out_proj"] if kind == "out" else [hf] * bool(hf)
    names = [f"decoder.blocks.L.cross_attn{name}" for name in of_openai]
    names += [f"{prefix}decoder.layers.L.encoder_attn{name}" for name in of_hf for prefix in ("", "model.")]
    width, hz = ("d_model" if shape != "[h, q, k]" else ""), (50 if kind in "kv" else 0)
    aliases = tuple(Alias(name) for name in names)
    heads = kind != "out"
    return SiteKind(f"decoder.L.cross.{kind}", shape, width, meaning, heads, needs="decoder", hz=hz, aliases=aliases)


def _decoder_rows() -> Iterator[SiteKind]:
    """The decoder's blocks: self-attention, attention to the sound, MLP."""
    for row in (_decoder_row(row) for row in _BLOCK_ROWS if row.needs != "post-norm"):
        yield row
        if row.kind == "resid_mid":
            yield from _CROSS_ROWS


_CROSS_ROWS = (
    _cross_row("q", "query projection of the text, before its scaling", ".query", ".q_proj"),
    _cross_row("k", "key projection of the sound, a row per frame", ".key", ".k_proj", "[t, d]"),
    _cross_row("v", "value projection of the sound, a row per frame", ".value", ".v_proj", "[t, d]"),
    _cross_row("scores", "scaled attention logits from text to sound", shape="[h, q, k]"),
    _cross_row("pattern", "attention weights from text to sound", shape="[h, q, k]"),
    _cross_row("z", "pattern @ v; heads side by side"),
    _cross_row("out", "what attention to the sound adds to the residual stream"),
    SiteKind(
        "decoder.L.resid_cross",
        "[n, d]",
        "d_model",
        "residual stream after attention to the sound: resid_mid + cross.out",
        needs="decoder",
        hz=0,
        aliases=(Alias("decoder.blocks.L.hook_resid_mid_cross"),),
    ),
)


def _conv_row(number: int) -> SiteKind:
    names = [f"model.encoder.conv{number}"] if number < 3 else []
    names += [f"{prefix}feature_extractor.conv_layers.{number - 1}.conv" for prefix in _SPEECH_PREFIXES]
    aliases = tuple(Alias(name, "mel" if name.startswith("model") else "samples") for name in names)
    hz = {1: 100, 2: 50}.get(number, 0)
    meaning = f"convolution {number} of the front end, before norm and non-linearity"
    return SiteKind(f"encoder.conv{number}", "[t, d]", "", meaning, needs=f"conv{number}", hz=hz, aliases=aliases)


SITES: tuple[SiteKind, ...] = (
    SiteKind("mel", "[t, m]", "n_mels", "log-mel spectrogram, the model's input", needs="mel", hz=100),
    *(_conv_row(number) for number in range(1, 8)),
    SiteKind(
        "encoder.features",
        "[t, d]",
        "d_model",
        "convolutional features, normalised and projected to the model's width",
        needs="samples",
        aliases=tuple(Alias(f"{prefix}feature_projection.projection", "samples") for prefix in _SPEECH_PREFIXES),
    ),
    SiteKind("encoder.embed", "[t, d]", "d_model", "front end plus positions: the first block's input"),
    *_BLOCK_ROWS,
    SiteKind(
        "encoder.ln_post",
        "[t, d]",
        "d_model",
        "final normalised encoder output",
        needs="pre-norm",
        aliases=(
            Alias("encoder.layer_norm"),
            Alias("model.encoder.layer_norm"),
            *(Alias(f"{prefix}encoder.layer_norm", "samples") for prefix in _SPEECH_PREFIXES[1:]),
        ),
    ),
    SiteKind(
        "decoder.tokens",
        "[n, d]",
        "d_model",
        "token embeddings, before positions",
        needs="decoder",
        hz=0,
        aliases=(Alias("decoder.token_embedding"), Alias("decoder.embed_tokens"), Alias("model.decoder.embed_tokens")),
    ),
    SiteKind(
        "decoder.embed",
        "[n, d]",
        "d_model",
        "tokens plus positions: the first block's input",
        needs="decoder",
        hz=0,
    ),
    *_decoder_rows(),
    SiteKind(
        "decoder.ln_post",
        "[n, d]",
        "d_model",
        "final normalised decoder output",
        needs="decoder",
        hz=0,
        aliases=(Alias("decoder.ln"), Alias("decoder.layer_norm"), Alias("model.decoder.layer_norm")),
    ),
    SiteKind(
        "logits",
        "[n, v]",
        "n_vocab",
        "scores of the next token (text decoder) or of each frame's letter (CTC)",
        needs="text",
        hz=0,
        aliases=(Alias("proj_out", "decoder"), Alias("lm_head", "samples")),
    ),
)
"""The table, in the order in which a forward pass meets the sites."""
