"""What to train and how, in a file: architecture and settings, read from TOML or YAML, and the presets."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from otoscope.dictionaries.registry import architecture, architectures
from otoscope.dictionaries.training.fields import (
    Field,
    fields_of,
    is_missing,
    listed,
    read_fields,
    read_values,
)
from otoscope.dictionaries.training.learner import Spec
from otoscope.dictionaries.training.settings import SHARED, Settings
from otoscope.errors import InputError, nearest

DEFAULT_KIND = "topk"
_SWEPT_TOO = {"kind": Field("kind", str, MISSING, ""), "site": Field("site", tuple[str, ...], MISSING, "")}
_KEYS = ("title", "source", "unknown", "model", "sites", "kind", "architecture", "training", "sweep")


@dataclass(frozen=True)
class TrainingConfig:
    """A training run as it is written in a file.

    Attributes:
        kind: name of the architecture; empty: not said, which means topk in the end.
        architecture: fields of the architecture that are given.
        training: fields of `Settings` that are given.
        sites: what the dictionary reads; empty: not said.
        model: the model whose activations it was made for; empty: not said.
        sweep: values of fields (also of `kind` and `site`), a list or a text with commas; of each combination a
            dictionary is made (see `sweep_points`).
        title, source, unknown: of presets: what it reproduces, where its values come from, and what nobody knows.
    """

    kind: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    model: str = ""
    title: str = ""
    source: str = ""
    unknown: tuple[str, ...] = ()
    sweep: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> Spec:
        """Return the architecture with its settings.

        Raises:
            InputError: no such architecture or field, or a value that cannot be.
        """
        given = self._architecture()
        missing = [name for name, one in fields_of(self.spec_class).items() if is_missing(one) and name not in given]
        if missing:
            raise InputError(f"The architecture {self.spec_class.kind} needs {', '.join(missing)}.")
        return self.spec_class(**given)

    def settings(self) -> Settings:
        """Return how to train.

        Raises:
            InputError: no such field, or a value that cannot be.
        """
        return Settings(**self._training())

    @property
    def spec_class(self) -> type[Spec]:
        """The class of the architecture.

        Raises:
            InputError: there is none of that name.
        """
        return architecture(self.kind or DEFAULT_KIND)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The architectures: those swept over, or the only one."""
        return tuple(map(str, listed(self.sweep["kind"]))) if "kind" in self.sweep else (self.spec_class.kind,)

    def fields(self) -> dict[str, Field]:
        """Return the fields of the architecture; in a sweep over several, those that any of them has.

        Raises:
            InputError: there is no such architecture.
        """
        found: dict[str, Field] = {}
        for kind in self.kinds:
            found = {**fields_of(architecture(kind)), **found}
        return found

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Return what is swept over: the values of each field, read and checked.

        A site is a tuple: the names in it have `+` between them in a text (input and output of a transcoder).

        Raises:
            InputError: a field that there is not, that cannot differ on the same batches or that has one value, too;
                or a value that cannot be.
        """
        known = {**self.fields(), **fields_of(Settings)}
        found: dict[str, tuple[Any, ...]] = {}
        for name, values in self.sweep.items():
            if name in SHARED:
                raise InputError(
                    f"Dictionaries of one sweep {SHARED[name]}: {name} cannot be swept; give it one value."
                )
            if name not in known and name not in _SWEPT_TOO:
                hint = nearest(name, [*_SWEPT_TOO, *known]) or f"; there are {', '.join([*_SWEPT_TOO, *known])}."
                raise InputError(f"There is no field {name!r} to sweep over{hint}")
            if name == "site":
                values = [listed(site, "+") for site in listed(values)]
            found[name] = {**known, **_SWEPT_TOO}[name].read_all(values)
        _refuse_both(self)
        return found

    def _architecture(self) -> dict[str, Any]:
        return read_values(self.fields(), self.architecture, f"the architecture {', '.join(self.kinds)}")

    def _training(self) -> dict[str, Any]:
        return read_fields(Settings, self.training, "the training settings")

    def changed(self, other: TrainingConfig) -> TrainingConfig:
        """Return this configuration with what `other` says on top.

        Another architecture keeps of the old one's fields those that it has, too; a field that `other` gives one value
        is no longer swept over, and one that it sweeps over has no value of its own any more.
        """
        given = {*other.architecture, *other.training, *["kind"] * bool(other.kind), *["site"] * bool(other.sites)}
        old = {name: values for name, values in self.sweep.items() if name not in given}
        sweep = {**old, **other.sweep}
        kind = other.kind or ("" if "kind" in sweep else self.kind)
        known = TrainingConfig(kind, sweep=sweep).fields()
        kept = {name: value for name, value in self.architecture.items() if name in known and name not in sweep}
        return replace(
            self,
            kind=kind,
            architecture={**kept, **other.architecture},
            training={**{name: value for name, value in self.training.items() if name not in sweep}, **other.training},
            sites=other.sites or (() if "site" in sweep else self.sites),
            model=other.model or self.model,
            sweep=sweep,
        )

    def scaled(self, *, n_features: int, steps: int, batch_size: int) -> TrainingConfig:
        """Return a small copy of this run, for a trial: everything else is as it was."""
        known, given = fields_of(self.spec_class), self._architecture()
        if "k" in known:
            given["k"] = min(int(given.get("k", known["k"].default)), n_features // 8)
        small = {"steps": steps, "batch_size": batch_size, "warm_up": min(self.settings().warm_up or 0, steps // 10)}
        return replace(self, architecture={**given, "n_features": n_features}, training={**self.training, **small})

    def toml(self) -> str:
        """Return the configuration with every field, its meaning as a comment; fields without a value are commented.

        In a sweep over architectures, fields that are not given are commented, too: their defaults may differ.
        """
        axes, several = self.axes(), len(self.kinds) > 1
        head = [] if "kind" in axes else [f"kind = {json.dumps(self.spec_class.kind)}"]
        head += [f"model = {json.dumps(self.model)}"] if self.model else []
        head += [f"sites = {json.dumps(list(self.sites))}"] if self.sites else []
        parts = ["\n".join(head)] if head else []
        for title, known, given, defaults in (
            ("architecture", self.fields(), self._architecture(), not several),
            ("training", fields_of(Settings), self._training(), True),
        ):
            lines = [f"[{title}]"]
            for one in known.values():
                default = one.default if defaults and not is_missing(one) and one.name not in axes else None
                value = given.get(one.name, default)
                lines.append(f"# {one.meaning}")
                lines.append(f"# {one.name} =" if value is None else f"{one.name} = {_toml(value)}")
            parts.append("\n".join(lines))
        if axes:
            parts.append("\n".join(["[sweep]", *(f"{name} = {_toml(values)}" for name, values in axes.items())]))
        return "\n\n".join(parts) + "\n"


def read_config(path: str | os.PathLike[str]) -> TrainingConfig:
    """Read a configuration from a TOML file, or from YAML if its name ends in `.yaml` or `.yml`.

    Raises:
        InputError: no such file, not TOML or YAML, unknown keys, or values that do not fit.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"The config file {path} cannot be read: {error.strerror or error}.") from None
    return _parsed(text, str(path), yaml=path.suffix in (".yaml", ".yml"))


