"""Mean and scale of a site's activations, in fp64, from sums that can be added shard by shard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

_BLOCK_FRAMES = 256  # held in fp64 at a time


@dataclass(frozen=True)
class SiteStatistics:
    """Sums over frames: enough for the mean of every unit and for the overall scale."""

    n_frames: int
    total: np.ndarray
    """Sum of the frames `[d]`, fp64."""
    total_square: float
    """Sum of the squared norms."""
    total_norm: float
    """Sum of the norms."""

    @classmethod
    def of(cls, frames: torch.Tensor) -> Self:
        """Return the sums over `frames` `[t, d]`."""
        total = np.zeros(frames.shape[1])
        total_square = total_norm = 0.0
        for start in range(0, len(frames), _BLOCK_FRAMES):
            exact = frames[start : start + _BLOCK_FRAMES].to(torch.float64)
            squares = exact.square().sum(1)
            total += exact.sum(0).numpy()
            total_square += float(squares.sum())
            total_norm += float(squares.sqrt().sum())
        return cls(len(frames), total, total_square, total_norm)

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        return SiteStatistics(
            self.n_frames + other.n_frames,
            self.total + other.total,
            self.total_square + other.total_square,
            self.total_norm + other.total_norm,
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean of each unit `[d]`."""
        return self.total / self.n_frames

    @property
    def mean_norm(self) -> float:
        """Mean length of a frame."""
        return self.total_norm / self.n_frames

    @property
    def scale(self) -> float:
        """The factor that gives centred frames a mean squared length of d (unit variance per unit, on average)."""
        variance = self.total_square / self.n_frames - float(np.square(self.mean).sum())
        return math.sqrt(len(self.total) / variance) if variance > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the sums as JSON that reads back to the last bit."""
        return {
            "n_frames": self.n_frames,
            "total": self.total.tolist(),
            "total_square": self.total_square,
            "total_norm": self.total_norm,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the sums written by `to_json`."""
        total = np.asarray(value["total"], dtype=np.float64)
        return cls(value["n_frames"], total, value["total_square"], value["total_norm"])
