"""Matryoshka BatchTopK: Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders".

arXiv 2503.17547, equation 3: one code, of which every prefix of groups must rebuild the frame by itself. General
features settle in the first groups and are not absorbed by special ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.architectures.batch_topk import BatchTopK, BatchTopKLearner
from otoscope.dictionaries.kernels import gather_dot, scatter_outer, sparse_decode
from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.dictionaries.training.sparse_step import sum_of_squares
from otoscope.errors import InputError


@trainable
@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """A Matryoshka BatchTopK sparse autoencoder to be trained, with the published defaults."""

    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
    """Share of the features in each group, from general to special; together 1."""

    kind: ClassVar[str] = "matryoshka"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "groups", tuple(self.groups))
        if not self.groups or abs(sum(self.groups) - 1) > 1e-6:
            raise InputError(f"groups must be shares that add up to 1, got {list(self.groups)}.")
        if min(b - a for a, b in pairwise(self.edges)) < 1:
            raise InputError(
                f"With n_features = {self.n_features} some of the groups {list(self.groups)} hold no feature; "
                "take more features or fewer groups."
            )

    @property
    def edges(self) -> tuple[int, ...]:
        """Where each group begins, and `n_features`; what rounding leaves goes to the last group."""
        sizes = [int(share * self.n_features + 1e-6) for share in self.groups[:-1]]
        return (0, *accumulate(sizes), self.n_features)

    def settings(self) -> dict[str, Any]:
        """Return all fields as they come back from a file."""
        return {**super().settings(), "groups": list(self.groups)}

    def learner(self, plan: TrainingPlan) -> MatryoshkaLearner:
        """Return a fresh learner for one run."""
        return MatryoshkaLearner(self, plan)


class MatryoshkaLearner(BatchTopKLearner):
    """The training state of one Matryoshka dictionary."""

    spec: Matryoshka

    def rebuild(
        self, batch: Batch, variance: Tensor, values: Tensor, indices: Tensor, x: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return gradients, residual and loss: the sum over all prefixes of the fraction of variance unexplained."""
        decoder, groups = self.parameters["decoder"], list(pairwise(self.spec.edges))
        codes = [packed(values, indices, (indices >= a) & (indices < b) & (values > 0)) for a, b in groups]
        residuals, residual = [], batch.y - self.dense_part(batch)
        for some, where in codes:
            residual = residual - sparse_decode(some, where, decoder)
            residuals.append(residual)
        # A group takes part in its own prefix and in all longer ones.
        by_output, by_values, by_decoder = torch.zeros_like(residual), [], []
        for (a, b), (some, where), left in zip(groups[::-1], codes[::-1], residuals[::-1], strict=True):
            by_output = by_output + left * (-2 / variance)
            by_values.append(gather_dot(by_output, where, decoder) * (some > 0))
            by_decoder.append(scatter_outer(some, (where - a).clamp_min(0), by_output, b - a))
        places = torch.cat([where for _, where in codes[::-1]], dim=1)
        gradients = self.through_values(torch.cat(by_values, dim=1), places, x)
        gradients["decoder"] = torch.cat(by_decoder[::-1])
        self.through_dense_part(gradients, by_output, batch)
        loss = torch.stack([sum_of_squares(left) for left in residuals]).sum() / variance
        return gradients, residual, loss


def packed(values: Tensor, indices: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return only the `wanted` entries of a code, moved to the left: values and indices `[t, widest row]`."""
    places = wanted.cumsum(dim=1)
    width = max(int(places[:, -1].amax()), 1)
    slots = torch.where(wanted, places - 1, width)  # what is not wanted ends in a column that is cut off

    def moved(entries: Tensor) -> Tensor:
        return entries.new_zeros(len(entries), width + 1).scatter_(1, slots, entries)[:, :width].contiguous()

    return moved(values), moved(indices)
