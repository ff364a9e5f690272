"""JumpReLU sparse autoencoder: Rajamanoharan et al. 2024, "Jumping Ahead" (arXiv 2407.14435).

Each feature has a threshold that it must exceed, learnt with the pseudo-derivatives of the paper (equations 11 and 12)
under a penalty on the number of active features. Optional: a target for that number (its appendix on target L0), and a
loss that pulls dead features back towards their threshold (Conerly et al. 2025, "Dictionary learning optimization").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import feature_sums, gather_dot
from otoscope.dictionaries.registry import trainable
from otoscope.dictionaries.thresholded import ThresholdDictionary
from otoscope.dictionaries.training.dense_step import (
    WEIGHTS,
    DenseLearner,
    DenseSpec,
    Kept,
    Sums,
    positive_entries,
)
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import folded
from otoscope.errors import InputError


@trainable
@dataclass(frozen=True)
class JumpReLU(DenseSpec):
    """A JumpReLU sparse autoencoder to be trained; frames have mean squared length d, which sets the units."""

    l0: float = 1.0
    """Weight of each active feature of a frame beside its squared error; without effect where target_l0 is given."""
    target_l0: float | None = None
    """Number of active features per frame to steer for, in place of a fixed weight; None: no target."""
    target_weight: float = 1.0
    """Weight of (L0 / target_l0 − 1)² beside the fraction of variance unexplained."""
    threshold: float = 0.1
    """Where thresholds start."""
    bandwidth: float = 0.5
    """Width of the window around a threshold in which entries move it; wider learns steadier, narrower less biased."""
    pre_act: float = 0.0
    """Weight of how far dead features lie below their threshold; 3e-6 in Conerly et al. 2025, 0 switches it off."""

    kind: ClassVar[str] = "jumprelu"
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "bandwidth"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("l0", "target_weight", "pre_act"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.n_features:
            raise InputError(f"target_l0 must be above 0 and at most n_features, got {self.target_l0}.")

    def learner(self, plan: TrainingPlan) -> JumpReLULearner:
        """Return a fresh learner for one run."""
        return JumpReLULearner(self, plan)


class JumpReLULearner(DenseLearner):
    """The training state of one JumpReLU dictionary."""

    spec: JumpReLU

    def __init__(self, spec: JumpReLU, plan: TrainingPlan) -> None:
        super().__init__(spec, plan)
        # In the paper's unit, the length of a frame, a step of Adam moves a threshold sqrt(d) times as far as in ours.
        self.unit = plan.d_in**0.5
        self.fresh = {**self.fresh, "threshold": spec.threshold / self.unit}
        self.parameters["threshold"] = torch.full_like(self.parameters["encoder_bias"], self.fresh["threshold"])
        self._dead = self._find_dead()
        if spec.pre_act > 0:
            self.sparse_below = 0.0  # its gradient is dense in the columns of dead features

    @property
    def thresholds(self) -> Tensor:
        """The threshold of each feature in the unit of its values, `[n]`."""
        thresholds: Tensor = self.parameters["threshold"] * self.unit
        return thresholds

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter, and the metrics of this batch."""
        self._dead = self._find_dead()
        return super().gradients(batch, step)

    def activate(self, pre: Tensor, sums: Sums) -> tuple[Tensor, Kept]:
        """Return the entries above their threshold; kept are the entries near it (1, others 0) and dead columns."""
        distance = pre - self.thresholds
        kept: Kept = ()
        if len(self._dead):
            short = -distance[:, self._dead]
            sums.add("short", short.relu().sum())
            kept = ((short > 0).to(pre),)
        code = pre.masked_fill_(distance <= 0, 0)
        near = distance.abs_().le(self.spec.bandwidth / 2).to(pre)
        sums.add("near", near.sum(dim=0))
        return code, (near, *kept)

    def slopes(self, step: int) -> None:
        """Return None: the penalty does not depend on how strong active features are."""

    def back(self, by_code: Tensor, code: Tensor, kept: Kept, sums: Sums) -> Tensor:
        """Carry the gradient back to active entries; what lies near a threshold goes to the threshold."""
        near, *short = kept
        sums.add("by_near", near.mul_(by_code).sum(dim=0))
        by_pre = super().back(by_code, code, kept, sums)
        if short:
            by_short = short[0] * (self.spec.pre_act / 2)
            sums.gradients["threshold"][self._dead] += by_short.sum(dim=0) * self.unit
            by_pre[:, self._dead] -= by_short
        return by_pre

    def back_sparse(self, miss: Tensor, kept: Kept, sums: Sums) -> None:
        """Collect the gradient at the entries that lie near their threshold."""
        near, indices = positive_entries(kept[0])
        by_near = gather_dot(miss, indices, self.parameters["decoder"]) * near
        sums.add("by_near", feature_sums(by_near, indices, self.spec.n_features))

    def finish(self, sums: Sums, frames: int, step: int) -> dict[str, Tensor]:
        """Add the thresholds' gradient, equations 11 and 12 of the paper; return the penalties."""
        spec = self.spec
        share = self.sparsity_weight(step)
        if spec.target_l0 is None:
            each = sums.active.new_full((), share * spec.l0)
            terms = {"l0_penalty": each * sums.active}
        else:
            excess = sums.active / frames / spec.target_l0 - 1
            weight = share * spec.target_weight * self.plan.d_in
            each = 2 * weight * excess / spec.target_l0
            terms = {"l0_penalty": weight * frames * excess.square()}
        by_threshold = self.thresholds * sums.more["by_near"] + each / 2 * sums.more["near"]
        sums.gradients["threshold"] -= by_threshold * (self.unit / spec.bandwidth)
        if spec.pre_act:
            terms["pre_act"] = spec.pre_act * sums.more.get("short", torch.zeros_like(sums.active))
        return terms

    def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
        """Keep thresholds from falling below 0, and resample where it is time to."""
        self.parameters["threshold"].clamp_(min=0)
        return super().after_step(batch, step)

    def _find_dead(self) -> Tensor:
        dead = self.state["silent_frames"] >= self.dead_after
        return dead.nonzero().flatten() if self.spec.pre_act > 0 else dead.new_zeros(0, dtype=torch.int64)

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> ThresholdDictionary:
        """Return the dictionary for raw activations."""
        weights, unit = folded({key: self.parameters[key] for key in WEIGHTS}, scaling)
        threshold = (self.thresholds.cpu().double() * unit).float()
        return ThresholdDictionary(**weights, threshold=threshold, site=sites[0], sites=sites, name=name)
