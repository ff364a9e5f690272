"""Stages of the pipeline, each run once: what it was made from is written down, and a finished one is reused.

`stages/<kind>.<name>.json` keeps the fingerprint of a stage's inputs and the size, time and SHA-256 of every
file it wrote. On the next run the stage is *reused* when both still hold, *resumed* when it was stopped half-way
on the same inputs, and *redone*, saying why, when an input changed or a file is damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.errors import InputError, OtoscopeError
from otoscope.progress import ProgressReport
from otoscope.storage import read_json, sha256_file, write_json
from otoscope.storage.locks import only_one
from otoscope.workspace.layout import Workspace
from otoscope.workspace.plan import DictionaryPlan

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore, EncoderStream
    from otoscope.audio import Corpus
    from otoscope.dictionaries.training.logs import Tracker
    from otoscope.models import SpeechModel

FORMAT, VERSION = "otoscope-stage", 1

Notice = Callable[["StageOutcome"], None]


@dataclass(frozen=True)
class StageOutcome:
    """What became of one stage: `state` is "done", "reused", "resumed" or "redone" (`reason` says why).

    `seconds` of stages that were made together are an equal share each, so that they add up.
    """

    kind: str
    name: str
    path: Path
    seconds: float
    state: str
    reason: str = ""

    @property
    def reused(self) -> bool:
        """Whether nothing had to be computed."""
        return self.state == "reused"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return {
            "stage": self.kind,
            "name": self.name,
            "seconds": round(self.seconds, 3),
            "state": self.state,
            "reused": self.reused,
            "reason": self.reason,
            "path": str(self.path),
        }


def corpus_stage(workspace: Workspace, source: Corpus, name: str) -> StageOutcome:
    """Save `source` as the workspace's corpus `name`."""
    from otoscope.audio import Corpus

    places = [os.path.abspath(clip.source) for clip in source if isinstance(clip.source, Path)]
    inputs = {"corpus": source.fingerprint, "name": name, "places": _digest(places)}
    if source.licence:
        inputs["licence"] = source.licence

    def save(folder: Path) -> None:
        Corpus(name, source, licence=source.licence).save(folder)

    return run_stage(workspace, "corpus", name, inputs, workspace.path("corpora", name), save)


def harvest_stage(
    workspace: Workspace,
    model: SpeechModel,
    corpus: str,
    sites: Sequence[str],
    name: str,
    *,
    dtype: str = "float16",
    progress: bool | ProgressReport = True,
) -> StageOutcome:
    """Harvest `sites` over the workspace's corpus `corpus` into the store `name`."""
    from otoscope.activations import harvest

    clips = workspace.corpus(corpus)
    names = [model.site(site).name for site in sites]
    inputs = {
        "weights": model.weights_hash,
        "arithmetic": str(model.dtype),
        "corpus": clips.audio_fingerprint,
        "sites": names,
        "dtype": dtype,
    }

    def work(folder: Path) -> None:
        harvest(model, clips, names, folder, dtype=dtype, progress=progress)

    return run_stage(workspace, "harvest", name, inputs, workspace.path("stores", name), work)


def train_stage(
    workspace: Workspace,
    store: str | ActivationStore | EncoderStream,
    plan: DictionaryPlan,
    *,
    seed: int = 0,
    clips: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    device: str | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool | ProgressReport = True,
) -> StageOutcome:
    """Make the planned dictionary from `clips` (all, if None) of a store or a stream; baselines need no training.

    A trained one is scored on `held_out` clips now and then.

    Raises:
        InputError: the store has no such site, or the sites do not fit the architecture.
    """
    source = workspace.store(store) if isinstance(store, str) else store
    inputs, sites, d = train_inputs(source, plan, seed, clips), plan.sites or (plan.site,), source.d(plan.site)

    def work(folder: Path) -> None:
        from otoscope.dictionaries import Neurons, RandomBasis, train
        from otoscope.dictionaries.baselines.pca import PCA

        if plan.kind == "neurons":
            Neurons(plan.site, d, name=plan.name).save(folder)
        elif plan.kind == "random":
            RandomBasis(plan.site, d, plan.n_features, seed, plan.k, name=plan.name).save(folder)
        elif plan.kind == "pca":
            PCA.fit(source, plan.site, k=plan.k, clips=clips, name=plan.name).save(folder)
        else:
            train(
                source,
                plan.spec(),
                sites=sites,
                settings=plan.training_settings(seed),
                to=folder,
                clips=clips,
                held_out=held_out,
                device=device,
                trackers=trackers,
                progress=progress,
            )

    return run_stage(workspace, "train", plan.name, inputs, workspace.path("dictionaries", plan.name), work)


