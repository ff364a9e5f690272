"""Options made from settings: every field of some dataclasses, with the text below it as its help."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin

import typer
from rich.markup import escape

from otoscope.dictionaries.training.config import architecture_fields
from otoscope.dictionaries.training.fields import Field, fields_of, is_missing
from otoscope.dictionaries.training.settings import Settings
from otoscope.errors import InputError

OTHER_NAMES = {"n_features": "--features"}
"""Options that come before the one named after the field."""


def with_settings_options(run: Callable[..., None]) -> Callable[..., None]:
    """Return `run` with an option for every field of every architecture and of the training settings.

    `run` takes them as `given`, a mapping from field to text; what was not given is left out.
    """
    fields = {**architecture_options(), **{field.name: option(field, "Training") for field in _settings()}}
    own = [parameter for name, parameter in inspect.signature(run, eval_str=True).parameters.items() if name != "given"]
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in fields.items()
    ]

    @functools.wraps(run)
    def command(**values: Any) -> None:
        given = {name: values.pop(name) for name in fields}
        run(**values, given={name: value for name, value in given.items() if value is not None})

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + made
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def architecture_options() -> dict[str, Any]:
    """Return the options of all architectures, by field; the help says which of them have it, and the defaults."""
    by_field: dict[str, dict[str, Field]] = {}
    for kind, fields in architecture_fields().items():
        for name, field in fields.items():
            by_field.setdefault(name, {})[kind] = field
    every = len(architecture_fields())
    result = {}
    for name, owners in by_field.items():
        first = next(iter(owners.values()))
        where = "Architecture" if len(owners) == every else f"Architecture: {', '.join(owners)}"
        meanings: dict[str, list[str]] = {}
        for kind, field in owners.items():
            meanings.setdefault(field.meaning, []).append(kind)
        if len(meanings) > 1:
            first = replace(first, meaning=" ".join(f"{', '.join(kinds)}: {text}" for text, kinds in meanings.items()))
        result[name] = option(first, where, defaults={kind: field.default for kind, field in owners.items()})
    return result


def read_sweep(texts: Sequence[str]) -> dict[str, str]:
    """Return the values to sweep over, by field, from texts such as `k=8,16`; fields go by their options' names, too.

    Raises:
        InputError: a text is not of that form, or a field is there twice.
    """
    fields = {flag.removeprefix("--"): name for name, flag in OTHER_NAMES.items()}
    found: dict[str, str] = {}
    for text in texts:
        flag, equals, values = text.partition("=")
        name = flag.strip().removeprefix("--")
        name = fields.get(name, name.replace("-", "_"))
        if not equals or not name:
            raise InputError(f"--sweep takes a field and its values, such as k=8,16; got {text!r}.")
        if name in found:
            raise InputError(f"--sweep gives {name} twice; write all of its values behind one {name}=.")
        found[name] = values
    return found


def option(field: Field, panel: str, *, defaults: Mapping[str, Any] | None = None) -> Any:
    """Return the annotation of one option: a yes or no, or a text that `Field.read` understands."""
    flag = f"--{field.name.replace('_', '-')}"
    names = [OTHER_NAMES[field.name], flag] if field.name in OTHER_NAMES else [flag]
    shown = "" if is_missing(field) or field.default is None else _defaults(defaults or {"": field.default})
    help = escape(f"{field.meaning} {shown}".strip())
    if field.is_flag:
        info = typer.Option(f"{flag}/--no-{flag.removeprefix('--')}", help=help, rich_help_panel=panel)
        return Annotated[bool | None, info]
    return Annotated[str | None, typer.Option(*names, metavar=_metavar(field), help=help, rich_help_panel=panel)]


def _settings() -> list[Field]:
    return list(fields_of(Settings).values())


def _defaults(defaults: Mapping[str, Any]) -> str:
    """Say the default; where it differs between architectures, of each."""
    by_value: dict[str, list[str]] = {}
    for kind, value in defaults.items():
        text = "none" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        by_value.setdefault(text, []).append(kind)
    if len(by_value) == 1:
        return f"(default: {next(iter(by_value))})"
    each = [f"{value} for {', '.join(kinds)}" for value, kinds in by_value.items()]
    return f"(default: {'; '.join(each)})"


def _metavar(field: Field) -> str:
    kinds = [kind for kind in (get_args(field.type) or (field.type,)) if kind is not type(None)]
    if get_origin(field.type) is tuple or get_origin(kinds[0]) is tuple:
        return "X,X"
    if all(isinstance(kind, str) for kind in kinds):
        return "NAME"
    return "N" if kinds[0] is int else "X"
