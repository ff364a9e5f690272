"""Every address inside a model, as one table; the parser, listings, refusals and documentation derive from it.

Shape letters: `t` frame, `d` model width, `m` mel bin, `h` head, `q` query, `k` key, `n` token of the decoder's text,
`v` vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from otoscope.errors import InputError, nearest
from otoscope.models.clock import Clock
from otoscope.models.dims import SAMPLE_RATE_HZ, Dims

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
    """Another system's name of a site; `needs` is the trait of the models in which it means this site."""

    name: str
    needs: str = ""


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


_SPEECH_PREFIXES = ("", "wav2vec2.", "hubert.", "wavlm.")


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
        aliases += [Alias(f"{prefix}encoder.layers.L{alias.name}", alias.needs) for prefix in _SPEECH_PREFIXES]
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
    """A row of the decoder's attention to the sound."""
    names = [f"decoder.blocks.L.cross_attn{openai}"] if openai or kind == "out" else []
    names += [f"{prefix}decoder.layers.L.encoder_attn{hf}" for prefix in ("", "model.") if hf or kind == "out"]
    names += ["decoder.blocks.L.cross_attn.out"] if kind == "out" else []
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
    _cross_row("out", "what attention to the sound adds to the residual stream", hf=".out_proj"),
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


@dataclass(frozen=True)
class Site:
    """A parsed address; `str(site)` is its canonical name."""

    name: str
    stack: str
    layer: int | None
    kind: str
    head: int | None
    row: SiteKind

    def __str__(self) -> str:
        return self.name

    @property
    def base(self) -> str:
        """The name without the head: where in the forward pass the tensor is met."""
        return self.name.partition("[")[0]

    @property
    def is_map(self) -> bool:
        """Whether the tensor is `[h, q, k]` instead of a vector per position."""
        return self.row.is_map

    def of_text(self, dims: Dims) -> bool:
        """Whether positions are tokens of the decoder's text rather than moments of the sound."""
        return "decoder" in dims.traits and not self.row.hz

    def needs_text(self, dims: Dims) -> bool:
        """Whether the decoder must run to reach the site."""
        return self.stack == "decoder" or self.of_text(dims)

    def clock(self, dims: Dims) -> Clock:
        """Return which moment each position stands for.

        Raises:
            InputError: positions of the site are tokens.
        """
        if self.of_text(dims):
            raise InputError(f"The positions of {self} are tokens, not moments of the sound.")
        if dims.n_mels:
            return Clock(1.0 / self.row.hz)
        number = re.fullmatch(r"encoder\.conv(\d)", self.name)
        stride, field = dims.conv_stride(int(number[1]) if number else len(dims.convs))
        return Clock(stride / SAMPLE_RATE_HZ, field / 2 / SAMPLE_RATE_HZ)

    def n_heads(self, dims: Dims) -> int:
        """Return how many heads the site is divided into."""
        return dims.n_decoder_heads if self.stack == "decoder" else dims.n_heads

    def width(self, dims: Dims) -> int:
        """Return the size of the last axis: one head's, when a head is selected; of maps, the most keys there are."""
        if self.is_map:
            return dims.n_text_positions if self.of_text(dims) and self.kind.startswith("attn") else dims.n_positions
        if not self.row.width:
            return dims.convs[int(self.name[-1]) - 1].width
        full = int(getattr(dims, self.row.width))
        return full // self.n_heads(dims) if self.head is not None else full


_NUMBER = r"(0|[1-9][0-9]*)"


@lru_cache(maxsize=1)
def _grammar() -> tuple[tuple[re.Pattern[str], SiteKind, str], ...]:
    """One expression per name and alias, with the trait that an alias needs."""

    def compiled(name: str) -> re.Pattern[str]:
        layered = re.escape(name).replace(r"\.L", rf"\.(?P<layer>{_NUMBER})")
        return re.compile(rf"{layered}(?:\[(?P<head>{_NUMBER})\])?")

    names = [(row.name, row, "") for row in SITES]
    aliases = [(alias.name, row, alias.needs) for row in SITES for alias in row.aliases]
    return tuple((compiled(name), row, needs) for name, row, needs in [*names, *aliases])


def site_names(dims: Dims) -> list[str]:
    """Return the canonical names of all sites of a model, in forward order."""
    present = [row for row in SITES if not row.missing_from(dims)]
    names: list[str] = []
    for (layered, stack), rows in groupby(present, key=lambda row: (row.layered, row.stack)):
        kinds = list(rows)
        n_layers = dims.n_decoder_layers if stack == "decoder" else dims.n_layers
        names += [row.at(layer) for layer in (range(n_layers) if layered else [None]) for row in kinds]
    return names


@lru_cache(maxsize=4096)
def parse_site(text: str, dims: Dims | None = None) -> Site:
    """Return the site that `text` names, canonically or by an alias.

    With `dims`, the family, layer and head are checked against the model's sizes.

    Raises:
        InputError: unknown name (with the nearest valid ones), layer or head out of range, or a site that this
            kind of model lacks (with the reason).
    """
    for expression, row, needs in _grammar():
        match = expression.fullmatch(text)
        if match is None or (dims is not None and needs and needs not in dims.traits):
            continue
        if dims is not None and (reason := row.missing_from(dims)):
            raise InputError(f"This model ({dims.family}) has no site {text!r}: {reason}.")
        found = match.groupdict()
        layer = None if found.get("layer") is None else int(found["layer"])
        head = None if found["head"] is None else int(found["head"])
        _check_range(text, row, layer, head, dims)
        name = row.at(layer) + ("" if head is None else f"[{head}]")
        return Site(name, row.stack, layer, row.kind, head, row)
    valid = site_names(dims) if dims else [row.name for row in SITES]
    raise InputError(f"There is no site {text!r}{nearest(text, valid) or '; `otoscope sites` lists all sites'}")


def _check_range(text: str, row: SiteKind, layer: int | None, head: int | None, dims: Dims | None) -> None:
    if head is not None and not row.heads:
        raise InputError(f"{text!r} asks for a head, but {row.name} is not divided into heads; drop the [{head}].")
    if dims is None:
        return
    in_decoder = row.stack == "decoder"
    n_layers = dims.n_decoder_layers if in_decoder else dims.n_layers
    n_heads = dims.n_decoder_heads if in_decoder else dims.n_heads
    if layer is not None and layer >= n_layers:
        raise InputError(f"{text!r} asks for layer {layer}, but the layers are 0 to {n_layers - 1}.")
    if head is not None and head >= n_heads:
        raise InputError(f"{text!r} asks for head {head}, but the heads are 0 to {n_heads - 1}.")
