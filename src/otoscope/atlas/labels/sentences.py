"""One sentence on a feature, as a person would say it: what it detects, how well, and what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from otoscope.atlas.labels.reading import Band, Heard, acoustics_of, bands_of

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

_FORMS = {
    "phone": "/{}/", "word": "“{}”", "sound_class": "the sound “{}”", "manner": "{}s", "place": "{} consonants",
    "voicing": "{} sounds", "height": "{} vowels", "backness": "{} vowels", "rounding": "{} vowels", "diphone": "/{}/",
    "position": "word-{} phones", "phrase": "phrase-{} words", "syllable": "{} of syllables", "pause": "pauses {}",
    "speaker": "the voice “{}”", "language": "speech in “{}”",
}  # fmt: skip
_SPEAKERS = "speakers of {kind} “{label}”"
_PLACES = {
    ("position", "initial"): "word-initially", ("position", "medial"): "inside words",
    ("position", "final"): "word-finally",
    ("phrase", "initial"): "at the beginning of phrases", ("phrase", "final"): "at the end of phrases",
    ("syllable", "onset"): "in onsets", ("syllable", "coda"): "in codas",
}  # fmt: skip
_HEARD = {
    "energy": ("loud", "quiet"), "tilt": ("bright", "dark"), "voicing": ("voiced", "voiceless"),
    "pitch": ("high-pitched", "low-pitched"),
}  # fmt: skip
MIN_CORRELATION = 0.1
MIN_PLACE_SKILL = 0.25
"""A place in word, phrase or syllable is mentioned if the feature finds it so well."""
AHEAD = 0.02
"""A union is said instead of one class if its skill is greater by this much."""


def sentence(atlas: Atlas, feature: int) -> str:
    """Return one sentence on a feature: "/s/ and /z/, most of all word-finally; F1 .81 [.77–.84], chance .09"."""
    entry = atlas[feature]
    stats, heard = entry.stats, acoustics_of(atlas, feature)
    if stats["n_active"] == 0:
        return "never active in this corpus"
    active = f"active in {_percent(stats['density'])} of frames"
    frames = _frames(heard)
    if stats["nature"] == "acoustic":
        first = max((each for each in heard.items() if each[0] != "pitch"), key=lambda each: abs(each[1].correlation))
        said = f"; its best label is {name(stats['label_kind'], [stats['label']])}" if stats["label"] else ""
        return f"{frames or 'what is heard'}: {_correlation(*first)}{said}"
    if not stats["label"]:
        return f"unlabelled: {active}{', ' + frames if frames else ''}"
    rows, bands = entry.label_rows, bands_of(atlas, feature)
    unions = [each for each in bands_of(atlas, feature, unions=True) if each.skill > rows[0]["skill"] + AHEAD]
    place = _place(rows)
    if unions:
        best = max(unions, key=lambda each: each.skill)
        said, figures = name(best.kind, best.labels), vars(best)
    else:
        said, figures = name(stats["label_kind"], [stats["label"]]), stats
    return "; ".join([f"{said}{place}", _figures(figures), *_others(bands, figures, said)])


def name(kind: str, labels: Sequence[str]) -> str:
    """Return classes of a kind as people say them: "/s/ and /z/"."""
    form = _FORMS.get(kind)
    said = [form.format(label) if form else _SPEAKERS.format(kind=kind, label=label) for label in labels]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _others(bands: Sequence[Band], first: dict[str, Any], said: str) -> list[str]:
    """Where the labels lie apart in value, which is where; else those not said yet."""
    if len(bands) < 2:
        return []
    apart = any(a.high <= b.low or b.high <= a.low for a in bands for b in bands)
    if apart:
        ranked = sorted(bands, key=lambda band: -band.low)
        return [", ".join(f"{name(band.kind, band.labels)} {_span(band)}" for band in ranked)]
    new = [band for band in bands if name(band.kind, band.labels) not in said]
    return [f"also {name(band.kind, band.labels)} ({_figures(vars(band))})" for band in new]


def _span(band: Band) -> str:
    if band.high == float("inf"):
        return f"above {band.low:.3g}"
    return f"from {band.low:.3g} to {band.high:.3g}"


def _place(rows: Sequence[dict[str, Any]]) -> str:
    for row in rows:
        where = _PLACES.get((row["kind"], row["label"]))
        if where and row["rank"] > 0 and row["q_value"] <= 0.05 and row["skill"] >= MIN_PLACE_SKILL:
            return f", most of all {where}"
    return ""


def _frames(heard: dict[str, Heard]) -> str:
    """The frames in which a feature tends to be active, as they sound: "loud voiced frames"."""
    words = [
        _HEARD[what][each.correlation < 0]
        for what, each in heard.items()
        if abs(each.correlation) >= MIN_CORRELATION and each.low * each.high > 0
    ]
    return f"{' '.join(words)} frames" if words else ""


def _correlation(what: str, each: Heard) -> str:
    return f"correlation with {what} {_number(each.correlation)} [{_number(each.low)}–{_number(each.high)}]"


def _figures(row: dict[str, Any]) -> str:
    low, high = _number(row["f1_low"]), _number(row["f1_high"])
    return f"F1 {_number(row['f1'])} [{low}–{high}], chance {_number(row['chance'])}"


def _number(value: float) -> str:
    text = f"{abs(value):.2f}"
    return ("−" if value < 0 and float(text) else "") + (text if text.startswith("1") else text[1:])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
