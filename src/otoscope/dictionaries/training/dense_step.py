"""The training step of every dictionary whose code may be dense while it learns: L1, JumpReLU, Gated.

Frames go through in chunks whose pre-activations stay in the cache: no `[batch, n]` tensor is ever written. Where the
code of a chunk has become sparse, what follows the encoding touches its active entries only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import feature_sums, gather_dot, scatter_outer, sparse_decode, top_k
from otoscope.dictionaries.training.learner import Batch, Learner, Spec, TrainingPlan
from otoscope.dictionaries.training.resampling import resample
from otoscope.dictionaries.training.sparse_step import sum_of_squares, total_variance
from otoscope.errors import InputError
from otoscope.models.networks.arithmetic import product

ENTRIES = 2**20
LEAST_FRAMES, MOST_FRAMES = 256, 1024
"""Pre-activations of one chunk on a CPU (4 MB, about what caches hold), and the fewest and most frames of one."""
FRAMES_ELSEWHERE = 8192
SPARSE_BELOW = 0.05
"""Share of active entries below which sparse kernels are quicker than matrix products (measured at d = 384)."""

WEIGHTS = ("encoder", "encoder_bias", "decoder", "decoder_bias")
"""What every learner here has, as parameters or as a view of them (`DenseLearner.weights`)."""
Kept = tuple[Tensor, ...]
"""What an architecture keeps of the way forward for the way back."""


@dataclass(frozen=True)
class DenseSpec(Spec):
    """Settings of every architecture that is trained by `DenseLearner`."""

    sparsity_warm_up: float = 0.05
    """Share of the run over which the weight of the sparsity term rises from 0."""
    dead_after_frames: int | None = None
    """A feature counts as dead after this many frames in silence; None: 10 million, or a twentieth of a short run."""
    resample_every: int | None = None
    """Steps between resamplings of dead features (Bricken et al. 2023); None: never."""
    resample_until: float = 0.5
    """Share of the run after which nothing is resampled any more, so that features have time to settle."""

    def __post_init__(self) -> None:
        if self.n_features < 1:
            raise InputError(f"n_features must be at least 1, got {self.n_features}.")
        if self.resample_every is not None and self.resample_every < 1:
            raise InputError(f"resample_every must be at least 1 step, got {self.resample_every}.")
        for name in ("sparsity_warm_up", "resample_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a share between 0 and 1, got {getattr(self, name)}.")


class Sums:
    """What the chunks of one batch add up.

    Attributes:
        gradients: of half the squared error and half the sparsity term by every weight, by name.
        error: 0-d, sum of squared errors.
        values: `[n]`, sum of each feature's values.
        active: 0-d, number of active entries.
        more: further sums of an architecture, by name.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        bias = weights["encoder_bias"]
        self.error, self.active = bias.new_zeros(()), bias.new_zeros(())
        self.values = torch.zeros_like(bias)
        self.more: dict[str, Tensor] = {}

    def add(self, name: str, amount: Tensor) -> None:
        """Add to one of the further sums, which starts at 0."""
        self.more[name] = self.more[name] + amount if name in self.more else amount


