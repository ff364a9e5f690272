"""From a clip to what the network is fed: windows of log-mel, or of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from otoscope.audio import Clip, log_mel
from otoscope.errors import InputError
from otoscope.models.dims import SAMPLE_RATE_HZ, Dims

_NORMALISE_EPS = 1e-7


@dataclass(frozen=True, eq=False)
class Window:
    """One window of a clip: the network's input (`[m, T]` or `[n]`) and what part of it is sound."""

    input: Tensor
    n_frames: int
    """Encoder positions that the sound fills."""
    start_s: float
    """The moment of the clip at which the window begins."""


def spans(n_samples: int, dims: Dims) -> list[tuple[int, int]]:
    """Return `(start, stop)` in samples of the windows that a clip of `n_samples` is cut into.

    Each begins one hop after the last position of the one before, so that positions follow one another evenly: padded
    windows lie side by side, windows of samples overlap by what a kernel reaches beyond its hop. A rest too short to
    fill one position is left out.
    """
    advance = dims.n_frames(dims.window_samples) * dims.hop_samples
    found = [(start, min(n_samples, start + dims.window_samples)) for start in range(0, n_samples, advance)]
    return [(start, stop) for start, stop in found if dims.n_frames(stop - start)]


def cut(clip: Clip, dims: Dims, preprocessor: Mapping[str, Any], device: torch.device) -> list[Window]:
    """Cut a clip into windows; log-mel windows are padded to full length, windows of samples are not.

    Samples are brought to mean 0 and variance 1, window by window, unless `preprocessor_config.json` says not to
    (Hugging Face's default where it says nothing).

    Raises:
        InputError: the clip is empty or too short for the front end, or the model hears another sampling rate.
    """
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE_HZ)
    if rate != SAMPLE_RATE_HZ:
        raise InputError(f"This model hears sound at {rate} Hz; otoscope runs models of {SAMPLE_RATE_HZ} Hz only.")
    samples = clip.samples()
    found = []
    for start, stop in spans(len(samples), dims):
        here = samples[start:stop]
        if dims.n_mels:
            given = log_mel(here, dims.n_mels, pad_to_samples=dims.window_samples, device=device)
        else:
            given = torch.from_numpy(here.copy()).to(device)
            if preprocessor.get("do_normalize", True):
                given = (given - given.mean()) / (given.var(correction=0) + _NORMALISE_EPS).sqrt()
        found.append(Window(given, dims.n_frames(stop - start), start / SAMPLE_RATE_HZ))
    if not found:
        raise InputError(f"The clip {clip.clip_id!r} is too short ({len(samples)} samples): it fills no position.")
    return found
