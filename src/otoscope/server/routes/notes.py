"""Notes: what people say about features; nothing is overwritten, and the blind see only their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from otoscope.errors import InputError
from otoscope.server.state import NotFoundError, State

if TYPE_CHECKING:
    from otoscope.atlas.notes import Evidence, FeatureKey, Note, Notes, Revision

router = APIRouter(prefix="/api", tags=["notes"])

MAX_IMPORT_BYTES = 64 * 2**20
IMPORT_TIMEOUT_S = 120.0

Person = Annotated[str | None, Query(max_length=80, description="who is asking")]
Blind = Annotated[
    bool, Query(description="hide what others say of a feature until the one who is asking has given it a label")
]
AtlasName = Annotated[str | None, Query(max_length=200, description="only notes of this atlas's dictionary")]


class EvidenceView(BaseModel):
    """A moment of a clip, a reference in words, or both."""

    model_config = ConfigDict(extra="forbid")

    clip_id: str | None = Field(None, max_length=500)
    start_s: float | None = Field(None, allow_inf_nan=False)
    end_s: float | None = Field(None, allow_inf_nan=False)
    reference: str | None = Field(None, max_length=1000)


class VersionView(BaseModel):
    """What somebody wrote, and when (UTC). `blind`: before seeing what others, or the atlas, call the feature."""

    revision: str
    editor: str
    edited: str
    text: str
    confidence: float | None
    evidence: list[EvidenceView]
    about: str | None
    blind: bool
    deleted: bool


class NoteView(BaseModel):
    """A note. `atlas` (none where no atlas here has it) and `index` say which feature it is about.

    More than one version: edits that did not know of each other; an edit that is based on all of them resolves that.
    """

    id: str
    atlas: str | None
    dictionary: str
    index: int
    kind: str
    author: str
    created: str
    reply_to: str | None
    current: VersionView
    versions: list[VersionView]


class NotesView(BaseModel):
    """The notes of a feature; `hidden` ones of others show (`revealed`) once the one who asks has given a label."""

    notes: list[NoteView]
    revealed: bool
    hidden: int


class NewNote(BaseModel):
    """A note to add. `about`: the automatic label that a verdict judges."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["label", "comment", "tag", "star", "verdict"]
    author: str = Field(max_length=80)
    text: str = Field("", max_length=10_000)
    confidence: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    evidence: list[EvidenceView] = Field([], max_length=50)
    reply_to: str | None = Field(None, max_length=40)
    about: str | None = Field(None, max_length=200)
    blind: bool = False


class NoteEdit(BaseModel):
    """An edit of the revisions that its editor saw; what is not given stays."""

    model_config = ConfigDict(extra="forbid")

    based_on: list[str] = Field(min_length=1, max_length=100)
    editor: str = Field(max_length=80)
    text: str | None = Field(None, max_length=10_000)
    confidence: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    evidence: list[EvidenceView] | None = Field(None, max_length=50)


class ImportView(BaseModel):
    """What an import brought."""

    lines: int
    new: int
    conflicts: list[NoteView]


class DisagreementView(BaseModel):
    """A feature that people call differently: annotator → label."""

    atlas: str | None
    dictionary: str
    index: int
    labels: dict[str, str]


class AgreementView(BaseModel):
    """Krippendorff's alpha with its 95 % interval, the share of agreeing pairs of labels, and where people differ."""

    alpha: float | None
    alpha_low: float | None
    alpha_high: float | None
    percent: float | None
    n_features: int
    annotators: dict[str, int]
    disagreements: list[DisagreementView]


@router.get("/atlases/{atlas}/features/{index}/notes")
def feature_notes(request: Request, atlas: str, index: int, author: Person = None, blind: Blind = False) -> NotesView:
    """List the notes of a feature, oldest first."""
    state, notes = _notes(request)
    key, reader = _key(state, atlas, index), _reader(author, blind)
    shown = notes.of(key, blind_for=reader)
    return NotesView(
        notes=[_view(note, {key.fingerprint: atlas}) for note in shown],
        revealed=reader is None or notes.has_labelled(key, reader),
        hidden=len(notes.of(key)) - len(shown),
    )


