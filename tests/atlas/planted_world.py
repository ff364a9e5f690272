"""A planted world: a model whose units do known things on clips whose labels are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import Neurons
from otoscope.models import Dims, Site, parse_site

SITE = "encoder.1.mlp.post"
PHONES = ("a", "iː", "m", "s", "ʃ")
WORDS = ("seven", "bird", "morning")
SOUNDS = ("rain", "siren")
M, NOISE, DEAD, ALWAYS, SIREN, MORNING, STEPS, VOICE = range(8)
"""What the units do: detect m, nothing, never fire, always fire, detect sirens, detect a word, take few distinct
values, fire for one voice."""
DIMS = Dims("whisper", n_layers=2, d_model=8, n_heads=1, d_mlp=8, window_samples=480_000, n_mels=80, n_positions=1500)


@dataclass
class PlantedModel:
    """Stands in for a SpeechModel: frames by clip id; counts how often each clip is read."""

    frames: dict[str, np.ndarray]
    reads: list[str] = field(default_factory=list)
    name: str = "planted"
    weights_hash: str = "0" * 64
    dtype: torch.dtype = torch.float32

    dims: Dims = DIMS

    def site(self, text: str) -> Site:
        return parse_site(text)

    def width(self, site: str) -> int:
        return next(iter(self.frames.values())).shape[1]

    def run(self, clip: Clip, read: list[str]) -> dict[str, torch.Tensor]:
        self.reads.append(clip.clip_id)
        return {read[0]: torch.from_numpy(self.frames[clip.clip_id])}


@dataclass(frozen=True)
class World:
    model: PlantedModel
    corpus: Corpus
    dictionary: Neurons


def silence(n_frames: int, clip_id: str, **known: object) -> Clip:
    return Clip.from_samples(np.zeros(n_frames * 320, dtype=np.float32), 16000, clip_id=clip_id, **known)


def plant(seed: int = 0, n_speech: int = 40, n_sounds: int = 32) -> World:
    rng = np.random.default_rng(seed)
    clips, frames = [], {}
    for i in range(n_speech + n_sounds):
        n = int(rng.integers(120, 180))
        x = np.abs(rng.normal(0.3, 0.2, (n, 8))).astype(np.float32)
        x[:, NOISE] = np.convolve(rng.normal(size=n + 8), np.ones(9) / 3, "valid")
        x[:, DEAD] = 0
        x[:, STEPS] = rng.integers(0, 4, n)
        t = np.arange(n) * 0.02
        if i < n_speech:
            phones, words, at = [], [], 0.1
            while at < n * 0.02 - 0.3:
                word = str(rng.choice(WORDS))
                start = at
                for _ in range(3):
                    length = float(rng.uniform(0.05, 0.15))
                    phones.append(Interval(at, at + length, str(rng.choice(PHONES))))
                    at += length
                words.append(Interval(start, at, word))
                at += 0.07
            for each in phones:
                inside = (t >= each.start_s) & (t < each.end_s)
                x[inside, M] += 2 * (each.label == "m")
            for each in words:
                x[(t >= each.start_s) & (t < each.end_s), MORNING] += 2 * (each.label == "morning")
            speaker = f"voice-{i % 8}"
            x[:, VOICE] += 2 * (speaker == "voice-3")
            clip = silence(
                n, f"speech-{i:02d}", speaker=speaker, text="x", tiers={"phones": tuple(phones), "words": tuple(words)}
            )
        else:
            sound = SOUNDS[i % 2]
            x[:, SIREN] += 2 * (sound == "siren")
            clip = silence(n, f"sound-{i:02d}", attributes={"sound_class": sound})
        clips.append(clip)
        frames[clip.clip_id] = x
    return World(PlantedModel(frames), Corpus("planted", clips), Neurons(SITE, 8, name="units"))
