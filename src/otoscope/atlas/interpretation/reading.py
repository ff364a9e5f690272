"""Reading what was found, for people: of one atlas, whatever state the file is in, and never more than fits a page.

A file that people or git have touched may be damaged in places, or be of another build of the atlas. Nothing of that
keeps a page from being shown: what cannot be read is left out and named.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from otoscope.atlas.interpretation.detection import Score
from otoscope.atlas.interpretation.results import (
    FORMAT,
    LABEL,
    LANGUAGE_MODEL,
    NOT_SUPPORTED,
    SOUND,
    VERSION,
    Interpretation,
    Rung,
)
from otoscope.storage import sha256_file

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

MAX_FILE_BYTES, MAX_LINE_BYTES = 256 * 2**20, 2**20
MAX_NAME, MAX_TEXT = 200, 1000
"""Characters of a name and of a sentence that are shown; what is longer ends in `…`."""
MAX_PROBLEMS = 3
_COUNTS = ("n_active", "n_silent", "n_null")
_MAY_LACK = ("false_alarms", "near_false_alarms", "shuffled", "null", "lift", "lift_low", "lift_high")
_METHODS = {1: LABEL, 2: SOUND, 3: LANGUAGE_MODEL}
_WORDS = re.compile(r"\w+")
_LEAST_LETTERS = 3
"""A search needs a word of so many letters: shorter ones are phones, and begin half of all words."""


class Interpretations:
    """What `otoscope interpret` has found of the features of an atlas, as pages show it.

    Attributes:
        written: when the file was last written; None if it cannot be read.
        problems: what of it could not be read, a sentence each.
    """

    def __init__(self, path: Path, atlas: Atlas) -> None:
        self.path = path
        self.written: datetime | None = None
        self._found: dict[int, Interpretation] = {}
        self._texts: dict[int, str] = {}
        problems: list[str] = []
        try:
            about = path.stat()
            if about.st_size > MAX_FILE_BYTES:
                raise ValueError(f"it has {about.st_size / 1e6:,.0f} MB, more than is read for a page")
            with open(path, "rb") as file:
                self._read(_lines(file), atlas, problems)
            self.written = datetime.fromtimestamp(about.st_mtime, UTC)
        except (OSError, ValueError) as error:
            problems.append(f"{path.parent.name}/{path.name} is not shown: {error}.")
        more = [f"{len(problems) - MAX_PROBLEMS} more of its lines are damaged."]
        self.problems = tuple(problems[:MAX_PROBLEMS] + (more if len(problems) > MAX_PROBLEMS else []))

    def __len__(self) -> int:
        return len(self._found)

    def of(self, feature: int) -> Interpretation | None:
        """Return what was found of a feature, without its card; None if nothing was."""
        return self._found.get(feature)

    def shown(self, feature: int, *, public: bool = False) -> dict[str, Any] | None:
        """Return what was found of a feature as the JSON values that pages show; texts are plain and of one line.

        `public`: for pages that are published, without the address at which a language model was asked.
        """
        found = self.of(feature)
        if found is None:
            return None
        rungs = [_shown(rung) for rung in found.rungs]
        return {"note": found.note, "rungs": [each | {"endpoint": None} for each in rungs] if public else rungs}

    def search(self, text: str) -> dict[int, list[str]]:
        """Return the features whose supported explanations, from their sound or by a language model, have all words.

        Each with those of its explanations that have one of them. A word of `text` stands for those that begin with it;
        without one of at least three letters nothing is found.
        """
        words = _WORDS.findall(text.casefold())
        if not any(len(word) >= _LEAST_LETTERS for word in words):
            return {}
        wanted = [re.compile(rf"\b{re.escape(word)}") for word in words]
        found = sorted(each for each, said in self._texts.items() if all(word.search(said) for word in wanted))
        return {each: self._holding(each, wanted) for each in found}

    def _holding(self, feature: int, wanted: list[re.Pattern[str]]) -> list[str]:
        said = [f"{name}: {text}" for name, text in _supported(self._found[feature])]
        return [each for each in said if any(word.search(each.casefold()) for word in wanted)]

    def _read(self, lines: Iterator[bytes | None], atlas: Atlas, problems: list[str]) -> None:
        head = _object(next(lines, None))
        if (head.get("format"), head.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"it is not {FORMAT} version {VERSION}")
        if head.get("atlas") != sha256_file(atlas.folder / "meta.json"):
            raise ValueError("it is about another build of this atlas; interpret again")
        for number, line in enumerate(lines, start=2):
            if line is not None and not line.strip():
                continue
            try:
                found = _interpretation(_object(line), len(atlas))
            except (ValueError, TypeError, LookupError, AttributeError):
                place = f"{self.path.parent.name}/{self.path.name}"
                problems.append(f"Line {number} of {place} is damaged; take it out and interpret again.")
                continue
            self._found[found.feature] = found
            self._texts.pop(found.feature, None)
            if said := _searched(found):
                self._texts[found.feature] = said


def trial_said(score: Score) -> str:
    """Say in a sentence how an explanation did on held-out moments."""
    picked = round(score.hits * score.n_active)
    # what is silent and fitted follows from the two shares whose mean the balanced accuracy is
    wrong = round((score.hits + 1 - 2 * score.balanced_accuracy) * score.n_silent)
    right, low, high = (
        f"{100 * value:.0f}"
        for value in (score.balanced_accuracy, score.balanced_accuracy_low, score.balanced_accuracy_high)
    )
    null = f"{100 * score.null:.0f} % on random features" if score.n_null else "not tried on random features"
    return (
        f"Picked {picked} of {score.n_active} held-out moments and {wrong} of {score.n_silent} silent ones: "
        f"{right} % right (95 % interval {low}–{high}), {null}."
    )


def _shown(rung: Rung) -> dict[str, Any]:
    score, figures = rung.score, ("balanced_accuracy", "null", "lift")
    names = [f"{name}{end}" for name in figures for end in ("", "_low", "_high") if name != "null" or not end]
    return {
        "rung": rung.rung,
        "method": rung.method,
        "name": rung.name,
        "explanation": rung.explanation,
        "verdict": rung.verdict,
        "why": _why(rung),
        "trial": None if score is None else trial_said(score),
        "model": rung.by.get("model"),
        "endpoint": rung.by.get("endpoint"),
        "asked_at": rung.by.get("asked_at"),
        "confidence": rung.by.get("confidence"),
        **{name: None if score is None else _finite(getattr(score, name)) for name in names},
        **{name: None if score is None else getattr(score, name) for name in _COUNTS},
    }


def _why(rung: Rung) -> str:
    """Why a rung has nothing to say, was not tried or is not supported; empty for a supported one."""
    if rung.score is None or rung.verdict != NOT_SUPPORTED:
        return rung.note
    if not rung.score.balanced_accuracy_low > 0.5:
        return "guessing could do as well"
    return "it fits random features about as well"


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for one that is too long."""
    while line := file.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield None


