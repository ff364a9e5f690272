"""From a clip to what the network is fed: windows of log-mel, or of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from otoscope.audio import Clip, cut_windows, log_mel
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


def cut(clip: Clip, dims: Dims, preprocessor: Mapping[str, Any], device: torch.device) -> list[Window]:
    """Cut a clip into windows; log-mel windows are padded to full length, windows of samples are not.

    Samples are brought to mean 0 and variance 1, window by window, unless `preprocessor_config.json` says not to
    (Hugging Face's default where it says nothing). A rest too short to fill one position is left out.

    Raises:
        InputError: the clip is empty or too short for the front end, or the model hears another sampling rate.
    """
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE_HZ)
    if rate != SAMPLE_RATE_HZ:
        raise InputError(f"This model hears sound at {rate} Hz; otoscope runs models of {SAMPLE_RATE_HZ} Hz only.")
    samples = clip.samples()
    size = dims.window_samples
    found = []
    for span in cut_windows(len(samples), size) if len(samples) else ():
        here = samples[span.start_sample : span.start_sample + span.n_samples]
        n_frames = dims.n_frames(span.n_samples)
        if not n_frames:
            continue
        if dims.n_mels:
            given = log_mel(here, dims.n_mels, pad_to_samples=size, device=device)
        else:
            given = torch.from_numpy(here.copy()).to(device)
            if preprocessor.get("do_normalize", True):
                given = (given - given.mean()) / (given.var(correction=0) + _NORMALISE_EPS).sqrt()
        found.append(Window(given, n_frames, span.start_sample / SAMPLE_RATE_HZ))
    if not found:
        raise InputError(f"The clip {clip.clip_id!r} is too short ({len(samples)} samples): it fills no position.")
    return found
