"""The training loop shared by all architectures: one pass over the frames feeds every dictionary in training."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from otoscope.activations.shuffle import FrameBatch
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.training.held_out import HeldOut
from otoscope.dictionaries.training.interrupting import interruptible
from otoscope.dictionaries.training.learner import Spec
from otoscope.dictionaries.training.logs import Tracker
from otoscope.dictionaries.training.runs import Job, Member, TrainingRun
from otoscope.dictionaries.training.settings import Settings, refuse_other_batches
from otoscope.dictionaries.training.sources import Feed, FrameSource, Scaled
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track

_TEXT_EVERY_S = 0.5


def train(
    store: FrameSource,
    spec: Spec,
    *,
    site: str | None = None,
    sites: Sequence[str] | None = None,
    settings: Settings | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    to: str | os.PathLike[str] | None = None,
    clips: Collection[str] | None = None,
    held_out: Collection[str] | None = None,
    device: str | torch.device | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool | ProgressReport = True,
) -> Dictionary:
    """Train a dictionary on the activations of one site, or of several where its architecture reads several.

    Activations are centred and scaled to a mean squared length of d, and that is folded into the weights at the end:
    the dictionary takes raw activations. `settings` has everything that can be chosen (optimiser, schedule, centring…);
    `steps`, `batch_size`, `lr` and `seed` override it.

    With `to`, the run is checkpointed beside that folder and the same call resumes it. On the same machine, with the
    same number of threads, a resumed run ends with the same bytes as one that was never interrupted. Ctrl-C writes a
    checkpoint first.

    Args:
        store: harvested activations, or `stream(…)` of a model.
        spec: the architecture and its settings, e.g. `TopK(1024, k=16)`.
        site: canonical name; may be left out if the store has one site.
        sites: in place of `site`: input and output of a transcoder, or all sites of a crosscoder.
        settings: how to train; None: the defaults.
        steps: optimiser steps; None: about 40 passes over the frames, at least 1,000 steps.
        batch_size: frames per step.
        lr: peak learning rate; None: `2e-4 / sqrt(n_features / 2^14)`.
        seed: decides the initial weights.
        to: folder to save the dictionary in, with `metrics.jsonl`.
        clips: ids of the clips to train on; None: all.
        held_out: ids of clips on which the dictionary is scored now and then; None: none.
        device: where to train; None: a GPU if there is one.
        trackers: `TensorBoard(…)` or `WeightsAndBiases(…)`, beside the log.
        progress: True for a bar, False for silence, or a function to report to.

    Raises:
        InputError: unknown site or clip, nothing to train on, or `to` holds a dictionary made with other settings.
    """
    if site is not None and sites is not None:
        raise InputError("Name the sites with site= or with sites=, not with both.")
    chosen = (settings or Settings()).changed(steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    run = TrainingRun(spec, site if sites is None else sites, to=to)
    return train_many(
        store,
        [run],
        settings=chosen,
        clips=clips,
        held_out=held_out,
        device=device,
        trackers=trackers,
        progress=progress,
    )[0]


def train_many(
    store: FrameSource,
    runs: Sequence[TrainingRun],
    *,
    settings: Settings | None = None,
    clips: Collection[str] | None = None,
    held_out: Collection[str] | None = None,
    device: str | torch.device | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool | ProgressReport = True,
) -> list[Dictionary]:
    """Train several dictionaries on the same batches: sites × architectures × sizes × seeds, in one pass.

    Each is, bit for bit, the one that `train` makes alone with the same settings. Runs that are finished already are
    opened, and the others go on from their checkpoints. Arguments are those of `train`.

    Raises:
        InputError: as `train`; or two runs are to be saved in the same folder, or cannot share their batches.
    """
    jobs = [Job.of(run, store, settings or Settings(), clips) for run in runs]
    folders = [job.folder.resolve() for job in jobs if job.folder is not None]
    if len(set(folders)) < len(folders):
        raise InputError("Two of the runs are to be saved in the same folder; give each its own.")
    for job in jobs:
        refuse_other_batches(jobs[0].settings, job.settings)
    done = [job.finished() for job in jobs]
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    members = {
        index: Member(job, store, where, clips, trackers)
        for index, (job, found) in enumerate(zip(jobs, done, strict=True))
        if found is None
    }
    if members:
        _Loop(store, list(members.values()), clips, held_out).go(progress)
    return [members[index].finish() if found is None else found for index, found in enumerate(done)]


class _Loop:
    """Several dictionaries in step: those that read segments of one length see the same batches."""

    def __init__(
        self,
        source: FrameSource,
        members: Sequence[Member],
        clips: Collection[str] | None,
        held_out: Collection[str] | None,
    ) -> None:
        self.members = members
        self.settings = members[0].job.settings
        self.held_out = HeldOut(source, held_out) if held_out else None
        self.groups: dict[int, list[Member]] = {}
        for member in members:
            self.groups.setdefault(member.job.spec.segment, []).append(member)
        self.feeds = {
            segment: Feed(
                source,
                list(dict.fromkeys(site for member in group for site in member.job.sites)),
                self.settings.batch_size,
                seed=self.settings.order_seed,
                segment=segment,
                clips=clips,
                position=min(member.position for member in group),
            )
            for segment, group in self.groups.items()
        }
        self.step = min(member.step for member in members)

    def go(self, progress: bool | ProgressReport) -> None:
        """Do the steps that are left."""
        steps = self.settings.steps
        assert steps is not None
        flows = {segment: iter(feed) for segment, feed in self.feeds.items()}
        bar = track("train", steps, progress, unit="steps", done=self.step)
        saved = time.monotonic()
        with bar as advance, interruptible() as interruption:
            live = _LiveText()
            while self.step < steps:
                metrics = self._one_step(flows)
                self.step += 1
                if self._is_due(saved) or interruption.asked:
                    self._save()
                    saved = time.monotonic()
                interruption.stop_here(self.step, steps, saved=self.members[0].work is not None)
                advance(1, live.after(metrics, self.settings.batch_size))

    def _one_step(self, flows: dict[int, Iterator[FrameBatch]]) -> list[dict[str, Tensor]]:
        """Let every member that is not ahead learn from the next batch of its group; return their metrics."""
        found = []
        for segment, group in self.groups.items():
            waiting = [member for member in group if member.step == self.step]
            if not waiting:  # a resumed group that is ahead of the others; its feed starts where it is
                continue
            scales = {site: scale for member in waiting for site, scale in member.scales.items()}
            scaled = Scaled(next(flows[segment]), scales, waiting[0].device)
            for member in waiting:
                metrics = member.learn(scaled.batch(member.job.spec, member.job.sites))
                member.position = self.feeds[segment].position
                self._write(member, metrics)
                found.append(metrics)
        return found

    def _write(self, member: Member, metrics: dict[str, Tensor]) -> None:
        settings, step = member.job.settings, member.step
        assert settings.log_every is not None
        assert settings.evaluate_every is not None
        score = self.held_out is not None and (step % settings.evaluate_every == 0 or step == settings.steps)
        if score or step % settings.log_every == 0 or step == settings.steps:
            scores: dict[str, float] = {}
            if self.held_out is not None and score:
                scores = self.held_out.score(member.dictionary(), member.job.spec, member.job.sites, member.scaling)
            member.write({**metrics, **scores})

    def _is_due(self, saved: float) -> bool:
        every, seconds = self.settings.checkpoint_every, self.settings.checkpoint_seconds
        assert every is not None
        return self.step % every == 0 or (seconds is not None and time.monotonic() - saved >= seconds)

    def _save(self) -> None:
        for member in self.members:
            if member.step == self.step:
                member.save()


class _LiveText:
    """What stands beside the bar: the metrics of the last step (means over the dictionaries) and the rate."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()
        self._frames = 0
        self._text = ""

    def after(self, metrics: Sequence[dict[str, Tensor]], frames: int) -> str:
        """Return the text after a step of so many frames; it changes twice a second."""
        self._frames += frames
        now = time.monotonic()
        if now - self._shown < _TEXT_EVERY_S and self._text:
            return self._text
        self._shown = now

        def mean(name: str) -> float:
            return sum(float(values[name]) for values in metrics) / len(metrics)

        rate = self._frames / max(now - self._started, 1e-9)
        self._text = (
            f"loss {mean('loss'):.4g} · FVU {mean('fvu'):.3f} · L0 {mean('l0'):.1f} · "
            f"dead {mean('dead_share'):.1%} · {rate:,.0f} frames/s"
        )
        return self._text
