"""Fitting the linear frame classifier: multinomial logistic regression, and Gaussians in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from otoscope.alignment.features import with_neighbours
from otoscope.errors import InputError

_SMOOTHING = 0.05
_SHRINKAGE = 0.1
_SHARED_FRAMES = 5.0
_ROWS = 4096

Weights = tuple[Tensor, Tensor, np.ndarray]
"""`weight [c, o · d]`, `bias [c]`, and the log prior `[c]` of the columns."""


@dataclass(frozen=True)
class FitSettings:
    """How a frame phone model is fitted: AdamW over shuffled frames, cross-entropy with smoothed labels."""

    epochs: int = 6
    batch_size: int = 512
    lr: float = 2e-3
    weight_decay: float = 1e-2
    noise: float = 0.6
    """Standard deviation of what is added to the (standardised) features, so that a fit to few voices carries over."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Frames:
    """The features of many clips, one after another, and the column of each frame."""

    features: Tensor
    """`[t, d]`"""
    labels: Tensor
    """`[t]`; −1 where a frame is not used."""
    spans: Tensor
    """`[t, 2]`: where the clip of each frame begins and ends."""

    @classmethod
    def of(cls, features: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Frames:
        """Join the features `[t, d]` and labels `[t]` of clips.

        Raises:
            InputError: no frame has a label.
        """
        lengths = np.array([len(each) for each in features])
        ends = np.cumsum(lengths)
        spans = np.repeat(np.stack([ends - lengths, ends], 1), lengths, axis=0)
        joined = torch.from_numpy(np.concatenate(labels))
        if not bool((joined >= 0).any()):
            raise InputError("No frame has a phone, so there is nothing to fit a phone model on.")
        return cls(torch.from_numpy(np.concatenate(features)), joined, torch.from_numpy(spans))

    @property
    def known(self) -> Tensor:
        """The frames with a label."""
        return torch.nonzero(self.labels >= 0)[:, 0]

    def log_prior(self, n_columns: int) -> np.ndarray:
        """How frequent each column is, `[c]`, natural logarithm; smoothed as the labels are, so that a column that was
        never seen is neither likely nor unlikely anywhere.
        """
        counts = np.bincount(self.labels[self.known].numpy(), minlength=n_columns)
        prior: np.ndarray = np.log((1 - _SMOOTHING) * counts / counts.sum() + _SMOOTHING / n_columns)
        return prior

    def batches(self, rows: Tensor, size: int, offsets: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(stacked [b, o · d], labels [b])` of the given frames."""
        for part in torch.split(rows, size):
            yield with_neighbours(self.features, part, offsets, self.spans), self.labels[part]


def fit_logistic(frames: Frames, n_columns: int, offsets: Sequence[int], fit: FitSettings) -> Weights:
    """Fit by the cross-entropy; the same on every run with one seed and one thread."""
    generator = torch.Generator().manual_seed(fit.seed)
    known = frames.known
    weight = torch.zeros(n_columns, frames.features.shape[1] * len(offsets), requires_grad=True)
    bias = torch.zeros(n_columns, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=fit.lr, weight_decay=fit.weight_decay)
    n_steps = fit.epochs * -(-len(known) // fit.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.lr, total_steps=n_steps, pct_start=0.1)
    for _ in range(fit.epochs):
        noise = fit.noise * torch.randn(frames.features.shape, generator=generator)
        noisy = replace(frames, features=frames.features + noise)
        shuffled = known[torch.randperm(len(known), generator=generator)]
        for stacked, labels in noisy.batches(shuffled, fit.batch_size, offsets):
            with torch.enable_grad():
                scores = torch.nn.functional.linear(stacked, weight, bias)
                loss = torch.nn.functional.cross_entropy(scores, labels, label_smoothing=_SMOOTHING)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return weight.detach(), bias.detach(), frames.log_prior(n_columns)


def fit_gaussians(frames: Frames, n_columns: int, offsets: Sequence[int]) -> Weights:
    """Fit a mean for each column and one covariance for all (linear discriminant analysis), in closed form.

    Slower to be sure of itself than the logistic fit, and so the better one as long as the labels are guesses. Means
    of rare columns are drawn to that of all frames, and the covariance to a multiple of the identity.
    """
    size = frames.features.shape[1] * len(offsets)
    products = torch.zeros(size, size, dtype=torch.float64)
    sums = torch.zeros(n_columns, size, dtype=torch.float64)
    counts = torch.zeros(n_columns, dtype=torch.float64)
    for stacked, labels in frames.batches(frames.known, _ROWS, offsets):
        products += (stacked.T @ stacked).double()
        sums.index_add_(0, labels, stacked.double())
        counts += torch.bincount(labels, minlength=n_columns)
    total = counts.sum()
    means = (sums + _SHARED_FRAMES * sums.sum(0) / total) / (counts + _SHARED_FRAMES)[:, None]
    covariance = products / total - (means.T * (counts / total)) @ means
    covariance = (covariance + covariance.T) / 2
    covariance += _SHRINKAGE * covariance.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    weight = torch.linalg.solve(covariance, means.T).T
    log_prior = frames.log_prior(n_columns)
    bias = torch.from_numpy(log_prior) - 0.5 * (weight * means).sum(1)
    return weight.float().contiguous(), bias.float(), log_prior
