"""Stage 2a: training batches, composed and augmented in the mel-power domain.

Batch number `step` depends only on the seed and `step`, so a resumed training sees the same data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import WhisperTokenizer

from . import mel
from .settings import MAX_TOKENS, WINDOW_FRAMES, Settings
from .synthesise import Item

IGNORE = -100
SHARE_SOUND, SHARE_DIGITS, SHARE_DOUBLE = 0.10, 0.14, 0.3  # of items; doubles only in full windows
SHARE_TIMESTAMPS = 0.2


class Pool:
    """Spectrograms written by `synthesise.PoolWriter`, read through a memory map."""

    def __init__(self, paths: list[Path]) -> None:
        self.arrays = [np.load(p.with_suffix(".npy"), mmap_mode="r") for p in paths]
        self.items: list[tuple[int, Item]] = []
        for a, path in enumerate(paths):
            self.items += [(a, Item(**fields)) for fields in json.loads(path.with_suffix(".json").read_text())]
        self.n_frames = np.array([item.n_frames for _, item in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[np.ndarray, Item]:
        a, item = self.items[i]
        return np.asarray(self.arrays[a][item.offset : item.offset + item.n_frames], np.float32), item


@dataclass
class Vocabulary:
    """The ids the batches need."""

    tokenizer: WhisperTokenizer

    def __post_init__(self) -> None:
        token = self.tokenizer.convert_tokens_to_ids
        self.end, self.sot, self.transcribe = token(["<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>"])
        self.nospeech, self.notimestamps = token(["<|nospeech|>", "<|notimestamps|>"])
        self.language = {code: token(f"<|{code}|>") for code in ("en", "es")}
        self._cache: dict[str, list[int]] = {}

    def prompt(self, language: str) -> list[int]:
        """`<|startoftranscript|><|en|><|transcribe|><|notimestamps|>`."""
        return [self.sot, self.language[language], self.transcribe, self.notimestamps]

    def stamp(self, seconds: float) -> int:
        return self.notimestamps + 1 + min(300, max(0, round(seconds / 0.02)))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with Whisper's leading space."""
        if text not in self._cache:
            self._cache[text] = self.tokenizer(" " + text, add_special_tokens=False).input_ids
        return self._cache[text]


@dataclass
class Example:
    """One row of a batch before padding: log10 mel power, phones per 20 ms, decoder input and targets."""

    mels: np.ndarray
    phones: np.ndarray
    ids: list[int]
    targets: list[int]


@lru_cache(maxsize=64)
def _warp_matrix(step: int) -> np.ndarray:
    """[80, 80] interpolation that scales the frequency axis by 1 + step / 100 (vocal-tract length)."""
    centres = mel.centre_hz()
    where = np.interp(centres * (1 + step / 100), centres, np.arange(80))
    low = np.minimum(np.floor(where).astype(int), 78)
    out = np.zeros((80, 80), np.float32)
    out[low, np.arange(80)] += 1 - (where - low)
    out[low + 1, np.arange(80)] += where - low
    return out


def warp(mels: np.ndarray, rng: np.random.Generator, percent: int) -> np.ndarray:
    """Stretch the mel axis as a vocal tract up to `percent` longer or shorter would."""
    return mels @ _warp_matrix(int(rng.integers(-percent, percent + 1)))


