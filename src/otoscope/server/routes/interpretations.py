"""What `otoscope interpret` has found of a feature: explanations in words, each with its trial."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from otoscope.server.routes.features import feature_of
from otoscope.server.state import State

router = APIRouter(prefix="/api", tags=["features"])


class RungView(BaseModel):
    """One explanation of a feature, and how it did on held-out moments: `trial` says it in a sentence, the figures are
    its balanced accuracy, that of the same words on random features (`null`) and what it gains over them (`lift`).

    `why` says why it has nothing to say, was not tried, or is not supported. `model` says the third rung; it was asked
    at `endpoint`, at the time `asked_at`, where that is known; `confidence` is its own.
    """

    rung: Literal[1, 2, 3]
    method: Literal["label", "sound", "language model"]
    name: str
    explanation: str
    verdict: Literal["supported", "not supported", "not tried"]
    why: str
    trial: str | None
    model: str | None
    endpoint: str | None
    asked_at: datetime | None
    confidence: float | None
    balanced_accuracy: float | None
    balanced_accuracy_low: float | None
    balanced_accuracy_high: float | None
    null: float | None
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    n_active: int | None
    n_silent: int | None
    n_null: int | None


class InterpretationView(BaseModel):
    """The rungs of a feature, at most three. Where there are none, `note` may say why, and `command` makes them.

    `written`: when the file of the atlas last changed; `problems`: what of it cannot be read.
    """

    rungs: list[RungView]
    note: str
    written: datetime | None
    command: str
    problems: list[str]


@router.get("/atlases/{atlas}/features/{index}/interpretation")
def interpretation(request: Request, atlas: str, index: int) -> InterpretationView:
    """What a feature responds to in words, rung by rung, each with its trial on held-out moments; empty if none."""
    state: State = request.app.state.otoscope
    feature_of(state, atlas, index)
    command = f"otoscope interpret {atlas}:{index}"
    kept = state.workspace.interpretations(atlas)
    if kept is None:
        return InterpretationView(rungs=[], note="", written=None, command=command, problems=[])
    shown = kept.shown(index) or {"rungs": [], "note": ""}
    return InterpretationView(**shown, written=kept.written, command=command, problems=list(kept.problems))