@router.post("/atlases/{atlas}/features/{index}/notes", status_code=201)
def add_note(request: Request, atlas: str, index: int, wanted: NewNote) -> NoteView:
    """Add a note to a feature."""
    state, notes = _notes(request)
    key = _key(state, atlas, index)
    given = wanted.model_dump(exclude={"evidence"})
    return _view(notes.add(key, **given, evidence=_evidence(wanted.evidence)), {key.fingerprint: atlas})


@router.get("/notes")
def find_notes(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="words, or how they begin; all notes if absent")] = "",
    atlas: AtlasName = None,
    author: Person = None,
    blind: Blind = False,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[NoteView]:
    """Find notes by their text."""
    state, notes = _notes(request)
    fingerprint, reader = _fingerprint(state, atlas), _reader(author, blind)
    found = notes.search(q, fingerprint=fingerprint) if q.strip() else notes.all(fingerprint=fingerprint)
    atlases = _atlases(state)
    shown = found if reader is None else _visible(notes, found, reader)
    return [_view(note, atlases) for note in shown[offset : offset + limit]]


@router.get("/notes/export", response_class=Response)
def export_notes(request: Request, author: Person = None, blind: Blind = False) -> Response:
    """Return every revision of every note, one JSON object per line; git merges such files."""
    _, notes = _notes(request)
    reader = _reader(author, blind)
    found = notes.lines(None if reader is None else notes.labelled_by(reader))
    headers = {"Content-Disposition": 'attachment; filename="notes.jsonl"', "Cache-Control": "no-store"}
    content = "".join(f"{line}\n" for line in found)
    return Response(content, media_type="application/x-ndjson", headers=headers)


@router.post("/notes/import")
async def import_notes(request: Request) -> ImportView:
    """Add the lines of an export (the request's body): all of them, or none if one is bad."""
    state, notes = _notes(request)
    try:
        async with asyncio.timeout(IMPORT_TIMEOUT_S):
            body = await _body(request)
    except TimeoutError:
        raise HTTPException(408, f"Sending the notes took longer than {IMPORT_TIMEOUT_S:.0f} s.") from None
    done = await run_in_threadpool(notes.import_jsonl, body)
    atlases = _atlases(state)
    return ImportView(lines=done.n_lines, new=done.n_new, conflicts=[_view(each, atlases) for each in done.conflicts])


@router.get("/notes/agreement")
def agreement(
    request: Request,
    atlas: AtlasName = None,
    blind_labels: Annotated[bool, Query(description="count only labels given before seeing others'")] = False,
    author: Person = None,
    blind: Blind = False,
) -> AgreementView:
    """Say how far the labels of different people agree, and list where they do not."""
    state, notes = _notes(request)
    reader = _reader(author, blind)
    found = notes.agreement(
        fingerprint=_fingerprint(state, atlas),
        blind=blind_labels,
        only=None if reader is None else notes.labelled_by(reader),
    )
    atlases = _atlases(state)
    differing = [
        DisagreementView(
            atlas=atlases.get(each.feature.fingerprint),
            dictionary=each.feature.dictionary,
            index=each.feature.feature,
            labels=dict(each.labels),
        )
        for each in found.disagreements
    ]
    return AgreementView(**{**vars(found), "annotators": dict(found.annotators), "disagreements": differing})


@router.get("/notes/{note}/history")
def note_history(request: Request, note: str, author: Person = None, blind: Blind = False) -> list[VersionView]:
    """List every revision of a note, oldest first."""
    _, notes = _notes(request)
    reader, found = _reader(author, blind), _existing(notes, note)
    if reader is not None and not _visible(notes, [found], reader):
        raise NotFoundError("This note is hidden until you have given the feature a label.")
    return [_version(each) for each in notes.history(note)]


