"""Addresses inside a model: parsing, and what an address means for a model of given sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from otoscope.errors import InputError, nearest
from otoscope.models.clock import Clock
from otoscope.models.dims import SAMPLE_RATE_HZ, Dims
from otoscope.models.site_table import SITES, Alias, SiteKind


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
def _grammar() -> tuple[tuple[re.Pattern[str], SiteKind, Alias], ...]:
    """One expression per name and alias."""

    def compiled(name: str) -> re.Pattern[str]:
        layered = re.escape(name).replace(r"\.L", rf"\.(?P<layer>{_NUMBER})")
        return re.compile(rf"{layered}(?:\[(?P<head>{_NUMBER})\])?")

    names = [(row, Alias(row.name)) for row in SITES]
    aliases = [(row, alias) for row in SITES for alias in row.aliases]
    return tuple((compiled(alias.name), row, alias) for row, alias in [*names, *aliases])


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
    for expression, row, alias in _grammar():
        match = expression.fullmatch(text)
        if match is None or (dims is not None and not alias.fits(dims)):
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