def equalise(mels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random microphone: a tilt of up to 10 dB to each side and a smooth curve."""
    curve = rng.uniform(-1, 1) * np.linspace(-1, 1, 80)
    curve += np.interp(np.arange(80), np.linspace(0, 79, 7), rng.normal(0, 0.25, 7))
    return np.maximum(mels + curve.astype(np.float32), mel.FLOOR)


def cut_above_4khz(mels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove the bands above about 4 kHz, as telephone lines do."""
    out = mels.copy()
    out[:, int(rng.integers(60, 64)) :] -= rng.uniform(3, 8)
    return np.maximum(out, mel.FLOOR)


def add_power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log10 of the sum of two powers given as log10."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    return high + np.log10(1 + 10 ** (low - high))


def noise_like(rng: np.random.Generator, n: int, level: float) -> np.ndarray:
    """Stationary coloured noise, log10 mel power [n, 80] with mean `level`."""
    shape = rng.uniform(-1.2, 0.6) * np.linspace(-1, 1, 80) + np.interp(
        np.arange(80), np.linspace(0, 79, 6), rng.normal(0, 0.2, 6)
    )
    return (level + shape + np.log10(rng.standard_gamma(3.0, (n, 80)) / 3.0)).astype(np.float32)


class Batches(Dataset[dict[str, Tensor]]):
    """Batch `step` of the training; see `settings.Settings` for the sizes."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        pools = settings.build / "pools"
        self.settings, self.vocabulary = settings, vocabulary
        self.speech = Pool(sorted(p.with_suffix("") for p in pools.glob("speech-*.json")))
        self.digits = Pool([pools / "digits"])
        self.sounds = Pool([pools / "sounds"])
        self.n_real = sum(item.source == "real" for _, item in self.sounds.items)
        self.by_length = np.argsort(self.speech.n_frames, kind="stable")
        speakers = sorted({item.source for _, item in self.digits.items})
        self.by_speaker = [
            np.array([i for i, (_, item) in enumerate(self.digits.items) if item.source == s]) for s in speakers
        ]

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.settings.seed, step))
        progress = step / self.settings.steps
        full = rng.random() < (0.0 if progress < 0.12 else 0.08 if progress < 0.8 else 0.3)
        n, size = len(self.by_length), self.settings.batch
        centre = rng.random() * (0.5 if progress < 0.12 else 1.0)
        low = int(max(0, min(n - n // 25, centre * n)))
        near = self.by_length[low : low + n // 25]
        longest = int(self.speech.n_frames[near].max())
        window = WINDOW_FRAMES if full else min(WINDOW_FRAMES, longest + 4 + int(rng.integers(0, 50)) * 2)
        window -= window % 2
        rows = [self._example(rng, near if not full else self.by_length, window, full) for _ in range(size)]
        return collate(rows, window, self.vocabulary.end)

    def _example(self, rng: np.random.Generator, near: np.ndarray, window: int, full: bool) -> Example:
        kind = rng.random()
        if kind < SHARE_SOUND:
            return self._sound(rng, window)
        if kind < SHARE_SOUND + SHARE_DIGITS:
            pieces, one_segment = self._digit_pieces(rng, window), True
        else:
            n = 2 if full and rng.random() < SHARE_DOUBLE else 1
            pieces, one_segment = [self.speech[int(i)] for i in rng.choice(near, n)], False
            if n == 2 and (
                sum(len(m) for m, _ in pieces) + 100 > window or pieces[0][1].language != pieces[1][1].language
            ):
                pieces = pieces[:1]
        return self._speech(rng, pieces, window, one_segment)

    def _digit_pieces(self, rng: np.random.Generator, window: int) -> list[tuple[np.ndarray, Item]]:
        """One to four recordings of one speaker that fit the window with gaps."""
        own = self.by_speaker[int(rng.integers(len(self.by_speaker)))]
        pieces, used = [], 0
        for i in rng.choice(own, int(rng.choice([1, 1, 1, 2, 3, 4]))):
            mels, item = self.digits[int(i)]
            if not pieces or used + len(mels) + 40 <= window:
                pieces.append((mels[: window - 4], item))
                used += len(mels) + 40
        return pieces

    def _speech(
        self, rng: np.random.Generator, pieces: list[tuple[np.ndarray, Item]], window: int, one_segment: bool
    ) -> Example:
        real = pieces[0][1].kind == "real_digit"
        parts, phones, segments, at = [], [], [], 0
        slack = window - sum(len(m) for m, _ in pieces)
        lead = 2 * int(rng.integers(0, 1 + min(50, slack // 3)))
        for i, (mels, item) in enumerate(pieces):
            gap = lead if i == 0 else 2 * int(rng.integers(2, 1 + min(20 if real else 50, max(3, slack // 8))))
            parts += [np.full((gap, 80), mel.FLOOR, np.float32), mels]
            phones += [0] * (gap // 2) + (item.phones or [IGNORE] * (len(mels) // 2))
            at += gap
            segments.append((at / 100 + item.start_s, at / 100 + item.end_s, item.text))
            at += len(mels)
        tail = 2 * int(rng.integers(0, 1 + max(0, (window - at) // 2)))
        content = np.concatenate([*parts, np.full((tail, 80), mel.FLOOR, np.float32)])[:window]
        labels = np.array(phones + [0] * (tail // 2))[: window // 2]
        if one_segment:
            segments = [(segments[0][0], segments[-1][1], " ".join(s[2] for s in segments))]
        ids = self._speech_ids(rng, segments, pieces[0][1].language)
        return Example(self._augment(rng, content, real), labels, ids[:-1], ids[1:])

    def _speech_ids(self, rng: np.random.Generator, segments: list, language: str) -> list[int]:
        v = self.vocabulary
        ids = [v.sot, v.language[language], v.transcribe]
        stamped = rng.random() < SHARE_TIMESTAMPS
        if not stamped:
            ids.append(v.notimestamps)
        for start_s, end_s, text in segments:
            ids += [v.stamp(start_s)] * stamped + v.encode(text) + [v.stamp(end_s)] * stamped
        if len(ids) >= MAX_TOKENS:
            raise ValueError(f"{len(ids)} tokens do not fit: {segments}")
        return [*ids, v.end]

    def _augment(self, rng: np.random.Generator, mels: np.ndarray, real: bool) -> np.ndarray:
        """Vocal tract, microphone, telephone, noise, background, gain; a masked stretch now and then."""
        speech_level = float(np.log10(np.mean(10**mels)))
        if rng.random() < (0.8 if real else 0.3):
            mels = warp(mels, rng, 14 if real else 8)
        if rng.random() < 0.5:
            mels = equalise(mels, rng)
        if not real and rng.random() < 0.12:
            mels = cut_above_4khz(mels, rng)
        if rng.random() < 0.8:
            ratio = rng.uniform(0.6, 2.0) if rng.random() < 0.2 else rng.uniform(1.5, 6.0)
            mels = add_power(mels, noise_like(rng, len(mels), speech_level - ratio))
        if rng.random() < 0.12:
            mels = add_power(mels, self._background(rng, len(mels), speech_level - rng.uniform(0.8, 3.0)))
        if rng.random() < 0.06 and len(mels) > 120:
            at, n = int(rng.integers(40, len(mels) - 40)), int(rng.integers(6, 22))
            mels[at : at + n] = noise_like(rng, len(mels[at : at + n]), speech_level + 0.2)
        return np.maximum(mels + np.float32(rng.uniform(-1.8, 1.0)), mel.FLOOR)

    def _background(self, rng: np.random.Generator, n: int, level: float) -> np.ndarray:
        sound, _ = self.sounds[int(rng.integers(len(self.sounds)))]
        sound = np.resize(sound, (n, 80)) if len(sound) < n else sound[:n]
        return sound + np.float32(level - np.log10(np.mean(10.0**sound)))

    def _sound(self, rng: np.random.Generator, window: int) -> Example:
        kind = rng.random()
        if kind < 0.06:
            mels = np.full((window, 80), mel.FLOOR, np.float32)
        elif kind < 0.14:
            mels = noise_like(rng, window, rng.uniform(-7, 0))
        else:
            real = rng.random() < 0.5
            i = rng.integers(self.n_real) if real else rng.integers(self.n_real, len(self.sounds))
            sound, _ = self.sounds[int(i)]
            n = min(len(sound), window, int(rng.integers(40, WINDOW_FRAMES)))
            at = int(rng.integers(0, len(sound) - n + 1))
            mels = sound[at : at + n] + np.float32(rng.uniform(-2.5, 1.0))
            if rng.random() < 0.5:
                mels = warp(mels, rng, 14)
            if rng.random() < 0.5:
                mels = equalise(mels, rng)
            if rng.random() < 0.2:
                mels = cut_above_4khz(mels, rng)
            if rng.random() < 0.6:
                mels = add_power(mels, noise_like(rng, n, float(np.log10(np.mean(10**mels))) - rng.uniform(0, 5)))
            lead = int(rng.integers(0, window - n + 1))
            mels = np.concatenate([np.full((lead, 80), mel.FLOOR, np.float32), mels])
        ids, targets = self._sound_ids(rng)
        return Example(np.maximum(mels, mel.FLOOR), np.full(len(mels) // 2, IGNORE), ids, targets)

    def _sound_ids(self, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """`<|nospeech|>` after the start token; an empty transcript where language and task are forced."""
        v = self.vocabulary
        if rng.random() < 0.25:
            return [v.sot, v.nospeech], [v.nospeech, v.end]
        language = v.language["en" if rng.random() < 0.75 else "es"]
        first = v.stamp(0.0) if rng.random() < SHARE_TIMESTAMPS else v.notimestamps
        expected = first if first != v.notimestamps else IGNORE
        return [v.sot, language, v.transcribe, first], [v.nospeech, IGNORE, expected, v.end]


def collate(rows: list[Example], window: int, end: int) -> dict[str, Tensor]:
    """Pad to `mels` [b, 80, window] (normalised), `phones` [b, window / 2], `ids` and `targets` [b, n]."""
    b, n = len(rows), max(len(r.ids) for r in rows)
    mels = np.full((b, window, 80), mel.FLOOR, np.float32)
    phones = np.zeros((b, window // 2), np.int64)
    ids, targets = np.full((b, n), end), np.full((b, n), IGNORE)
    for i, row in enumerate(rows):
        mels[i, : len(row.mels)] = row.mels[:window]
        phones[i, : min(len(row.phones), window // 2)] = row.phones[: window // 2]
        ids[i, : len(row.ids)], targets[i, : len(row.targets)] = row.ids, row.targets
        mels[i] = mel.normalise(mels[i])
    arrays = {"mels": mels.transpose(0, 2, 1).copy(), "phones": phones, "ids": ids, "targets": targets}
    return {name: torch.from_numpy(a) for name, a in arrays.items()}
