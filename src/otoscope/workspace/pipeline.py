"""From a corpus to labelled atlases in one call: harvest → train → atlas, reusing every finished stage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from otoscope.errors import InputError
from otoscope.progress import ProgressReport
from otoscope.workspace.atlas_stages import atlas_stages
from otoscope.workspace.layout import Workspace, as_name
from otoscope.workspace.plan import DictionaryPlan, Plan, default_plan
from otoscope.workspace.stages import (
    Notice,
    StageOutcome,
    corpus_stage,
    harvest_stage,
    train_stage,
)

if TYPE_CHECKING:
    from otoscope.audio import Corpus
    from otoscope.dictionaries import Dictionary
    from otoscope.models import SpeechModel

HELD_OUT_SHARE = 0.2
GOOD_F1 = 0.7


@dataclass(frozen=True)
class Summary:
    """What `run_pipeline` made; `to_json()` is what `otoscope demo --json` prints."""

    workspace: str
    model: str
    corpus: str
    counts: dict[str, float]
    stages: tuple[StageOutcome, ...]
    seconds: dict[str, float]
    dictionaries: dict[str, dict[str, Any]]
    """Per dictionary: site, n_features and, for trained ones, fvu, l0 and dead_share on held-out clips."""
    phones_total: int
    phones_found: int
    """Phones with a feature of F1 ≥ 0.7 in some atlas."""
    best: tuple[dict[str, Any], ...]
    """The best feature of each label: label, kind, feature (None where none does better than chance), f1."""

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        trained = next((d for d in self.dictionaries.values() if "fvu" in d), None)
        return {
            "workspace": self.workspace,
            "model": self.model,
            "corpus": self.corpus,
            "counts": self.counts,
            "seconds": self.seconds,
            "stages": [stage.to_json() for stage in self.stages],
            "sae": trained and {key: trained[key] for key in ("fvu", "l0", "dead_share", "held_out")},
            "dictionaries": self.dictionaries,
            "phones": {"total": self.phones_total, "f1_at_least_0.7": self.phones_found},
            "best": list(self.best),
            "paths": {f"{stage.kind}:{stage.name}": str(stage.path) for stage in self.stages},
        }


def run_pipeline(
    workspace: Workspace,
    plan: Plan | None = None,
    progress: bool | ProgressReport = True,
    *,
    source: Corpus | None = None,
    notice: Notice | None = None,
) -> Summary:
    """Make everything `plan` names in `workspace`, reusing what is finished and resuming what was stopped.

    `source` is the corpus if it is already open; `notice(outcome)` hears of each stage when it ends.

    Raises:
        InputError: the plan's corpus, model or a site does not exist.
        OtoscopeError: the disk is full, or another process works in this workspace.
    """
    from otoscope.audio import corpus as open_corpus

    model = workspace.model()
    clips = source if source is not None else open_corpus(plan.corpus if plan else "mini")
    if not len(clips):
        raise InputError(f"The corpus {clips.name!r} has no clips.")
    name = as_name(clips.name)
    plan = plan or default_plan(model, corpus_name=name)
    plan = replace(plan, dictionaries=tuple(_canonical(d, model) for d in plan.dictionaries))

    outcomes: list[StageOutcome] = []

    def finished(outcome: StageOutcome) -> None:
        outcomes.append(outcome)
        if notice is not None:
            notice(outcome)

    finished(corpus_stage(workspace, clips, name))
    saved = workspace.corpus(name)
    finished(harvest_stage(workspace, model, name, plan.sites, name, progress=progress))
    held = held_out_split(workspace, name)
    figures: dict[str, dict[str, Any]] = {}
    for entry in plan.dictionaries:
        finished(train_stage(workspace, name, entry, seed=plan.seed, clips=held.fit, progress=progress))
        figures[entry.name] = dictionary_figures(workspace, name, workspace.dictionary(entry.name), held)
    atlases = {entry.name: entry.name for entry in plan.dictionaries}
    for outcome in atlas_stages(workspace, name, atlases, name, seed=plan.seed, progress=progress):
        finished(outcome)
    return _summarise(workspace, plan, saved, outcomes, figures)


def _canonical(plan: DictionaryPlan, model: SpeechModel) -> DictionaryPlan:
    """Return the plan with its sites under the names that stores use."""
    sites = tuple(model.site(site).name for site in plan.sites)
    return replace(plan, site=model.site(plan.site).name, sites=sites)


@dataclass(frozen=True)
class Split:
    """Clips to train on and held-out clips to score on; `by` says what is disjoint, "speakers" or "clips"."""

    fit: list[str]
    held_out: list[str]
    by: str


def held_out_split(workspace: Workspace, corpus: str) -> Split:
    """Split a corpus of the workspace.

    About a fifth of the speakers are held out (at least one, when there are two or more); clips without a
    speaker, and all clips of a one-speaker corpus, are drawn one by one. The split depends only on names.
    """
    clips = workspace.corpus(corpus)
    speakers = sorted(clips.speakers, key=_draw)
    count = max(1, round(HELD_OUT_SHARE * len(speakers))) if len(speakers) > 1 else 0
    away = set(speakers[:count])
    held_out = [
        clip.clip_id
        for clip in clips
        if (clip.speaker in away if clip.speaker and count else _draw(clip.clip_id) < HELD_OUT_SHARE)
    ]
    chosen = set(held_out)
    fit = [clip.clip_id for clip in clips if clip.clip_id not in chosen]
    if not fit or not held_out:
        fit = held_out = [clip.clip_id for clip in clips]
    return Split(fit, held_out, "speakers" if count else "clips")


def _draw(name: str) -> float:
    """A number in [0, 1) that depends on nothing but `name`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def dictionary_figures(workspace: Workspace, store: str | None, dictionary: Dictionary, held: Split) -> dict[str, Any]:
    """Describe a dictionary; a trained one with its reconstruction of the held-out clips.

    One that was trained without a store (None) keeps the last score of its training.
    """
    from otoscope.evaluation import reconstruction

    figures: dict[str, Any] = {
        "kind": dictionary.kind,
        "site": str(dictionary.site),
        "n_features": dictionary.n_features,
    }
    if "training" not in dictionary.metadata:
        return figures
    if store is None:
        last = dictionary.metadata["final_metrics"]
        names = {"fvu": "held_out_fvu", "l0": "held_out_l0", "dead_share": "held_out_silent_share"}
        figures |= {name: last[key] for name, key in names.items() if key in last}
        figures["held_out"] = {"by": held.by, "clips": len(held.held_out)}
    else:
        score = reconstruction(dictionary, workspace.store(store), clips=held.held_out)
        figures |= {"fvu": float(score.fvu), "l0": float(score.l0), "dead_share": float(score.dead_share)}
        figures["held_out"] = {"by": held.by, "clips": len(held.held_out), "frames": int(score.n_frames)}
    return figures