def _object(line: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(line or b"null")
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    return value if isinstance(value, dict) else {}


def _interpretation(value: dict[str, Any], n_features: int) -> Interpretation:
    """Read a line, strictly: whoever shows it may take every value for what it should be."""
    feature = value["feature"]
    if type(feature) is not int or not 0 <= feature < n_features:
        raise ValueError("no such feature")
    rungs = tuple(sorted((_rung(each) for each in value["rungs"]), key=lambda rung: rung.rung))
    if len({rung.rung for rung in rungs}) < len(rungs):
        raise ValueError("a rung twice")
    return Interpretation(feature, _plain(value["address"], MAX_NAME), rungs, "", _plain(value["note"]))


def _rung(value: dict[str, Any]) -> Rung:
    number, by = value["rung"], value["by"]
    if type(number) is not int:
        raise TypeError("not a rung")
    confidence = by.get("confidence")
    return Rung(
        number,
        _METHODS[number],
        _plain(value["name"], MAX_NAME),
        _plain(value["explanation"]),
        None if value["score"] is None else _score(value["score"]),
        _plain(value["note"]),
        {
            **{name: None if by.get(name) is None else _plain(by[name], MAX_NAME) for name in ("model", "endpoint")},
            "asked_at": None if by.get("asked_at") is None else _moment(by["asked_at"]),
            "confidence": None if confidence is None else _share(confidence),
        },
    )


def _score(value: dict[str, Any]) -> Score:
    known: dict[str, Any] = {}
    for each in fields(Score):
        item = value[each.name]
        if each.name in _COUNTS:
            if type(item) is not int or item < 0:
                raise ValueError("not a count")
            known[each.name] = item
        elif item is None and each.name in _MAY_LACK:
            known[each.name] = math.nan
        else:
            known[each.name] = _share(item, -1.0 if each.name.startswith("lift") else 0.0)
    if known["n_null"] and math.isnan(known["null"]):
        raise ValueError("random features without a figure")
    return Score(**known)


def _share(value: Any, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1:
        raise ValueError("not a share")
    return float(value)


def _moment(text: Any) -> str:
    """Return a moment in UTC, to the second."""
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError("not a moment in UTC")
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(text: Any, limit: int = MAX_TEXT) -> str:
    """Return a text in one line, without what steers a terminal or turns the direction of writing, and not too long."""
    if not isinstance(text, str):
        raise TypeError("not a text")
    text = text[: 4 * limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _searched(found: Interpretation) -> str:
    """The words by which a feature is found: of its supported explanations, without those that every one has."""
    said = _supported(found)
    return " ".join((*(name for name, _ in said), *(text for _, text in said))).casefold()


def _supported(found: Interpretation) -> list[tuple[str, str]]:
    """Name and text of the supported explanations from sound and by a language model."""
    said = [rung for rung in found.rungs if rung.rung > 1 and rung.score is not None and rung.score.supported]
    return [
        (rung.name, rung.explanation.partition(":")[2].strip() if rung.method == SOUND else rung.explanation)
        for rung in said
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
