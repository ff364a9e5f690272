"""One page about one dictionary: its figures beside those of every baseline, with intervals, and how they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from otoscope.evaluation.measure import Measure
from otoscope.evaluation.scorecard.card import TRAINED, Row, Scorecard, subjects_with
from otoscope.evaluation.scorecard.charts import Dot, Point, Series, dots, figure, lines, series_style
from otoscope.evaluation.scorecard.page import cell, facts, framed, grid, legend, page, table, tile
from otoscope.evaluation.scorecard.sections import ABLATIONS, SECTIONS, SPLICED, Headline, Section

_BETTER = {"higher": "Higher is better.", "lower": "Lower is better.", "": ""}


def report(card: Scorecard) -> str:
    """Return the page as HTML: no scripts, no requests, readable in light and in dark."""
    own = card.provenance["dictionary"]
    parts = [
        f"<h1>{escape(card.name)}</h1>",
        f'<p class="soft">{escape(own["kind"])} dictionary of {own["n_features"]:,} features, '
        f"{escape(own['site'])} of {escape(card.provenance['model']['name'])}; measured on "
        f"{card.provenance['held_out']['clips']:,} clips of {escape(card.provenance['corpus']['name'])}.</p>",
        _tiles(card),
    ]
    parts += [_section(card, section) for section in SECTIONS.values()]
    if card.notes:
        parts.append("<h2>What is missing</h2><ul>" + "".join(f"<li>{escape(n)}.</li>" for n in card.notes) + "</ul>")
    parts += [_provenance(card), _everything(card)]
    return page(f"Scorecard of {card.name}", "\n".join(part for part in parts if part))


def _tiles(card: Scorecard) -> str:
    tiles = []
    for section in SECTIONS.values():
        for headline in section.headlines:
            own = _headline(card, headline, TRAINED)
            if own is None:
                continue
            low = f"{figure(own.low)} … {figure(own.high)}" if math.isfinite(own.low) else f"{own.n:,} {own.n_unit}"
            tiles.append(tile(headline.title, figure(own.value), low))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _section(card: Scorecard, section: Section) -> str:
    rows = [row for row in card.rows if row.section == section.name]
    if not rows:
        return ""
    plots = [_dots(card, headline, rows) for headline in section.headlines]
    plots += [_lines(card, rows, name, title) for name, title in section.by_k.items()]
    tables = [_by(card, rows, key, names) for key, names in section.tables.items()]
    if section.name == "splice":
        tables.append(_splice_table(card, rows))
    return (
        f"<h2>{escape(section.title)}</h2><p>{escape(section.question)}</p>"
        f"{grid([plot for plot in plots if plot])}{''.join(tables)}"
    )


def _headline(card: Scorecard, headline: Headline, subject: str) -> Measure | None:
    found = [row.measure for row in card.select(headline.measure, subject) if dict(row.measure.of or {}) == headline.of]
    return found[0] if found else None


def _dots(card: Scorecard, headline: Headline, rows: Sequence[Row]) -> str:
    entries = []
    for subject in subjects_with(rows, card.subjects):
        found = _headline(card, headline, subject.role)
        if found is not None and subject.role not in ABLATIONS:  # their figures would press all others together
            entries.append(Dot(subject.name, found.value, found.low, found.high, mine=subject.role == TRAINED))
    svg = dots(entries, title=headline.title, zero=headline.zero)
    return framed(svg, headline.title, " ".join([_BETTER[headline.better], headline.note]).strip())


def _lines(card: Scorecard, rows: Sequence[Row], name: str, title: str) -> str:
    """A measure over the k that its `of` names, for every subject; what has no number there is a level."""
    series, key = [], []
    for number, subject in enumerate(subjects_with(rows, card.subjects)):
        own = [row.measure for row in card.select(name, subject.role) if "k" in (row.measure.of or {})]
        kinds = list(dict.fromkeys((m.of or {}).get("kind", "") for m in own))
        own = [m for m in own if (m.of or {}).get("kind", "") == (kinds[0] if kinds else "")]
        at_k = [(float((m.of or {})["k"]), m) for m in own if (m.of or {})["k"].isdecimal()]
        levels = [m for m in own if not (m.of or {})["k"].isdecimal()]
        style = "mine" if subject.role == TRAINED else series_style(number)
        if at_k:
            points = tuple(Point(k, m.value, m.low, m.high) for k, m in sorted(at_k, key=lambda pair: pair[0]))
            series.append(Series(subject.name, points, style))
        elif levels:
            series.append(Series(subject.name, (Point(0, levels[0].value),), style, reference=True))
        else:
            continue
        key.append((style, subject.name))
    svg = lines(series, title=title, x_title="features read by the probe (k)", y_title="")
    return framed(svg, title, "Dashed: a probe on all activations of the site.", legend(key))


def _by(card: Scorecard, rows: Sequence[Row], key: str, names: Mapping[str, str]) -> str:
    """A table of the dictionary's own figures by what they belong to (a class of frames, say)."""
    own = [row.measure for row in rows if row.subject == TRAINED and set(row.measure.of or {}) == {key}]
    places = list(dict.fromkeys((m.of or {})[key] for m in own))
    if not places:
        return ""
    lines = []
    for place in places:
        here = {m.name: m for m in own if (m.of or {})[key] == place}
        frames = next(iter(here.values()))
        lines.append((place, [*(cell(here.get(name)) for name in names), f"{frames.n:,}"], False))
    first = next(iter(own))
    return table([key, *names.values(), first.n_unit], lines)


