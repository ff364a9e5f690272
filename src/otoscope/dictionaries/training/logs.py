"""The course of training: a line of JSON every so many steps, and the same numbers for TensorBoard and W&B."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from otoscope.errors import OtoscopeError

METRICS = "metrics.jsonl"


class Tracker(Protocol):
    """Something that keeps the metrics of all dictionaries in training beside the log."""

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of the dictionary `name` after `step` steps."""

    def close(self) -> None:
        """Write what is held back; nothing comes after it."""


class Log:
    """The log of one dictionary: `metrics.jsonl` in its working folder, if it has one."""

    def __init__(self, folder: Path | None, name: str, trackers: Sequence[Tracker] = ()) -> None:
        self._path = None if folder is None else folder / METRICS
        self._name, self._trackers = name, trackers
        self._lines: list[str] = []

    def write(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Add a line, to six digits."""
        rounded = {name: float(f"{float(value):.6g}") for name, value in values.items()}
        line = json.dumps({"step": step, **rounded})
        self._lines.append(line)
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        for tracker in self._trackers:
            tracker.write(self._name, step, rounded)

    def cut(self, step: int) -> None:
        """Take up the log of a run that is resumed after `step` steps; later lines will be written again."""
        assert self._path is not None
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        self._lines = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        self._path.write_text(self.text, encoding="utf-8")

    @property
    def text(self) -> str:
        """All lines."""
        return "".join(line + "\n" for line in self._lines)

    @property
    def last(self) -> dict[str, float]:
        """The last line."""
        return dict(json.loads(self._lines[-1])) if self._lines else {}


class TensorBoard:
    """Metrics for TensorBoard, one run for each dictionary, in `folder`.

    Raises:
        OtoscopeError: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OtoscopeError("TensorBoard is not installed; pip install 'otoscope[tensorboard]'.") from error
        self._folder, self._writer_class = Path(folder), SummaryWriter
        self._writers: dict[str, Any] = {}

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of the dictionary `name` after `step` steps."""
        if name not in self._writers:
            self._writers[name] = self._writer_class(str(self._folder / name))
        for key, value in values.items():
            self._writers[name].add_scalar(key, value, step)

    def close(self) -> None:
        """Write what is held back."""
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """Metrics for Weights & Biases, all dictionaries in one run of `project`; offline with `WANDB_MODE=offline`.

    Raises:
        OtoscopeError: the package `wandb` is not installed.
    """

    def __init__(self, project: str, settings: Mapping[str, Any] | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise OtoscopeError("Weights & Biases is not installed; pip install 'otoscope[wandb]'.") from error
        self._run = wandb.init(project=project, config=dict(settings or {}))
        self._run.define_metric("*", step_metric="step")

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of the dictionary `name` after `step` steps."""
        self._run.log({"step": step, **{f"{name}/{key}": value for key, value in values.items()}})

    def close(self) -> None:
        """Write what is held back."""
        self._run.finish()
