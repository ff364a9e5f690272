"""Sound and mel of the web pages: short windows of clips, shared by all features that fire in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from otoscope.audio import Clip

WINDOW_S, STEP_S = 4, 2
"""Windows begin at every multiple of `STEP_S`, so any `WINDOW_S − STEP_S` seconds lie within one of them."""
AUDIO = {"opus": ".ogg", "wav": ".wav", "none": ""}
"""How sound is written, and what its files end in."""
_SAMPLE_RATE_HZ, _HOP, _LONGEST = 16_000, 160, 480_000
_OPUS = {"b": "24000", "compression_level": "5", "flags": "+bitexact"}
"""24 kbit/s; a tenth of the work of level 10, which is not heard to be better."""


def window_of(start_s: float) -> int:
    """The window that a moment lies in, by where it begins."""
    return int(max(0.0, start_s) // STEP_S)


class SoundWriter:
    """Writes windows of clips.

    Args:
        audio: one of `AUDIO`.
        n_mels: bands of the log-mel.
    """

    def __init__(self, audio: str, n_mels: int) -> None:
        self.audio, self.n_mels = audio, n_mels

    def write(self, clip: Clip, windows: Sequence[int], folder: Path) -> None:
        """Write some windows of a clip: `W.ogg` or `W.wav`, and `W.mel`, uint8 `[mel bins, columns of 10 ms]`.

        The darkest and the brightest value of the mel are those of the clip.

        Raises:
            InputError: the sound of the clip is missing or cannot be decoded.
        """
        folder.mkdir(parents=True)
        samples = clip.samples()
        mel = self._mel(samples)
        for window in windows:
            start = window * STEP_S
            columns = slice(start * 100, (start + WINDOW_S) * 100)
            (folder / f"{window}.mel").write_bytes(np.ascontiguousarray(mel[:, columns]).tobytes())
            if self.audio != "none":
                part = samples[start * _SAMPLE_RATE_HZ : (start + WINDOW_S) * _SAMPLE_RATE_HZ]
                (folder / f"{window}{AUDIO[self.audio]}").write_bytes(self._encoded(part))

    def _mel(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """What the model hears, in the windows in which it hears it."""
        from otoscope.audio.mel import log_mel

        parts = []
        for start in range(0, len(samples), _LONGEST):
            part = samples[start : start + _LONGEST]
            heard = log_mel(part, self.n_mels, pad_to_samples=_LONGEST).numpy()
            parts.append(heard[:, : -(-len(part) // _HOP)])
        whole = np.concatenate(parts, axis=1)
        low, high = float(whole.min()), float(whole.max())
        scaled: npt.NDArray[np.uint8] = ((whole - low) * (255.0 / max(high - low, 1e-9))).round().astype(np.uint8)
        return scaled

    def _encoded(self, samples: npt.NDArray[np.float32]) -> bytes:
        """The same samples give the same bytes."""
        return _opus(samples) if self.audio == "opus" else _wav(samples)


def _opus(samples: npt.NDArray[np.float32]) -> bytes:
    import av

    file = io.BytesIO()
    exact = {"fflags": "+bitexact"}  # no random serial number, no name of the program
    with av.open(file, "w", format="ogg", options=exact) as container:
        stream = container.add_stream("libopus", rate=_SAMPLE_RATE_HZ, layout="mono", options=_OPUS)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = _SAMPLE_RATE_HZ
        for each in (frame, None):
            for packet in stream.encode(each):
                container.mux(packet)
    return file.getvalue()


def _wav(samples: npt.NDArray[np.float32]) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), _SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()
