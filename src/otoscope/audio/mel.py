"""The log-mel spectrogram that Whisper models hear, equal to openai-whisper's to 1e-5."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.errors import InputError

N_FFT = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
_FLOOR = 1e-10  # power below this is silence
_DYNAMIC_RANGE = 8.0  # decades kept below the loudest point
_SILENCE = -10.0  # log10 of it
_INAUDIBLE = 1e-15  # samples nearer to 0 are 0: fading ends in numbers that take processors many times as long
_N_BANDS = 4
_FRAMES_PER_BLOCK = 256  # frames transformed at a time, so that the work stays in the cache


@functools.cache
def mel_filters(n_mels: int) -> np.ndarray:
    """Return the area-normalised Slaney-scale filters `[n_mels, N_FFT // 2 + 1]` (librosa's default)."""
    if not 1 <= n_mels <= N_FFT // 2:
        raise InputError(f"n_mels must be between 1 and {N_FFT // 2}, not {n_mels}; Whisper models use 80 or 128.")
    fft_hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE_HZ / 2), n_mels + 2))
    width_hz = np.diff(edges_hz)
    ramps = edges_hz[:, None] - fft_hz[None, :]
    rising = -ramps[:-2] / width_hz[:-1, None]
    falling = ramps[2:] / width_hz[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return filters.astype(np.float32)


_LINEAR_HZ_PER_MEL = 200.0 / 3  # Slaney: linear below 1 kHz, logarithmic above
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    linear = mel * _LINEAR_HZ_PER_MEL
    return np.where(mel < _BREAK_MEL, linear, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


@dataclass(frozen=True)
class _Band:
    """Neighbouring mel bins and the few FFT bins they look at: most of the filter matrix is zero.

    Power is the sum of two squares, of a real and an imaginary part: filters weigh and add all of them.
    """

    mel: slice
    squares: slice
    filters: torch.Tensor  # [mel bins, squares]


@functools.cache
def _constants(n_mels: int, device: str) -> tuple[torch.Tensor, tuple[_Band, ...]]:
    """Return the Hann window `[N_FFT]` and the filters in bands, on `device`."""
    filters = torch.from_numpy(mel_filters(n_mels))
    width = -(-n_mels // _N_BANDS)
    bands = []
    for start in range(0, n_mels, width):
        mel = slice(start, min(start + width, n_mels))
        heard = filters[mel].any(0).nonzero().flatten().tolist() or [0]
        fft = slice(heard[0], heard[-1] + 1)
        of_squares = filters[mel, fft].repeat_interleave(2, dim=1)
        bands.append(_Band(mel, slice(2 * fft.start, 2 * fft.stop), of_squares.to(device)))
    return torch.hann_window(N_FFT).to(device), tuple(bands)


def log_mel(
    samples: np.ndarray | torch.Tensor,
    n_mels: int = 80,
    *,
    pad_to_samples: int | None = None,
    device: str | torch.device | None = None,
) -> torch.Tensor:
    """Return the log-mel spectrogram `[m, t]` of 16 kHz `samples` `[n]`, or `[b, m, t]` of a batch `[b, n]`.

    Frames are 10 ms apart; t = n // 160, counted after zero-padding to `pad_to_samples`. Each clip of a batch
    is normalised by its own loudest point, so a batch equals its clips one by one.

    Raises:
        InputError: too short for one frame, longer than `pad_to_samples`, or not one- or two-dimensional.

    Source: Radford et al. 2022, section 2.2; `whisper.audio.log_mel_spectrogram`.
    """
    if isinstance(samples, np.ndarray) and not samples.flags.writeable:
        samples = samples.copy()  # torch warns about arrays that may not be written
    audio = torch.as_tensor(samples, dtype=torch.float32, device=device)
    if audio.ndim not in (1, 2) or not audio.numel():
        raise InputError(f"log_mel takes samples [n] or a batch [b, n], not shape {tuple(audio.shape)}.")
    n = audio.shape[-1]
    total = n if pad_to_samples is None else pad_to_samples
    if n > total:
        raise InputError(f"{n} samples do not fit in pad_to_samples={total}; cut the audio in windows first.")
    if total <= N_FFT // 2:
        raise InputError(f"{total} samples are too few for a mel frame: give at least {N_FFT // 2 + 1}, or pad.")
    _constants(n_mels, str(audio.device))  # refuses a wrong n_mels first
    n_frames, heard = total // HOP, _n_frames_with_sound(n, total)
    mel = audio.new_empty((*audio.shape[:-1], n_mels, n_frames))
    for clip, out in zip(audio.reshape(-1, n), mel.view(-1, n_mels, n_frames), strict=True):
        _log_power(_with_edges(clip, heard, total), out[:, :heard])
        floor = out[:, :heard].max() - _DYNAMIC_RANGE
        torch.maximum(out[:, :heard], floor, out=out[:, :heard])
        out[:, heard:] = floor.clamp(min=_SILENCE)
    return mel.add_(4.0).div_(4.0)


def _n_frames_with_sound(n: int, total: int) -> int:
    """Return how many leading frames can see a sample that is not padding."""
    return min(total // HOP, (n + N_FFT // 2 - 1) // HOP + 1)


def _with_edges(clip: torch.Tensor, n_frames: int, total: int) -> torch.Tensor:
    """Pad `[n]` so that frame i is `[160 i, 160 i + 400)`: reflected at the ends of the zero-padded audio."""
    half, n = N_FFT // 2, len(clip)
    needed = max((n_frames - 1) * HOP + half, half + 1)  # samples seen, counted from the start of the audio
    to_the_end = needed > total - half  # the far end is seen too
    size = total if to_the_end else needed
    padded = clip.new_empty(half + size + (half if to_the_end else 0))
    body = padded[half : half + size]
    torch.hardshrink(clip[:size], _INAUDIBLE, out=body[:n])
    body[n:] = 0
    padded[:half] = body[1 : half + 1].flip(0)
    if to_the_end:
        padded[half + size :] = body[-half - 1 : -1].flip(0)
    return padded


def _log_power(padded: torch.Tensor, out: torch.Tensor) -> None:
    """Write log10 of the mel power of edge-padded audio `[n]` to `out` `[m, t]`."""
    n_mels, n_frames = out.shape
    window, bands = _constants(n_mels, str(padded.device))
    frames = padded.unfold(0, N_FFT, HOP)
    windowed = padded.new_empty(min(_FRAMES_PER_BLOCK, n_frames), N_FFT)
    for start in range(0, n_frames, _FRAMES_PER_BLOCK):
        block = slice(start, min(start + _FRAMES_PER_BLOCK, n_frames))
        here = torch.mul(frames[block], window, out=windowed[: block.stop - start])
        squares = torch.view_as_real(torch.fft.rfft(here)).flatten(1).square_()
        for band in bands:
            torch.mm(band.filters, squares[:, band.squares].T, out=out[band.mel, block])
    out.clamp_(min=_FLOOR).log10_()