def _splice_table(card: Scorecard, rows: Sequence[Row]) -> str:
    lines = []
    for subject in subjects_with(rows, card.subjects):
        here = {row.measure.name: row.measure for row in rows if row.subject == subject.role}
        cells = [cell(here.get(f"splice.{name}"), percent=percent) for name, (_, percent) in SPLICED.items()]
        lines.append((subject.name, cells, subject.role == TRAINED))
    used = [name for name in SPLICED if any(row.measure.name == f"splice.{name}" for row in rows)]
    kept = [list(SPLICED).index(name) for name in used]
    shown = [(name, [cells[number] for number in kept], mine) for name, cells, mine in lines]
    return table(["condition", *(SPLICED[name][0] for name in used)], shown)


def _provenance(card: Scorecard) -> str:
    kept = card.provenance
    own, held = kept["dictionary"], kept["held_out"]
    cpu = kept["cpu_seconds"]
    seconds = ", ".join(f"{name} {value:.1f} ({cpu[name]:.1f})" for name, value in kept["seconds"].items())
    rows = [
        ("model", f"{kept['model']['name']}, weights {kept['model']['weights_hash'][:16]}"),
        (
            "corpus",
            f"{kept['corpus']['name']}, {kept['corpus']['clips']:,} clips, {kept['corpus']['fingerprint'][:16]}",
        ),
        ("dictionary", f"{own['kind']}, {own['n_features']:,} features of {own['site']}, {own['fingerprint'][:16]}"),
        ("held out", f"{held['clips']:,} clips, {held['frames']:,} frames; apart in {held['apart_in']}"),
        ("intervals", f"95 %, bootstrap over {held['intervals_over']}"),
        ("parameters", ", ".join(f"{name} {value}" for name, value in kept["parameters"].items())),
        ("code", ", ".join(f"{name} {value}" for name, value in kept["code"].items())),
        ("seconds (processor)", seconds),
    ]
    return "<h2>How it was made</h2>" + facts(rows)


def _everything(card: Scorecard) -> str:
    names = {subject.role: subject.name for subject in card.subjects}
    rows = []
    for row in card.rows:
        of = ", ".join(f"{key} {value}" for key, value in (row.measure.of or {}).items())
        cells = [
            escape(names.get(row.subject, row.subject)),
            escape(of or "–"),
            cell(row.measure),
            f"{row.measure.n:,} {escape(row.measure.n_unit)}",
        ]
        rows.append((row.measure.name, cells, row.subject == TRAINED))
    listing = table(["figure", "subject", "of", "value", "rests on"], rows)
    return f"<details><summary>All {len(rows):,} figures</summary>{listing}</details>"
