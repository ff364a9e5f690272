"""What can be heard in every frame without knowing any phone: loudness, spectral tilt, voicing and pitch.

Plain signal processing on the recording itself, so that a feature which only follows one of these can be told from one
that knows a class of sounds. Voicing and pitch are the height and place of the highest peak of the autocorrelation,
divided by that of the window (Boersma 1993, "Accurate short-term analysis of the fundamental frequency…").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.audio import Corpus
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.errors import InputError
from otoscope.evaluation.frames import LabelledFrames

Floats = npt.NDArray[np.float64]

WINDOW = 800
"""Samples of the Hann window around a frame's moment: 50 ms, three periods of the lowest pitch."""
N_FFT = 2048
MIN_F0_HZ, MAX_F0_HZ = 60.0, 400.0
VOICED = 0.45
"""Frames of at least this voicing strength have a pitch (Boersma's voicing threshold)."""
OCTAVE_COST = 0.01
"""What a candidate loses for each octave that it is lower, so that subharmonics do not win (Boersma's default)."""
NOISE_POWER = 1e-8
"""Mean square (−80 dB of full scale) that is added to every frame: nothing is voiced in digital silence."""
TILT_BAND_HZ = (100.0, 7500.0)
BLOCK = 1024


@dataclass(frozen=True)
class Acoustics:
    """What is heard in the frames of a clip, or of `LabelledFrames`; all `[t]`.

    Attributes:
        energy_db: log of the mean square, in dB of full scale.
        tilt_db: slope of the log power spectrum from 100 to 7,500 Hz, in dB per octave: about 0 for white noise,
            negative for voices.
        voicing: 0 (noise) to 1 (periodic).
        f0_hz: pitch; NaN where `voicing` is under `VOICED`.
    """

    energy_db: Floats
    tilt_db: Floats
    voicing: Floats
    f0_hz: Floats

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.energy_db)


def acoustics(samples: npt.NDArray[np.floating], times_s: npt.NDArray[np.floating]) -> Acoustics:
    """Analyse 16 kHz mono `samples` around each of `times_s [t]`; beyond the recording there is silence."""
    padded = np.concatenate([np.zeros(WINDOW), np.asarray(samples, dtype=np.float64), np.zeros(WINDOW)])
    first = np.round(np.asarray(times_s) * SAMPLE_RATE_HZ).astype(np.int64) + WINDOW - WINDOW // 2
    first = np.clip(first, 0, len(padded) - WINDOW)
    parts = [
        _analysed(padded[at[:, None] + np.arange(WINDOW)]) for at in np.split(first, range(BLOCK, len(first), BLOCK))
    ]
    return Acoustics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def frame_acoustics(corpus: Corpus, frames: LabelledFrames) -> Acoustics:
    """Analyse the recordings of all `frames`, each at the moment that the clock of its site gives it.

    Raises:
        InputError: a clip is unknown to the corpus, or cannot be decoded.
    """
    known = {clip.clip_id for clip in corpus}
    missing = [clip for clip in frames.clips if clip not in known]
    if missing:
        raise InputError(f"The corpus lacks {len(missing)} clips of these frames (first: {missing[0]!r}); give theirs.")
    clock = frames.store.clock
    parts = [
        acoustics(corpus[clip].samples(), clock.offset_s + clock.frame_s * np.arange(count))
        for clip, count in zip(frames.clips, frames.spans[:, 1], strict=True)
    ]
    columns = zip(*((each.energy_db, each.tilt_db, each.voicing, each.f0_hz) for each in parts), strict=True)
    return Acoustics(*(np.concatenate(column) for column in columns))


def _analysed(pieces: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Energy, tilt, voicing and pitch of windows `[t, WINDOW]`."""
    window = np.hanning(WINDOW + 1)[:WINDOW]
    pieces = (pieces - pieces.mean(axis=1, keepdims=True)) * window
    power = np.square(np.abs(np.fft.rfft(pieces, N_FFT)))
    mean_square = np.square(pieces).sum(axis=1) / np.square(window).sum()
    voicing, f0 = _pitch(power, window)
    return 10 * np.log10(mean_square + NOISE_POWER), _tilt(power), voicing, f0


def _tilt(power: Floats) -> Floats:
    """Least-squares slope over third-octave bands, so that low and high octaves weigh the same."""
    edges = TILT_BAND_HZ[0] * 2 ** (np.arange(int(3 * np.log2(TILT_BAND_HZ[1] / TILT_BAND_HZ[0])) + 1) / 3)
    bins = np.searchsorted(np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ), edges)
    bands = np.add.reduceat(power, bins, axis=1)[:, :-1] / np.diff(bins)
    level = 10 * np.log10(bands + NOISE_POWER * WINDOW)
    octave = np.arange(level.shape[1]) / 3
    octave = octave - octave.mean()
    return np.asarray(level @ octave / np.square(octave).sum(), dtype=np.float64)


def _pitch(power: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Height and frequency of the best peak of the autocorrelation, by parabolas through three lags."""
    lowest, highest = int(SAMPLE_RATE_HZ / MAX_F0_HZ), int(np.ceil(SAMPLE_RATE_HZ / MIN_F0_HZ))
    lags = np.arange(lowest, highest + 1)
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, N_FFT))), N_FFT)
    own = np.fft.irfft(power, N_FFT)
    total = own[:, :1] + NOISE_POWER * of_window[0]
    r = own[:, lowest - 1 : highest + 2] / total * of_window[0] / of_window[lowest - 1 : highest + 2]
    left, middle, right = r[:, :-2], r[:, 1:-1], r[:, 2:]
    peak = (middle >= left) & (middle > right)
    preferred = np.where(peak, middle - OCTAVE_COST * np.log2(lags / lowest), -np.inf)
    best = preferred.argmax(axis=1)
    a, b, c = (np.take_along_axis(each, best[:, None], axis=1)[:, 0] for each in (left, middle, right))
    bend = np.where(peak.any(axis=1), a - 2 * b + c, -1.0)
    shift = np.where(peak.any(axis=1), (a - c) / (2 * bend), 0.0)
    height = np.where(peak.any(axis=1), b - (a - c) * shift / 4, 0.0)
    voicing = np.clip(height, 0.0, 1.0)
    return voicing, np.where(voicing >= VOICED, SAMPLE_RATE_HZ / (lags[best] + shift), np.nan)
