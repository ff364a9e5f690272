"""Made-up speech of words whose sound and activations are known: features of phones, a word, loudness, an onset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from planted_speech import SITE, MemoryStore

from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import TopKDictionary
from otoscope.evaluation import LabelledFrames

WORDS = {
    "morning": "mɔniŋ", "meet": "mit", "moon": "mun", "ma": "mɔ",
    "sun": "sʌn", "song": "sɔŋ", "tin": "tin", "bus": "bʌs",
}  # fmt: skip
M, MORNING, M_IN_MORNING, LOUD, OPEN_VOWEL, EARLY_S = range(6)
N, D, N_NOISE = 12, 16, 6
RATE, HOP, FRAMES = 16000, 320, 150
VOICELESS = "st"


@dataclass(frozen=True)
class Spoken:
    """The world: `code [t, n]` holds the true strength of every direction."""

    corpus: Corpus
    frames: LabelledFrames
    code: np.ndarray
    dictionary: TopKDictionary


def speak(seed: int = 0, n_speakers: int = 8, clips_each: int = 6) -> Spoken:
    """Words of phones of 4 to 8 frames; ɔ is four times as loud as other phones, give or take a factor of two.

    The features: /m/ in any word; all of "morning"; /m/ in "morning"; how loud it is; /ɔ/; the second and third frame
    of /s/; and six that mean nothing.
    """
    rng = np.random.default_rng(seed)
    directions = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(seed)))[0][:N].contiguous()
    clips, codes = [], []
    for i in range(n_speakers * clips_each):
        speaker = i % n_speakers
        phones, words, samples, code = _clip(rng, 100 + 15 * speaker)
        codes.append(code)
        tiers = {"phones": tuple(phones), "words": tuple(words)}
        clips.append(Clip.from_samples(samples, RATE, clip_id=f"w{i:03d}", speaker=f"v{speaker}", tiers=tiers))
    code = np.concatenate(codes)
    spans = {clip.clip_id: (FRAMES * i, FRAMES) for i, clip in enumerate(clips)}
    store = MemoryStore({SITE: (code @ directions.numpy()).astype(np.float32)}, spans)
    corpus = Corpus("words", clips)
    dictionary = TopKDictionary(
        encoder=directions,
        encoder_bias=torch.full((N,), -0.02),
        decoder=directions,
        decoder_bias=torch.zeros(D),
        k=N,
        site=SITE,
        name="made up",
    )
    return Spoken(corpus, LabelledFrames.of(store, corpus), code, dictionary)


def _clip(rng: np.random.Generator, f0_hz: float) -> tuple[list[Interval], list[Interval], np.ndarray, np.ndarray]:
    code = np.zeros((FRAMES, N), dtype=np.float32)
    samples = 1e-4 * rng.standard_normal(FRAMES * HOP)
    phones: list[Interval] = []
    words: list[Interval] = []
    at = 5
    while at < FRAMES - 50:
        word = str(rng.choice(list(WORDS)))
        first = at
        for phone in WORDS[word]:
            stop = at + int(rng.integers(4, 9))
            level = 2.0 ** ((0.0 if phone == "ɔ" else -2.0) + rng.normal(0, 1))
            start, end = HOP * at - HOP // 2, HOP * stop - HOP // 2
            samples[start:end] += 0.05 * level * _sound(rng, phone, f0_hz, end - start)
            phones.append(Interval(start / RATE, end / RATE, phone))
            own = slice(at, stop)
            strength = rng.uniform(0.8, 1.2, stop - at)
            code[own, M] = (phone == "m") * strength
            code[own, MORNING] = (word == "morning") * strength
            code[own, M_IN_MORNING] = (phone == "m" and word == "morning") * strength
            code[own, OPEN_VOWEL] = (phone == "ɔ") * strength
            code[at + 1 : at + 3, EARLY_S] = phone == "s"
            at = stop
        words.append(Interval(phones[-len(WORDS[word])].start_s, phones[-1].end_s, word))
        assert words[-1].start_s == (HOP * first - HOP // 2) / RATE
        at += int(rng.choice([0, 0, 15]))
    for t in range(FRAMES):
        near = samples[max(0, t * HOP - 200) : t * HOP + 200]
        code[t, LOUD] = max(0.0, 0.3 * (np.log2(np.sqrt(np.mean(near**2)) + 1e-6) + 8))
    code[:, -N_NOISE:] = rng.uniform(0.3, 0.6, (FRAMES, N_NOISE)) * (rng.random((FRAMES, N_NOISE)) < 0.2)
    return phones, words, samples.astype(np.float32), code


def _sound(rng: np.random.Generator, phone: str, f0_hz: float, n: int) -> np.ndarray:
    if phone in VOICELESS:
        return rng.standard_normal(n)
    time = np.arange(n) / RATE
    return np.sqrt(2) * sum(np.sin(2 * np.pi * f0_hz * h * time) / h for h in range(1, 11))
