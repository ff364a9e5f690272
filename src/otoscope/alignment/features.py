"""What a frame phone model looks at: the spectrogram and activations of a clip, all on one grid of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from otoscope.audio import SAMPLE_RATE_HZ, Clip, log_mel
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

MEL = "mel"
_SHORTEST_S = 0.02


@dataclass(frozen=True)
class FrameFeatures:
    """Sites read and put side by side, `hz` frames a second: frame i stands at i / hz seconds.

    `mel` alone needs no model. Each column is centred and scaled within the clip, so that a voice, a room or a
    microphone does not shift it.
    """

    sites: tuple[str, ...] = (MEL,)
    hz: int = 100

    def of(self, clip: Clip, model: SpeechModel | None) -> np.ndarray:
        """Return the features `[t, d]` of a clip, float32.

        Raises:
            InputError: sites of a model without one, a site that is no track of frames, or a clip that is too short.
        """
        duration_s = len(clip.samples()) / SAMPLE_RATE_HZ
        if duration_s < _SHORTEST_S:
            raise InputError(
                f"The clip {clip.clip_id!r} lasts {1000 * duration_s:.0f} ms; nothing can be aligned in it."
            )
        n_frames = max(1, math.ceil(duration_s * self.hz - 1e-6))
        grid_s = np.arange(n_frames) / self.hz
        if self.sites == (MEL,):
            mel = log_mel(clip.samples(), pad_to_samples=max(len(clip.samples()), 400)).T.numpy()
            columns = [_resample(mel, np.arange(len(mel)) * 0.01, grid_s)]
        else:
            columns = self._read(clip, model, grid_s)
        return np.concatenate([_standardised(each) for each in columns], axis=1, dtype=np.float32)

    def _read(self, clip: Clip, model: SpeechModel | None, grid_s: np.ndarray) -> list[np.ndarray]:
        if model is None:
            raise InputError(f"The sites {', '.join(self.sites)} are read from a model; give one.")
        for site in map(model.site, self.sites):
            if site.of_text(model.dims) or site.is_map:
                raise InputError(f"{site} is no track of frames; choose sites of the encoder such as {model.output}.")
        run = model.run(clip, list(self.sites))
        return [_resample(run[site].numpy(), run.times_s(site), grid_s) for site in self.sites]


def _resample(values: np.ndarray, times_s: np.ndarray, grid_s: np.ndarray) -> np.ndarray:
    """Linear interpolation of `[t, d]` from its times to the grid; the first and last rows hold beyond the ends."""
    if len(values) == 1:
        return np.repeat(values, len(grid_s), axis=0)
    step_s = times_s[1] - times_s[0]
    where = np.clip((grid_s - times_s[0]) / step_s, 0, len(values) - 1)
    left = np.minimum(where.astype(np.int64), len(values) - 2)
    share = (where - left)[:, None].astype(values.dtype)
    resampled: np.ndarray = values[left] * (1 - share) + values[left + 1] * share
    return resampled


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    scaled: np.ndarray = centred / (centred.std(0) + 1e-3 * (1e-3 + np.abs(centred).max(initial=0)))
    return scaled


def with_neighbours(
    features: torch.Tensor, rows: torch.Tensor, offsets: Sequence[int], spans: torch.Tensor
) -> torch.Tensor:
    """Return `[b, o · d]`: the features of the frames at `offsets` around each of `rows`, held at the ends of its clip.

    `features [t, d]` are those of many clips, one after another; `spans [t, 2]` says where the clip of each frame
    begins and ends.
    """
    first, last = spans[rows, 0, None], spans[rows, 1, None] - 1
    around = rows[:, None] + torch.tensor(list(offsets))
    return features[torch.minimum(torch.maximum(around, first), last)].flatten(1)
