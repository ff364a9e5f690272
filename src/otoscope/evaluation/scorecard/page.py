"""The frame of every page that is made here: one file, no requests, light and dark, wide and narrow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from otoscope.evaluation.measure import Measure
from otoscope.evaluation.scorecard.charts import figure

_STYLE = """
:root{color-scheme:light dark;--ground:#fbfbf9;--card:#fff;--ink:#1d2327;--soft:#5b666e;--line:#dfe3e2;
--mine:#b4380f;--other:#5d6b75;--s0:#8a6100;--s1:#6a51a3;--s2:#00796b;--s3:#1769aa;--s4:#ad1a6b;--s5:#4d7c0f;
--s6:#475569;--s7:#0e7490}
@media (prefers-color-scheme:dark){:root{--ground:#14181b;--card:#1c2226;--ink:#e7ecee;--soft:#9aa7af;--line:#333c42;
--mine:#ff9466;--other:#93a3ae;--s0:#e0b050;--s1:#b9a5ea;--s2:#4ec9b8;--s3:#6cb4ee;--s4:#f28ac2;--s5:#a5cf5c;
--s6:#b6c2cf;--s7:#5fd0e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.2rem;margin:36px 0 2px}
h3{font-size:.95rem;margin:0 0 8px;font-weight:600}
p{margin:0 0 10px;max-width:75ch}
.soft,figcaption{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:18px 0}
.tile,figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;margin:0}
.tile b{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums;line-height:1.25}
.tile span{display:block;color:var(--soft);font-size:.85rem;line-height:1.35}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr));gap:14px;margin:12px 0}
figure svg{display:block;width:100%;height:auto;max-width:520px}
figcaption{font-size:.82rem;margin-top:6px}
svg text{font-size:12px;fill:var(--soft);font-family:inherit}
svg .grid{stroke:var(--line);stroke-width:1}
svg .label,svg .value{fill:var(--ink)}
svg .label.mine,svg .value.mine{fill:var(--mine);font-weight:600}
svg .bar,svg .path,svg .level{fill:none;stroke-width:2}
svg .bar{stroke-width:2.5;stroke-opacity:.6}
svg .level{stroke-dasharray:5 4}
svg .ring{fill:var(--card);stroke-width:1.5}
svg .dot{stroke:var(--card);stroke-width:1}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;margin:12px 0}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 9px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
tr:first-child th{border-top:0}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:8.5em}
th{font-weight:600;color:var(--soft)}
td small{display:block;color:var(--soft);font-size:.76rem}
tr.mine td:first-child{color:var(--mine);font-weight:600}
.plain td,.plain th{text-align:left;white-space:normal;overflow-wrap:anywhere}
.plain td:first-child{white-space:nowrap;color:var(--soft)}
details{margin:12px 0}
summary{cursor:pointer;font-weight:600}
.key{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.82rem;color:var(--soft);margin-top:6px}
.key i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:5px}
ul{margin:8px 0;padding-left:20px}
"""
_COLOURS = ("mine", "other", *(f"s{number}" for number in range(8)))


def page(title: str, body: str) -> str:
    """Return a whole page."""
    colours = "".join(
        f"svg .{name}.bar,svg .{name}.path,svg .{name}.level,svg .{name}.ring{{stroke:var(--{name})}}"
        f"svg .{name}.dot{{fill:var(--{name})}}.key .{name}{{background:var(--{name})}}"
        for name in _COLOURS
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>{_STYLE}{colours}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def framed(svg: str, title: str, caption: str = "", key: str = "") -> str:
    """Return a plot with its title; nothing where there is no plot."""
    if not svg:
        return ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{svg}{key}{below}</figure>"


def legend(names: Sequence[tuple[str, str]]) -> str:
    """Return what the colours stand for, from (style, name)."""
    parts = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for style, name in names)
    return f'<div class="key">{parts}</div>'


def grid(figures: Sequence[str]) -> str:
    """Return plots side by side, as many as fit."""
    shown = "".join(figures)
    return f'<div class="grid">{shown}</div>' if shown else ""


def tile(name: str, value: str, below: str) -> str:
    """Return one large number with what it is."""
    return f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(below)}</span></div>'


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str], bool]]) -> str:
    """Return a table from (name, cells, whether it is the row that the page is about); cells are HTML."""
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(_row(*row) for row in rows)
    return f'<div class="scroll"><table><tr>{first}</tr>{body}</table></div>'


def _row(name: str, cells: Sequence[str], mine: bool) -> str:
    inner = "".join(f"<td>{cell}</td>" for cell in (escape(name), *cells))
    return f'<tr class="mine">{inner}</tr>' if mine else f"<tr>{inner}</tr>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a plain table."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="plain">{body}</table></div>'


def cell(measure: Measure | None, *, percent: bool = False) -> str:
    """Return a figure with its interval below it, as a table cell."""
    if measure is None or not math.isfinite(measure.value):
        return "–"
    show = as_percent if percent else figure
    interval = ""
    if math.isfinite(measure.low) and show(measure.low) != show(measure.high):
        interval = f"<small>{escape(show(measure.low).removesuffix(' %'))} … {escape(show(measure.high))}</small>"
    return f"{escape(show(measure.value))}{interval}"


def as_percent(value: float) -> str:
    """Print a share in per cent, with one decimal."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"