@router.put("/notes/{note}")
def edit_note(request: Request, note: str, wanted: NoteEdit) -> NoteView:
    """Write a new revision of a note, also to resolve a conflict (based on all versions) or to undo a deletion.

    An edit of a revision that is no longer the newest is kept beside it: the answer then has several versions.
    """
    state, notes = _notes(request)
    _existing(notes, note)
    given: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("text", "confidence") if name in wanted.model_fields_set
    }
    if wanted.evidence is not None:
        given["evidence"] = _evidence(wanted.evidence)
    return _view(notes.edit(note, wanted.based_on, editor=wanted.editor, **given), _atlases(state))


@router.delete("/notes/{note}")
def delete_note(
    request: Request,
    note: str,
    editor: Annotated[str, Query(max_length=80)],
    based_on: Annotated[list[str], Query(max_length=100, description="the revisions that the editor saw")],
) -> NoteView:
    """Mark a note as deleted; its history stays, and so does a version that the editor had not seen."""
    state, notes = _notes(request)
    _existing(notes, note)
    return _view(notes.delete(note, based_on, editor=editor), _atlases(state))


def _notes(request: Request) -> tuple[State, Notes]:
    state: State = request.app.state.otoscope
    return state, state.workspace.notes()


def _key(state: State, atlas: str, index: int) -> FeatureKey:
    from otoscope.atlas.notes import FeatureKey

    opened = state.atlas(atlas)
    try:
        return FeatureKey.of(opened, index)
    except InputError as error:
        raise NotFoundError(str(error)) from None


def _fingerprint(state: State, atlas: str | None) -> str | None:
    return None if atlas is None else str(state.atlas(atlas).meta["dictionary"]["fingerprint"])


def _atlases(state: State) -> dict[str, str]:
    """Return the atlas of each dictionary, by the dictionary's fingerprint."""
    return {str(_fingerprint(state, name)): name for name in reversed(state.workspace.names("atlases"))}


def _reader(author: str | None, blind: bool) -> str | None:
    if blind and not (author or "").strip():
        raise InputError("With blind=1, say who is asking: add author=NAME.")
    return author if blind else None


def _visible(notes: Notes, found: list[Note], reader: str) -> list[Note]:
    """Leave out what somebody blind may not see yet."""
    keys = {(note.feature.fingerprint, note.feature.feature): note.feature for note in found}
    ids = {note.id for key in keys.values() for note in notes.of(key, deleted=True, blind_for=reader)}
    return [note for note in found if note.id in ids]


def _existing(notes: Notes, note: str) -> Note:
    try:
        return notes.get(note)
    except InputError as error:
        raise NotFoundError(str(error)) from None


def _evidence(given: list[EvidenceView]) -> list[Evidence]:
    from otoscope.atlas.notes import Evidence

    return [Evidence(**item.model_dump()) for item in given]


def _view(note: Note, atlases: Mapping[str, str]) -> NoteView:
    now, key = note.current, note.feature
    return NoteView(
        id=note.id,
        atlas=atlases.get(key.fingerprint),
        dictionary=key.dictionary,
        index=key.feature,
        kind=now.kind,
        author=now.author,
        created=now.created,
        reply_to=now.reply_to,
        current=_version(now),
        versions=[_version(each) for each in note.versions],
    )


def _version(each: Revision) -> VersionView:
    names: dict[str, Any] = {name: getattr(each, name) for name in VersionView.model_fields if name != "evidence"}
    return VersionView(**names, evidence=[EvidenceView(**item.record()) for item in each.evidence])


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_IMPORT_BYTES:
            raise HTTPException(
                413, f"At most {MAX_IMPORT_BYTES // 2**20} MB of notes are read at once; split the file."
            )
    return bytes(data)
