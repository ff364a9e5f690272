"""What an architecture brings to the training loop: parameters, gradients, constraints, and the finished dictionary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary

Reads = Literal["one", "in_out", "several"]
"""How many sites an architecture reads: one that it rebuilds; two, from one to the other; or several, all rebuilt."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees; every site centred and scaled.

    Attributes:
        x: `[t, d_in]`, what is encoded; sites of a crosscoder lie side by side.
        y: `[t, d_out]`, what is to be rebuilt: `x` itself but for transcoders.
        segment: rows come in runs of this many adjacent frames of one clip, `t` is a multiple of it; 1: frames in
            any order.
        inside: `[t]` bool, False for rows past the end of a clip (they hold zeros); None: all rows are frames.
    """

    x: Tensor
    y: Tensor
    segment: int = 1
    inside: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor) -> Batch:
        """Return a batch of single frames `[t, d]` that rebuild themselves."""
        return cls(x, x)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.x)


@dataclass(frozen=True)
class TrainingPlan:
    """What a learner knows about its run.

    Attributes:
        d_in: width of what is encoded.
        steps: optimiser steps of the whole run.
        total_frames: frames that the whole run will show.
        seed: what initial weights are drawn from.
        device: where the tensors live.
        d_out: width of what is rebuilt; None: `d_in`.
        widths: widths of the sites that lie side by side in the input, in order; None: one site.
        start: `[d_out]`, where the bias of the output begins, in centred and scaled units (the geometric median of a
            sample, say); None: at 0, the mean.
        dtype: arithmetic in which candidates are found; None: bfloat16 where the processor multiplies it faster.
            Values and parameters are always float32.
    """

    d_in: int
    steps: int
    total_frames: int
    seed: int
    device: torch.device
    d_out: int | None = None
    widths: tuple[int, ...] | None = None
    start: Tensor | None = None
    dtype: torch.dtype | None = None

    @property
    def width_out(self) -> int:
        """Width of what is rebuilt."""
        return self.d_in if self.d_out is None else self.d_out

    def generator(self) -> torch.Generator:
        """Return a fresh source of random numbers for initial weights (on the CPU, so that every device agrees)."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True, eq=False)
class Scaling:
    """How raw activations were brought to the trained ones: `x = (raw − mean) · scale`, on both sides.

    Attributes:
        mean_in, scale_in: `[d_in]` fp64.
        mean_out, scale_out: `[d_out]` fp64; the same tensors for dictionaries that rebuild their input.
    """

    mean_in: Tensor
    scale_in: Tensor
    mean_out: Tensor
    scale_out: Tensor

    @classmethod
    def of(cls, mean: Tensor, scale: float) -> Scaling:
        """Return the scaling of one site by its mean `[d]` and one factor."""
        mean = mean.double()
        factors = torch.full_like(mean, scale)
        return cls(mean, factors, mean, factors)


class Learner(ABC):
    """The state of one dictionary in training.

    Attributes:
        parameters: trained by the optimiser, changed in place.
        state: everything else that a resumed run needs (tensors, changed in place).
        unit_rows: names of the parameters whose rows keep length 1: the optimiser removes the part of the gradient
            along each row and brings the row back to length 1 after the step.
        spare: gradients of the last step, by name, whose memory `gradients` may take and write over; it is handed
            over by the optimiser.
    """

    parameters: dict[str, Tensor]
    state: dict[str, Tensor]
    unit_rows: tuple[str, ...] = ()
    spare: dict[str, Tensor]

    @abstractmethod
    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter on `batch`, and metrics as 0-d tensors.

        Metrics: `loss`, `fvu`, `l0`, `dead_share` always; `aux` and others where the architecture has them.
        """

    def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
        """Do what the architecture does between steps, e.g. resample dead features.

        Return the names of parameters that were rewritten: the optimiser forgets their moments for rewritten rows
        (see `rewritten_rows`).
        """
        return ()

    @property
    def rewritten_rows(self) -> Tensor | None:
        """Rows that the last `after_step` rewrote, `[r]` int64; None: none."""
        return None

    @abstractmethod
    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> Dictionary:
        """Return the dictionary for raw activations, the scaling folded into its weights, on the CPU."""


@dataclass(frozen=True)
class Spec(ABC):
    """A dictionary to be trained: the frozen settings of an architecture, with the published defaults.

    Every field has a docstring below it; the command line and the config files show them.
    """

    n_features: int
    """Size of the dictionary; 4 to 32 times the width of the site is usual."""

    kind: ClassVar[str]
    reads: ClassVar[Reads] = "one"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Adam's decay rates, where the paper gives its own."""

    @property
    def segment(self) -> int:
        """Adjacent frames that lie together in a batch; 1: single frames."""
        return 1

    def settings(self) -> dict[str, Any]:
        """Return all fields, for the record kept with the dictionary."""
        return {"kind": self.kind, **asdict(self)}

    @abstractmethod
    def learner(self, plan: TrainingPlan) -> Learner:
        """Return a fresh learner for one run."""
