"""The training loop shared by all architectures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.saelens import CONFIG, load_dictionary, save_dictionary
from otoscope.dictionaries.training.checkpoint import load_checkpoint, save_checkpoint
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, Spec, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.schedule import default_learning_rate, default_steps, learning_rate
from otoscope.errors import InputError, nearest
from otoscope.progress import ProgressReport, track

METRICS = "metrics.jsonl"
LOG_POINTS = 200
CHECKPOINTS = 20


class FrameSource(Protocol):
    """What training needs of an `ActivationStore`."""

    @property
    def sites(self) -> Sequence[str]: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def clips(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...

    def d(self, site: str) -> int: ...
    def mean(self, site: str) -> np.ndarray: ...
    def scale(self, site: str) -> float: ...
    def batches(
        self, site: str, batch_size: int, *, seed: int, epoch: int, clips: Collection[str] | None = None
    ) -> Iterator[Tensor]: ...


def train(
    store: FrameSource,
    spec: Spec,
    *,
    site: str | None = None,
    steps: int | None = None,
    batch_size: int = 4096,
    lr: float | None = None,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    clips: Collection[str] | None = None,
    device: str | torch.device | None = None,
    progress: bool | ProgressReport = True,
) -> Dictionary:
    """Train a dictionary on the activations of one site.

    Activations are centred and scaled to a mean squared length of d with the store's statistics, and that is folded
    into the weights at the end: the dictionary takes raw activations. Adam (Kingma and Ba 2015) with the gradient
    clipped at norm 1; the learning rate warms up, stays, and falls to 0 over the last fifth.

    With `to`, the run is checkpointed beside that folder and the same call resumes it. On the same machine, with the
    same number of threads, a resumed run ends with the same bytes as one that was never interrupted.

    Args:
        store: harvested activations.
        spec: the architecture and its settings, e.g. `TopK(1024, k=16)`.
        site: canonical name; may be left out if the store has one site.
        steps: optimiser steps; None: about 40 passes over the frames, at least 1,000 steps.
        batch_size: frames per step.
        lr: peak learning rate; None: `2e-4 / sqrt(n_features / 2^14)`.
        seed: decides initial weights and the order of frames.
        to: folder to save the dictionary in, with `metrics.jsonl`.
        clips: ids of the clips to train on; None: all.
        device: where to train; None: a GPU if there is one.
        progress: True for a bar, False for silence, or a function to report to.

    Raises:
        InputError: unknown site or clip, nothing to train on, or `to` holds a dictionary made with other settings.
    """
    site = _site(store, site)
    n_frames = _count_frames(store, clips)
    steps = default_steps(n_frames, batch_size) if steps is None else steps
    if steps < 1 or batch_size < 1:
        raise InputError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}.")
    settings = {
        "spec": spec.settings(),
        "site": site,
        "steps": steps,
        "batch_size": batch_size,
        "lr": default_learning_rate(spec.n_features) if lr is None else lr,
        "seed": seed,
        "clips": _clips_trained_on(clips),
        "store": store.fingerprint,
    }
    folder = None if to is None else Path(to)
    if folder is not None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return _finished(folder, settings)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    plan = TrainingPlan(store.d(site), steps, steps * min(batch_size, n_frames), seed, chosen)
    run = _Run(store, spec.learner(plan), settings, plan, folder, clips)
    last = run.go(progress)
    return run.finish(spec, last)


class _Run:
    """One training run: its learner, optimiser and files."""

    def __init__(
        self,
        store: FrameSource,
        learner: Learner,
        settings: dict[str, Any],
        plan: TrainingPlan,
        folder: Path | None,
        clips: Collection[str] | None,
    ) -> None:
        self.store, self.learner, self.settings = store, learner, settings
        self.plan, self.folder, self.clips = plan, folder, clips
        self.site: str = settings["site"]
        self.mean = torch.as_tensor(store.mean(self.site), dtype=torch.float64)
        self.scale = float(store.scale(self.site))
        self.optimiser = Optimiser(learner, settings["lr"])
        self.step, self.epoch, self.batch = 0, 0, 0
        self.log: list[str] = []
        self.work = None if folder is None else folder.parent / f".{folder.name}.training"
        if self.work is not None:
            self._resume(self.work)

    def go(self, progress: bool | ProgressReport) -> dict[str, float]:
        """Do the steps that are left; return the last metrics."""
        steps = self.plan.steps
        log_every, save_every = max(steps // LOG_POINTS, 1), max(steps // CHECKPOINTS, 1)
        offset = self.mean.float().to(self.plan.device)
        with track("train", steps, progress, unit="steps", done=self.step) as advance:
            for x in self._batches(steps - self.step):
                rate = learning_rate(self.step, steps, self.settings["lr"])
                x = (x.to(self.plan.device).float() - offset) * self.scale
                metrics = self.optimiser.step(Batch.of(x), self.step, rate)
                self.step += 1
                if self.step % log_every == 0 or self.step == steps:
                    self._write_metrics(rate, metrics)
                if self.work is not None and self.step % save_every == 0:
                    self._save(self.work)
                advance(1)
        return dict(json.loads(self.log[-1])) if self.log else {}

    def _batches(self, count: int) -> Iterator[Tensor]:
        """Yield `count` batches from the place where the run is, epoch after epoch."""
        size, seed, clips = self.settings["batch_size"], self.settings["seed"], self.clips
        while count > 0:
            source = self.store.batches(self.site, size, seed=seed, epoch=self.epoch, clips=clips)
            for x in islice(source, self.batch, None):
                self.batch += 1
                count -= 1
                yield x
                if count == 0:
                    return
            if self.batch == 0:
                raise InputError("There are no frames to train on.")
            self.epoch, self.batch = self.epoch + 1, 0

    def _write_metrics(self, rate: float, metrics: dict[str, Tensor]) -> None:
        values = {name: float(f"{float(value):.6g}") for name, value in metrics.items()}
        line = json.dumps({"step": self.step, "lr": float(f"{rate:.6g}"), **values})
        self.log.append(line)
        if self.work is not None:
            with open(self.work / METRICS, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def _save(self, work: Path) -> None:
        tensors = {f"parameters.{key}": value for key, value in self.learner.parameters.items()}
        tensors |= {f"state.{key}": value for key, value in self.learner.state.items()}
        tensors |= {f"adam.{key}": value for key, value in self.optimiser.tensors().items()}
        tensors["position"] = torch.tensor([self.epoch, self.batch])
        save_checkpoint(work / "checkpoint.safetensors", self.step, self.settings, tensors)

    def _resume(self, work: Path) -> None:
        """Go on from the checkpoint in `work` if it belongs to these settings; otherwise start there afresh."""
        found = load_checkpoint(work / "checkpoint.safetensors", self.settings)
        if found is None:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            return
        self.step, tensors = found
        self.epoch, self.batch = (int(value) for value in tensors["position"])
        for key, parameter in self.learner.parameters.items():
            parameter.copy_(tensors[f"parameters.{key}"])
        moments = {key.removeprefix("adam."): v for key, v in tensors.items() if key.startswith("adam.")}
        self.optimiser.restore(moments)
        for key, value in self.learner.state.items():
            value.copy_(tensors[f"state.{key}"])
        lines = (work / METRICS).read_text(encoding="utf-8").splitlines() if (work / METRICS).exists() else []
        self.log = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        (work / METRICS).write_text("".join(line + "\n" for line in self.log), encoding="utf-8")

    def finish(self, spec: Spec, last: dict[str, float]) -> Dictionary:
        """Fold the scaling into the weights and save the dictionary."""
        name = self.folder.name if self.folder is not None else f"{spec.kind}-{spec.n_features}"
        dictionary = self.learner.dictionary(Scaling.of(self.mean, self.scale), sites=(self.site,), name=name)
        dictionary.metadata = {
            "model_name": self.store.meta.get("model"),
            "model_weights_hash": self.store.meta.get("weights_hash"),
            "corpus": self.store.meta.get("corpus"),
            "training": self.settings,
            "final_metrics": last,
        }
        if self.folder is not None:
            save_dictionary(dictionary, self.folder, {METRICS: "".join(line + "\n" for line in self.log)})
            shutil.rmtree(self.work or "", ignore_errors=True)
        return dictionary


def _site(store: FrameSource, site: str | None) -> str:
    sites = [str(known) for known in store.sites]
    if site is None:
        if len(sites) == 1:
            return sites[0]
        raise InputError(f"The store has several sites ({', '.join(sites)}); say which one to train on with site=.")
    if str(site) not in sites:
        close = nearest(str(site), sites) or f"; it has {', '.join(sites)}"
        raise InputError(f"The store has no site {str(site)!r}{close}")
    return str(site)


def _clips_trained_on(clips: Collection[str] | None) -> dict[str, Any] | None:
    """What the settings keep of the choice of clips: enough to notice another choice, however many there are."""
    if clips is None:
        return None
    listed = "\n".join(sorted(clips))
    return {"count": len(clips), "sha256": hashlib.sha256(listed.encode()).hexdigest()}


def _count_frames(store: FrameSource, clips: Collection[str] | None) -> int:
    if clips is None:
        count = store.n_frames
    else:
        unknown = [clip for clip in clips if clip not in store.clips]
        if unknown:
            raise InputError(f"The store has no clip {unknown[0]!r}{nearest(unknown[0], store.clips)}")
        count = sum(store.clips[clip][1] for clip in clips)
    if count < 1:
        raise InputError("There are no frames to train on.")
    return count


def _finished(folder: Path, settings: dict[str, Any]) -> Dictionary:
    """Return the dictionary in `folder` if it was made with these settings; never overwrite another one."""
    if (folder / CONFIG).is_file():
        dictionary = load_dictionary(folder)
        if dictionary.metadata.get("training") == settings:
            return dictionary
    raise InputError(
        f"{folder} exists and was not trained with these settings; choose another name or delete it first."
    )
