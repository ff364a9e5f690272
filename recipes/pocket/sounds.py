"""Synthesised sounds that are not speech: noises, tones, engines, birds, rain, cries.

Every generator takes a random generator and a number of samples and returns mono 16 kHz audio (float64, any level).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAMPLE_RATE = 16_000


def _time(n: int) -> np.ndarray:
    return np.arange(n) / SAMPLE_RATE


def _phase(frequency_hz: np.ndarray) -> np.ndarray:
    return 2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE


def coloured_noise(rng: np.random.Generator, n: int, exponent: float) -> np.ndarray:
    """Noise whose power falls as 1 / f ** exponent (0 white, 1 pink, 2 brown)."""
    spectrum = rng.standard_normal(n // 2 + 1) + 1j * rng.standard_normal(n // 2 + 1)
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20.0)
    return np.fft.irfft(spectrum * f ** (-exponent / 2), n)


def _band_noise(rng: np.random.Generator, n: int, low_hz: float, high_hz: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(n))
    f = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum * ((f > low_hz) & (f < high_hz)), n)


def _wobble(rng: np.random.Generator, n: int, rate_hz: float) -> np.ndarray:
    """A slow random curve with zero mean and unit variance."""
    knots = max(4, int(n / SAMPLE_RATE * rate_hz) + 2)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.standard_normal(knots))


def _bursts(rng: np.random.Generator, n: int, times_s: np.ndarray, decay_s: float, voice: Callable) -> np.ndarray:
    """`voice(t)` started at each time, with an exponential decay."""
    out = np.zeros(n)
    for start in (times_s * SAMPLE_RATE).astype(int):
        length = min(n - start, int(6 * decay_s * SAMPLE_RATE))
        if length > 0:
            t = _time(length)
            out[start : start + length] += rng.uniform(0.4, 1.0) * np.exp(-t / decay_s) * voice(t)
    return out


def _tone(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.sin(2 * np.pi * np.exp(rng.uniform(np.log(120), np.log(5000))) * _time(n))


def _chord(rng: np.random.Generator, n: int) -> np.ndarray:
    root = np.exp(rng.uniform(np.log(110), np.log(600)))
    steps = np.array([0, rng.choice([3, 4]), 7, 12])
    partials = np.arange(1, 5)[:, None, None]
    frequency = root * 2 ** (steps / 12)[None, :, None] * partials
    return (np.sin(2 * np.pi * frequency * _time(n)) / partials**1.5).sum((0, 1))


def _sweep(rng: np.random.Generator, n: int, up: bool) -> np.ndarray:
    low, high = rng.uniform(100, 600), rng.uniform(2000, 7000)
    curve = np.geomspace(low, high, n)
    return np.sin(_phase(curve if up else curve[::-1]))


def _clicks(rng: np.random.Generator, n: int) -> np.ndarray:
    times = np.arange(rng.uniform(0, 0.2), n / SAMPLE_RATE, rng.uniform(0.1, 0.6))
    f = rng.uniform(1000, 5000)
    return _bursts(rng, n, times, rng.uniform(0.002, 0.01), lambda t: np.sin(2 * np.pi * f * t))


def _engine(rng: np.random.Generator, n: int) -> np.ndarray:
    f0 = rng.uniform(25, 110) * np.exp(0.1 * _wobble(rng, n, 1.0))
    phase = _phase(f0)
    harmonics = sum(rng.uniform(0.3, 1) / k**0.9 * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 30))
    noise = coloured_noise(rng, n, 1.5)
    return harmonics * (1 + 0.3 * np.sin(phase / 2)) + 0.6 * noise / noise.std()


def _bird(rng: np.random.Generator, n: int) -> np.ndarray:
    out = np.zeros(n)
    at = rng.uniform(0, 0.3)
    base = rng.uniform(2200, 4500)
    while at < n / SAMPLE_RATE:
        length = min(n - int(at * SAMPLE_RATE), int(rng.uniform(0.05, 0.25) * SAMPLE_RATE))
        if length > 100:
            x = np.linspace(0, 1, length)
            f = base * np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.4, 0.4) * x)
            f *= 1 + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(10, 40) * x)
            out[int(at * SAMPLE_RATE) :][:length] += np.sin(_phase(f)) * np.hanning(length)
        at += rng.uniform(0.08, 0.5)
    return out


def _rain(rng: np.random.Generator, n: int) -> np.ndarray:
    base = _band_noise(rng, n, 800, 7800)
    times = rng.uniform(0, n / SAMPLE_RATE, int(n / SAMPLE_RATE * rng.uniform(20, 120)))
    drops = _bursts(rng, n, times, 0.004, lambda t: rng.standard_normal(len(t)))
    return base / base.std() * rng.uniform(0.1, 0.5) + drops


def _wind(rng: np.random.Generator, n: int) -> np.ndarray:
    return coloured_noise(rng, n, 1.7) * np.exp(0.8 * _wobble(rng, n, 1.5))


def _siren(rng: np.random.Generator, n: int) -> np.ndarray:
    rate, depth = rng.uniform(0.3, 3), rng.uniform(0.2, 0.5)
    f = rng.uniform(500, 1200) * np.exp(depth * np.sin(2 * np.pi * rate * _time(n)))
    phase = _phase(f)
    return np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)


def _bell(rng: np.random.Generator, n: int) -> np.ndarray:
    f = rng.uniform(300, 1500)
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.74, 3.76])
    times = np.arange(rng.uniform(0, 0.3), n / SAMPLE_RATE, rng.uniform(0.5, 1.5))
    return _bursts(rng, n, times, rng.uniform(0.2, 0.6), lambda t: np.sin(2 * np.pi * f * ratios[:, None] * t).sum(0))


def _cry(rng: np.random.Generator, n: int) -> np.ndarray:
    """Voiced wails: a gliding harmonic source through two drifting resonances, without syllables."""
    f0 = rng.uniform(250, 600) * np.exp(0.25 * _wobble(rng, n, 2.0))
    formants = [rng.uniform(700, 1400), rng.uniform(1800, 3500)]
    phase = _phase(f0)
    out = np.zeros(n)
    for k in range(1, 14):
        f = k * f0
        gain = sum(1 / (1 + ((f - c) / 250) ** 2) for c in formants) + 0.05
        out += gain * np.sin(k * phase) * (f < 7500)
    rate = rng.uniform(0.6, 1.6)
    return out * np.clip(np.sin(2 * np.pi * rate * _time(n) + rng.uniform(0, 6)) + 0.6, 0, 1)


def _beeps(rng: np.random.Generator, n: int) -> np.ndarray:
    period = rng.uniform(0.2, 0.8)
    on = (_time(n) % period) < period * rng.uniform(0.3, 0.6)
    return np.sign(np.sin(2 * np.pi * rng.uniform(600, 2500) * _time(n))) * on


def _knock(rng: np.random.Generator, n: int) -> np.ndarray:
    times = np.cumsum(rng.choice([0.18, 0.2, 0.22, 0.7], size=20)) + rng.uniform(0, 0.3)
    f = rng.uniform(80, 300)
    return _bursts(
        rng, n, times, rng.uniform(0.015, 0.04), lambda t: np.sin(2 * np.pi * f * t) + 0.3 * rng.standard_normal(len(t))
    )


def _water(rng: np.random.Generator, n: int) -> np.ndarray:
    times = rng.uniform(0, n / SAMPLE_RATE, int(n / SAMPLE_RATE * rng.uniform(4, 25)))
    f, rise = rng.uniform(500, 1500), rng.uniform(5, 25)
    return _bursts(rng, n, times, 0.02, lambda t: np.sin(2 * np.pi * f * (t + rise * t**2)))


def _bark(rng: np.random.Generator, n: int) -> np.ndarray:
    times = np.cumsum(rng.uniform(0.25, 0.9, size=16))
    f0 = rng.uniform(180, 600)

    def voice(t: np.ndarray) -> np.ndarray:
        phase = _phase(f0 * np.exp(-2.5 * t) + 60)
        tone = sum(np.sin(k * phase) / k**0.6 for k in range(1, 12))
        return (tone + rng.standard_normal(len(t))) * np.minimum(1, t / 0.015)

    return _bursts(rng, n, times, rng.uniform(0.05, 0.12), voice)


def _silence(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.zeros(n) if rng.random() < 0.3 else 1e-5 * 10 ** rng.uniform(-1, 0.7) * coloured_noise(rng, n, 0)


GENERATORS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "white_noise": lambda rng, n: coloured_noise(rng, n, 0),
    "pink_noise": lambda rng, n: coloured_noise(rng, n, 1),
    "brown_noise": lambda rng, n: coloured_noise(rng, n, 2),
    "tone": _tone,
    "chord": _chord,
    "sweep_up": lambda rng, n: _sweep(rng, n, up=True),
    "sweep_down": lambda rng, n: _sweep(rng, n, up=False),
    "clicks": _clicks,
    "engine": _engine,
    "bird": _bird,
    "rain": _rain,
    "wind": _wind,
    "siren": _siren,
    "bell": _bell,
    "cry": _cry,
    "beeps": _beeps,
    "knock": _knock,
    "water": _water,
    "bark": _bark,
    "silence": _silence,
}


def make_sound(name: str, rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """A sound of class `name`: 16 kHz float32, faded over 10 ms at both ends, peak 0.1 to 0.6 (silence excepted)."""
    n = int(duration_s * SAMPLE_RATE)
    audio = GENERATORS[name](rng, n)
    if name != "silence":
        audio = audio / max(1e-9, float(np.abs(audio).max())) * np.exp(rng.uniform(np.log(0.1), np.log(0.6)))
    ramp = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 160)
    return (audio * ramp).astype(np.float32)