def preset(name: str) -> TrainingConfig:
    """Return a configuration that reproduces a published run.

    Raises:
        InputError: there is no such preset.
    """
    found = presets()
    if name not in found:
        raise InputError(f"There is no preset {name!r}{nearest(name, found) or '; there are ' + ', '.join(found)}")
    return found[name]


@cache
def presets() -> dict[str, TrainingConfig]:
    """Return every preset by name."""
    folder = resources.files("otoscope.dictionaries.training") / "presets"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): _parsed(file.read_text("utf-8"), file.name) for file in files}


def architecture_fields() -> dict[str, dict[str, Field]]:
    """Return the fields of every architecture by kind."""
    return {kind: fields_of(cls) for kind, cls in architectures().items()}


def _parsed(text: str, where: str, *, yaml: bool = False) -> TrainingConfig:
    try:
        values = _yaml(text) if yaml else tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not {'YAML' if yaml else 'TOML'}: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{where} holds no settings.")
    for key in values:
        if key not in _KEYS:
            raise InputError(f"There is no key {key!r} in a config file{nearest(str(key), _KEYS) or '.'} ({where})")
    sites = values.get("sites", ())
    made = TrainingConfig(
        kind=str(values.get("kind", "")),
        architecture=_table(values, "architecture", where),
        training=_table(values, "training", where),
        sites=(sites,) if isinstance(sites, str) else tuple(map(str, sites)),
        model=str(values.get("model", "")),
        title=str(values.get("title", "")),
        source=str(values.get("source", "")),
        unknown=tuple(map(str, values.get("unknown", ()))),
        sweep=_table(values, "sweep", where),
    )
    _refuse_both(made)
    if made.kind and "kind" not in made.sweep:
        read_fields(made.spec_class, made.architecture, f"[architecture] of {where}")
    read_fields(Settings, made.training, f"[training] of {where}")
    return made


def _table(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, dict):
        raise InputError(f"[{name}] of {where} holds fields and their values, got {found!r}.")
    return found


def _refuse_both(config: TrainingConfig) -> None:
    """Check that no field has one value and is swept over, too."""
    given = {*config.architecture, *config.training, *["kind"] * bool(config.kind), *["site"] * bool(config.sites)}
    for name in config.sweep:
        if name in given:
            raise InputError(f"{name} is given one value and swept over, too; leave one of the two out.")


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from None


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps("none" if value is None else value)
