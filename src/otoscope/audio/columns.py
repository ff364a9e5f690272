"""Columns of texts and of times in little memory, read one value at a time."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

PER_S = (1_000_000, 16_000)
"""Times are looked for among whole microseconds, and among samples at 16 kHz."""
_SHARED = 4096
"""So many different texts are held as objects, which their readers share: speakers, names of attributes."""


def small(numbers: Ints) -> Ints:
    """Return non-negative numbers in as few bytes as the largest needs."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def one_by_one(numbers: Ints) -> memoryview[int]:
    """Return the same, for reading single numbers, which an array is slow at."""
    return memoryview(small(numbers).data).toreadonly()


class Texts:
    """A column of texts, each different one held once, as bytes.

    Args:
        codes: the number of each row's text, `[n]`; one too large means that the row has none.
        offsets: where each of the texts begins in `utf8`, and where the last ends, `[texts + 1]`.
        utf8: all texts, one after another.

    Attributes:
        get: returns the text of a row, or None where it has none.
        full: whether every row has one.
    """

    __slots__ = ("_codes", "full", "get")

    def __init__(self, codes: Ints, offsets: Ints, utf8: bytes) -> None:
        n_texts = len(offsets) - 1
        self.full = int(codes.max(initial=-1)) < n_texts
        in_order = len(codes) == n_texts and bool((codes == np.arange(n_texts)).all())
        self._codes: Sequence[int] = range(n_texts) if in_order else one_by_one(codes)
        held_apart = in_order or n_texts > _SHARED
        self.get = (_decoding if held_apart else _sharing)(self._codes, offsets, utf8)

    def __len__(self) -> int:
        return len(self._codes)


def _decoding(codes: Sequence[int], offsets: Ints, utf8: bytes) -> Callable[[int], str | None]:
    """Return what makes the text of a row."""
    bounds, n_texts = one_by_one(offsets), len(offsets) - 1

    def get(row: int) -> str | None:
        code = codes[row]
        return utf8[bounds[code] : bounds[code + 1]].decode() if code < n_texts else None

    return get


def _sharing(codes: Sequence[int], offsets: Ints, utf8: bytes) -> Callable[[int], str | None]:
    """Return what finds the text of a row among objects."""
    texts: list[str | None] = [sys.intern(utf8[a:b].decode()) for a, b in itertools.pairwise(offsets.tolist())]
    texts.append(None)
    return lambda row: texts[codes[row]]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, in whole parts of a second where that says exactly the same.

    Attributes:
        held: `[n]`: parts of a second in few bytes, or seconds.
        per_s: how many parts a second has; 0: `held` are seconds.
    """

    held: npt.NDArray[Any]
    per_s: int

    def seconds(self, first: int, stop: int) -> npt.NDArray[np.float64]:
        """Return some of them in seconds."""
        held = self.held[first:stop]
        found: npt.NDArray[np.float64] = held / self.per_s if self.per_s else held
        return found

    def take(self, order: npt.NDArray[np.intp]) -> Times:
        """Return some of them."""
        return Times(self.held[order], self.per_s)


def packed_times(seconds: npt.NDArray[np.float64]) -> Times:
    """Return times in as little memory as says exactly the same; NaN, where there is none, stays NaN."""
    for per_s in PER_S:
        parts = np.rint(seconds * per_s)
        if not np.array_equal(parts / per_s, seconds) or np.signbit(seconds).any():
            continue  # NaN is equal to nothing, and −0 is not written as 0 is
        if parts.max(initial=0.0) < 2**32:
            return Times(small(parts.astype(np.int64)), per_s)
    return Times(seconds, 0)


def joined_times(pieces: list[Times]) -> Times:
    """Return the times of all pieces, one after another."""
    if len({piece.per_s for piece in pieces}) == 1:
        return Times(np.concatenate([piece.held for piece in pieces]), pieces[0].per_s)
    return Times(np.concatenate([piece.seconds(0, len(piece.held)) for piece in pieces]), 0)


def alternating(starts: Times, ends: Times) -> Times:
    """Return starts and ends of as many intervals by turns, `[2 n]`."""
    alike = starts.per_s == ends.per_s
    both = [each.held if alike else each.seconds(0, len(each.held)) for each in (starts, ends)]
    return Times(np.stack(both, axis=1).reshape(-1), starts.per_s if alike else 0)


def time_of(times: Times) -> Callable[[int], float | None]:
    """Return what gives the time of a row in seconds, or None where there is none."""
    if times.per_s:
        parts, per_s = one_by_one(times.held), times.per_s
        return lambda row: parts[row] / per_s
    held = times.held
    if np.isnan(held).all():
        return lambda row: None

    def get(row: int) -> float | None:
        seconds = float(held[row])
        return None if math.isnan(seconds) else seconds

    return get