def _summarise(
    workspace: Workspace,
    plan: Plan,
    corpus: Corpus,
    outcomes: list[StageOutcome],
    figures: dict[str, dict[str, Any]],
) -> Summary:
    best = best_features(workspace, [entry.name for entry in plan.dictionaries])
    phones = [row["f1"] for row in best if row["kind"] == "phone"]
    seconds: dict[str, float] = {}
    for outcome in outcomes:
        seconds[outcome.kind] = round(seconds.get(outcome.kind, 0.0) + outcome.seconds, 3)
    seconds["total"] = round(sum(seconds.values()), 3)
    store = workspace.store(as_name(corpus.name))
    return Summary(
        workspace=str(workspace.folder),
        model=workspace.model_name,
        corpus=corpus.name,
        counts={
            "clips": len(corpus),
            "audio_seconds": round(corpus.duration_s, 2),
            "frames": store.n_frames,
            "features": sum(int(entry["n_features"]) for entry in figures.values()),
        },
        stages=tuple(outcomes),
        seconds=seconds,
        dictionaries=figures,
        phones_total=len(phones),
        phones_found=sum(f1 >= GOOD_F1 for f1 in phones),
        best=tuple(best),
    )


def best_features(workspace: Workspace, atlases: Sequence[str]) -> list[dict[str, Any]]:
    """Return the best feature of each label of these atlases, highest F1 first.

    An atlas chooses a label's feature and threshold on one half of the voices; F1 is of the other half.
    """
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for name in atlases:
        for row in workspace.atlas(name).labels.to_dict("records"):
            key = str(row["kind"]), str(row["label"])
            f1 = round(float(row["best_f1"]), 4) if row["best_f1"] >= 0 else 0.0
            if key not in best or f1 > best[key]["f1"]:
                feature = f"{name}:{int(row['best_feature'])}" if f1 > 0 else None
                best[key] = {"label": key[1], "kind": key[0], "feature": feature, "f1": f1}
    return sorted(best.values(), key=lambda row: (-row["f1"], row["kind"], row["label"]))
