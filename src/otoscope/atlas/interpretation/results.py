"""Interpretations on disk: one JSON object a line, after a line that says what they are of.

`<dictionary>.jsonl` holds format and version, atlas and corpus, then one feature a line; it is written anew as a whole.
What a language model was asked for them lies beside it (see `exchanges.py`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from otoscope.atlas.interpretation.detection import Score
from otoscope.errors import OtoscopeError
from otoscope.storage import atomic_path

FORMAT, VERSION = "otoscope-interpretations", 1
LABEL, SOUND, LANGUAGE_MODEL = "label", "sound", "language model"
SUPPORTED, NOT_SUPPORTED, NOT_TRIED = "supported", "not supported", "not tried"


@dataclass(frozen=True)
class Rung:
    """One explanation of a feature, and how it did.

    Attributes:
        rung: 1, 2 or 3.
        method: "label", "sound" or "language model".
        name, explanation: short, and in a sentence; empty where this rung has nothing to say.
        score: on held-out moments; None where it was not tried.
        note: why there is no explanation or no score; empty otherwise.
        by: of rung 3: model, endpoint (its address) and asked_at (UTC) of the explanation as it was kept, None where
            that is not known; prompt_version, confidence; questions, asked (in this run; not in files), requests,
            seconds, prompt_tokens and completion_tokens of the explanation and its trial.
    """

    rung: int
    method: str
    name: str
    explanation: str
    score: Score | None = None
    note: str = ""
    by: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "supported", "not supported", or "not tried"."""
        if self.score is None:
            return NOT_TRIED
        return SUPPORTED if self.score.supported else NOT_SUPPORTED


@dataclass(frozen=True)
class Interpretation:
    """What the rungs of the ladder say about one feature.

    Attributes:
        feature, address: which one.
        rungs: in order; rung 3 only where a language model was asked.
        card: what the explanations rest on, in Markdown; empty where there was too little for one.
        note: why there is no card; empty otherwise.
    """

    feature: int
    address: str
    rungs: tuple[Rung, ...]
    card: str
    note: str = ""

    def rung(self, number: int) -> Rung | None:
        """Return rung 1, 2 or 3; None if it is not there."""
        return next((each for each in self.rungs if each.rung == number), None)

    @property
    def best(self) -> Rung | None:
        """The supported rung with the greatest lift; None if none is supported."""
        supported = [each for each in self.rungs if each.score is not None and each.score.supported]
        return max(supported, key=lambda each: each.score.lift if each.score else 0.0, default=None)

    def __str__(self) -> str:
        best = self.best
        return f"{self.address}: {f'{best.name} ({best.method})' if best else 'no supported explanation'}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; what is not finite becomes null."""
        rungs = [{**_finite(asdict(each)), "verdict": each.verdict} for each in self.rungs]
        return {
            "feature": self.feature,
            "address": self.address,
            "note": self.note,
            "rungs": rungs,
            "card": self.card,
        }


def load_interpretations(path: str | os.PathLike[str]) -> list[Interpretation]:
    """Return the interpretations in a file, by feature.

    Raises:
        OtoscopeError: there is none, or it is damaged or of another version.
    """
    return _load(Path(path))[1]


def merge_interpretations(path: Path, about: dict[str, Any], found: Iterable[Interpretation]) -> None:
    """Write interpretations to a file beside those it already has of other features.

    Rung 3 of an earlier run is kept where this one did not ask. What the file holds of another atlas is replaced.

    Raises:
        OtoscopeError: the file is there and damaged, or cannot be written.
    """
    kept: dict[int, Interpretation] = {}
    if path.exists():
        head, earlier = _load(path)
        if all(head.get(name) == value for name, value in about.items()):
            kept = {each.feature: each for each in earlier}
    for each in found:
        before = kept.get(each.feature)
        asked = before.rung(3) if before is not None else None
        rungs = each.rungs if each.rung(3) or asked is None else (*each.rungs, asked)
        kept[each.feature] = Interpretation(each.feature, each.address, rungs, each.card, each.note)
    lines = [{"format": FORMAT, "version": VERSION, **about}, *(_lasting(kept[index]) for index in sorted(kept))]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json_line(each) for each in lines), "utf-8")


def _lasting(each: Interpretation) -> dict[str, Any]:
    """Return what is written of an interpretation: not how much was asked in this run, or one that went on after being
    killed would write another file."""
    row = each.to_json()
    for rung in row["rungs"]:
        rung["by"].pop("asked", None)
    return row


def _load(path: Path) -> tuple[dict[str, Any], list[Interpretation]]:
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    except FileNotFoundError:
        raise OtoscopeError(f"{path} does not exist; `otoscope interpret` writes it.") from None
    except (OSError, ValueError) as error:
        raise OtoscopeError(
            f"{path} is damaged and cannot be read ({error}); remove it and interpret again."
        ) from error
    head = lines[0] if lines and isinstance(lines[0], dict) else {}
    if (head.get("format"), head.get("version")) != (FORMAT, VERSION):
        raise OtoscopeError(f"{path} is not {FORMAT} version {VERSION}; remove it and interpret again.")
    try:
        return head, [_read(each) for each in lines[1:]]
    except (TypeError, KeyError, AttributeError) as error:
        raise OtoscopeError(f"{path} is damaged ({error}); remove it and interpret again.") from error


def _read(value: dict[str, Any]) -> Interpretation:
    rungs = []
    for each in value["rungs"]:
        fields = {name: item for name, item in each.items() if name != "verdict"}
        score = fields.pop("score")
        if score is not None:
            known: dict[str, Any] = {name: math.nan if item is None else item for name, item in score.items()}
            score = Score(**known)
        rungs.append(Rung(score=score, **fields))
    return Interpretation(value["feature"], value["address"], tuple(rungs), value["card"], value["note"])


def json_line(value: dict[str, Any]) -> str:
    """Return an object as one line of a file."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
