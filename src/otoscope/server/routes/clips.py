"""Clips: listing, sound, mel, waveform, lanes, strongest features, transcript, uploads."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated
from urllib.parse import unquote

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from otoscope.errors import InputError
from otoscope.server.difference import transcript_view
from otoscope.server.media import array_response, audio_response, peaks, pool_columns, quantise
from otoscope.server.shapes import ClipPage, ClipView, IntervalView, TranscriptView
from otoscope.server.state import MAX_UPLOAD_BYTES, UPLOADS, Found, State

router = APIRouter(prefix="/api", tags=["clips"])

UPLOAD_TIMEOUT_S = 120.0
MAX_COLUMNS = 8192
MAX_LANES = 32

Columns = Annotated[int, Query(ge=1, le=MAX_COLUMNS)]
Version = Annotated[str | None, Query(max_length=64, description="the clip's version: lets the answer be kept forever")]
Seconds = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)]
MaybeSeconds = Annotated[float | None, Query(ge=0, le=1e6, allow_inf_nan=False)]
CorpusName = Annotated[str | None, Query(max_length=200, description="where to look; every corpus if absent")]


def found_clip(request: Request, clip_id: str, corpus: CorpusName = None) -> Found:
    """Return the clip that the URL names."""
    state: State = request.app.state.otoscope
    return state.find(clip_id, corpus)


FoundClip = Annotated[Found, Depends(found_clip)]


def clip_view(found: Found) -> ClipView:
    """Return a clip as the API says it."""
    clip = found.clip
    return ClipView(
        id=clip.clip_id,
        corpus=found.corpus,
        version=found.version,
        title=_title(found),
        duration_s=clip.duration_s,
        text=clip.text,
        speaker=clip.speaker,
        language=clip.language,
        attributes={str(key): str(value) for key, value in clip.attributes.items()},
        tiers={
            name: [IntervalView(start_s=i.start_s, end_s=i.end_s, label=i.label) for i in intervals]
            for name, intervals in clip.tiers.items()
        },
    )


def _title(found: Found) -> str:
    """What a clip is called: its text, its sound, the name of the uploaded file, or its id."""
    clip = found.clip
    sound = clip.attributes.get("sound_class", "").replace("_", " ")
    uploaded = clip.uri if found.corpus == UPLOADS else ""
    return clip.text or sound or uploaded or clip.clip_id


@router.get("/clips")
def clips(
    request: Request,
    corpus: CorpusName = None,
    q: Annotated[str, Query(max_length=100, description="part of the id, text, speaker or sound class")] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ClipPage:
    """List the clips of a corpus (or of all, and the uploaded ones)."""
    state: State = request.app.state.otoscope
    found: list[Found] = []
    if corpus in (None, UPLOADS):
        found += [Found(clip, UPLOADS, clip.clip_id) for clip in state.uploads.all()]
    for name in state.workspace.names("corpora") if corpus is None else [corpus] if corpus != UPLOADS else []:
        opened = state.corpus(name)
        found += [Found(clip, name, opened.fingerprint[:16]) for clip in opened]
    needle = q.strip().casefold()
    if needle:
        found = [item for item in found if needle in _searchable(item)]
    return ClipPage(total=len(found), offset=offset, clips=[clip_view(item) for item in found[offset : offset + limit]])


def _searchable(found: Found) -> str:
    clip = found.clip
    return "\n".join(filter(None, (clip.clip_id, clip.text, clip.speaker, *clip.attributes.values()))).casefold()


@router.post("/uploads", status_code=201)
async def upload(
    request: Request,
    name: Annotated[str, Query(max_length=200, description="file name, for its type and for display")] = "recording",
) -> ClipView:
    """Keep a recording (the request's body: wav, flac, mp3, ogg, m4a, webm…) for this session and return its clip."""
    state: State = request.app.state.otoscope
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            data = await _body(request)
    except TimeoutError:
        raise HTTPException(408, f"The upload took longer than {UPLOAD_TIMEOUT_S:.0f} s; try a shorter file.") from None
    if not data:
        raise InputError("The upload is empty; send an audio file as the request's body.")
    shown = re.sub(r"[\x00-\x1f/\\]+", " ", unquote(name)).strip() or "recording"
    clip = await run_in_threadpool(state.uploads.add, data, shown)
    return clip_view(Found(clip, UPLOADS, clip.clip_id))


async def _body(request: Request) -> bytes:
    limit = f"at most {MAX_UPLOAD_BYTES // 2**20} MB can be uploaded; cut or compress the recording."
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_UPLOAD_BYTES:
        raise HTTPException(413, f"The file is {int(declared) / 2**20:.0f} MB; {limit}")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_UPLOAD_BYTES:
            raise HTTPException(413, f"The file is larger than {MAX_UPLOAD_BYTES // 2**20} MB; {limit}")
    return bytes(data)


@router.get("/clips/{clip_id:path}/audio", response_class=Response)
def audio(
    request: Request, found: FoundClip, v: Version = None, start_s: Seconds = 0.0, end_s: MaybeSeconds = None
) -> Response:
    """The sound as the model hears it: 16 kHz mono WAV; answers range requests."""
    state: State = request.app.state.otoscope
    data = state.wav(found, start_s, end_s)
    return audio_response(request, data, immutable=v == found.version)


@router.get("/clips/{clip_id:path}/mel", response_class=Response)
def mel(
    request: Request,
    found: FoundClip,
    v: Version = None,
    start_s: Seconds = 0.0,
    end_s: MaybeSeconds = None,
    columns: Columns = 2048,
) -> Response:
    """The model's own log-mel: 8-bit [mel bins, columns], lowest bin first; more frames than columns are pooled."""
    state: State = request.app.state.otoscope
    whole = state.mel(found)
    values, start, end = _span(whole.values, whole.step_s, start_s, end_s)
    return array_response(
        request,
        pool_columns(values, columns),
        immutable=v == found.version,
        headers={
            "X-Otoscope-Span": f"{start:.4f},{end:.4f}",
            "X-Otoscope-Range": f"{whole.low:.6g},{whole.high:.6g}",
        },
    )


@router.get("/clips/{clip_id:path}/peaks", response_class=Response)
def waveform(
    request: Request,
    found: FoundClip,
    v: Version = None,
    start_s: Seconds = 0.0,
    end_s: MaybeSeconds = None,
    columns: Columns = 2048,
) -> Response:
    """The waveform's outline: signed 8-bit [2, columns], lowest and highest sample of each column."""
    state: State = request.app.state.otoscope
    values = peaks(state.samples(found, start_s, end_s), columns)
    return array_response(request, values, immutable=v == found.version, headers={})


@router.get("/clips/{clip_id:path}/lane", response_class=Response)
def lane(
    request: Request,
    found: FoundClip,
    feature: Annotated[list[str], Query(max_length=MAX_LANES, description="ATLAS:INDEX, once per lane")],
    v: Version = None,
    start_s: Seconds = 0.0,
    end_s: MaybeSeconds = None,
    columns: Columns = 2048,
) -> Response:
    """How strongly features fire over time: 8-bit [features, columns]; `X-Otoscope-Scale` says what 255 stands for."""
    state: State = request.app.state.otoscope
    rows, scales, span = [], [], (0.0, 0.0)
    for address in feature:
        _, _, dictionary, index = state.feature(address)
        values = state.lanes(found, dictionary, [index])
        step_s = state.clock(dictionary.site).frame_s
        top = float(values.max(initial=0.0))
        part, *span_ = _span(quantise(values, 0.0, top), step_s, start_s, end_s)
        span = (span_[0], span_[1])
        rows.append(pool_columns(part, columns))
        scales.append(top)
    return array_response(
        request,
        np.concatenate(rows),
        immutable=False,
        headers={
            "X-Otoscope-Span": f"{span[0]:.4f},{span[1]:.4f}",
            "X-Otoscope-Scale": ",".join(f"{scale:.6g}" for scale in scales),
        },
    )


def _span(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    step_s: float,
    start_s: float,
    end_s: float | None,
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], float, float]:
    """Cut [rows, time] to a span; return it with the seconds that it really covers."""
    n = values.shape[1]
    stop = n if end_s is None else min(n, max(0, int(np.ceil(end_s / step_s - 1e-9))))
    start = min(int(start_s / step_s + 1e-9), stop)
    return values[:, start:stop], start * step_s, stop * step_s


@router.get("/clips/{clip_id:path}/transcript")
def transcript(request: Request, found: FoundClip) -> TranscriptView:
    """What the model hears in a clip."""
    state: State = request.app.state.otoscope
    return transcript_view(state.transcript(found))


@router.get("/clips/{clip_id:path}")
def clip(found: FoundClip) -> ClipView:
    """One clip: text, speaker, attributes and tiers."""
    return clip_view(found)
