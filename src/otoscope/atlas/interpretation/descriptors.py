"""Rung 2: what a feature's moments sound like, without knowing any word or phone.

Every moment is measured (loudness, pitch, voicing, spectrum, and how these change around it), and active moments are
compared with silent ones of the same clips: a standardised difference (Cohen's d) with an interval over clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from otoscope.atlas.interpretation.moments import Moment
from otoscope.audio import Corpus
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.evaluation.acoustics import N_FFT, VOICED, WINDOW, acoustics
from otoscope.evaluation.measure import drawn_sums, percentiles

Floats = npt.NDArray[np.float64]

STEP_S = 0.06
"""How far before and after a moment its neighbourhood is measured."""
SPREAD_S = 0.25
"""Half the span over which changing loudness is measured."""
HOP_S = 0.01
FLOOR = 1e-8
BANDS_HZ = ((0.0, 500.0), (500.0, 1500.0), (1500.0, 4000.0), (4000.0, 8000.0))
LEAST_D = 0.5
"""Smaller standardised differences are not put in words (Cohen's medium effect)."""
APART_D = 2.0
"""From this difference on, active and silent moments hardly overlap, and one measure is as clear as another."""
MAX_NAMED = 4
PRESENCE = 1.3
"""Of one group, what there is more of is named, unless what there is less of is clearer by this factor."""
MIN_MOMENTS = 5


@dataclass(frozen=True)
class Measured:
    """One way to measure a moment, with what people say of high and low values.

    `group` holds measures of nearly the same thing, of which only the clearest is named.
    """

    name: str
    unit: str
    group: str
    high: str
    low: str
    digits: int = 0


MEASURES = (
    Measured("energy_db", "dB", "level", "loud", "quiet"),
    Measured("voicing", "", "voicing", "voiced", "unvoiced", 2),
    Measured("f0_hz", "Hz", "pitch", "high-pitched", "low-pitched"),
    Measured("tilt_db", "dB/octave", "spectrum", "a flat, hissing spectrum", "a spectrum that falls steeply", 1),
    Measured("centroid_hz", "Hz", "spectrum", "bright (high spectral centroid)", "dark (low spectral centroid)"),
    Measured("band_0_500", "dB", "spectrum", "much of the energy below 500 Hz", "little of the energy below 500 Hz"),
    Measured(
        "band_500_1500", "dB", "spectrum", "much of the energy at 500–1,500 Hz", "little of the energy at 500–1,500 Hz"
    ),
    Measured(
        "band_1500_4000", "dB", "spectrum", "much of the energy at 1.5–4 kHz", "little of the energy at 1.5–4 kHz"
    ),
    Measured("band_4000_8000", "dB", "spectrum", "much of the energy above 4 kHz", "little of the energy above 4 kHz"),
    Measured("rise_db", "dB", "rise", "just after the level rose", "just after the level fell"),
    Measured("fall_db", "dB", "fall", "just before the level rises", "just before the level falls"),
    Measured("flux_db", "dB", "flux", "where the spectrum changes fast", "where the spectrum holds still", 1),
    Measured("modulation_db", "dB", "modulation", "amid strongly changing level", "amid steady level", 1),
)
"""Band levels are relative to the whole; rise and fall are differences of level over 60 ms."""
NAMES = tuple(each.name for each in MEASURES)
_HANN = np.hanning(WINDOW)
_COARSE_BINS = np.geomspace(8, N_FFT // 2, 17).astype(np.int64)[:-1]
_LOG2 = frozenset({"f0_hz", "centroid_hz"})


@dataclass(frozen=True)
class Descriptor:
    """How active moments differ from silent ones of the same clips in one measure.

    Attributes:
        name, unit: of the measure.
        active, silent: medians.
        d, low, high: standardised difference of means (pitch and centroid in octaves) with its 95 % interval over
            clips; NaN where too few moments could be measured.
        fragment: what people say, empty where the difference is small or uncertain.
    """

    name: str
    unit: str
    active: float
    silent: float
    d: float
    low: float
    high: float
    fragment: str

    @property
    def sign(self) -> float:
        """1 where active moments have more of it, −1 where less."""
        return math.copysign(1.0, self.d)


def measure(corpus: Corpus, moments: list[Moment]) -> Floats:
    """Measure moments, `[m, len(NAMES)]`; pitch is NaN where unvoiced.

    Raises:
        InputError: a clip cannot be decoded.
    """
    values = np.full((len(moments), len(NAMES)), np.nan)
    by_clip: dict[str, list[int]] = {}
    for number, moment in enumerate(moments):
        by_clip.setdefault(moment.clip_id, []).append(number)
    for clip_id, numbers in by_clip.items():
        times = np.array([moments[number].time_s for number in numbers])
        values[numbers] = _measured(np.asarray(corpus.get(clip_id).samples(), dtype=np.float64), times)
    return values


def with_sound(corpus: Corpus, moments: list[Moment], measures: Floats | None = None) -> list[Moment]:
    """Return the moments with what was `measured` there in words, measuring them where that was not done.

    Raises:
        InputError: a clip cannot be decoded.
    """
    rows = measure(corpus, moments) if measures is None else measures
    return [replace(moment, measured=_in_words(row)) for moment, row in zip(moments, rows, strict=True)]


def _in_words(row: Floats) -> str:
    of = dict(zip(NAMES, row.tolist(), strict=True))
    pitch = "unvoiced" if math.isnan(of["f0_hz"]) else f"voiced at {of['f0_hz']:.0f} Hz"
    change = f"{of['rise_db']:+.0f} dB since, {of['fall_db']:+.0f} dB within 60 ms"
    return f"{of['energy_db']:.0f} dB ({change}), {pitch}, centroid {of['centroid_hz'] / 1000:.1f} kHz"


def compare(active: Floats, silent: Floats, active_clips: list[str], silent_clips: list[str]) -> list[Descriptor]:
    """Compare measures `[m, NAMES]` of active and silent moments; the clips are the clusters of the intervals."""
    clips = {clip: i for i, clip in enumerate(dict.fromkeys([*active_clips, *silent_clips]))}
    sides = [np.array([clips[clip] for clip in each], dtype=np.int64) for each in (active_clips, silent_clips)]
    differences = _differences([active, silent], sides, len(clips))
    found = []
    for column, (measured, (d, low, high)) in enumerate(zip(MEASURES, differences, strict=True)):
        medians = [_median(each[:, column]) for each in (active, silent)]
        fragment = _fragment(measured, medians[0], d, low, high)
        found.append(Descriptor(measured.name, measured.unit, medians[0], medians[1], d, low, high, fragment))
    return found


def named(descriptors: list[Descriptor]) -> list[Descriptor]:
    """Return the clearest differences, at most one of a group and `MAX_NAMED` in all."""
    group = {each.name: each.group for each in MEASURES}
    chosen: dict[str, Descriptor] = {}
    for each in sorted((each for each in descriptors if each.fragment), key=lambda each: -_clearness(each, PRESENCE)):
        chosen.setdefault(group[each.name], each)
    return sorted(chosen.values(), key=lambda each: -_clearness(each, 1.0))[:MAX_NAMED]


def _clearness(descriptor: Descriptor, presence: float) -> float:
    return min(abs(descriptor.d), APART_D) * (presence if descriptor.d > 0 else 1.0)


def sentence(descriptors: list[Descriptor]) -> str:
    """Return the named differences as one phrase; empty where there are none."""
    return ", ".join(each.fragment for each in named(descriptors))


def _fragment(measured: Measured, median: float, d: float, low: float, high: float) -> str:
    if not abs(d) >= LEAST_D or not (low > 0 or high < 0):
        return ""
    if measured.name == "voicing" and (median < VOICED) != (d < 0):
        return "more voiced than elsewhere" if d > 0 else "less voiced than elsewhere"
    return measured.high if d > 0 else measured.low


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def _linear(name: str, values: Floats) -> Floats:
    return np.log2(values) if name in _LOG2 else values


def _differences(
    pair: list[Floats], sides: list[npt.NDArray[np.int64]], n_clips: int
) -> list[tuple[float, float, float]]:
    """Cohen's d of every measure with its interval over clips, from sums of each clip."""
    sums = np.zeros((n_clips, len(MEASURES), 6))
    for column, measured in enumerate(MEASURES):
        values = [_linear(measured.name, each[:, column]) for each in pair]
        known = [np.isfinite(each) for each in values]
        if min(each.sum() for each in known) < MIN_MOMENTS:
            continue
        centre = np.concatenate([each[k] for each, k in zip(values, known, strict=True)]).mean()
        for side, (each, k, clip) in enumerate(zip(values, known, sides, strict=True)):
            for power in range(3):
                weight = (each[k] - centre) ** power
                sums[:, column, 3 * side + power] = np.bincount(clip[k], weight, minlength=n_clips)
    point = _cohen(sums.sum(axis=0))
    if n_clips < 2:
        return [(float(d), math.nan, math.nan) for d in point]
    drawn = _cohen(drawn_sums(sums.reshape(n_clips, -1)).reshape(-1, len(MEASURES), 6))
    low, high = percentiles(drawn)
    return list(zip(point.tolist(), low.tolist(), high.tolist(), strict=True))


def _cohen(sums: Floats) -> Floats:
    """From counts, sums and sums of squares of active and silent moments `[…, 6]`."""
    n1, s1, q1, n0, s0, q0 = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        m1, m0 = s1 / n1, s0 / n0
        pooled = np.sqrt(np.maximum((q1 - n1 * m1**2 + q0 - n0 * m0**2) / (n1 + n0 - 2), 0.0))
        return np.asarray(np.where(pooled > 1e-9, (m1 - m0) / pooled, np.nan), dtype=np.float64)


def _measured(samples: Floats, times: Floats) -> Floats:
    """Measure the moments of one clip."""
    n = len(times)
    heard = acoustics(samples, np.concatenate([times, times - STEP_S, times + STEP_S]))
    energy, before, after = heard.energy_db[:n], heard.energy_db[n : 2 * n], heard.energy_db[2 * n :]
    powers = _power(samples, np.concatenate([times, times - STEP_S / 3, times + STEP_S / 3]))
    power, left, right = powers[:n], *(10 * np.log10(_coarse(each)) for each in (powers[n : 2 * n], powers[2 * n :]))
    hz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ)
    total = power.sum(axis=1) + FLOOR
    bands = [10 * np.log10((power[:, (hz >= a) & (hz < b)].sum(axis=1) + FLOOR) / total) for a, b in BANDS_HZ]
    grid = np.arange(-SPREAD_S, SPREAD_S + HOP_S / 2, HOP_S)
    level = _level(samples, times[:, None] + grid)
    return np.stack(
        [
            energy,
            heard.voicing[:n],
            heard.f0_hz[:n],
            heard.tilt_db[:n],
            np.maximum(power @ hz / total, 1.0),
            *bands,
            energy - before,
            after - energy,
            np.abs(right - left).mean(axis=1),
            level.std(axis=1),
        ],
        axis=1,
    )


def _power(samples: Floats, times: Floats) -> Floats:
    """Power spectrum of the window around each time, `[m, N_FFT / 2 + 1]`."""
    padded = np.concatenate([np.zeros(WINDOW), samples, np.zeros(WINDOW)])
    first = np.clip(np.round(times * SAMPLE_RATE_HZ).astype(np.int64) + WINDOW // 2, 0, len(padded) - WINDOW)
    pieces = padded[first[:, None] + np.arange(WINDOW)] * _HANN
    return np.asarray(np.square(np.abs(np.fft.rfft(pieces, N_FFT))), dtype=np.float64)


def _coarse(power: Floats) -> Floats:
    """Sums over sixteen bands that widen with frequency, so that single harmonics do not count as change."""
    return np.asarray(np.add.reduceat(power, _COARSE_BINS, axis=1) + 1e-4, dtype=np.float64)


def _level(samples: Floats, times: Floats) -> Floats:
    """Level in dB of 20 ms around each time, from running sums."""
    running = np.concatenate([[0.0], np.cumsum(np.square(samples))])
    centre = np.round(times * SAMPLE_RATE_HZ).astype(np.int64)
    half = int(HOP_S * SAMPLE_RATE_HZ)
    low, high = (np.clip(centre + side, 0, len(samples)) for side in (-half, half))
    return np.asarray(10 * np.log10((running[high] - running[low]) / (2 * half) + FLOOR), dtype=np.float64)
