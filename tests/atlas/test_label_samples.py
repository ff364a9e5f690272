"""Features that fire very often are named from a sample of the frames: the same names, honest figures, bounded work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted_world import ALWAYS, MORNING, NOISE, SIREN, M, World, plant
from test_label_evidence import atlas_of, shuffled, spoken

from otoscope.atlas import Atlas, build_atlas, build_parts, merge_atlases
from otoscope.atlas.building import encoding
from otoscope.atlas.labels import evidence
from otoscope.atlas.labels.collecting import FrameSample
from otoscope.audio import Clip
from otoscope.evaluation import f1_at, f1_max
from otoscope.evaluation.naming.label_sets import label_sets, split_clips
from otoscope.evaluation.naming.labeller import Labeller
from otoscope.evaluation.naming.labelling import Labelling
from otoscope.evaluation.naming.traits import all_kinds
from otoscope.models import Clock

MAX_ENTRIES, MIN_CLIPS = 2000, 32


@pytest.fixture(scope="module")
def world() -> World:
    return plant(seed=3, n_speech=160, n_sounds=120)


@pytest.fixture(scope="module")
def whole(world: World) -> Atlas:
    return build_atlas(world.model, world.dictionary, world.corpus, progress=False)


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_ENTRIES", MAX_ENTRIES)
    monkeypatch.setattr(evidence, "MIN_CLIPS", MIN_CLIPS)


def samples_of(world: World) -> tuple[list[FrameSample], np.ndarray, list[int]]:
    """The samples of a world's frames, the half of each clip, its frames."""
    counts = [len(world.model.frames[clip.clip_id]) for clip in world.corpus]
    half, _ = split_clips(world.corpus, counts, seed=0)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    ids = [clip.clip_id for clip in world.corpus]
    return evidence.nested_samples(ids, bounds, half[None]), half, counts


def frames_of(sample: FrameSample, counts: list[int]) -> np.ndarray:
    """Which of all frames a sample holds, told clip by clip."""
    clips = zip(sample.chosen, sample.phase, counts, strict=True)
    return np.concatenate([chosen & (np.arange(n) % sample.stride == phase) for chosen, phase, n in clips])


def test_samples_are_nested_and_keep_every_clip_or_enough_of_them(world: World) -> None:
    samples, half, counts = samples_of(world)
    larger = np.ones(sum(counts), dtype=bool)
    for each, share in zip(samples, (1 / 4, 1 / 16), strict=True):
        here = frames_of(each, counts)
        assert not (here & ~larger).any()
        assert here.mean() == pytest.approx(share, rel=0.05)
        assert each.chosen.all() or min(half[each.chosen].sum(), (1 - half[each.chosen]).sum()) >= MIN_CLIPS
        assert each.bounds[-1] == here.sum()
        assert (each.of(0, sum(counts)) == np.flatnonzero(here)).all()
        assert (each.of(37, 1000) == np.flatnonzero(here[37:1037])).all(), "runs need not begin with a clip"
        larger = here
    assert samples[0].chosen.all()
    assert not samples[1].chosen.all()


def test_few_clips_are_all_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MIN_CLIPS", 128)
    assert [each.chosen.all() for each in samples_of(world)[0]] == [True]


def test_a_clip_is_in_the_same_samples_whatever_the_order_of_the_clips() -> None:
    ids = [f"clip {i}" for i in range(1500)]
    half = (np.arange(1500) % 2)[None].astype(np.uint8)
    bounds = np.arange(1501) * 100
    found = evidence.nested_samples(ids, bounds, half)
    turned = evidence.nested_samples(ids[::-1], bounds, half[:, ::-1])
    assert len(found) > 2
    for a, b in zip(found, turned, strict=True):
        assert (a.chosen == b.chosen[::-1]).all()
        assert (a.phase == b.phase[::-1]).all()


def test_planted_detectors_keep_their_names_and_noise_gets_none(world: World, whole: Atlas) -> None:
    atlas = build_atlas(world.model, world.dictionary, world.corpus, progress=False)
    assert (atlas.column("n_active")[[M, MORNING, SIREN, NOISE]] > 2 * MAX_ENTRIES).all()
    for unit, label in ((M, "m"), (MORNING, "morning"), (SIREN, "siren")):
        row, exact = atlas.features.loc[unit], whole.features.loc[unit]
        assert row["label"] == exact["label"] == label
        assert row["f1_low"] - 0.02 <= exact["f1"] <= row["f1_high"] + 0.02
        width, of_exact = row["f1_high"] - row["f1_low"], exact["f1_high"] - exact["f1_low"]
        assert width >= 0.9 * of_exact, "a sample is no surer than all frames"
    assert atlas.features.loc[[NOISE, NOISE + 8, ALWAYS], "label"].isna().all()
    assert (whole.column("label_share") == 1).all()
    assert (atlas.column("label_share")[[M, MORNING, SIREN, NOISE]] < 0.6).all()
    counted = ["n_active", "density", "max", "mean", "q50", "clip_share"]
    assert atlas.features[counted].equals(whole.features[counted]), "all else is of all frames"


