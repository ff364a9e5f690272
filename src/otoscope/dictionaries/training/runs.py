"""One dictionary in training: what is asked for, its state, its log and its checkpoints."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otoscope.dictionaries.autoencoder import Autoencoder
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats.saelens import CONFIG, load_dictionary, save_dictionary
from otoscope.dictionaries.training.centring import site_scales, start_of_bias
from otoscope.dictionaries.training.checkpoint import load_checkpoint, save_checkpoint
from otoscope.dictionaries.training.learner import Batch, Spec, TrainingPlan
from otoscope.dictionaries.training.logs import METRICS, Log, Tracker
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.settings import Settings
from otoscope.dictionaries.training.sources import FrameSource, SiteScale, count_frames, scaling_of, sites_for
from otoscope.errors import InputError, OtoscopeError


@dataclass(frozen=True)
class TrainingRun:
    """A dictionary to be trained side by side with others.

    Attributes:
        spec: the architecture and its settings, e.g. `TopK(1024, k=16)`.
        sites: what it reads (for transcoders: input and output); None: the only choice that the store leaves.
        seed: of its initial weights; None: that of the settings.
        lr: its peak learning rate; None: that of the settings.
        to: folder to save it in; None: it is only returned.
        settings: its own settings; they may differ from the others' in all but `SHARED`. None: those of `train_many`.
    """

    spec: Spec
    sites: Sequence[str] | str | None = None
    seed: int | None = None
    lr: float | None = None
    to: str | os.PathLike[str] | None = None
    settings: Settings | None = None


@dataclass(frozen=True)
class Job:
    """A run with every default filled in and everything checked; nothing is computed yet."""

    spec: Spec
    sites: tuple[str, ...]
    settings: Settings
    folder: Path | None
    record: dict[str, Any]
    total_frames: int

    @classmethod
    def of(cls, run: TrainingRun, source: FrameSource, settings: Settings, clips: Collection[str] | None) -> Job:
        """Check a run against the source.

        Raises:
            InputError: sites that do not fit, or no frames.
        """
        asked = [run.sites] if isinstance(run.sites, str) else run.sites
        sites = sites_for(source, run.spec, asked)
        n_frames = count_frames(source, clips)
        own = (run.settings or settings).changed(seed=run.seed, lr=run.lr)
        own = own.resolved(n_frames, run.spec.n_features, run.spec.betas)
        if own.normalisation != "none" and run.spec.reads != "one":
            raise InputError(f"Frames can be normalised only where one site is read, not for {run.spec.kind}.")
        record = {
            "spec": run.spec.settings(),
            "site": sites[0],
            "sites": list(sites),
            **own.record(),
            "clips": clips_trained_on(clips),
            "store": source.fingerprint,
        }
        assert own.steps is not None
        folder = None if run.to is None else Path(run.to)
        return cls(run.spec, sites, own, folder, record, own.steps * min(own.batch_size, n_frames))

    @property
    def name(self) -> str:
        """What the dictionary is called."""
        return self.folder.name if self.folder is not None else f"{self.spec.kind}-{self.spec.n_features}"

    @property
    def work(self) -> Path | None:
        """The folder of the checkpoints, beside that of the dictionary."""
        return None if self.folder is None else self.folder.parent / f".{self.folder.name}.training"

    def finished(self) -> Dictionary | None:
        """Return the dictionary if it was made already; never overwrite another one.

        Raises:
            InputError: the folder holds something else.
        """
        folder = self.folder
        if folder is None or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
        if (folder / CONFIG).is_file():
            dictionary = load_dictionary(folder)
            if dictionary.metadata.get("training") == self.record:
                shutil.rmtree(self.work or "", ignore_errors=True)  # of a run killed after its last step
                return dictionary
        raise InputError(
            f"{folder} exists and was not trained with these settings; choose another name or delete it first."
        )


class Member:
    """The state of one dictionary in training, with its files."""

    def __init__(
        self,
        job: Job,
        source: FrameSource,
        device: torch.device,
        clips: Collection[str] | None,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        settings = job.settings
        assert settings.steps is not None
        assert settings.lr is not None
        assert settings.betas is not None
        self.job, self.source, self.device = job, source, device
        self.scales: dict[str, SiteScale] = site_scales(source, job.sites, settings, clips)
        self.scaling = scaling_of(job.spec, job.sites, self.scales)
        plan = TrainingPlan(
            d_in=len(self.scaling.mean_in),
            steps=settings.steps,
            total_frames=job.total_frames,
            seed=settings.seed,
            device=device,
            d_out=len(self.scaling.mean_out),
            widths=tuple(source.d(site) for site in job.sites) if job.spec.reads == "several" else None,
            start=start_of_bias(source, job.spec, job.sites, settings, self.scales, clips),
            dtype=settings.torch_dtype,
        )
        self.learner = job.spec.learner(plan)
        self.optimiser = Optimiser(
            self.learner,
            settings.betas,
            settings.eps,
            clip_norm=settings.clip_norm,
            kind=settings.optimiser,
        )
        self.step = 0
        self.position = (0, 0)
        self.work = job.work
        self.log = Log(self.work, job.name, trackers)
        if self.work is not None:
            for path in self.work.parent.glob(f".{job.name}.*.part"):  # of a run killed while it saved the dictionary
                shutil.rmtree(path, ignore_errors=True)
            self._resume(self.work)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; return its metrics."""
        metrics = self.optimiser.step(batch, self.step, self.job.settings.rate(self.step))
        self.step += 1
        return metrics

    def write(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add a line to the log.

        Raises:
            OtoscopeError: the loss is no longer a number.
        """
        if not math.isfinite(float(metrics["loss"])):
            lr = self.job.settings.lr
            raise OtoscopeError(
                f"The training of {self.job.name} diverged: its loss is {float(metrics['loss'])} after step "
                f"{self.step:,}; use a lower learning rate than {lr:g}."
            )
        self.log.write(self.step, {"lr": self.job.settings.rate(self.step - 1), **metrics})

    def save(self) -> None:
        """Write a checkpoint: weights, moments, the learner's state (silent frames among it) and the data cursor.

        Random numbers have no state to be saved: what a learner draws follows from the seed and the step.
        """
        if self.work is None:
            return
        tensors = {f"parameters.{key}": value for key, value in self.learner.parameters.items()}
        tensors |= {f"state.{key}": value for key, value in self.learner.state.items()}
        tensors |= {f"optimiser.{key}": value for key, value in self.optimiser.tensors().items()}
        tensors["position"] = torch.tensor(self.position)
        save_checkpoint(self.work, self.step, self.job.record, tensors)

    def _resume(self, work: Path) -> None:
        """Go on from the checkpoint in `work` if it belongs to these settings; otherwise start there afresh."""
        found = load_checkpoint(work, self.job.record)
        if found is None:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            return
        for path in work.glob(".*.part"):  # of a run that was killed while it wrote
            path.unlink()
        self.step, tensors = found
        epoch, batch = tensors["position"].tolist()
        self.position = (epoch, batch)
        for key, parameter in self.learner.parameters.items():
            parameter.copy_(tensors[f"parameters.{key}"])
        for key, value in self.learner.state.items():
            value.copy_(tensors[f"state.{key}"])
        moments = {key.removeprefix("optimiser."): v for key, v in tensors.items() if key.startswith("optimiser.")}
        self.optimiser.restore(moments)
        self.log.cut(self.step)

    def dictionary(self) -> Dictionary:
        """Return the dictionary as it is now, for raw activations."""
        made = self.learner.dictionary(self.scaling, sites=self.job.sites, name=self.job.name)
        if self.job.settings.normalisation != "none":
            if not isinstance(made, Autoencoder):
                raise InputError(f"A {made.kind} dictionary cannot normalise frames; leave normalisation at none.")
            made.normalisation = self.job.settings.normalisation
        return made

    def finish(self) -> Dictionary:
        """Save the dictionary with its record, and remove the checkpoints."""
        dictionary = self.dictionary()
        dictionary.metadata = {
            "model_name": self.source.meta.get("model"),
            "model_weights_hash": self.source.meta.get("weights_hash"),
            "corpus": self.source.meta.get("corpus"),
            "training": self.job.record,
            "final_metrics": self.log.last,
        }
        if self.job.folder is not None:
            save_dictionary(dictionary, self.job.folder, {METRICS: self.log.text})
            shutil.rmtree(self.work or "", ignore_errors=True)
        return dictionary


def clips_trained_on(clips: Collection[str] | None) -> dict[str, Any] | None:
    """Return what is kept of the choice of clips: enough to notice another choice, however many there are."""
    if clips is None:
        return None
    listed = "\n".join(sorted(clips))
    return {"count": len(clips), "sha256": hashlib.sha256(listed.encode()).hexdigest()}
