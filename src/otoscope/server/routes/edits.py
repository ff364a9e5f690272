"""Edits: transcribe a clip with and without interventions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from otoscope.errors import InputError
from otoscope.server.difference import token_changes, transcript_view, word_changes
from otoscope.server.shapes import EditItem, EditRequest, EditView
from otoscope.server.state import State

if TYPE_CHECKING:
    from otoscope.models import Edit

router = APIRouter(prefix="/api", tags=["edits"])

CLIENT_LEFT = 499


@router.post("/edit")
async def edit(request: Request, wanted: EditRequest) -> EditView:
    """Transcribe a clip without and with some edits; a page that has moved its slider on costs nothing."""
    state: State = request.app.state.otoscope
    async with request.app.state.edits_at_once:
        if await request.is_disconnected():
            raise HTTPException(CLIENT_LEFT, "The page that asked for this edit has gone.")
        return await run_in_threadpool(_edit, state, wanted)


def _edit(state: State, wanted: EditRequest) -> EditView:
    found = state.find(wanted.clip, wanted.corpus)
    edits = [_as_edit(state, item) for item in wanted.edits]
    base = state.transcript(found)
    edited, forced = base, [token.log_prob for token in base.tokens]
    if edits:
        model = state.model()
        with state.model_calls:
            edited = model.transcribe(found.clip, edits=edits)
            forced = model.score(found.clip, base, edits=edits)
    return EditView(
        base=transcript_view(base),
        edited=transcript_view(edited),
        words=word_changes(base.text, edited.text),
        tokens=token_changes(base, forced),
    )


def _as_edit(state: State, item: EditItem) -> Edit:
    """Turn a request's edit into one the model runs.

    Raises:
        InputError: it names neither or both of feature and site, an unknown one, or an impossible time range.
    """
    from otoscope.models import Edit

    if item.time_s is not None and not 0 <= item.time_s[0] < item.time_s[1]:
        raise InputError(f"The time range {item.time_s[0]:g}–{item.time_s[1]:g} s is empty; give start < end.")
    if (item.feature is None) == (item.site is None):
        raise InputError("An edit names either a feature (ATLAS:INDEX) or a site; this one names both or neither.")
    if item.feature is not None:
        _, _, dictionary, index = state.feature(item.feature)
        feature = dictionary.feature(index)
        if item.op == "zero":
            return feature.zero(time_s=item.time_s)
        if item.op == "scale":
            return feature.scale(item.value, time_s=item.time_s)
        if item.op == "add":
            return feature.add(item.value, time_s=item.time_s)
        return feature.clamp(item.value, time_s=item.time_s)
    site = str(state.model().site(item.site or ""))
    units = tuple(item.units) if item.units is not None else None
    if item.op == "zero":
        return Edit.zero(site, units=units, time_s=item.time_s)
    if item.op == "scale":
        return Edit.scale(site, item.value, units=units, time_s=item.time_s)
    if item.op == "add":
        return Edit.add(site, item.value, units=units, time_s=item.time_s)
    return Edit.clamp(site, item.value, units=units, time_s=item.time_s)
