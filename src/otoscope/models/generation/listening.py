"""What is decoded: windows of a clip, cut side by side or wherever the last segment ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.audio import HOP, SAMPLE_RATE_HZ, Clip, log_mel
from otoscope.errors import InputError
from otoscope.models.generation.steps import RowEdits
from otoscope.models.generation.transcript import WrittenWindow
from otoscope.models.loaded import LoadedModel
from otoscope.models.networks.taps import Tape

_BATCH = 16
"""Windows decoded together."""
_FRAMES_PER_S = SAMPLE_RATE_HZ // HOP


@dataclass(frozen=True, eq=False)
class Heard:
    """One window of a clip."""

    input: Tensor
    """The network's input `[m, T]`."""
    start_s: float
    end_s: float
    """Where its sound ends."""

    @property
    def n_frames(self) -> int:
        """Encoder frames that are wholly sound."""
        return max(1, int(round((self.end_s - self.start_s) * SAMPLE_RATE_HZ) / (2 * HOP)))


def side_by_side(model: LoadedModel, clip: Clip) -> list[Heard]:
    """Cut a clip into windows one after another.

    Raises:
        InputError: the clip is empty or too short.
    """
    ends = clip.duration_s
    return [
        Heard(window.input, window.start_s, min(ends, window.start_s + model.dims.window_s))
        for window in model.windows(clip)
    ]


class Seekable:
    """A clip that can be heard from any moment on, at 10-ms steps.

    The spectrogram is that of the whole clip, with the clip's loudest point as its reference; a window that reaches
    beyond the end is filled up with zeros, as in `whisper.transcribe`.
    """

    def __init__(self, model: LoadedModel, clip: Clip) -> None:
        samples = clip.samples()
        dims = model.dims
        self.length = 2 * dims.n_positions
        self.end = len(samples) // HOP
        """Mel frames that the clip fills."""
        if not self.end:
            raise InputError(f"The clip {clip.clip_id!r} is too short ({len(samples)} samples) for a mel frame.")
        padded = len(samples) + dims.window_samples
        self._mel = log_mel(samples, dims.n_mels, pad_to_samples=padded, device=model.device)

    def at(self, seek: int) -> Heard:
        """Return the window that begins at mel frame `seek`."""
        size = min(self.length, self.end - seek)
        window = F.pad(self._mel[:, seek : seek + size], (0, self.length - size))
        return Heard(window, seek / _FRAMES_PER_S, (seek + size) / _FRAMES_PER_S)


def heard_again(model: LoadedModel, clip: Clip, windows: Sequence[WrittenWindow], *, seeking: bool) -> list[Heard]:
    """Return the windows of a clip that a transcript was written from (without any: side by side)."""
    if not seeking or not windows:
        return side_by_side(model, clip)
    sound = Seekable(model, clip)
    return [sound.at(round(window.start_s * _FRAMES_PER_S)) for window in windows if window.start_s < clip.duration_s]


def encode(model: LoadedModel, heard: Sequence[Heard], edits: RowEdits) -> Tensor:
    """Return the encoder's output `[b, t, d]` for windows.

    Where one window follows itself under other edits, what lies before the first edit is computed once.
    """
    runs = [list(rows) for _, rows in groupby(range(len(heard)), key=lambda row: id(heard[row]))]
    if len(runs) == len(heard):
        return _encode(model, [window.input for window in heard], edits)
    parts = [_encode(model, [heard[run[0]].input], edits.select(run)).expand(len(run), -1, -1) for run in runs]
    return torch.cat(parts)


def _encode(model: LoadedModel, inputs: Sequence[Tensor], edits: RowEdits) -> Tensor:
    tape = Tape([model.output], edits.edits, edits.starts_s, row_edits=edits.of_rows)
    model.forward(tape, torch.stack(list(inputs)))
    return tape.read(model.output, 1)
