"""Sound as bytes for the browser: WAV with range requests, mel and lanes as 8-bit arrays, waveform peaks."""

from __future__ import annotations

import hashlib
import io
import re
import wave
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from otoscope.audio import SAMPLE_RATE_HZ

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATE = "private, no-cache"


def wav_bytes(samples: Floats, sample_rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Encode mono samples [n] in [-1, 1] as a 16-bit WAV file; louder samples are clipped."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate_hz)
        out.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def quantise(values: Floats, low: float, high: float) -> Bytes:
    """Map `low`…`high` to 0…255; values outside are clipped."""
    span = high - low if high > low else 1.0
    scaled: Bytes = np.clip((values - low) * (255.0 / span), 0, 255).round().astype(np.uint8)
    return scaled


def pool_columns(values: Bytes, n_columns: int) -> Bytes:
    """Reduce the last axis to at most `n_columns` by the maximum of each group, so that no event disappears."""
    n = values.shape[-1]
    if n <= n_columns:
        return values
    edges = np.arange(n_columns) * n // n_columns
    return np.maximum.reduceat(values, edges, axis=-1)


def peaks(samples: Floats, n_columns: int) -> NDArray[np.int8]:
    """Return the lowest and highest sample of each column, [2, columns] in −127…127."""
    if not len(samples):
        return np.zeros((2, 0), np.int8)
    edges = np.arange(min(n_columns, len(samples))) * len(samples) // min(n_columns, len(samples))
    extremes = np.stack([np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)])
    scaled: NDArray[np.int8] = (np.clip(extremes, -1, 1) * 127).round().astype(np.int8)
    return scaled


def etag(data: bytes) -> str:
    """Return a strong entity tag of the content."""
    return f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def bytes_response(
    request: Request,
    data: bytes,
    media_type: str,
    *,
    immutable: bool,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with `data`, or not at all if the browser has it (304); `immutable` if its address names its content."""
    tag = etag(data)
    base = {"ETag": tag, "Cache-Control": IMMUTABLE if immutable else REVALIDATE, **(headers or {})}
    known = [item.strip() for item in request.headers.get("if-none-match", "").split(",")]
    if tag in known or f"W/{tag}" in known or known == ["*"]:
        return Response(status_code=304, headers=base)
    return Response(data, media_type=media_type, headers=base)


def audio_response(request: Request, data: bytes, *, immutable: bool) -> Response:
    """Answer with a WAV file: whole, the one range asked for (206), or not at all if the browser has it (304)."""
    whole = bytes_response(request, data, "audio/wav", immutable=immutable, headers={"Accept-Ranges": "bytes"})
    wanted = request.headers.get("range")
    if whole.status_code == 304 or wanted is None or request.headers.get("if-range", etag(data)) != etag(data):
        return whole
    span = parse_range(wanted, len(data))
    if span is None:
        return whole
    headers = {name: whole.headers[name] for name in ("ETag", "Accept-Ranges", "Cache-Control")}
    start, stop = span
    if start >= stop:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], 206, media_type="audio/wav", headers=headers)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, stop) of a single byte range, an empty one if it lies outside, None if it is to be ignored."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def array_response(
    request: Request,
    values: NDArray[np.uint8] | NDArray[np.int8],
    *,
    immutable: bool,
    headers: Mapping[str, str],
) -> Response:
    """Answer with an array in row-major order; `X-Otoscope-Shape` says its shape, 8 bits per value."""
    shape = ",".join(map(str, values.shape))
    return bytes_response(
        request,
        np.ascontiguousarray(values).tobytes(),
        "application/octet-stream",
        immutable=immutable,
        headers={"X-Otoscope-Shape": shape, **headers},
    )
