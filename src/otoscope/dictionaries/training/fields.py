"""Settings as data: their names, types, defaults and the text below each, read from the dataclass that holds them."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from otoscope.errors import InputError, nearest


@dataclass(frozen=True)
class Field:
    """One setting: its name, type, default (`MISSING` where it must be given) and what it means."""

    name: str
    type: Any
    default: Any
    meaning: str

    @property
    def is_flag(self) -> bool:
        """Whether it is a yes or no."""
        return self.type is bool

    def read(self, value: object) -> Any:
        """Return a value of this setting from a config file or, as text, from the command line.

        Raises:
            InputError: it is not of the type.
        """
        try:
            return _converted(value, self.type)
        except (TypeError, ValueError):
            raise InputError(f"{self.name} must be {_described(self.type)}, got {value!r}.") from None

    def read_all(self, values: object) -> tuple[Any, ...]:
        """Return several values: from a list, or from a text with commas (`;` where a value has commas itself).

        Raises:
            InputError: there is none, one is there twice, or one is not of the type.
        """
        read = [self.read(text) for text in listed(values, ";" if self._has_commas else ",")]
        if not read:
            raise InputError(f"No value of {self.name} is given; write {self.name}=VALUE,VALUE.")
        for index, value in enumerate(read):
            if value in read[:index]:
                raise InputError(f"{self.name} has the value {value} twice; give every value once.")
        return tuple(read)

    @property
    def _has_commas(self) -> bool:
        return tuple in (get_origin(self.type), *map(get_origin, get_args(self.type)))


def listed(values: object, between: str = ",") -> list[Any]:
    """Return the entries of a list, of a text with `between` between them, or the one value that stands alone."""
    if isinstance(values, str):
        return [text.strip() for text in values.split(between) if text.strip()]
    return list(values) if isinstance(values, list | tuple) else [values]


@cache
def fields_of(cls: type) -> dict[str, Field]:
    """Return every field of a dataclass, inherited ones too, with the docstring below it."""
    hints = get_type_hints(cls)
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is not object and hasattr(base, "__dataclass_fields__"):
            meanings |= _docstrings(base)
    return {
        field.name: Field(field.name, hints[field.name], field.default, meanings.get(field.name, ""))
        for field in fields(cls)
    }


def read_fields(cls: type, values: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return `values` converted to the types of a dataclass; raises as `read_values`."""
    return read_values(fields_of(cls), values, where)


def read_values(known: Mapping[str, Field], values: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return `values` converted to the types of these fields.

    Raises:
        InputError: an unknown field, with the nearest ones, or a value that does not fit.
    """
    for name in values:
        if name not in known:
            hint = nearest(name, known) or f"; it has {', '.join(known)}."
            raise InputError(f"There is no setting {name!r} in {where}{hint}")
    return {name: known[name].read(value) for name, value in values.items()}


def is_missing(field: Field) -> bool:
    """Whether the setting has no default."""
    return field.default is MISSING


def _docstrings(cls: type) -> dict[str, str]:
    """Return the strings that stand below the fields of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split())
    return found


def _converted(value: object, kind: Any) -> Any:
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in choices and (value is None or value in ("", "none")):
            return None
        return _converted(value, next(choice for choice in choices if choice is not type(None)))
    if origin is Literal:
        if value not in choices:
            raise ValueError
        return value
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        wanted = [choices[0]] * len(parts) if Ellipsis in choices else choices
        if len(parts) != len(wanted):
            raise ValueError
        return tuple(_converted(part, one) for part, one in zip(parts, wanted, strict=True))
    if kind is bool:
        if value not in (True, False, "true", "false"):
            raise ValueError
        return value in (True, "true")
    if isinstance(value, bool):
        raise ValueError
    if kind is int:
        number = float(value) if not isinstance(value, str) else float(value.replace("_", ""))  # type: ignore[arg-type]
        if number != int(number):
            raise ValueError
        return int(number)
    if kind is float:
        return float(value)  # type: ignore[arg-type]
    if kind is str and isinstance(value, str):
        return value
    raise ValueError


def _described(kind: Any) -> str:
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = " or ".join(_described(choice) for choice in choices if choice is not type(None))
        return f"{inner}, or none" if type(None) in choices else inner
    if origin is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if origin is tuple:
        return "numbers with commas between them" if Ellipsis in choices else f"{len(choices)} numbers"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, str(kind))
