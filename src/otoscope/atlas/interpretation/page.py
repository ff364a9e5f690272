"""How a card reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from otoscope.atlas.interpretation.descriptors import MEASURES, Descriptor, named
from otoscope.atlas.interpretation.moments import EDGE, Moment

if TYPE_CHECKING:
    from otoscope.atlas.interpretation.card import Card, Row

TITLES = {
    "heard": ("What there is to hear while it is active, by time", "share of the time of all recordings"),
    "phone": ("Phones", "share of the time of all speech"),
    "class": ("Natural classes of these phones", "share of the time of all speech"),
    "part": ("Part of the phone in which it peaks", "a third each"),
    "left": ("Phone before, where unusual", "what stands before the same phones anywhere"),
    "right": ("Phone after, where unusual", "what stands after the same phones anywhere"),
    "word": ("Words, where more common than its phones explain", "words that hold the same phones anywhere"),
    "position": ("Place in the word, where unusual", "where the same phones stand anywhere"),
    "voice": ("Voices that excite it more than others", "share of the time of all speech"),
}
"""Table → its title, and what `expected` means in it."""
_DIGITS = {each.name: each.digits for each in MEASURES}


def card_page(card: Card) -> str:
    """Return a card in Markdown."""
    parts = [f"# {card.address}", _introduction(card)]
    for name, (title, meaning) in TITLES.items():
        if name in card.tables:
            parts += [f"## {title}", _table(card.tables[name], meaning)]
    if len(card.rates) > 1:
        lines = [f"- {rate.where}: active in {_percent(rate.active_in)} of {rate.count}" for rate in card.rates]
        parts += ["## Its commonest phone, by neighbour", "\n".join(lines)]
    if card.descriptors:
        parts += ["## Sound, beside silent moments of the same clips", _sound(list(card.descriptors))]
    maximum = float(card.figures["maximum"])  # type: ignore[arg-type]
    parts += ["## Active moments (strength 0–10), strongest first", _moments(card.active, maximum)]
    for title, moments in (
        ("Silent, though one of its phones is said", card.same_sound),
        ("Silent, in the phones most like its own", card.near_sound),
        ("Silent, anywhere", card.silent),
    ):
        if moments:
            parts += [f"## {title}", _moments(moments, None)]
    return "\n\n".join(parts) + "\n"


def _introduction(card: Card) -> str:
    figures = card.figures
    quartiles = figures["duration_ms"]
    assert isinstance(quartiles, tuple)
    low, middle, high = quartiles
    voices = f" of {figures['voices']:.0f} voices" if figures["voices"] else ""
    return (
        f"A feature of {card.site} over corpus {card.corpus}, active {figures['n_events']:,.0f} times in "
        f"{figures['clips']:,.0f} clips{voices} ({figures['per_minute']:.3g} times a minute), usually for "
        f"{middle:.0f} ms (quartiles {low:.0f} and {high:.0f}). It counts as active above "
        f"{figures['active_from']:.3g}; its maximum is {figures['maximum']:.3g}. Phones and words are of the moment "
        f"at which it is strongest; {EDGE} is the edge of speech."
    )


def _table(rows: tuple[Row, ...], meaning: str) -> str:
    counted = any(not math.isnan(row.active_in) for row in rows)
    head = ["", "of its moments", "of the strongest fifth of them", f"expected: {meaning}"]
    head += ["active in this share of its occurrences"] if counted else []
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [row.label, _percent(row.share), _percent(row.strongest), _percent(row.expected)]
        lines.append(_line(cells + ([_percent(row.active_in)] if counted else [])))
    return "\n".join(lines)


def _sound(descriptors: list[Descriptor]) -> str:
    """What is clearly different, in words, and the figures that are surely different."""
    clear = named(descriptors)
    said = f"**{', '.join(each.fragment for each in clear)}**" if clear else "No clear difference."
    rows = []
    for each in descriptors:
        if each.low > 0 or each.high < 0:
            digits = _DIGITS[each.name]
            values = [f"{value:,.{digits}f} {each.unit}".strip() for value in (each.active, each.silent)]
            rows.append(_line([each.name, *values, f"{each.d:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"]))
    head = ["", "active (median)", "silent (median)", "standardised difference [95 %]"]
    return "\n".join([said, "", _line(head), _line(["---"] * 4), *rows] if rows else [said])


def _moments(moments: tuple[Moment, ...], maximum: float | None) -> str:
    lines = []
    for each in moments:
        strength = "" if maximum is None else f"({10 * each.value / maximum:.0f}) "
        lines.append(f"- {strength}{each.describe()}")
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _percent(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %" if 0 < value < 0.095 else f"{100 * value:.0f} %"
