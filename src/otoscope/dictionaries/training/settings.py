"""How a run is trained, whatever the architecture: one field for everything that can be chosen.

The command line and the config files are made from these fields; the text below each is its help.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import torch

from otoscope.dictionaries.autoencoder import Normalisation
from otoscope.dictionaries.training.schedule import Schedule, default_learning_rate, default_steps, learning_rate
from otoscope.errors import InputError

Centring = Literal["mean", "geometric-median", "none"]

LOG_POINTS, CHECKPOINTS, SCORES = 200, 20, 20
_WITHOUT_EFFECT = ("checkpoint_every", "checkpoint_seconds")
"""Fields that change neither weights nor log: a run goes on although they differ."""

SHARED = {
    "steps": "end together",
    "batch_size": "learn from the same batches",
    "order_seed": "learn from the same batches",
    "centring": "learn from frames that are centred and scaled once",
    "scaling": "learn from frames that are centred and scaled once",
    "normalisation": "learn from frames that are centred and scaled once",
    "evaluate_every": "are scored together",
    "log_every": "are logged together",
    "checkpoint_every": "are checkpointed together",
    "checkpoint_seconds": "are checkpointed together",
}
"""Fields in which dictionaries that are trained side by side cannot differ: such dictionaries…"""


@dataclass(frozen=True)
class Settings:
    """How to train. `None` means a default that depends on the data or the architecture.

    Raises:
        InputError: a value that cannot be; the message gives the valid ones.
    """

    steps: int | None = None
    """Optimiser steps; none: about 40 passes over the frames, from 1,000 to 100,000 steps."""
    batch_size: int = 4096
    """Frames in each step."""
    lr: float | None = None
    """Peak learning rate; none: 2e-4 / sqrt(n_features / 2^14)."""
    schedule: Schedule = "linear"
    """After the warm-up: `linear` (flat, then a linear fall to 0), `cosine` (a half cosine to 0) or `constant`."""
    warm_up: int | None = None
    """Steps over which the learning rate rises; none: 1,000, or a twentieth of a short run."""
    decay: float = 0.2
    """Share of the run, at its end, over which a linear schedule falls to 0."""
    optimiser: Literal["adam", "radam"] = "adam"
    """`adam` (Kingma and Ba 2015) or `radam` (Liu et al. 2020)."""
    betas: tuple[float, float] | None = None
    """Decay rates of both moments; none: those of the architecture's paper."""
    eps: float = 1e-8
    """What the optimiser adds to the root of the second moment."""
    clip_norm: float | None = 1.0
    """Length to which a longer gradient is shortened; none: never."""
    centring: Centring = "mean"
    """What is subtracted: the `mean`; the mean, and the output bias starts at the `geometric-median`; or `none`."""
    scaling: bool = True
    """Whether activations are scaled to a mean squared length of d."""
    normalisation: Normalisation = "none"
    """What is done to each frame before that: `none`, `unit_norm`, `constant_norm` (sqrt(d)) or `layer_norm`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic in which TopK and its relatives find candidates; values and weights are always float32."""
    evaluate_every: int | None = None
    """Steps between scores on held-out clips, where there are any; none: 20 times in the run."""
    log_every: int | None = None
    """Steps between lines of the log; none: 200 lines in the run."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; none: 20 times in the run."""
    checkpoint_seconds: float | None = 600.0
    """Seconds after which a checkpoint is written in any case; none: only every so many steps."""
    seed: int = 0
    """Seed of the initial weights."""
    order_seed: int = 0
    """Seed of the order of frames, which dictionaries that are trained side by side share."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in ("schedule", "optimiser", "centring", "normalisation", "dtype"):
            if getattr(self, name) not in get_args(hints[name]):
                raise InputError(
                    f"{name} must be one of {', '.join(get_args(hints[name]))}, got {getattr(self, name)!r}."
                )
        for name in ("steps", "batch_size", "evaluate_every", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")
        for name in ("lr", "clip_norm", "eps", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be above 0, got {value}.")
        if not 0 <= self.decay <= 1:
            raise InputError(f"decay is a share of the run, from 0 to 1; got {self.decay}.")
        if self.warm_up is not None and self.warm_up < 0:
            raise InputError(f"warm_up must be at least 0 steps, got {self.warm_up}.")

    def changed(self, **values: Any) -> Settings:
        """Return these settings with those of `values` that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def resolved(self, n_frames: int, n_features: int, betas: tuple[float, float]) -> Settings:
        """Return the settings with every default that depends on the data or the architecture filled in."""
        steps = default_steps(n_frames, self.batch_size) if self.steps is None else self.steps
        return replace(
            self,
            steps=steps,
            lr=default_learning_rate(n_features) if self.lr is None else self.lr,
            betas=betas if self.betas is None else self.betas,
            log_every=self.log_every or max(steps // LOG_POINTS, 1),
            evaluate_every=self.evaluate_every or max(steps // SCORES, 1),
            checkpoint_every=self.checkpoint_every or max(steps // CHECKPOINTS, 1),
        )

    def record(self) -> dict[str, Any]:
        """Return everything that decides the outcome, as plain JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def rate(self, step: int) -> float:
        """Return the learning rate at `step` of a resolved run."""
        assert self.steps is not None
        assert self.lr is not None
        return learning_rate(step, self.steps, self.lr, schedule=self.schedule, warm_up=self.warm_up, decay=self.decay)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """`dtype` as torch calls it; None for `auto`."""
        return {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}[self.dtype]


FIELDS = tuple(field.name for field in fields(Settings))


def refuse_other_batches(first: Settings, other: Settings) -> None:
    """Check that two dictionaries can be trained side by side.

    Raises:
        InputError: they differ in a field of `SHARED`.
    """
    for name, together in SHARED.items():
        if getattr(first, name) != getattr(other, name):
            values = f"{getattr(first, name)} and {getattr(other, name)}"
            raise InputError(
                f"Dictionaries that are trained side by side {together}: {name} cannot be {values}; "
                "train them one after the other."
            )
