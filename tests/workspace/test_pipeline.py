"""The pipeline gives the same bytes however often it is stopped, and computes nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_plan import PLAN

from otoscope import dictionaries, evaluation
from otoscope.audio import Clip, Corpus
from otoscope.models import SpeechModel
from otoscope.workspace import DictionaryPlan, Plan, Workspace, default_plan, held_out_split, run_pipeline

MADE = ("corpora", "stores", "dictionaries", "atlases")


def contents(workspace: Workspace) -> dict[str, str]:
    """The SHA-256 of every file that the pipeline made."""
    files = (path for kind in MADE for path in (workspace.folder / kind).rglob("*") if path.is_file())
    return {str(p.relative_to(workspace.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class StopAt:
    """A progress report that presses Ctrl-C half-way through a job; `begun` are the jobs that were begun."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.stopped = False
        self.begun: list[str] = []
        self._last = ("", 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done < total and (stage != self._last[0] or done <= self._last[1]):
            self.begun.append(stage)
        self._last = stage, done
        if stage == self.stage and done >= total / 2 and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["harvest", "train", "encode", "index and label"])
def test_a_run_stopped_in_any_stage_ends_with_the_same_bytes(
    stage: str, fresh: Workspace, few: Corpus, built: Workspace
) -> None:
    stop = StopAt(stage)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(fresh, PLAN, stop, source=few)
    summary = run_pipeline(fresh, PLAN, stop, source=few)
    assert stop.stopped
    assert {s.state for s in summary.stages if s.state not in ("done", "reused")} == {"resumed"}
    assert contents(fresh) == contents(built)
    passes = stop.begun.count("encode")
    assert passes == (2 if stage == "encode" else 1), "one pass over the frames for both atlases, or its two halves"


def test_a_second_run_reuses_every_stage(built: Workspace, few: Corpus) -> None:
    before = contents(built)
    reported: list[str] = []
    summary = run_pipeline(built, PLAN, lambda stage, done, total: reported.append(stage), source=few)
    assert all(stage.reused for stage in summary.stages)
    assert reported == []
    assert contents(built) == before


def test_only_what_depends_on_a_change_is_redone(copied: Workspace, few: Corpus) -> None:
    sae, neurons = PLAN.dictionaries
    retrained = replace(PLAN, dictionaries=(replace(sae, k=5), neurons))
    states = {(s.kind, s.name): s.state for s in run_pipeline(copied, retrained, False, source=few).stages}
    assert {key for key, state in states.items() if state == "redone"} == {("train", sae.name), ("atlas", sae.name)}
    assert {state for key, state in states.items() if sae.name not in key} == {"reused"}


def test_a_damaged_store_is_named_and_made_again(copied: Workspace, few: Corpus, built: Workspace) -> None:
    shard = next(copied.path("stores", "few").rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    summary = run_pipeline(copied, PLAN, False, source=few)
    harvest = next(stage for stage in summary.stages if stage.kind == "harvest")
    assert harvest.state == "redone"
    assert shard.name in harvest.reason
    assert contents(copied) == contents(built)


def test_the_summary_counts_what_was_made(built: Workspace, few: Corpus, pocket: SpeechModel) -> None:
    summary = run_pipeline(built, PLAN, False, source=few).to_json()
    assert summary["counts"]["clips"] == len(few)
    assert summary["counts"]["frames"] == sum(pocket.frames(clip) for clip in few)
    assert summary["counts"]["audio_seconds"] == pytest.approx(sum(clip.duration_s for clip in few), abs=0.01)
    assert summary["counts"]["features"] == 64 + 2 * pocket.dims.d_model
    assert set(summary["seconds"]) == {"corpus", "harvest", "train", "atlas", "total"}
    assert 0 < summary["sae"]["fvu"] < 1
    assert summary["sae"]["l0"] <= 4
    assert 0 <= summary["sae"]["dead_share"] <= 1
    assert all(Path(path).exists() for path in summary["paths"].values())


def test_phones_are_counted_and_their_best_features_lead_into_the_atlases(built: Workspace, few: Corpus) -> None:
    summary = run_pipeline(built, PLAN, False, source=few)
    phones = [row for row in summary.best if row["kind"] == "phone"]
    assert summary.phones_total == len(phones) > 0
    assert summary.phones_found == sum(row["f1"] >= 0.7 for row in phones)
    for row in phones:
        if row["feature"]:
            name, index = row["feature"].split(":")
            labels = built.atlas(name)[int(index)].labels
            found = labels[(labels["label"] == row["label"]) & (labels["kind"] == "phone")]
            assert found["f1"].iloc[0] == pytest.approx(row["f1"], abs=1e-4)


def test_the_dictionary_is_trained_on_some_speakers_and_scored_on_others(
    copied: Workspace, few: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages before it are done already; with another k it is trained anew."""
    used: dict[str, list[str]] = {}

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            used[name] = list(options["clips"])
            return function(*args, **options)

        return call

    monkeypatch.setattr("otoscope.dictionaries.train", spy("train", dictionaries.train))
    monkeypatch.setattr("otoscope.evaluation.reconstruction", spy("score", evaluation.reconstruction))
    sae, neurons = PLAN.dictionaries
    run_pipeline(copied, replace(PLAN, dictionaries=(replace(sae, k=5), neurons)), False, source=few)
    held = held_out_split(copied, "few")
    assert (used["train"], used["score"], held.by) == (held.fit, held.held_out, "speakers")
    assert sorted(held.fit + held.held_out) == sorted(clip.clip_id for clip in few)
    seen = {few[clip_id].speaker for clip_id in held.fit}
    unseen = {few[clip_id].speaker for clip_id in held.held_out}
    assert unseen - {None}
    assert not (seen & unseen) - {None}


def test_a_corpus_of_one_speaker_is_split_by_clips(fresh: Workspace, few: Corpus) -> None:
    voice = few[0].speaker
    Corpus("one", [replace_speaker(clip, voice) for clip in few]).save(fresh.path("corpora", "one"))
    held = held_out_split(fresh, "one")
    assert held.by == "clips"
    assert held.held_out
    assert not set(held.fit) & set(held.held_out)


def replace_speaker(clip: Clip, speaker: str | None) -> Clip:
    return replace(clip, speaker=speaker)


def test_a_corpus_without_labels_goes_through(fresh: Workspace, few: Corpus) -> None:
    bare = Corpus("bare", [Clip.from_samples(c.samples(), 16000, clip_id=c.clip_id) for c in few[:3]])
    plan = Plan((DictionaryPlan("neurons-0", "encoder.0.mlp.out", kind="neurons"),))
    summary = run_pipeline(fresh, plan, False, source=bare)
    assert (summary.phones_total, summary.best) == (0, ())
    assert len(fresh.atlas("neurons-0").features) == summary.counts["features"]


def test_the_default_plan_takes_the_middle_stream_and_the_last_neurons(pocket: SpeechModel) -> None:
    plan = default_plan(pocket)
    assert {d.name: d.site for d in plan.dictionaries} == {
        "sae-2": "encoder.2.resid_post",
        "neurons-3": "encoder.3.mlp.post",
    }
    other = default_plan(pocket, "recordings/", "recordings")
    assert [d.name for d in other.dictionaries] == ["sae-2-recordings", "neurons-3-recordings"]
