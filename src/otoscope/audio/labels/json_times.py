"""Times in JSON: our own, and the shapes of Whisper, aeneas, the Montreal aligner, Gentle, PocketSphinx and EMU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from otoscope.audio.clip import Tiers
from otoscope.audio.labels import emu
from otoscope.audio.labels.tiers import Mark
from otoscope.errors import InputError

_START = ("start_s", "start", "begin", "xmin", "b")
_END = ("end_s", "end", "xmax", "e")
_LENGTH = ("duration", "dur", "d")
_LABEL = ("label", "word", "text", "phone", "value", "t")
_VARIANT = re.compile(r"\(\d+\)$")  # how PocketSphinx numbers pronunciations: and(2)
_SILENT_WORDS = frozenset({"<sil>", "<s>", "</s>", "<eps>"})


class UnknownShapeError(InputError):
    """JSON that holds something else than times."""


def parse(content: str) -> Iterator[Mark]:
    """Yield the marks of a file of times in any of the shapes we know, told apart by their keys.

    Raises:
        InputError: not JSON, or of another shape.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON ({error})") from None
    try:
        if isinstance(value, dict):
            for keys, read in _SHAPES:
                if all(key in value for key in keys):
                    yield from read(value)
                    return
            if value and all(isinstance(items, list) for items in value.values()):
                yield from _tiers(value)
                return
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its times cannot be read ({type(error).__name__}: {error})") from None
    raise UnknownShapeError(
        'it has no shape of times that is known; ours is {"tiers": {"words": [[start_s, end_s, label]]}}'
    )


def write(tiers: Tiers, duration_s: float) -> str:
    """Return our own shape: `{"duration_s": …, "tiers": {"words": [[start_s, end_s, label], …]}}`."""
    rows = {name: [[i.start_s, i.end_s, i.label] for i in tier] for name, tier in tiers.items()}
    return json.dumps({"duration_s": duration_s, "tiers": rows}, ensure_ascii=False, indent=1) + "\n"


def _interval(tier: str, item: Any, where: str) -> Mark | None:
    """Read a triple or an object; None for a word that the aligner did not find."""
    if not isinstance(item, Mapping):
        start_s, end_s, label = item
        return Mark(tier, float(start_s), float(end_s), str(label), where)
    start, end, length = (next((item[key] for key in keys if key in item), None) for keys in (_START, _END, _LENGTH))
    if start is None and end is None:
        return None
    if start is None or (end is None and length is None):
        raise ValueError(f"{where} has no start or no end")
    label = item[next((key for key in _LABEL if key in item), "label")]
    start_s = float(start)
    end_s = float(end) if end is not None else start_s + float(length or 0.0)
    return Mark(tier, start_s, end_s, str(label), where)


def _list(tier: str, items: list[Any], where: str) -> Iterator[Mark]:
    for n, item in enumerate(items):
        mark = _interval(tier, item, f"{where}[{n}]")
        if mark is not None:
            yield mark


def _tiers(tiers: Any) -> Iterator[Mark]:
    """`{"words": [triples or objects]}`; `{"words": {"entries": [...]}}` (Montreal); a list of named tiers."""
    named = tiers.items() if isinstance(tiers, Mapping) else ((str(tier["name"]), tier) for tier in tiers)
    for name, tier in named:
        items = tier["entries"] if isinstance(tier, Mapping) else tier
        for n, item in enumerate(items):
            is_point = not isinstance(item, Mapping) and len(item) == 2
            mark = _interval(name, (item[0], *item) if is_point else item, f"{name}[{n}]")
            if mark is not None:
                yield mark


def _whisper(value: Mapping[str, Any]) -> Iterator[Mark]:
    for n, segment in enumerate(value["segments"]):
        yield from _list("phrases", [segment], f"segments[{n}]")
        yield from _list("words", segment.get("words", []), f"segments[{n}].words")


def _aeneas(value: Mapping[str, Any]) -> Iterator[Mark]:
    for n, fragment in enumerate(value["fragments"]):
        item = {"begin": fragment["begin"], "end": fragment["end"], "label": " ".join(fragment["lines"])}
        yield from _list("phrases", [item], f"fragments[{n}]")


def _words(value: Mapping[str, Any]) -> Iterator[Mark]:
    """`{"words": [...]}` of objects, with the phones of each word by their lengths (Gentle)."""
    yield from _list("words", value["words"], "words")
    for n, word in enumerate(value["words"]):
        if not isinstance(word, Mapping) or "phones" not in word or "start" not in word:
            continue
        at_s = float(word["start"])
        for m, phone in enumerate(word["phones"]):
            end_s = at_s + float(phone["duration"])
            yield Mark("phones", at_s, end_s, str(phone["phone"]).split("_")[0], f"words[{n}].phones[{m}]")
            at_s = end_s
    rest = {key: items for key, items in value.items() if key != "words" and _is_tier(items)}
    yield from _tiers(rest)


def _is_tier(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, list) and len(item) == 3 for item in items)


def _sphinx(value: Mapping[str, Any]) -> Iterator[Mark]:
    """PocketSphinx: an utterance of words of phones, `{"b": begin, "d": length, "t": label, "w": [...]}`."""
    for n, word in enumerate(value["w"]):
        (mark,) = _list("words", [word], f"w[{n}]")
        label = _VARIANT.sub("", mark.label)
        yield mark._replace(label="" if label in _SILENT_WORDS else label)
        yield from _list("phones", word.get("w", []), f"w[{n}].w")


_SHAPES = (
    (("levels", "sampleRate"), emu.parse),
    (("tiers",), lambda value: _tiers(value["tiers"])),
    (("segments",), _whisper),
    (("fragments",), _aeneas),
    (("words",), _words),
    (("b", "d", "w"), _sphinx),
)
"""The keys by which a shape is known, and how it is read; the first that fits is taken."""
