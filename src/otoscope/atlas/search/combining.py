"""Frames where several features fire together: `12 and not 88`, `(12 > 0.5 or f7) and not 88`.

    expression = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | feature [ (">" | ">=" | "<" | "<=") number ]
    feature    = digits, with or without "f" before them

A feature alone means that it is active. A frame's value is how well it fits, from 0 to 1: a feature counts
value / max where it is active as asked, `and` takes the lower of two, `or` the higher (Zadeh 1965), and `not`
only removes frames.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from otoscope.atlas.search.ranges import Found, FrameRange, in_moments
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

MAX_LENGTH = 1000
MAX_FEATURES = 32
MAX_DEPTH = 32
MAX_COMPLEMENT = 1 << 27
"""A query for frames in which something is *not* the case may go through this many frames (31 days)."""
SPARSE = 16
"""Where fewer frames than one in so many are in the lists, one is looked up in the other; else a table of frames is
made."""

Ints = npt.NDArray[np.int64]
_TOKEN = re.compile(
    r"\s*(?:(?P<word>and|or|not)\b|f?(?P<number>\d+(?:\.\d+)?|\.\d+)(?![\w.])|(?P<sign>>=|<=|>|<|\(|\)))", re.I
)
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class _Frames:
    """A set of frames, or (`rest`) all others; values only of frames that are named."""

    frames: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]
    rest: bool = False


def frames_where(atlas: Atlas, query: str, sort: str, limit: int, offset: int) -> FrameRange:
    """See `Atlas.frames_where`."""
    found = _Parser(atlas, query).parse()
    if found.rest:
        n_frames = int(atlas.meta["n_frames"])
        if n_frames > MAX_COMPLEMENT:
            raise InputError(f"{query!r} holds nearly everywhere; say also which feature must be active.")
        inside = np.ones(n_frames, dtype=bool)
        inside[found.frames] = False
        frames = np.flatnonzero(inside).astype(np.uint32)
        found = _Frames(frames, np.zeros(len(frames), dtype=np.float32))
    return in_moments(atlas, Found(found.frames, found.values), sort, limit, offset)


class _Parser:
    """Reads an expression from left to right and evaluates it on the way."""

    def __init__(self, atlas: Atlas, query: str) -> None:
        self.atlas, self.query = atlas, query
        if len(query) > MAX_LENGTH:
            raise InputError(f"The query has {len(query)} characters; {MAX_LENGTH} are allowed.")
        self.tokens: list[tuple[str, int]] = []
        self.at = self.n_features = 0
        position = 0
        while query[position:].strip():
            match = _TOKEN.match(query, position)
            blanks = len(query[position:]) - len(query[position:].lstrip())
            if match is None:
                self._refuse("expected a feature, a number, and, or, not, >, < or a parenthesis", position + blanks)
            self.tokens.append((match[0].strip().lower(), position + blanks))
            position = match.end()

    def parse(self) -> _Frames:
        """Return the frames of the whole query."""
        found = self._either(0)
        if self.at < len(self.tokens):
            self._refuse("expected and, or, or the end")
        return found

    def _either(self, depth: int) -> _Frames:
        found = self._both(depth)
        while self._take("or"):
            found = _union(found, self._both(depth))
        return found

    def _both(self, depth: int) -> _Frames:
        found = self._single(depth)
        while self._take("and"):
            found = _intersection(found, self._single(depth))
        return found

    def _single(self, depth: int) -> _Frames:
        if depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} nested parentheses or nots")
        if self._take("not"):
            return _complement(self._single(depth + 1))
        if self._take("("):
            found = self._either(depth + 1)
            if not self._take(")"):
                self._refuse("expected a closing parenthesis")
            return found
        return self._feature()

    def _feature(self) -> _Frames:
        name = self._next()
        if not re.fullmatch(r"f?\d+", name):
            self._refuse("expected a feature")
        feature = int(name.removeprefix("f"))
        if feature >= len(self.atlas):
            self._refuse(f"there is no feature {feature}, features go from 0 to {len(self.atlas) - 1}")
        self.n_features += 1
        if self.n_features > MAX_FEATURES:
            self._refuse(f"more than {MAX_FEATURES} features")
        self.at += 1
        frames, values = self.atlas.postings[feature]
        top = self.atlas[feature].figure("max")
        fit = values / np.float32(top if top > 0 else 1)
        sign = self._next()
        if sign not in _COMPARE:
            return _Frames(frames, fit)
        self.at += 1
        if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", self._next()):
            self._refuse(f"expected a number after {sign}")
        bound = np.float32(self._next())
        self.at += 1
        # What is not in the atlas counts as 0, so that "below" holds for all frames but those above.
        if _COMPARE[sign](np.float32(0.0), bound):
            kept = ~_COMPARE[sign](values, bound)
            return _Frames(frames[kept], np.zeros(int(kept.sum()), np.float32), rest=True)
        kept = _COMPARE[sign](values, bound)
        return _Frames(frames[kept], fit[kept])

    def _next(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self, token: str) -> bool:
        found = self._next() == token
        self.at += found
        return found

    def _refuse(self, what: str, position: int | None = None) -> NoReturn:
        if position is None:
            position = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.query)
        raise InputError(f"{self.query!r} cannot be understood at character {position + 1}: {what}.")


def _complement(a: _Frames) -> _Frames:
    return _Frames(a.frames, a.values, not a.rest)


def _intersection(a: _Frames, b: _Frames) -> _Frames:
    if a.rest and b.rest:
        return _complement(_union(_complement(a), _complement(b)))
    if a.rest:
        a, b = b, a
    of_a, of_b = _common(a.frames, b.frames)
    if b.rest:
        outside = np.ones(len(a.frames), dtype=bool)
        outside[of_a] = False
        return _Frames(a.frames[outside], a.values[outside])
    return _Frames(a.frames[of_a], np.minimum(a.values[of_a], b.values[of_b]))


def _union(a: _Frames, b: _Frames) -> _Frames:
    if a.rest or b.rest:
        return _complement(_intersection(_complement(a), _complement(b)))
    frames = np.concatenate([a.frames, b.frames])
    values = np.concatenate([a.values, b.values])
    order = np.argsort(frames, kind="stable")  # two ascending runs: one merge
    frames, values = frames[order], values[order]
    first = np.flatnonzero(np.concatenate(([True], frames[1:] != frames[:-1]))[: len(frames)])
    if not len(first):
        return _Frames(frames, values)
    return _Frames(frames[first], np.maximum.reduceat(values, first))


def _common(a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32]) -> tuple[Ints, Ints]:
    """Where the frames that two ascending lists share are in each."""
    if len(a) > len(b):
        of_b, of_a = _common(b, a)
        return of_a, of_b
    if not len(a):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first, n_frames = int(b[0]), int(b[-1]) - int(b[0]) + 1
    lo, hi = np.searchsorted(a, b[[0, -1]])
    inside = a[lo : int(hi) + 1]
    inside = inside[inside <= b[-1]]
    if len(inside) * SPARSE < n_frames:
        at = np.searchsorted(b, inside)
        of_a = np.flatnonzero(b[at] == inside)
    else:
        place = np.full(n_frames, -1, dtype=np.int64)
        place[b - first] = np.arange(len(b))
        at = place[inside - first]
        of_a = np.flatnonzero(at >= 0)
    return of_a + lo, at[of_a]
