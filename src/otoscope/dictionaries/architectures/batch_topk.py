"""BatchTopK sparse autoencoder: Bussmann et al. 2024, "BatchTopK sparse autoencoders" (arXiv 2412.06410).

A batch of `t` frames shares `k · t` active entries, so that rich frames may take more than plain ones. The trained
dictionary needs no company: an entry is active above the mean of the batches' smallest active values (section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import encode_top_k
from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.thresholded import ThresholdDictionary
from otoscope.dictionaries.training.learner import Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseLearner, SparseSpec, folded
from otoscope.errors import InputError

LONGEST_MEMORY = 1000
"""Steps over which the threshold is averaged, as in the authors' code; a twentieth of a short run."""
FIRST_WIDTH, WIDENING = 2, 4


@trainable
@dataclass(frozen=True)
class BatchTopK(SparseSpec):
    """A BatchTopK sparse autoencoder to be trained, with the published defaults."""

    k: int = 32
    """Features active in a frame, on average over the batch."""
    threshold_decay: float | None = None
    """What is kept of the threshold at each step; None: 0.999, less in runs of fewer than 20,000 steps."""

    kind: ClassVar[str] = "batchtopk"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold_decay is not None and not 0 <= self.threshold_decay < 1:
            raise InputError(f"threshold_decay must be at least 0 and below 1, got {self.threshold_decay}.")

    def learner(self, plan: TrainingPlan) -> BatchTopKLearner:
        """Return a fresh learner for one run."""
        return BatchTopKLearner(self, plan)


class BatchTopKLearner(SparseLearner):
    """The training state of one BatchTopK dictionary."""

    spec: BatchTopK

    def __init__(self, spec: BatchTopK, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        # In bfloat16, or even float32, a step of a slow average can be too small to be seen.
        self.state["threshold"] = torch.full((), -1.0, dtype=torch.float64, device=plan.device)
        memory = min(LONGEST_MEMORY, max(plan.steps / 20, 1))
        self.decay = 1 - 1 / memory if spec.threshold_decay is None else spec.threshold_decay

    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the strongest entries of the whole batch, and let the threshold follow the smallest of them."""
        weights = self.parameters
        values, indices = batch_top_k(
            x, weights["encoder"], weights["encoder_bias"], self.spec.k, shortlist=self.shortlist
        )
        smallest = torch.where(values > 0, values, torch.inf).amin().double()
        smallest = torch.where(smallest.isinf(), 0.0, smallest)
        before = self.state["threshold"]
        before.copy_(torch.where(before < 0, smallest, self.decay * before + (1 - self.decay) * smallest))
        return values, indices

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> ThresholdDictionary:
        """Return the dictionary for raw activations, with one threshold for all features."""
        weights, unit = folded(self.parameters, scaling)
        threshold = self.state["threshold"].clamp_min(0).cpu() * unit
        return ThresholdDictionary(**weights, threshold=threshold, site=sites[0], sites=sites, name=name)


@torch.no_grad()
def batch_top_k(x: Tensor, rows: Tensor, bias: Tensor, k: int, *, shortlist: bool = False) -> tuple[Tensor, Tensor]:
    """Return the `k · t` largest positive entries of `x @ rowsᵀ + bias`: values and int32 indices `[t, widest row]`.

    Every row gives its few strongest entries. A row that could have given more of them than it did is asked again, so
    that the result is exact; where several entries equal the smallest one, earlier rows win. Values fall along a row;
    shorter rows are padded with value 0 and index 0.

    Args:
        x: frames `[t, d]`.
        rows: `[n, d]`.
        bias: `[n]`.
        k: entries to keep per frame, on average.
        shortlist: see `encode_top_k`.
    """
    n, budget = len(rows), k * len(x)
    width = min(FIRST_WIDTH * k, n)
    values, indices = encode_top_k(x, rows, bias, width, shortlist=shortlist)
    limit = _largest(values, budget)
    while width < n and bool((cut := values[:, -1] > limit).any()):
        more = min(WIDENING * width, n)
        wider = torch.nn.functional.pad(values, (0, more - width))
        places = torch.nn.functional.pad(indices, (0, more - width))
        wider[cut], places[cut] = encode_top_k(x[cut], rows, bias, more, shortlist=shortlist)
        values, indices, width = wider, places, more
        limit = _largest(values, budget)
    tied = values == limit
    kept = values > limit
    kept |= tied & (tied.flatten().cumsum(0).view_as(tied) <= budget - kept.sum())
    longest = max(int(((values > 0) & kept).sum(dim=1).amax()), 1)
    kept = kept[:, :longest] & (values[:, :longest] > 0)
    return torch.where(kept, values[:, :longest], 0), torch.where(kept, indices[:, :longest], 0)


def _largest(values: Tensor, rank: int) -> Tensor:
    """Return the `rank`-th largest of all `values`, 0-d."""
    limit: Tensor = torch.kthvalue(values.flatten(), values.numel() - rank + 1).values
    return limit
