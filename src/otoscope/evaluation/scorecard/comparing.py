"""Several dictionaries on one page: the frontiers of quality over sparsity, and their figures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from otoscope.errors import InputError
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.scorecard.card import TRAINED, Scorecard
from otoscope.evaluation.scorecard.charts import Point, Series, scatter, series_style
from otoscope.evaluation.scorecard.page import cell, framed, grid, legend, page, table
from otoscope.evaluation.scorecard.sections import SECTIONS, Headline

L0 = "reconstruction.l0"
FRONTIERS = {
    "reconstruction.fvu": "FVU over L0",
    "splice.wer": "WER over L0",
    "splice.loss_recovered": "Loss recovered over L0",
}


def comparison(cards: Sequence[Scorecard]) -> str:
    """Return the page as HTML: FVU, WER and loss recovered over L0, and a table of every first figure.

    Raises:
        InputError: fewer than two scorecards.
    """
    if len(cards) < 2:
        raise InputError(f"A comparison needs two scorecards or more, got {len(cards)}.")
    names = [card.name for card in cards]
    parts = [
        f"<h1>{escape(' · '.join(names))}</h1>",
        f'<p class="soft">{len(cards)} dictionaries; rings: those of their baselines that are about as sparse.</p>',
        *_warnings(cards),
        grid([_frontier(cards, name, title) for name, title in FRONTIERS.items()]),
        "<h2>Side by side</h2>",
        _table(cards),
    ]
    return page(f"Comparison of {', '.join(names)}", "\n".join(part for part in parts if part))


def _warnings(cards: Sequence[Scorecard]) -> list[str]:
    """What makes figures of different cards hard to compare."""
    found = []
    for what, key in (("models", "model"), ("corpora", "corpus"), ("held-out clips", "held_out")):
        fingerprints = {str(sorted(card.provenance[key].items())) for card in cards}
        if key == "held_out":
            fingerprints = {card.provenance[key]["sha256"] for card in cards}
        if len(fingerprints) > 1:
            found.append(f"<p><b>Measured on different {what}:</b> differences between rows may come from that.</p>")
    sites = {card.provenance["dictionary"]["site"] for card in cards}
    if len(sites) > 1:
        found.append(
            '<p class="soft">They read different sites, whose activations are not equally easy to rebuild; '
            "each is held against baselines of its own site.</p>"
        )
    return found


def _frontier(cards: Sequence[Scorecard], name: str, title: str) -> str:
    series, key = [], []
    for number, card in enumerate(cards):
        own = _points(card, name, named=number == 0)
        if own:
            series.append(Series(card.name, own, series_style(number)))
            key.append((series_style(number), card.name))
    if not series:
        return ""
    unedited = [row.measure.value for card in cards for row in card.select(name, "none")]
    caption = f"Unedited model: {min(unedited):.3g}." if unedited else ""
    svg = scatter(series, title=title, x_title="active features per frame (L0)", y_title="")
    return framed(svg, title, caption, legend(key))


def _points(card: Scorecard, name: str, *, named: bool) -> tuple[Point, ...]:
    """A dictionary and those of its baselines that are about as sparse, `named` or as plain rings."""
    points = []
    for subject in card.subjects:
        y, x = _plain(card, name, subject.role), _plain(card, L0, subject.role)
        if x is None or y is None:
            continue
        mine = subject.role == TRAINED
        own = _plain(card, L0, TRAINED)
        if mine or (own is not None and x.value <= 2 * own.value):
            label = card.name if mine else subject.name if named else ""
            points.append(Point(x.value, y.value, y.low, y.high, label, hollow=not mine))
    return tuple(points)


def _plain(card: Scorecard, name: str, subject: str) -> Measure | None:
    """A figure of the whole dictionary."""
    return next((row.measure for row in card.select(name, subject) if not row.measure.of), None)


def _table(cards: Sequence[Scorecard]) -> str:
    headlines: list[Headline] = [headline for section in SECTIONS.values() for headline in section.headlines]
    shown = [h for h in headlines if any(_measure(card, h) for card in cards)]
    rows = [(h.title, [cell(_measure(card, h)) for card in cards], False) for h in shown]
    return table(["", *(card.name for card in cards)], rows)


def _measure(card: Scorecard, headline: Headline) -> Measure | None:
    found = (row.measure for row in card.select(headline.measure, TRAINED))
    return next((measure for measure in found if dict(measure.of or {}) == dict(headline.of)), None)
