"""Every address inside a model, as one table; the parser, listings, refusals and documentation derive from it.

Shape letters: `t` frame, `d` model width, `m` mel bin, `h` head, `q` query frame, `k` key frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from otoscope.errors import InputError, nearest
from otoscope.models.dims import Dims

_LATER = "decoder sites and logits come with a later release"


@dataclass(frozen=True)
class SiteKind:
    """One row of the table; `L` in a name stands for the layer number."""

    name: str
    shape: str
    width: str
    """Size of the last axis, as an expression over `Dims`; `""` for attention maps (as wide as the window)."""
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


def _layer_rows(stack: str, absent: str) -> Iterator[SiteKind]:
    """The rows of one transformer block; aliases are openai-whisper's, Hugging Face's, then TransformerLens' names."""

    def row(
        kind: str,
        shape: str,
        width: str,
        meaning: str,
        openai: tuple[str, ...] = (),
        hf: tuple[str, ...] = (),
        lens: tuple[str, ...] = (),
        heads: bool = False,
    ) -> SiteKind:
        aliases = [f"{stack}.blocks.L{name}" for name in openai]
        aliases += [f"{prefix}{stack}.layers.L{name}" for name in hf for prefix in ("", "model.")]
        aliases += [f"{prefix}blocks.L.{name}" for name in lens for prefix in (f"{stack}.", "") if not absent or prefix]
        return SiteKind(f"{stack}.L.{kind}", shape, width, meaning, heads=heads, aliases=tuple(aliases), absent=absent)

    flat = "; heads side by side"
    yield row("resid_pre", "[t, d]", "d_model", "residual stream entering the block", lens=("hook_resid_pre",))
    yield row(
        "attn.q", "[t, d]", "d_model", f"query projection, before its scaling by d_head^-1/2{flat}",
        (".attn.query",), (".self_attn.q_proj",), ("attn.hook_q",), True,
    )  # fmt: skip
    yield row(
        "attn.k", "[t, d]", "d_model", f"key projection{flat}",
        (".attn.key",), (".self_attn.k_proj",), ("attn.hook_k",), True,
    )  # fmt: skip
    yield row(
        "attn.v", "[t, d]", "d_model", f"value projection{flat}",
        (".attn.value",), (".self_attn.v_proj",), ("attn.hook_v",), True,
    )  # fmt: skip
    yield row(
        "attn.scores", "[h, q, k]", "", "scaled attention logits, before the softmax",
        lens=("attn.hook_attn_scores",), heads=True,
    )  # fmt: skip
    yield row(
        "attn.pattern", "[h, q, k]", "", "attention weights, after the softmax",
        lens=("attn.hook_pattern",), heads=True,
    )  # fmt: skip
    yield row(
        "attn.z", "[t, d]", "d_model", f"pattern @ v, before the output projection{flat}",
        lens=("attn.hook_z",), heads=True,
    )  # fmt: skip
    yield row(
        "attn.out", "[t, d]", "d_model", "what attention adds to the residual stream",
        (".attn", ".attn.out"), (".self_attn", ".self_attn.out_proj"), ("hook_attn_out",),
    )  # fmt: skip
    yield row(
        "resid_mid",
        "[t, d]",
        "d_model",
        "residual stream between attention and MLP",
        lens=("hook_resid_mid",),
    )
    yield row(
        "mlp.in", "[t, d]", "d_model", "normalised input of the MLP",
        (".mlp_ln",), (".final_layer_norm",), ("ln2.hook_normalized",),
    )  # fmt: skip
    yield row(
        "mlp.pre", "[t, d]", "d_mlp", "hidden units before the non-linearity",
        (".mlp.0",), (".fc1",), ("mlp.hook_pre",),
    )  # fmt: skip
    yield row(
        "mlp.post", "[t, d]", "d_mlp", "hidden units after the non-linearity: the neurons",
        (".mlp.1",), (".activation_fn",), ("mlp.hook_post",),
    )  # fmt: skip
    yield row(
        "mlp.out", "[t, d]", "d_model", "what the MLP adds to the residual stream",
        (".mlp", ".mlp.2"), (".fc2",), ("hook_mlp_out",),
    )  # fmt: skip
    yield row(
        "resid_post",
        "[t, d]",
        "d_model",
        "residual stream leaving the block",
        ("",),
        ("",),
        ("hook_resid_post",),
    )


def _later(name: str, meaning: str, aliases: tuple[str, ...] = ()) -> SiteKind:
    return SiteKind(name, "[t, d]", "d_model", meaning, aliases=aliases, absent=_LATER, writable=False)


SITES: tuple[SiteKind, ...] = (
    SiteKind("mel", "[t, m]", "n_mels", "log-mel spectrogram, the model's input", hz=100),
    SiteKind(
        "encoder.conv1", "[t, d]", "d_model", "first convolution, before its GELU", hz=100,
        aliases=("model.encoder.conv1",),
    ),
    SiteKind(
        "encoder.conv2", "[t, d]", "d_model", "second convolution, before its GELU",
        aliases=("model.encoder.conv2",),
    ),
    SiteKind("encoder.embed", "[t, d]", "d_model", "convolutions plus positions: the first block's input"),
    *_layer_rows("encoder", ""),
    SiteKind(
        "encoder.ln_post", "[t, d]", "d_model", "final normalised encoder output, read by the decoder",
        aliases=("encoder.layer_norm", "model.encoder.layer_norm"),
    ),
    _later("decoder.embed", "tokens plus positions", ("decoder.token_embedding", "model.decoder.embed_tokens")),
    *_layer_rows("decoder", _LATER),
    *(
        _later(f"decoder.L.cross.{kind}", "attention from text to sound", aliases)
        for kind, aliases in {
            "q": ("decoder.blocks.L.cross_attn.query", "model.decoder.layers.L.encoder_attn.q_proj"),
            "k": ("decoder.blocks.L.cross_attn.key", "model.decoder.layers.L.encoder_attn.k_proj"),
            "v": ("decoder.blocks.L.cross_attn.value", "model.decoder.layers.L.encoder_attn.v_proj"),
            "scores": (),
            "pattern": (),
            "z": (),
            "out": ("decoder.blocks.L.cross_attn", "model.decoder.layers.L.encoder_attn"),
        }.items()
    ),
    _later("decoder.ln_post", "final normalised decoder output", ("decoder.ln", "model.decoder.layer_norm")),
    _later("logits", "scores of the next token", ("proj_out",)),
)  # fmt: skip
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
    return [
        row.at(layer)
        for layer, row in sorted(
            (
                (layer, row)
                for row in SITES
                if not row.absent
                for layer in (range(dims.n_layers) if row.layered else (None,))
            ),
            key=lambda item: _forward_order(item[1], item[0], dims),
        )
    ]


def _forward_order(row: SiteKind, layer: int | None, dims: Dims) -> tuple[int, int]:
    index = SITES.index(row)
    if layer is not None:
        return layer, index
    return (-1, index) if index < SITES.index(_ROW["encoder.L.resid_pre"]) else (dims.n_layers, index)


_ROW = {row.name: row for row in SITES}


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
