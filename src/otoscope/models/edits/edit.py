"""The edit itself: what to do, at which site and where; not yet held against a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypedDict, Unpack, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.run import Run
from otoscope.models.sites import parse_site

Op = Literal["zero", "mean", "scale", "add", "clamp", "limit", "patch", "resample", "band", "splice"]
FEATURE_OPS: tuple[Op, ...] = ("zero", "mean", "scale", "add", "clamp", "limit", "patch", "resample")
_WITH_VECTOR = ("add", "mean")
_WITH_SOURCE = ("patch", "resample")
_HEAD = re.compile(r"((?:encoder|decoder)\.[0-9]+\.(?:attn|cross))(?:\.z)?\[([0-9]+)\]")
_ATTENTION = re.compile(r"((?:encoder|decoder)\.[0-9]+\.attn)(?:\.scores)?(\[[0-9]+\])?")


@runtime_checkable
class FeatureReader(Protocol):
    """What a feature edit needs of a dictionary: a feature's value in each frame and the direction it writes."""

    @property
    def site(self) -> str:
        """Canonical name of the site it reads."""

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        """Return the values `[…, len(features)]` of features of activations `h [..., d]`."""

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return the directions `[len(features), d]` that the features add to the reconstruction."""


@runtime_checkable
class Reconstructor(Protocol):
    """What splicing needs of a dictionary: its reconstruction of activations."""

    @property
    def site(self) -> str:
        """Canonical name of the site it reads."""

    def reconstruct(self, h: Tensor) -> Tensor:
        """Return what the dictionary makes of activations `h [..., d]`."""


class MeanSource(Protocol):
    """What knows the mean activation of a site, e.g. an `ActivationStore`."""

    def mean(self, site: str) -> np.ndarray:
        """Return the mean over all frames, `[d]`."""


class Where(TypedDict, total=False):
    """Which part of a site an edit concerns; what is not said is not limited.

    `units` are columns (of attention maps: keys). Rows (of attention maps: queries) are chosen by `time_s` (seconds
    of the clip) or `frames` (positions of the site, counted from the clip's start) where they are moments, and by
    `tokens` where they are tokens: positions of the decoder's input counted from its start, prompt included.
    `keys_s` chooses, in attention maps over the sound, the key frames by seconds. Ends are exclusive.
    """

    units: Sequence[int] | None
    time_s: tuple[float, float] | None
    frames: tuple[int, int] | None
    tokens: tuple[int, int] | None
    keys_s: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Edit:
    """One intervention, `op` at `site`, limited as `Where` says. The class methods make them and explain each.

    Without a range every position changes, padding included; several edits act in the given order. Feature edits
    keep the reconstruction error: `h' = h + (f'(h) − f(h)) @ directions`; nothing else changes.

    Raises:
        InputError: unknown operation, a number that is not finite, an empty range or selection, or settings that
            do not belong together.
    """

    site: str
    op: Op
    value: float = 0.0
    vector: Tensor | None = None
    """What is added or set, `[d]`: as wide as the site or as the units selected."""
    source: Tensor | None = None
    """What is patched in or resampled: rows `[n, d]`, or a map `[h, q, k]`."""
    offset: int = 0
    """The row of `source` that replaces row 0."""
    low: float | None = None
    high: float | None = None
    units: tuple[int, ...] | None = None
    time_s: tuple[float, float] | None = None
    frames: tuple[int, int] | None = None
    tokens: tuple[int, int] | None = None
    keys_s: tuple[float, float] | None = None
    features: tuple[int, ...] | None = None
    dictionary: FeatureReader | Reconstructor | None = None

    def __post_init__(self) -> None:
        if self.op not in get_args(Op):
            raise InputError(f"There is no edit {self.op!r}; the edits are {', '.join(get_args(Op))}.")
        for name in ("units", "features"):
            if (chosen := getattr(self, name)) is not None:
                object.__setattr__(self, name, _integers(chosen, f"The {name} of an edit"))
        self._check_numbers()
        self._check_ranges()
        self._check_combination()

    def _check_numbers(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise InputError(f"The value of an edit must be a finite number, not {number}.")
        for tensor, what in ((self.vector, "vector"), (self.source, "activations")):
            if tensor is None:
                continue
            masked = what == "activations" and ".scores" in self.site  # minus infinity hides a key
            if not bool((~tensor.isnan() if masked else tensor.isfinite()).all()):
                raise InputError(f"The {what} given for {self.site} must be finite, but holds NaN or infinity.")
        if self.op == "limit":
            if self.low is None and self.high is None:
                raise InputError("A limit needs a `low`, a `high`, or both.")
            if self.low is not None and self.high is not None and self.low > self.high:
                raise InputError(f"A limit's low must not exceed its high, as in {self.low:g} to {self.high:g}.")
        if self.op == "band" and (self.value < 0 or self.value != int(self.value)):
            raise InputError(f"A band is a whole number of positions from 0, not {self.value:g}.")

    def _check_ranges(self) -> None:
        for name in ("time_s", "keys_s"):
            if (span := getattr(self, name)) is not None:
                start, end = _pair(span, name)
                if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
                    raise InputError(
                        f"An edit's {name} must be start < end in seconds from 0, not {start:g} to {end:g}."
                    )
        for name in ("frames", "tokens"):
            if (positions := getattr(self, name)) is not None:
                first, stop = _integers(_pair(positions, name), f"An edit's {name}")
                if not 0 <= first < stop:
                    raise InputError(f"An edit's {name} must be first < stop counted from 0, not {first} to {stop}.")
        if sum(span is not None for span in (self.time_s, self.frames, self.tokens)) > 1:
            raise InputError(f"The edit at {self.site} has several ranges; give time_s, frames or tokens.")
        for what, chosen in (("units", self.units), ("features", self.features)):
            if chosen is not None and len(chosen) == 0:
                raise InputError(f"The edit at {self.site} selects no {what}; give at least one, or None for all.")

    def _check_combination(self) -> None:
        if self.features is not None and self.dictionary is None:
            raise InputError("A feature edit needs both `features` and the `dictionary` they belong to.")
        if self.dictionary is not None and (self.features is None) != (self.op == "splice"):
            raise InputError(
                "A dictionary is either spliced in as a whole, `Edit.splice`, or edited by `features`; give one."
            )
        if self.op == "splice" and self.dictionary is None:
            raise InputError("To splice is to replace activations by a dictionary's reconstruction; name `dictionary`.")
        if self.features is not None and (self.units is not None or self.op not in FEATURE_OPS):
            raise InputError(f"A feature edit takes no `units` and is one of {', '.join(FEATURE_OPS)}.")
        if self.vector is not None and self.op not in _WITH_VECTOR:
            raise InputError(f"A vector can be added, or set as a mean, but {self.op!r} takes no vector.")
        if self.op == "mean" and self.vector is None:
            raise InputError("A mean ablation needs the mean: a vector, a store, or another run.")
        if (self.source is None) == (self.op in _WITH_SOURCE):
            raise InputError(f"Activations of a run belong to {' and '.join(_WITH_SOURCE)}, and {self.op!r} is given.")
        if self.op in ("band", "splice") and (self.units is not None or self.keys_s is not None):
            raise InputError(f"The edit {self.op!r} concerns whole rows, so it takes neither units nor keys_s.")

    @classmethod
    def zero(cls, site: str, **where: Unpack[Where]) -> Edit:
        """Set to zero."""
        return cls(site, "zero", **_where(where))

    @classmethod
    def mean(
        cls, site: str, of: Tensor | np.ndarray | Sequence[float] | MeanSource | Run, **where: Unpack[Where]
    ) -> Edit:
        """Set every row to one vector: the mean over a store's frames, over a run's rows, or the vector given."""
        if isinstance(of, Run):
            vector = _source(of, site).double().mean(0)
        elif hasattr(of, "mean") and not isinstance(of, Tensor | np.ndarray):
            vector = torch.as_tensor(of.mean(site.partition("[")[0]))
        else:
            vector = torch.as_tensor(of)
        return cls(site, "mean", vector=_vector(vector, site), **_where(where))

    @classmethod
    def scale(cls, site: str, factor: float, **where: Unpack[Where]) -> Edit:
        """Multiply by `factor`."""
        return cls(site, "scale", value=factor, **_where(where))

    @classmethod
    def add(
        cls,
        site: str,
        what: float | Tensor | np.ndarray | Sequence[float],
        *,
        alpha: float = 1.0,
        **where: Unpack[Where],
    ) -> Edit:
        """Add a number, or `alpha` times a vector as wide as the site (or as the selection of units)."""
        if isinstance(what, int | float):
            return cls(site, "add", value=alpha * what, **_where(where))
        return cls(site, "add", vector=_vector(what, site) * alpha, **_where(where))

    @classmethod
    def shift(
        cls,
        site: str,
        from_mean: Tensor | np.ndarray | Sequence[float],
        to_mean: Tensor | np.ndarray | Sequence[float],
        *,
        alpha: float = 1.0,
        **where: Unpack[Where],
    ) -> Edit:
        """Move from one class towards another: add `alpha · (to_mean − from_mean)` (see `class_means`)."""
        return cls.add(site, _vector(to_mean, site) - _vector(from_mean, site), alpha=alpha, **where)

    @classmethod
    def clamp(cls, site: str, value: float, **where: Unpack[Where]) -> Edit:
        """Set to `value`."""
        return cls(site, "clamp", value=value, **_where(where))

    @classmethod
    def limit(cls, site: str, *, low: float | None = None, high: float | None = None, **where: Unpack[Where]) -> Edit:
        """Raise what lies below `low` to it, and lower what lies above `high`."""
        return cls(site, "limit", low=low, high=high, **_where(where))

    @classmethod
    def patch(cls, site: str, run: Run, *, offset: int = 0, **where: Unpack[Where]) -> Edit:
        """Put in what another run had at the site: its row i + `offset` replaces row i.

        Rows for which the run has nothing (padding, its end) stay as they are. On attention maps the part that both
        have is replaced.
        """
        return cls(site, "patch", source=_source(run, site), offset=int(offset), **_where(where))

    @classmethod
    def resample(cls, site: str, run: Run, **where: Unpack[Where]) -> Edit:
        """Put in what another clip had at the same positions, repeated cyclically where it is shorter."""
        return cls(site, "resample", source=_source(run, site), **_where(where))

    @classmethod
    def band(cls, attention: str, k: int, **where: Unpack[Where]) -> Edit:
        """Let each position attend only to those at most `k` away: `|i − j| <= k`, before the softmax.

        `attention` is `encoder.2.attn` (all its heads) or `encoder.2.attn[3]`; `band_edits` makes the edits of
        many layers.
        """
        match = _ATTENTION.fullmatch(attention)
        site = attention if match is None else f"{match[1]}.scores{match[2] or ''}"
        return cls(site, "band", value=k, **_where(where))

    @classmethod
    def knock_out(
        cls,
        head: str,
        by: Tensor | np.ndarray | Sequence[float] | MeanSource | Run | None = None,
        **where: Unpack[Where],
    ) -> Edit:
        """Silence one head, `encoder.2.attn[3]`: zero its z, or set it to a mean (a vector or store `by`), or to
        what it was on another clip (a run `by`)."""
        match = _HEAD.fullmatch(head)
        if match is None:
            raise InputError(f"A head to knock out is written encoder.2.attn[3] or decoder.0.cross[1], not {head!r}.")
        site = f"{match[1]}.z[{match[2]}]"
        if by is None:
            return cls.zero(site, **where)
        return cls.resample(site, by, **where) if isinstance(by, Run) else cls.mean(site, by, **where)

    @classmethod
    def splice(cls, dictionary: Reconstructor, **where: Unpack[Where]) -> Edit:
        """Replace the activations by the dictionary's reconstruction of them, its error included."""
        site = getattr(dictionary, "target_site", dictionary.site)
        return cls(site, "splice", dictionary=dictionary, **_where(where))

    @property
    def is_identity(self) -> bool:
        """Whether the edit changes nothing by definition (scale by 1, add 0)."""
        if self.op == "add":
            return self.value == 0 if self.vector is None else not bool(self.vector.any())
        return self.op == "scale" and self.value == 1

    def to_json(self) -> dict[str, Any]:
        """Return the edit as plain values; a dictionary is given by its name.

        Raises:
            InputError: the edit holds a tensor, which JSON is no place for.
        """
        if self.vector is not None or self.source is not None:
            raise InputError(f"The edit at {self.site} holds activations, which cannot be written as JSON.")
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or (value == field.default and field.name != "op"):
                continue
            found[field.name] = list(value) if isinstance(value, tuple) else value
        if self.dictionary is not None:
            found["dictionary"] = getattr(self.dictionary, "name", "")
        return found

    @classmethod
    def from_json(
        cls, value: Mapping[str, Any], find_dictionary: Callable[[str], FeatureReader | Reconstructor] | None = None
    ) -> Edit:
        """Return the edit that `to_json` wrote; `find_dictionary` opens dictionaries by name.

        Raises:
            InputError: unknown or missing settings, settings that do not fit, or a dictionary without a way to open it.
        """
        known = {field.name for field in fields(cls)} - {"vector", "source"}
        if strange := sorted(set(value) - known):
            raise InputError(f"An edit has no setting {strange[0]!r}; it has {', '.join(sorted(known))}.")
        if missing := [name for name in ("site", "op") if not isinstance(value.get(name), str)]:
            raise InputError(f"An edit needs a {missing[0]}.")
        settings: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in value.items()
        }
        if name := settings.pop("dictionary", None):
            if find_dictionary is None:
                raise InputError(f"The edit names the dictionary {name!r}; say how to open it (`find_dictionary`).")
            settings["dictionary"] = find_dictionary(name)
        try:
            return cls(**settings)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"The edit {dict(value)} cannot be read: {error}.") from error


