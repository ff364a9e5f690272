"""Made-up speech whose activations are sums of known directions: one for each phone, one of nasals, and of nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import RandomBasis, TopKDictionary
from otoscope.evaluation import LabelledFrames
from otoscope.models import Clock

SITE = "encoder.2.resid_post"
PHONES = ("m", "n", "ŋ", "b", "d", "ɡ", "s", "z", "f", "i", "u", "ɑ")
NASALS = ("m", "n", "ŋ")
N_OTHER = 12
NASAL = len(PHONES) + N_OTHER
"""The feature of nasals; phones come first, in their order, then features that mean nothing."""
N, D = NASAL + 1, 32
MEAN = 3.0


class MemoryStore:
    """Activations in memory, site by site, with what measurements need of an ActivationStore."""

    def __init__(self, sites: Mapping[str, np.ndarray], clips: Mapping[str, tuple[int, int]]) -> None:
        self.sites, self.clips, self.clock = sites, clips, Clock()

    def mean(self, site: str) -> np.ndarray:
        return self.sites[site].astype(np.float64).mean(axis=0)

    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.sites[site][start:stop]


@dataclass(frozen=True)
class Speech:
    """The world: `code [t, n]` holds the true strength of every direction."""

    store: MemoryStore
    corpus: Corpus
    frames: LabelledFrames
    directions: Tensor
    code: np.ndarray

    def oracle(self) -> TopKDictionary:
        """The dictionary behind the data."""
        return self.dictionary(self.directions, self.directions)

    def dictionary(self, encoder: Tensor, decoder: Tensor, name: str = "made up") -> TopKDictionary:
        bias = torch.full((D,), MEAN)
        return TopKDictionary(
            encoder=encoder,
            encoder_bias=torch.full((len(encoder),), -0.05),
            decoder=decoder,
            decoder_bias=bias,
            k=4,
            site=SITE,
            name=name,
        )

    def random(self, seed: int = 0) -> RandomBasis:
        return RandomBasis(SITE, D, N, seed=seed, k=4, mean=torch.full((D,), MEAN))


def plant(seed: int = 0, n_speakers: int = 8, clips_each: int = 5, n_frames: int = 120) -> Speech:
    """Clips of phones of 3 to 8 frames between pauses; every frame has two further features that mean nothing."""
    rng = np.random.default_rng(seed)
    directions = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1000 + seed)))[0][
        :N
    ].contiguous()
    clips, codes = [], []
    for i in range(n_speakers * clips_each):
        code = np.zeros((n_frames, N), dtype=np.float32)
        phones, at = [], 6
        while at < n_frames - 14:
            length = int(rng.integers(3, 9))
            phone = int(rng.integers(len(PHONES)))
            phones.append(Interval(0.02 * at - 0.01, 0.02 * (at + length) - 0.01, PHONES[phone]))
            code[at : at + length, phone] = rng.uniform(0.8, 1.2, length)
            if PHONES[phone] in NASALS:
                code[at : at + length, NASAL] = rng.uniform(0.6, 0.8, length)
            at += length
        for row in code:
            row[len(PHONES) + rng.choice(N_OTHER, 2, replace=False)] = rng.uniform(0.3, 0.6, 2)
        codes.append(code)
        samples = np.zeros(n_frames * 320, dtype=np.float32)
        clips.append(
            Clip.from_samples(
                samples, 16000, clip_id=f"c{i:03d}", speaker=f"v{i % n_speakers}", tiers={"phones": tuple(phones)}
            )
        )
    code = np.concatenate(codes)
    spans = {clip.clip_id: (n_frames * i, n_frames) for i, clip in enumerate(clips)}
    store = MemoryStore({SITE: (code @ directions.numpy() + MEAN).astype(np.float32)}, spans)
    corpus = Corpus("planted", clips)
    return Speech(store, corpus, LabelledFrames.of(store, corpus), directions, code)


def relabelled(frames: LabelledFrames, kind: str, seed: int = 0) -> LabelledFrames:
    """The control: the same frames with the labels of `kind` dealt out at random among labelled frames."""
    labels = frames.labels[kind]
    known = np.flatnonzero(labels.frame_class >= 0)
    moved = labels.frame_class.copy()
    moved[known] = np.random.default_rng(seed).permutation(moved[known])
    return replace(frames, labels={**frames.labels, kind: replace(labels, frame_class=moved)})


def value(measures: list, name: str, **of: str) -> float:
    """Return the figure of that name with exactly these marks."""
    (found,) = [m for m in measures if m.name == name and dict(m.of or {}) == of]
    return float(found.value)
