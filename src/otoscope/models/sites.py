"""Every address inside a model, as one table; the parser, listings, refusals and documentation derive from it.

Shape letters: `t` frame, `d` model width, `m` mel bin, `h` head, `q` query frame, `k` key frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from otoscope.errors import InputError, nearest
from otoscope.models.dims import Dims

_LATER = "decoder sites and logits come with a later release"


@dataclass(frozen=True)
class SiteKind:
    """One row of the table; `L` in a name stands for the layer number."""

    name: str
    shape: str
    width: str
    """Name of the size in `Dims` of the last axis; empty for attention maps, which are as wide as the window."""
    meaning: str
    hz: int = 50
    """Frames per second along the first axis."""
    heads: bool = False
    """Whether `[h]` selects one head."""
    writable: bool = True
    aliases: tuple[str, ...] = ()
    absent: str = ""
    """Why no model offers this site yet; empty for sites that can be read."""

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

    def at(self, layer: int | None) -> str:
        """Return the canonical name in `layer`."""
        return self.name if layer is None else self.name.replace(".L.", f".{layer}.")


def _block(
    kind: str,
    meaning: str,
    *,
    width: str = "d_model",
    heads: bool = False,
    openai: Sequence[str] = (),
    hf: Sequence[str] = (),
    lens: Sequence[str] = (),
) -> SiteKind:
    """A row of the encoder's blocks, with its names in openai-whisper, Hugging Face and TransformerLens."""
    aliases = [f"encoder.blocks.L{name}" for name in openai]
    aliases += [f"{prefix}encoder.layers.L{name}" for name in hf for prefix in ("", "model.")]
    aliases += [f"{prefix}blocks.L.{name}" for name in lens for prefix in ("", "encoder.")]
    shape = "[t, d]" if width else "[h, q, k]"
    return SiteKind(f"encoder.L.{kind}", shape, width, meaning, heads=heads, aliases=tuple(aliases))


_BLOCK_ROWS = (
    _block("resid_pre", "residual stream entering the block", lens=["hook_resid_pre"]),
    _block(
        "attn.q",
        "query projection, before its scaling by 1/sqrt(width of a head); heads side by side",
        heads=True,
        openai=[".attn.query"],
        hf=[".self_attn.q_proj"],
        lens=["attn.hook_q"],
    ),
    _block(
        "attn.k",
        "key projection; heads side by side",
        heads=True,
        openai=[".attn.key"],
        hf=[".self_attn.k_proj"],
        lens=["attn.hook_k"],
    ),
    _block(
        "attn.v",
        "value projection; heads side by side",
        heads=True,
        openai=[".attn.value"],
        hf=[".self_attn.v_proj"],
        lens=["attn.hook_v"],
    ),
    _block(
        "attn.scores",
        "scaled attention logits, before the softmax",
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
        lens=["hook_attn_out"],
    ),
    _block("resid_mid", "residual stream between attention and MLP", lens=["hook_resid_mid"]),
    _block(
        "mlp.in",
        "normalised input of the MLP",
        openai=[".mlp_ln"],
        hf=[".final_layer_norm"],
        lens=["ln2.hook_normalized"],
    ),
    _block(
        "mlp.pre",
        "hidden units before the non-linearity",
        width="d_mlp",
        openai=[".mlp.0"],
        hf=[".fc1"],
        lens=["mlp.hook_pre"],
    ),
    _block(
        "mlp.post",
        "hidden units after the non-linearity: the neurons",
        width="d_mlp",
        openai=[".mlp.1"],
        hf=[".activation_fn"],
        lens=["mlp.hook_post"],
    ),
    _block(
        "mlp.out",
        "what the MLP adds to the residual stream",
        openai=[".mlp", ".mlp.2"],
        hf=[".fc2"],
        lens=["hook_mlp_out"],
    ),
    _block("resid_post", "residual stream leaving the block", openai=[""], hf=[""], lens=["hook_resid_post"]),
)


def _later(name: str, meaning: str, aliases: tuple[str, ...] = (), shape: str = "[t, d]") -> SiteKind:
    return SiteKind(name, shape, "d_model", meaning, aliases=aliases, absent=_LATER, writable=False)


def _decoder_row(row: SiteKind) -> SiteKind:
    """The row of the decoder that mirrors one of the encoder's."""
    aliases = tuple(alias.replace("encoder.", "decoder.") for alias in row.aliases if "encoder." in alias)
    return _later(row.name.replace("encoder.", "decoder."), row.meaning, aliases, row.shape)


def _cross_row(kind: str, meaning: str, openai: str = "", hf: str = "", shape: str = "[t, d]") -> SiteKind:
    """A row of the decoder's attention to the sound."""
    aliases = [f"decoder.blocks.L.cross_attn{openai}"] if openai or kind == "out" else []
    aliases += [f"{prefix}decoder.layers.L.encoder_attn{hf}" for prefix in ("", "model.") if hf or kind == "out"]
    return _later(f"decoder.L.cross.{kind}", meaning, tuple(aliases), shape)


