"""Small plots as inline SVG: they carry no colours of their own, so that one page reads in light and in dark.

Marks take their colour from CSS classes: `mine` (what the page is about), `other` (what it is held against) and
`s0`…`s7` (series). Sizes are in the units of the view box, about one pixel on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 380
_LABEL, _RIGHT, _ROW, _AXIS = 142, 52, 24, 26
_LINE = 13
_N_STYLES = 8


@dataclass(frozen=True)
class Dot:
    """One figure with its interval (NaN: none)."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    mine: bool = False


@dataclass(frozen=True)
class Point:
    """A place in a plane, with intervals of its height."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    label: str = ""
    hollow: bool = False
    """Drawn as a ring: what the others are held against."""


@dataclass(frozen=True)
class Series:
    """Points that belong together; `reference` ones are drawn as a level across the plot."""

    name: str
    points: tuple[Point, ...]
    style: str
    reference: bool = False


def dots(entries: Sequence[Dot], *, title: str, zero: bool = True) -> str:
    """Draw one row for each entry: the value as a dot, its interval as a line, the number beside it."""
    shown = [entry for entry in entries if math.isfinite(entry.value)]
    if not shown:
        return ""
    scale = _Scale.over([*_ends(shown), *([0.0] if zero else [])], _LABEL, WIDTH - _RIGHT)
    height = _ROW * len(shown) + _AXIS
    parts = _grid(scale, 4, height - _AXIS + 2)
    for number, entry in enumerate(shown):
        y = _ROW * number + _ROW / 2 + 2
        kind = "mine" if entry.mine else "other"
        parts.append(f'<text class="label {kind}" x="{_LABEL - 8}" y="{y + 4:.1f}" text-anchor="end">')
        parts.append(f"{escape(_short(entry.label, 20))}</text>")
        if math.isfinite(entry.low):
            start, end = scale(entry.low), scale(entry.high)
            parts.append(f'<line class="bar {kind}" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot {kind}" cx="{scale(entry.value):.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(f'<text class="value {kind}" x="{WIDTH - 2}" y="{y + 4:.1f}" text-anchor="end">')
        parts.append(f"{figure(entry.value)}</text>")
    return _svg(parts, height, title)


def lines(series: Sequence[Series], *, title: str, x_title: str, y_title: str) -> str:
    """Draw values over few, evenly spaced places (the k of a probe); levels without a place across all of them."""
    places = sorted({point.x for each in series if not each.reference for point in each.points})
    everything = [point for each in series for point in each.points if math.isfinite(point.y)]
    if not places or not everything:
        return ""
    height, left, top, bottom = 240, 44, 12, 36
    vertical = _Scale.over(_ends_of(everything), height - bottom, top)
    step = (WIDTH - left - 14) / max(1, len(places) - 1)
    at = {place: left + 6 + step * number for number, place in enumerate(places)}
    parts = _rules(vertical, left)
    parts += [_text(at[place], height - 20, f"{place:g}", "middle") for place in places]
    parts.append(_text((left + WIDTH) / 2, height - 4, x_title, "middle"))
    parts.append(_text(2, 9, y_title, "start"))
    for number, each in enumerate(series):
        style = each.style
        if each.reference:
            y = vertical(each.points[0].y)
            parts.append(f'<line class="level {style}" x1="{left}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
            continue
        found = [point for point in each.points if math.isfinite(point.y)]
        shift = (number - len(series) / 2) * 4
        path = " ".join(f"{at[point.x] + shift:.1f},{vertical(point.y):.1f}" for point in found)
        parts.append(f'<polyline class="path {style}" points="{path}"/>')
        for point in found:
            parts += _mark(at[point.x] + shift, point, vertical, style)
    return _svg(parts, height, title)


def scatter(series: Sequence[Series], *, title: str, x_title: str, y_title: str) -> str:
    """Draw points of a plane, each with its name and the interval of its height."""
    everything = [point for each in series for point in each.points if math.isfinite(point.x + point.y)]
    if not everything:
        return ""
    height, left, top, bottom = 260, 44, 14, 38
    vertical = _Scale.over([0.0, *_ends_of(everything)], height - bottom, top)
    across = _Scale.over([0.0, *(point.x for point in everything)], left + 8, WIDTH - 40)
    parts = _rules(vertical, left)
    parts += [_text(across(tick), height - 22, figure(tick), "middle") for tick in across.ticks(5)]
    parts.append(_text((left + WIDTH) / 2, height - 5, x_title, "middle"))
    parts.append(_text(2, 9, y_title, "start"))
    placed: list[tuple[float, float]] = []
    for each in series:
        for point in each.points:
            if not math.isfinite(point.x + point.y):
                continue
            x, y = across(point.x), vertical(point.y)
            parts += _mark(x, point, vertical, each.style)
            if point.label:
                parts.append(_label(x, y - 6, point.label, each.style, placed, (top, height - bottom)))
    return _svg(parts, height, title)


def figure(value: float) -> str:
    """Print a number as people read it: three significant digits, no needless zeros."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


@dataclass(frozen=True)
class _Scale:
    """From values to places: linear between `low` and `high`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        low, high = min(values), max(values)
        margin = (high - low or abs(high) or 1.0) * 0.06
        return cls(low - (margin if low else 0), high + margin, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """About `count` round numbers between the ends."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * number, 12) for number in range(first, last + 1)]


def _ends(entries: Sequence[Dot]) -> list[float]:
    return [end for e in entries for end in (e.value, e.low, e.high) if math.isfinite(end)]


def _ends_of(points: Sequence[Point]) -> list[float]:
    return [end for p in points for end in (p.y, p.low, p.high) if math.isfinite(end)]


def _grid(scale: _Scale, count: int, height: float) -> list[str]:
    parts = []
    for tick in scale.ticks(count):
        x = scale(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.1f}"/>')
        parts.append(_text(x, height + 14, figure(tick), "middle"))
    return parts


def _rules(scale: _Scale, left: float) -> list[str]:
    parts = []
    for tick in scale.ticks(5):
        y = scale(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, figure(tick), "end"))
    return parts


def _mark(x: float, point: Point, vertical: _Scale, style: str) -> list[str]:
    y, parts = vertical(point.y), []
    if math.isfinite(point.low):
        low, high = vertical(point.low), vertical(point.high)
        parts.append(f'<line class="bar {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    kind = "ring" if point.hollow else "dot"
    return [*parts, f'<circle class="{kind} {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>']


def series_style(number: int) -> str:
    """Return the style of the series of this number."""
    return f"s{number % _N_STYLES}"


def _label(
    x: float, y: float, text: str, style: str, placed: list[tuple[float, float]], within: tuple[float, float]
) -> str:
    """A point's name beside it, or at the nearest free height `within` the plot where another name is already."""
    lines = [y + step * sign * _LINE / 2 for step in range(40) for sign in (1, -1)]
    free = (
        line
        for line in lines
        if within[0] <= line <= within[1]
        and not any(abs(x - other) < _LABEL and abs(line - taken) < _LINE for other, taken in placed)
    )
    y = next(free, y)
    placed.append((x, y))
    at_end = x > WIDTH - _LABEL
    anchor, x = ("end", x - 8) if at_end else ("start", x + 8)
    name = escape(_short(text, 22))
    return f'<text class="label {style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{name}</text>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
