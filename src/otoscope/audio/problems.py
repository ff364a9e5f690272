"""What cannot be used when a corpus is opened: named with its place and reason, and refused or skipped as chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from otoscope.errors import InputError, nearest

OnError = Literal["raise", "skip"]
"""What to do about items that cannot be used: refuse the whole, or go on without them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that cannot be used: a row, a recording, an interval.

    Attributes:
        place: the file, with its line or row where there is one.
        reason: what is wrong with it, with the value.
        clip_id: the clip it concerns, where there is one.
    """

    place: str
    reason: str
    clip_id: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class Problems:
    """Collects what cannot be used, so that a large corpus names all its faults at once and not the first alone."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, place: str | Path, reason: str, clip_id: str | None = None) -> None:
        """Note an item that cannot be used."""
        self.found.append(Problem(str(place), reason.rstrip("."), clip_id))

    def item(self, place: str | Path) -> _Item:
        """Note what is refused inside a `with` block as a problem of `place`, and go on after it."""
        return _Item(self, str(place))

    def settle(self, on_error: OnError) -> tuple[Problem, ...]:
        """Return the problems to go on without, or refuse the whole because of them.

        Raises:
            InputError: there are problems, and they are not to be skipped; names the first and counts the rest.
        """
        check_on_error(on_error)
        if self.found and on_error == "raise":
            count = len(self.found)
            rest, them = (f" (and {count - 1:,} more)", "them") if count > 1 else ("", "it")
            raise InputError(
                f"{self.found[0]}{rest}; mend {them}, or go on without {them}: --on-error skip of otoscope corpus "
                f'(in Python on_error="skip").'
            )
        return tuple(self.found)


class _Item:
    def __init__(self, problems: Problems, place: str) -> None:
        self._problems, self._place = problems, place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, InputError):
            return False
        self._problems.add(self._place, str(error).removeprefix(self._place).lstrip(":, "))
        return True


def check_on_error(on_error: str, name: str = "on_error") -> OnError:
    """Return a choice that is one; `name` is how it is asked for.

    Raises:
        InputError: neither "raise" nor "skip".
    """
    choices: tuple[OnError, ...] = get_args(OnError)
    for choice in choices:
        if choice == on_error:
            return choice
    raise InputError(f"{name} must be {' or '.join(choices)}, not {on_error!r}{nearest(on_error, choices) or '.'}")
