"""Taps: the thin layer between a running model and the sites that one call reads and edits.

Every tapped module carries a permanent hook, the same for all calls. What a hook does is decided by the `Tape` of
the call it runs in, found through a context variable: two threads (or two nested calls) never meet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from otoscope.models.edits import BoundEdit
from otoscope.models.sites import Site


class DeepestSiteReached(Exception):  # noqa: N818 (not an error: it ends a forward pass early)
    """Raised inside the model when everything asked for has been read."""


class Tape:
    """What one call reads and edits, and what it has read so far."""

    def __init__(self, reads: Iterable[Site], edits: Sequence[BoundEdit] = (), starts_s: Sequence[float] = ()) -> None:
        self.starts_s = starts_s
        self.values: dict[str, Tensor] = {}
        self._missing = {site.base for site in reads}
        self._reads = frozenset(self._missing)
        self._edits: dict[str, list[BoundEdit]] = {}
        for edit in edits:
            self._edits.setdefault(edit.site.base, []).append(edit)

    def concerns(self, name: str) -> bool:
        """Whether this call reads or edits the site `name`."""
        return name in self._reads or name in self._edits

    def visit(self, name: str, value: Tensor, *, in_place: bool = False) -> Tensor:
        """Edit and read `value` (`[b, t, d]` or `[b, h, q, k]`) at the site `name`; return what the model goes on with.

        `in_place` writes the edit into `value`, for tensors that the model reads again elsewhere.

        Raises:
            DeepestSiteReached: this was the last site asked for.
        """
        for edit in self._edits.get(name, ()):
            edited = edit.apply(value, self.starts_s)
            value = value.copy_(edited) if in_place else edited
        if name in self._missing:
            self.values[name] = value
            self._missing.remove(name)
            if not self._missing:
                raise DeepestSiteReached
        return value


_TAPE: ContextVar[Tape | None] = ContextVar("otoscope_tape", default=None)


def current_tape() -> Tape | None:
    """Return the tape of the call this code runs in, if any."""
    return _TAPE.get()


@contextlib.contextmanager
def recording(tape: Tape) -> Iterator[Tape]:
    """Let the taps of the block's forward pass serve `tape`; the block ends early once all reads are done."""
    token = _TAPE.set(tape)
    try:
        with contextlib.suppress(DeepestSiteReached):
            yield tape
    finally:
        _TAPE.reset(token)


@dataclass(frozen=True)
class Tap:
    """Where a site's tensor is met: at the input or output of a module (`L` stands for the layer in both names)."""

    site: str
    module: str
    at: Literal["input", "output"] = "output"
    channels_first: bool = False
    """The module's tensor is `[b, d, t]`."""
    in_place: bool = False
    """The model reads the same tensor again outside this module (a residual stream)."""


def install_taps(model: nn.Module, taps: Iterable[Tap], n_layers: int) -> None:
    """Put the permanent hooks of `taps` on the modules of `model`; in one module, rows act in their order."""
    for tap in taps:
        for layer in range(n_layers) if ".L." in tap.site else (None,):
            number = "" if layer is None else str(layer)
            module = model.get_submodule(tap.module.replace(".L", f".{number}"))
            _install(module, tap, tap.site.replace(".L.", f".{number}."))


def _install(module: nn.Module, tap: Tap, name: str) -> None:
    def visit(tensor: Tensor) -> Tensor | None:
        tape = _TAPE.get()
        if tape is None or not tape.concerns(name):
            return None
        value = tensor.transpose(1, 2) if tap.channels_first else tensor
        visited = tape.visit(name, value, in_place=tap.in_place)
        return visited.transpose(1, 2) if tap.channels_first else visited

    if tap.at == "input":

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                value = visit(args[0])
                return None if value is None else ((value, *args[1:]), kwargs)
            key = next(iter(kwargs))
            value = visit(kwargs[key])
            return None if value is None else (args, {**kwargs, key: value})

        module.register_forward_pre_hook(before, with_kwargs=True)
    else:

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            value = visit(output)
            return output if value is None else value

        module.register_forward_hook(after)