class DenseLearner(Learner):
    """The training state of a dictionary with a code that may be dense, on centred and scaled activations.

    The loss is the published one, squared error plus sparsity term, divided by the variance of the batch, so that
    its first part is the fraction of variance unexplained; that changes no direction of descent.

    A subclass says what the code is (`activate`) and how gradients go back through it (`back`), adds its sparsity term
    (`finish`), and names the parameters that resampling sets to a number (`fresh`).
    """

    unit_rows: tuple[str, ...] = ("decoder",)
    centred = True
    """Whether the bias of the output is subtracted from the input."""
    fresh: dict[str, float]

    def __init__(self, spec: DenseSpec, plan: TrainingPlan) -> None:
        self.spec, self.plan = spec, plan
        n, d = spec.n_features, plan.d_in
        rows = torch.nn.functional.normalize(torch.randn(n, d, generator=plan.generator()), dim=1).to(plan.device)
        self.parameters = {
            # Half of the features are active at first: with these lengths they sum up to about what they rebuild.
            "encoder": rows * min(2 * d / n, 1.0),
            "encoder_bias": rows.new_zeros(n),
            "decoder": rows.clone(),
            "decoder_bias": rows.new_zeros(d) if plan.start is None else plan.start.to(rows).clone(),
        }
        self.fresh = {"encoder_bias": 0.0}
        self.state = {"silent_frames": torch.zeros(n, dtype=torch.int64, device=plan.device)}
        default = min(10_000_000, max(plan.total_frames // 20, 1))
        self.dead_after = default if spec.dead_after_frames is None else spec.dead_after_frames
        self._rewritten: Tensor | None = None
        on_cpu = plan.device.type == "cpu"
        self.chunk_frames = min(max(ENTRIES // n, LEAST_FRAMES), MOST_FRAMES) if on_cpu else FRAMES_ELSEWHERE
        self.sparse_below = SPARSE_BELOW if on_cpu else 0.0

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters with `encoder`, `encoder_bias`, `decoder` and `decoder_bias` among them."""
        return self.parameters

    @abstractmethod
    def activate(self, pre: Tensor, sums: Sums) -> tuple[Tensor, Kept]:
        """Return the code of pre-activations `[c, n]` (may be overwritten), and what `back` needs beside it."""

    @abstractmethod
    def slopes(self, step: int) -> Tensor | None:
        """Return the derivative `[n]` of half the sparsity term by each value; None: 0."""

    def back(self, by_code: Tensor, code: Tensor, kept: Kept, sums: Sums) -> Tensor:
        """Turn the gradient at the code `[c, n]` into that at the pre-activations; may overwrite it."""
        masked: Tensor = torch.ops.aten.threshold_backward.grad_input(by_code, code, 0, grad_input=by_code)
        return masked

    def back_sparse(self, miss: Tensor, kept: Kept, sums: Sums) -> None:
        """Do what `back` does beside, where the gradient `[c, d]` at the output goes back to active entries only."""

    @abstractmethod
    def finish(self, sums: Sums, frames: int, step: int) -> dict[str, Tensor]:
        """Add the gradients of the sparsity term that need the whole batch; return its parts by name."""

    @torch.no_grad()
    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter, and the metrics of this batch."""
        weights, frames = self.weights, len(batch)
        sums = Sums(weights)
        offset = self.offset()
        slopes = self.slopes(step)
        sparse: list[tuple[Tensor, ...]] = []
        for x, y in self._chunks(batch):
            sparse += self._chunk(x, y, offset, slopes, sums)
        self._add_sparse(sparse, sums)
        terms = self.finish(sums, frames, step)
        gradients = sums.gradients
        if self.centred:  # the bias was subtracted from the input by way of `offset`
            by_input = self.by_input(sums)
            gradients["encoder"].addr_(by_input, weights["decoder_bias"], alpha=-1)
            gradients["decoder_bias"] -= by_input @ weights["encoder"]
        variance = total_variance(batch.y)
        for gradient in gradients.values():
            gradient *= 2 / variance
        silent = self.state["silent_frames"]
        silent.add_(frames).masked_fill_(sums.values > 0, 0)  # values are never negative
        metrics = {"fvu": sums.error / variance, **{name: term / variance for name, term in terms.items()}}
        dead = (silent >= self.dead_after).float().mean()
        loss = torch.stack(list(metrics.values())).sum()
        return gradients, {"loss": loss, **metrics, "l0": sums.active / frames, "dead_share": dead}

    def _chunks(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        parts = (torch.split(side, self.chunk_frames) for side in (batch.x, batch.y))
        return zip(*parts, strict=True)

    def offset(self) -> Tensor:
        """Return what is added to the products of encoder and input, `[n]`: the bias, less the subtracted input."""
        weights = self.weights
        if not self.centred:
            return weights["encoder_bias"]
        return weights["encoder_bias"] - weights["encoder"] @ weights["decoder_bias"]

    def by_input(self, sums: Sums) -> Tensor:
        """Return the gradient `[n]` at the sum of all products of encoder and input."""
        return sums.gradients["encoder_bias"]

    def _chunk(
        self, x: Tensor, y: Tensor, offset: Tensor, slopes: Tensor | None, sums: Sums
    ) -> list[tuple[Tensor, ...]]:
        """Add what one chunk of frames brings; return its active entries if they are still to be carried back."""
        weights, gradients = self.weights, sums.gradients
        code, kept = self.activate(product(x, weights["encoder"], offset), sums)
        sums.values += code.sum(dim=0)
        active = code.sign().sum()
        sums.active += active
        few = self.sparse_below > 0 and float(active) < self.sparse_below * code.numel()
        if few:
            values, indices = positive_entries(code)
            miss = sparse_decode(values, indices, weights["decoder"]).add_(weights["decoder_bias"]).sub_(y)
        else:
            miss = product(code, weights["decoder"].T, weights["decoder_bias"]).sub_(y)
        sums.error += sum_of_squares(miss)
        gradients["decoder_bias"] += miss.sum(dim=0)
        if few:
            by_value = gather_dot(miss, indices, weights["decoder"])
            by_value = by_value if slopes is None else by_value + slopes[indices.long()]
            self.back_sparse(miss, kept, sums)
            return [(values, by_value * (values > 0), indices, miss, x)]
        by_pre = self.back(product(miss, weights["decoder"], slopes), code, kept, sums)
        gradients["decoder"].addmm_(code.T, miss)
        gradients["encoder"].addmm_(by_pre.T, x)
        gradients["encoder_bias"] += by_pre.sum(dim=0)
        return []

    def _add_sparse(self, chunks: list[tuple[Tensor, ...]], sums: Sums) -> None:
        """Add the weights' gradients from the active entries of all chunks that had few of them, in one pass."""
        if not chunks:
            return
        k = max(values.shape[1] for values, *_ in chunks)
        wide = [[torch.nn.functional.pad(part, (0, k - part.shape[1])) for part in chunk[:3]] for chunk in chunks]
        values, by_value, indices = (torch.cat(parts) for parts in zip(*wide, strict=True))
        by_output, x = (torch.cat(parts) for parts in zip(*(chunk[3:] for chunk in chunks), strict=True))
        n = self.spec.n_features
        sums.gradients["decoder"] += scatter_outer(values, indices, by_output, n)
        sums.gradients["encoder"] += scatter_outer(by_value, indices, x, n)
        sums.gradients["encoder_bias"] += feature_sums(by_value, indices, n)

    def sparsity_weight(self, step: int) -> float:
        """Return the share of the sparsity term's weight that counts at `step`."""
        steps = self.spec.sparsity_warm_up * self.plan.steps
        return min(1.0, (step + 1) / steps) if steps else 1.0

    @torch.no_grad()
    def after_step(self, batch: Batch, step: int) -> tuple[str, ...]:
        """Resample dead features where it is time to; return the parameters of which rows were rewritten."""
        self._rewritten = None
        every = self.spec.resample_every
        if every is None or (step + 1) % every or step + 1 > self.spec.resample_until * self.plan.steps:
            return ()
        dead = (self.state["silent_frames"] >= self.dead_after).nonzero().flatten()
        if not len(dead):
            return ()
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + step)
        self._rewritten = resample(self.weights, dead, batch.x, self.errors(batch), generator)
        for name, value in self.fresh.items():
            self.parameters[name][self._rewritten] = value
        self.state["silent_frames"][self._rewritten] = 0
        return tuple(name for name in self.parameters if name != "decoder_bias")

    @property
    def rewritten_rows(self) -> Tensor | None:
        """Features that the last `after_step` resampled."""
        return self._rewritten

    def errors(self, batch: Batch) -> Tensor:
        """Return the squared error of every frame, `[t]`."""
        weights, offset = self.weights, self.offset()
        sums = Sums(weights)
        parts = []
        for x, y in self._chunks(batch):
            code, _ = self.activate(product(x, weights["encoder"], offset), sums)
            miss = product(code, weights["decoder"].T, weights["decoder_bias"]).sub_(y)
            parts.append(miss.square().sum(dim=1))
        return torch.cat(parts)


def positive_entries(code: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positive entries of a tensor `[c, n]` without negative ones: values and int32 indices `[c, k]`."""
    return top_k(code, max(int(code.sign().sum(dim=1).amax()), 1))