def test_every_figure_is_that_of_the_sample(world: World) -> None:
    atlas = build_atlas(world.model, world.dictionary, world.corpus, progress=False)
    samples, half, counts = samples_of(world)
    frames = np.concatenate([world.model.frames[clip.clip_id] for clip in world.corpus])
    sets = {each.kind: each for each in label_sets(world.corpus, counts, half, Clock(), all_kinds(world.corpus))}
    checked = 0
    for row in atlas.label_rows[~atlas.label_rows["kind"].isin(["speaker"])].itertuples():
        unit = frames[:, row.feature] if row.feature < 8 else -frames[:, row.feature - 8]
        values = np.where(unit > atlas.column("postings_from")[row.feature], unit, 0)
        n, here, level = int((values > 0).sum()), np.ones(sum(counts), dtype=bool), 0
        while level < len(samples) and n * here.mean() > MAX_ENTRIES:
            here, level = frames_of(samples[level], counts), level + 1
        labels = sets[row.kind]
        positive = labels.frame_class == labels.classes.index(row.label)
        fit, test = (here & (labels.frame_class >= 0) & (np.repeat(half, counts) == side) for side in (0, 1))
        best = f1_max(values[fit], positive[fit])
        assert f1_at(values[fit], positive[fit], row.threshold).f1 == pytest.approx(best.f1)
        scored = f1_at(values[test], positive[test], row.threshold)
        assert (row.f1, row.precision, row.recall) == pytest.approx(scored[1:], abs=1e-6)
        checked += level > 0
    assert checked > 20


def test_what_can_be_heard_is_compared_in_the_frames_of_the_sample(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)

    def measured(clip: Clip, clock: Clock, n_frames: int) -> np.ndarray:
        found = rng.normal(size=(n_frames, 4)).astype(np.float32)
        found[:, 0] += world.model.frames[clip.clip_id][:, M]
        return found

    monkeypatch.setattr(encoding, "frame_measures", measured)
    atlas = build_atlas(world.model, world.dictionary, world.corpus, progress=False)
    samples, _, counts = samples_of(world)
    frames = np.concatenate([world.model.frames[clip.clip_id] for clip in world.corpus])
    measures = atlas.codes.measures(0, len(frames))
    for unit in (M, MORNING, NOISE):
        share = atlas.column("label_share")[unit]
        here = next(each for sample in samples if (each := frames_of(sample, counts)).mean() == pytest.approx(share))
        values = np.where(frames[:, unit] > atlas.column("postings_from")[unit], frames[:, unit], 0)
        correlation = atlas[unit].acoustics["energy"].correlation
        assert correlation == pytest.approx(np.corrcoef(values[here], measures[here, 0])[0, 1], abs=1e-4)
        assert correlation != pytest.approx(np.corrcoef(values, measures[:, 0])[0, 1], abs=1e-4), "not of all frames"


def test_what_is_near_in_a_sample_is_one_of_its_frames_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Labelling] = []
    sampled_labels = evidence.sampled_labels

    def spied(*args: object, **options: object) -> Labelling:
        made.append(sampled_labels(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(evidence, "sampled_labels", spied)
    build_atlas(world.model, world.dictionary, world.corpus, progress=False)
    found = made[0]
    parts = [found.part(number) for number in range(found.n_parts)]
    column = [each.name for each in found.kinds].index("phone")
    classes, clip = (np.concatenate([getattr(part, name) for part in parts]) for name in ("classes", "clip"))
    own, fit = classes[:, column], found.half[column][clip] == 0
    together = fit[1:] & (clip[1:] == clip[:-1]) & (own[1:] >= 0)
    assert found.near_frames == 1
    before, after = 0, 1
    pairs = together & (((own[:-1] == before) & (own[1:] == after)) | ((own[:-1] == after) & (own[1:] == before)))
    assert 0 < found.near["phone"][0, before, after] + found.near["phone"][0, after, before] <= 2 * pairs.sum()


def test_no_feature_is_named_from_many_more_entries_than_stated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    label = Labeller.label

    def spied(self: Labeller, block: object, order: object = None) -> object:
        asked.append(int(np.diff(block.indptr).max()))  # type: ignore[attr-defined]
        return label(self, block, order)  # type: ignore[arg-type]

    monkeypatch.setattr(Labeller, "label", spied)
    build_atlas(world.model, world.dictionary, world.corpus, progress=False)
    assert MAX_ENTRIES / 4 < max(asked) < 2 * MAX_ENTRIES


def test_shuffled_labels_name_no_more_features_than_stated() -> None:
    """The control: with the labels of other clips, samples name as few features as all clips do."""
    named = total = 0
    for seed in range(2):
        atlas = atlas_of(*shuffled(seed, *spoken(seed + 11, n_clips=320)), seed)
        alive = atlas.column("label_share") < 1
        named += int((atlas.column("label")[alive] >= 0).sum())
        total += int(alive.sum())
    assert total > 50
    assert named / total <= atlas.meta["false_discovery"]["rate"]


def test_parts_made_apart_join_to_the_same_atlas(world: World, tmp_path: Path) -> None:
    whole = build_atlas(world.model, world.dictionary, world.corpus, tmp_path / "whole", progress=False)
    folders = []
    for number, span in enumerate((slice(0, 100), slice(100, 280))):
        clips = world.corpus[span]
        folders += build_parts(
            world.model, [world.dictionary], world.corpus, clips, [tmp_path / str(number)], progress=False
        )
    merge_atlases(folders, world.dictionary, world.corpus, tmp_path / "merged", name=whole.name, progress=False)
    for path in sorted((tmp_path / "whole").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "merged" / path.relative_to(tmp_path / "whole")).read_bytes(), path
    assert (whole.column("n_active") > MAX_ENTRIES).sum() > 4