def _where(where: Where) -> dict[str, Any]:
    return dict(where)


def _integers(values: Sequence[Any], what: str) -> tuple[int, ...]:
    found = tuple(int(value) for value in values)
    if any(number != value for number, value in zip(found, values, strict=True)):
        raise InputError(f"{what} must be whole numbers, not {list(values)}.")
    return found


def _pair(values: Sequence[Any], name: str) -> tuple[Any, Any]:
    if len(values) != 2:
        raise InputError(f"An edit's {name} has a start and an end, not {len(values)} values.")
    return values[0], values[1]


def _vector(values: Tensor | np.ndarray | Sequence[float], site: str) -> Tensor:
    vector = torch.as_tensor(values).detach().to("cpu", torch.float32)
    if vector.ndim != 1:
        raise InputError(f"The vector given for {site} has shape {tuple(vector.shape)}; it must have one axis.")
    return vector


def _source(run: Run, site: str) -> Tensor:
    if not isinstance(run, Run):
        raise InputError(f"Activations are taken from a run (`model.run(clip, [site])`), not a {type(run).__name__}.")
    parsed = parse_site(site, run.dims)
    if parsed.of_text(run.dims) and len({position.window for position in run.positions}) > 1:
        raise InputError(f"The run of {run.clip_id!r} spans several windows, so tokens of {site} cannot be matched.")
    if parsed.head is None or parsed.name in run:
        return run[parsed.name]
    return run[parsed.base][parsed.head] if parsed.is_map else run[parsed.base]