def train_inputs(
    source: ActivationStore | EncoderStream, plan: DictionaryPlan, seed: int, clips: Sequence[str] | None
) -> dict[str, Any]:
    """Return what decides a dictionary, for the record of its stage.

    Raises:
        InputError: the source has no such site.
    """
    for site in plan.sites or (plan.site,):
        if site not in source.sites:
            raise InputError(f"The activations have no site {site!r}; there are {', '.join(source.sites)}.")
    inputs: dict[str, Any] = {"seed": seed, **plan.settings(), "d": source.d(plan.site)}
    if plan.is_trained or plan.kind == "pca":
        inputs |= {"store": source.fingerprint, "clips": None if clips is None else _digest(list(clips))}
    return inputs


def run_stage(
    workspace: Workspace,
    kind: str,
    name: str,
    inputs: Mapping[str, Any],
    output: Path,
    work: Callable[[Path], None],
    *,
    replaces: bool = False,
    wait: bool = False,
) -> StageOutcome:
    """Run `work(output)` unless a finished run on the same inputs is there, and write down what it made.

    With `replaces`, work replaces an older output itself, which is not removed before. With `wait`, wait for whoever
    works in the workspace.

    Raises:
        InputError: `output` exists and was made by something else.
        OtoscopeError: another process is working in the workspace, or the disk is full.
    """
    stages = {name: (inputs, output)}
    return run_stages(workspace, kind, stages, lambda _: work(output), replaces=replaces, wait=wait)[0]


def run_stages(
    workspace: Workspace,
    kind: str,
    stages: Mapping[str, tuple[Mapping[str, Any], Path]],
    work: Callable[[list[str]], None],
    *,
    replaces: bool = False,
    wait: bool = False,
) -> list[StageOutcome]:
    """Run `work(names)` for those of several stages (their inputs and outputs by name) that are not finished yet.

    All are judged before anything is done, and each has a record of its own. Options and errors
    as of `run_stage`.
    """
    started = time.perf_counter()
    folder = workspace.folder / "stages"
    heads, outcomes = {}, {}
    with only_one_at_work(workspace, wait):
        for name, (inputs, output) in stages.items():
            fingerprint = _digest({"stage": kind, "code": VERSION, **inputs})
            heads[name] = {"format": FORMAT, "version": VERSION, "inputs": dict(inputs), "fingerprint": fingerprint}
            state, reason = _judge(folder / f"{kind}.{name}.json", fingerprint, output)
            outcomes[name] = StageOutcome(kind, name, output, time.perf_counter() - started, state, reason)
        waiting = [name for name, outcome in outcomes.items() if not outcome.reused]
        for name in waiting:
            if outcomes[name].state == "redone" and not replaces:
                shutil.rmtree(outcomes[name].path, ignore_errors=True)
            write_json(folder / f"{kind}.{name}.json", {**heads[name], "finished": False})
        if waiting:
            work(waiting)
        seconds = (time.perf_counter() - started) / max(1, len(waiting))
        for name in waiting:
            end = {"finished": True, "seconds": round(seconds, 3), "files": _listing(outcomes[name].path)}
            write_json(folder / f"{kind}.{name}.json", {**heads[name], **end})
    return [replace(outcome, seconds=seconds) if name in waiting else outcome for name, outcome in outcomes.items()]


def _judge(record: Path, fingerprint: str, output: Path) -> tuple[str, str]:
    """Say whether the stage is to be "done", "reused", "resumed" or "redone", and why."""
    if not record.exists():
        if output.exists():
            raise InputError(
                f"{output} exists but no stage of this workspace made it; move it away or choose another name."
            )
        return "done", ""
    try:
        written = read_json(record, format=FORMAT, version=VERSION)
    except OtoscopeError as error:
        return "redone", str(error)
    if written.get("fingerprint") != fingerprint:
        return "redone", "its inputs changed"
    if not written.get("finished"):
        return "resumed", "the last run was stopped"
    damage = _damage(output, written.get("files", {}))
    return ("redone", damage) if damage else ("reused", "")


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Describe every file under `folder`: size, modification time and SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "sha256": sha256_file(path),
        }
        for path in files
    }


def _damage(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the first file that is not as it was written ("" if all are).

    Contents are read again only where the modification time changed, so that large stores open at once.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            found = path.stat()
        except OSError:
            return f"{path} is missing"
        if found.st_size != expected["size"]:
            return f"{path} is damaged ({found.st_size:,} bytes, {expected['size']:,} were written)"
        if found.st_mtime_ns != expected["mtime_ns"] and sha256_file(path) != expected["sha256"]:
            return f"{path} is damaged (its contents changed)"
    return ""


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def only_one_at_work(workspace: Workspace, wait: bool = False) -> contextlib.AbstractContextManager[None]:
    """Keep other processes from working in the workspace while the block runs; raises OtoscopeError if one does."""
    return only_one(workspace.folder / ".lock", f"working in {workspace.folder}", wait)
