"""From any recording to 16 kHz mono samples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import gcd

import numpy as np
import soxr

from otoscope.audio.containers import AudioInfo, Container, Source, open_container
from otoscope.errors import InputError

SAMPLE_RATE_HZ = 16000
MAX_CLIP_S = 7200.0
"""The longest span decoded at once, in seconds; the environment variable OTOSCOPE_MAX_CLIP_S overrides it."""
END_TOLERANCE_S = 0.1
"""How far a span may reach past the end: labels and lossy formats round differently."""
_MARGIN_S = 0.05  # read around a span so that the resampler has settled when the span begins


def max_clip_s() -> float:
    """Return the longest span that may be decoded at once, in seconds."""
    text = os.environ.get("OTOSCOPE_MAX_CLIP_S", "")
    if not text:
        return MAX_CLIP_S
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise InputError(f"OTOSCOPE_MAX_CLIP_S must be a positive number of seconds, not {text!r}.")
    return limit


def probe(source: Source, *, name: str = "upload") -> AudioInfo:
    """Read the header of a recording without decoding it; `name` is how errors call bytes.

    Raises:
        InputError: missing, a folder, empty, not audio, without a sound track, or truncated.
    """
    with open_container(source, name) as container:
        return AudioInfo(container.duration_s(), container.rate_hz, container.channels, container.format)


def decode(source: Source, *, start_s: float = 0.0, end_s: float | None = None, name: str = "upload") -> np.ndarray:
    """Return the span `[start_s, end_s)` of a recording as float32 samples `[n]`, 16 kHz mono.

    Channels are averaged and any rate is resampled (soxr, HQ). Where the container can seek, only the span is
    read.

    Raises:
        InputError: as `probe`; and a span outside the recording or over the limit, NaN or infinite samples.
    """
    with open_container(source, name) as container:
        whole = start_s == 0 and end_s is None
        duration_s = container.declared_s if whole else container.duration_s()
        if duration_s is not None:
            check_span(container.name, duration_s, start_s, end_s)
        samples = _span(container, start_s, end_s)
    if not len(samples):
        raise InputError(f"{container.name} contains no sound: 0 samples were decoded.")
    return samples


def check_span(name: str, duration_s: float, start_s: float, end_s: float | None) -> None:
    """Refuse a span that is outside a recording of `duration_s` or longer than the limit.

    Raises:
        InputError: says the limit and how to cut.
    """
    if duration_s <= 0:
        raise InputError(f"{name} contains no sound (0 s).")
    if not 0 <= start_s < duration_s:
        raise InputError(f"{name} lasts {duration_s:.2f} s: a clip cannot start at {start_s:g} s.")
    if end_s is not None and not start_s < end_s <= duration_s + END_TOLERANCE_S:
        raise InputError(f"{name} lasts {duration_s:.2f} s: a clip cannot go from {start_s:g} s to {end_s:g} s.")
    _check_length(name, (duration_s if end_s is None else end_s) - start_s)


def _check_length(name: str, length_s: float) -> None:
    limit_s = max_clip_s()
    if length_s > limit_s:
        raise InputError(
            f"{name} is {_in_words(length_s)} long, over the limit of {_in_words(limit_s)} for one clip; "
            "cut it with start_s and end_s (a manifest may list several spans of one file), or set "
            "OTOSCOPE_MAX_CLIP_S to more seconds."
        )


def _in_words(seconds: float) -> str:
    return f"{seconds / 3600:.4g} h" if seconds >= 3600 else f"{seconds:.4g} s"


def _span(container: Container, start_s: float, end_s: float | None) -> np.ndarray:
    """Decode, mix, resample and cut, block by block: memory is that of the result."""
    rate = container.rate_hz
    unit = gcd(rate, SAMPLE_RATE_HZ)
    step_in, step_out = rate // unit, SAMPLE_RATE_HZ // unit  # the two grids meet every step
    first = round(start_s * SAMPLE_RATE_HZ)
    steps = max(0, int((start_s - _MARGIN_S) * rate) // step_in)
    skip = first - steps * step_out
    wanted = None if end_s is None else round(end_s * SAMPLE_RATE_HZ) - first
    limit = int((max_clip_s() + END_TOLERANCE_S) * SAMPLE_RATE_HZ) + 1
    parts: list[np.ndarray] = []
    n = -skip
    blocks = _finite(container.blocks(steps * step_in), container, steps * step_in)
    for block in blocks if rate == SAMPLE_RATE_HZ else _resampled(blocks, rate):
        parts.append(block)
        n += len(block)
        if wanted is None and n > limit:
            _check_length(container.name, n / SAMPLE_RATE_HZ)
        if wanted is not None and n >= wanted:
            break
    joined = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    return np.ascontiguousarray(joined[skip : None if wanted is None else skip + wanted])


def _finite(blocks: Iterator[np.ndarray], container: Container, position: int) -> Iterator[np.ndarray]:
    for block in blocks:
        with np.errstate(over="ignore", invalid="ignore"):
            is_fine = np.isfinite(np.dot(block, block))  # one fast pass; look closer only if it overflows
        if not is_fine:
            bad = np.flatnonzero(~np.isfinite(block))
            if len(bad):
                at_s = (position + int(bad[0])) / container.rate_hz
                raise InputError(f"{container.name} has NaN or infinite samples, the first at {at_s:.3f} s.")
        position += len(block)
        yield block


def resample(samples: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return mono `samples` `[n]` of `rate_hz` as float32 at 16 kHz."""
    if rate_hz == SAMPLE_RATE_HZ:
        return np.ascontiguousarray(samples, dtype=np.float32)
    return np.asarray(soxr.resample(samples.astype(np.float32), rate_hz, SAMPLE_RATE_HZ, quality="HQ"))


def _resampled(blocks: Iterator[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
