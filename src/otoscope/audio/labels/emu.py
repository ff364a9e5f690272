"""EMU-SDMS `_annot.json`: levels whose items have times of their own, or those of the items they are linked to.

Source: "The EMU-SDMS Manual", chapter "Annotation structure modeling" and the file formats appendix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otoscope.audio.labels.tiers import Mark, our_name
from otoscope.errors import InputError

_Span = tuple[float, float]
_SPELLING = frozenset({"text", "orthography", "orthographic", "ort"})


def parse(annotation: Mapping[str, Any]) -> Iterator[Mark]:
    """Yield a mark per item and attribute: the tier is named after the attribute, the spelling of words `words`.

    A segment holds the samples from `sampleStart` to `sampleStart + sampleDur`, both included. Items without times
    (words, syllables) span the segments they are linked to; those linked to none are left out.

    Raises:
        InputError: the annotation lacks what the format asks for.
    """
    try:
        rate_hz = float(annotation["sampleRate"])
        items = {int(item["id"]): item for level in annotation["levels"] for item in level["items"]}
        links: dict[int, list[int]] = {}
        for link in annotation.get("links", ()):
            links.setdefault(int(link["fromID"]), []).append(int(link["toID"]))
        spans = _spans(items, links, rate_hz)
        for level in annotation["levels"]:
            for n, item in enumerate(level["items"]):
                span = spans[int(item["id"])]
                if span is None:
                    continue
                for label in item["labels"]:
                    name = _tier(str(level["name"]), str(label["name"]))
                    yield Mark(name, *span, str(label["value"]), f"{level['name']}[{n}]")
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise InputError(f"it is not an EMU annotation ({type(error).__name__}: {error})") from None


def _tier(level: str, attribute: str) -> str:
    """The level `Word` often holds word classes, and the words themselves in an attribute `Text`."""
    return "words" if our_name(level) == "words" and attribute.lower() in _SPELLING else attribute


def _spans(items: Mapping[int, Any], links: Mapping[int, list[int]], rate_hz: float) -> dict[int, _Span | None]:
    spans: dict[int, _Span | None] = {}

    def span(number: int) -> _Span | None:
        if number not in spans:
            spans[number] = None  # a circle of links has no time
            spans[number] = own(items[number]) or around(
                [span(each) for each in links.get(number, ()) if each in items]
            )
        return spans[number]

    def own(item: Mapping[str, Any]) -> _Span | None:
        if "samplePoint" in item:
            return (item["samplePoint"] / rate_hz,) * 2
        if "sampleStart" in item:
            return item["sampleStart"] / rate_hz, (item["sampleStart"] + item["sampleDur"] + 1) / rate_hz
        return None

    def around(found: list[_Span | None]) -> _Span | None:
        # An event (a tone) marks a moment inside a word and does not bound it, unless nothing else is linked.
        timed = [each for each in found if each is not None]
        timed = [each for each in timed if each[1] > each[0]] or timed
        return (min(each[0] for each in timed), max(each[1] for each in timed)) if timed else None

    for number in items:
        span(number)
    return spans
