"""A file of interpretations as `otoscope interpret` leaves it, of explanations that are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from otoscope.atlas import Atlas
from otoscope.atlas.interpretation import Interpretation, Rung, Score
from otoscope.storage import sha256_file

BY = {
    "model": "a-model",
    "endpoint": "http://gpu-box:8000/v1",
    "asked_at": "2026-11-02T08:15:30Z",
    "prompt_version": "1",
    "confidence": 0.9,
}
HOSTILE = "<b onclick=alert(1)>Hiss</b> & \x1b[31mbreath\u202e."
"""What a model may say; pages show all but the control characters, as text."""


def tried(right: int, null: float) -> Score:
    """So many of twenty active moments are picked, and as many of twenty silent ones are left."""
    share = right / 20
    return Score(share, share - 0.1, min(1, share + 0.1), share, 0, 1, share, 1 - share, 1 - share,
                 null, share - null, share - null - 0.1, share - null + 0.1, 0.5, 20, 20, 2)  # fmt: skip


def explained(explanation: str, score: Score | None, name: str = "a name") -> tuple[Rung, ...]:
    """Three rungs, of which the first has nothing to say and the third says `explanation`."""
    return (
        Rung(1, "label", "", "", note="it detects no class better than chance"),
        Rung(
            2,
            "sound",
            "loud",
            "Beside silent moments of the same clips, its moments are or have: loud.",
            tried(17, 0.5),
        ),
        Rung(3, "language model", name, explanation, score, by=BY),
    )


def write_interpretations(path: Path, atlas: Atlas, told: Mapping[int, tuple[Rung, ...]], *more: str) -> Path:
    """Write the file of an atlas, with some `more` lines at the end."""
    head = {
        "format": "otoscope-interpretations",
        "version": 1,
        "dictionary": atlas.name,
        "atlas": sha256_file(atlas.folder / "meta.json"),
    }
    lines = [Interpretation(index, f"x:{index}", rungs, "# a card").to_json() for index, rungs in told.items()]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*(json.dumps(each) for each in (head, *lines)), *more, ""]), "utf-8")
    return path
