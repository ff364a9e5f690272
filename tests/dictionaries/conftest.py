"""A store in memory with a known dictionary behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from otoscope.dictionaries import TopK, TopKDictionary, train

SITE = "encoder.2.resid_post"


class MemoryStore:
    """Activations in memory with the interface of an ActivationStore."""

    def __init__(self, frames: Tensor, clips: int = 8, site: str = SITE) -> None:
        self.frames, self.site, self.sites = frames, site, [site]
        self.n_frames = len(frames)
        size = len(frames) // clips
        self.clips = {f"clip-{i}": (i * size, size) for i in range(clips)}
        self.meta = {"model": {"name": "made up"}}
        self.fingerprint = "made-up"

    def d(self, site: str) -> int:
        return self.frames.shape[1]

    def mean(self, site: str) -> np.ndarray:
        return self.frames.double().mean(dim=0).numpy()

    def scale(self, site: str) -> float:
        centred = self.frames.double() - self.frames.double().mean(dim=0)
        return self.d(site) ** 0.5 / float(centred.norm(dim=1).mean())

    def iter_clips(self, site: str) -> Iterator[tuple[str, np.ndarray]]:
        for clip, (start, count) in self.clips.items():
            yield clip, self.frames[start : start + count].numpy()

    def batches(
        self, site: str, batch_size: int, *, seed: int, epoch: int, clips: Collection[str] | None = None
    ) -> Iterator[Tensor]:
        spans = [span for clip, span in self.clips.items() if clips is None or clip in clips]
        rows = torch.cat([torch.arange(start, start + count) for start, count in spans])
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        yield from self.frames[rows[order]].split(batch_size)


def planted(n_frames: int, d: int, n: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames that are sums of `k` of `n` unit directions around a large mean, and those directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    chosen = torch.rand(n_frames, n, generator=generator).topk(k, dim=1).indices
    strengths = torch.rand(n_frames, k, generator=generator) + 0.5
    frames = (strengths[..., None] * directions[chosen]).sum(dim=1)
    return 3 * frames + 5 * torch.randn(d, generator=generator), directions


@pytest.fixture(scope="session")
def planted_directions() -> tuple[MemoryStore, Tensor]:
    frames, directions = planted(16_000, d=24, n=32, k=3, seed=1)
    return MemoryStore(frames), directions


@pytest.fixture(scope="session")
def store(planted_directions: tuple[MemoryStore, Tensor]) -> MemoryStore:
    return planted_directions[0]


@pytest.fixture(scope="session")
def trained(store: MemoryStore) -> TopKDictionary:
    """A dictionary twice as large as the one behind the data, trained briefly."""
    dictionary = train(store, TopK(64, k=3), steps=800, batch_size=512, lr=5e-3, progress=False)
    assert isinstance(dictionary, TopKDictionary)
    return dictionary