SITES: tuple[SiteKind, ...] = (
    SiteKind("mel", "[t, m]", "n_mels", "log-mel spectrogram, the model's input", hz=100),
    SiteKind(
        "encoder.conv1",
        "[t, d]",
        "d_model",
        "first convolution, before its GELU",
        hz=100,
        aliases=("model.encoder.conv1",),
    ),
    SiteKind(
        "encoder.conv2", "[t, d]", "d_model", "second convolution, before its GELU", aliases=("model.encoder.conv2",)
    ),
    SiteKind("encoder.embed", "[t, d]", "d_model", "convolutions plus positions: the first block's input"),
    *_BLOCK_ROWS,
    SiteKind(
        "encoder.ln_post",
        "[t, d]",
        "d_model",
        "final normalised encoder output, read by the decoder",
        aliases=("encoder.layer_norm", "model.encoder.layer_norm"),
    ),
    _later("decoder.embed", "tokens plus positions", ("decoder.token_embedding", "model.decoder.embed_tokens")),
    *(_decoder_row(row) for row in _BLOCK_ROWS),
    _cross_row("q", "query projection of the text", ".query", ".q_proj"),
    _cross_row("k", "key projection of the sound", ".key", ".k_proj"),
    _cross_row("v", "value projection of the sound", ".value", ".v_proj"),
    _cross_row("scores", "scaled attention logits from text to sound", shape="[h, q, k]"),
    _cross_row("pattern", "attention weights from text to sound", shape="[h, q, k]"),
    _cross_row("z", "pattern @ v"),
    _cross_row("out", "what attention to the sound adds to the residual stream"),
    _later("decoder.ln_post", "final normalised decoder output", ("decoder.ln", "model.decoder.layer_norm")),
    _later("logits", "scores of the next token", ("proj_out",)),
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
    def hz(self) -> int:
        """Frames per second."""
        return self.row.hz

    @property
    def is_map(self) -> bool:
        """Whether the tensor is `[h, q, k]` instead of `[t, d]`."""
        return self.row.is_map

    def width(self, dims: Dims) -> int:
        """Return the size of the last axis (one head's, when a head is selected)."""
        if self.is_map:
            return dims.n_positions
        full = int(getattr(dims, self.row.width))
        return full // dims.n_heads if self.head is not None else full


_NUMBER = r"(0|[1-9][0-9]*)"


@lru_cache(maxsize=1)
def _grammar() -> tuple[tuple[re.Pattern[str], SiteKind], ...]:
    """One expression per name and alias."""

    def compiled(name: str) -> re.Pattern[str]:
        layered = re.escape(name).replace(r"\.L", rf"\.(?P<layer>{_NUMBER})")
        return re.compile(rf"{layered}(?:\[(?P<head>{_NUMBER})\])?")

    return tuple((compiled(name), row) for row in SITES for name in (row.name, *row.aliases))


def site_names(dims: Dims) -> list[str]:
    """Return the canonical names of all readable sites of a model, in forward order."""
    readable = [row for row in SITES if not row.absent]
    names: list[str] = []
    for layered, rows in groupby(readable, key=lambda row: row.layered):
        kinds = list(rows)
        names += [row.at(layer) for layer in (range(dims.n_layers) if layered else [None]) for row in kinds]
    return names


@lru_cache(maxsize=4096)
def parse_site(text: str, dims: Dims | None = None) -> Site:
    """Return the site that `text` names, canonically or by an alias.

    With `dims`, layer and head are checked against the model's sizes.

    Raises:
        InputError: unknown name (with the nearest valid ones), layer or head out of range, or a site that no
            model offers yet (with the reason).
    """
    for expression, row in _grammar():
        match = expression.fullmatch(text)
        if match is None:
            continue
        if row.absent:
            raise InputError(f"The site {text!r} cannot be read yet: {row.absent}.")
        found = match.groupdict()
        layer = None if found.get("layer") is None else int(found["layer"])
        head = None if found["head"] is None else int(found["head"])
        _check_range(text, row, layer, head, dims)
        name = row.at(layer) + ("" if head is None else f"[{head}]")
        return Site(name, row.stack, layer, row.kind, head, row)
    valid = site_names(dims) if dims else [row.name for row in SITES if not row.absent]
    raise InputError(f"There is no site {text!r}{nearest(text, valid) or '; `otoscope sites` lists all sites'}")


def _check_range(text: str, row: SiteKind, layer: int | None, head: int | None, dims: Dims | None) -> None:
    if head is not None and not row.heads:
        raise InputError(f"{text!r} asks for a head, but {row.name} is not divided into heads; drop the [{head}].")
    if dims is None:
        return
    if layer is not None and layer >= dims.n_layers:
        raise InputError(f"{text!r} asks for layer {layer}, but the layers are 0 to {dims.n_layers - 1}.")
    if head is not None and head >= dims.n_heads:
        raise InputError(f"{text!r} asks for head {head}, but the heads are 0 to {dims.n_heads - 1}.")
