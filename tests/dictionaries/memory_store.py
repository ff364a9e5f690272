"""A store in memory, and made-up frames for it with known directions behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from otoscope.activations.shuffle import FrameBatch, blocks_of, shuffled_batches

SITE = "encoder.2.resid_post"


class MemoryStore:
    """Activations in memory with the interface of an ActivationStore."""

    def __init__(self, frames: Tensor | dict[str, Tensor], clips: int = 8, site: str = SITE) -> None:
        self.by_site = frames if isinstance(frames, dict) else {site: frames}
        self.site, self.sites = next(iter(self.by_site)), list(self.by_site)
        self.frames = self.by_site[self.site]
        self.n_frames = len(self.frames)
        size = self.n_frames // clips
        self.clips = {f"clip-{i}": (i * size, size) for i in range(clips)}
        self.meta = {"model": {"name": "made up"}}
        self.fingerprint = "made-up"

    def d(self, site: str) -> int:
        return self.by_site[site].shape[1]

    def mean(self, site: str) -> np.ndarray:
        return self.by_site[site].double().mean(dim=0).numpy()

    def scale(self, site: str) -> float:
        centred = self.by_site[site].double() - self.by_site[site].double().mean(dim=0)
        return self.d(site) ** 0.5 / float(centred.square().sum(dim=1).mean().sqrt())

    def clip(self, site: str, clip_id: str) -> np.ndarray:
        start, count = self.clips[clip_id]
        return self.by_site[site][start : start + count].numpy()

    def iter_clips(self, site: str) -> Iterator[tuple[str, np.ndarray]]:
        for clip in self.clips:
            yield clip, self.clip(site, clip)

    def batches(
        self,
        sites: list[str],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[FrameBatch]:
        spans = [(start, start + n) for clip, (start, n) in self.clips.items() if clips is None or clip in clips]

        def read(blocks: list[list[tuple[int, int]]]) -> list[Tensor]:
            rows = torch.cat([torch.arange(*span) for block in blocks for span in block])
            return [self.by_site[site][rows] for site in sites]

        found = shuffled_batches(
            read, blocks_of(spans, segment), batch_size, seed=seed, epoch=epoch, segment=segment, skip=skip
        )
        for rows, inside in found:
            yield FrameBatch(dict(zip(sites, rows, strict=True)), segment, inside)


def frames_of(n_frames: int, d: int, n: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames that are sums of `k` of `n` unit directions around a large mean, and those directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    chosen = torch.rand(n_frames, n, generator=generator).topk(k, dim=1).indices
    strengths = torch.rand(n_frames, k, generator=generator) + 0.5
    frames = (strengths[..., None] * directions[chosen]).sum(dim=1)
    return 3 * frames + 5 * torch.randn(d, generator=generator), directions
