"""Labels: planted detectors are found, measured exactly, on voices that did not choose them; chance finds nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from planted_world import ALWAYS, MORNING, NOISE, SIREN, VOICE, M, World, plant, silence

from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.labels.judging import judge
from otoscope.audio import Corpus, Interval
from otoscope.dictionaries import Neurons
from otoscope.evaluation import auroc, average_precision, f1_at, f1_max
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.label_sets import LabelSet, label_sets, split_clips
from otoscope.evaluation.naming.labeller import N_BEST, N_RANKED, Labeller, f1_interval, shift_p_value
from otoscope.evaluation.naming.traits import all_kinds
from otoscope.models import Clock


def labelled(world: World) -> tuple[np.ndarray, np.ndarray, list[LabelSet]]:
    """All frames of a world, the half of each, and its label sets."""
    frames = [world.model.frames[clip.clip_id] for clip in world.corpus]
    counts = [len(each) for each in frames]
    half, _ = split_clips(world.corpus, counts, seed=0)
    return (
        np.concatenate(frames),
        np.repeat(half, counts),
        label_sets(world.corpus, counts, half, Clock(), all_kinds(world.corpus)),
    )


@pytest.mark.parametrize(
    ("unit", "label", "kind"), [(M, "m", "phone"), (MORNING, "morning", "word"), (SIREN, "siren", "sound_class")]
)
def test_a_planted_detector_gets_its_name(atlas: Atlas, unit: int, label: str, kind: str) -> None:
    row = atlas.features.loc[unit]
    assert (row["label"], row["label_kind"]) == (label, kind)
    assert row["f1_low"] > 0.65 > 0.5 > row["chance"]
    assert row["q_value"] < 0.01
    assert atlas.find(label).index[0] == unit


def test_units_without_a_meaning_get_no_name(atlas: Atlas) -> None:
    """The controls: noise, a unit that always fires, and one that knows a single voice."""
    mirrored = [NOISE, NOISE + 8]
    assert atlas.features.loc[[*mirrored, ALWAYS], "label"].isna().all()
    assert atlas.features.loc[VOICE, "label_kind"] != "word"


def test_every_figure_equals_the_plain_definition(world: World, atlas: Atlas) -> None:
    frames, half, sets = labelled(world)
    rows = atlas.label_rows
    assert len(rows) > 50
    for row in rows[rows["kind"] != "speaker"].itertuples():
        unit = frames[:, row.feature] if row.feature < 8 else -frames[:, row.feature - 8]
        values = np.where(unit > atlas.column("postings_from")[row.feature], unit, 0)
        labels = next(each for each in sets if each.kind == row.kind)
        positive = labels.frame_class == labels.classes.index(row.label)
        fit, test = ((labels.frame_class >= 0) & (half == side) for side in (0, 1))
        best = f1_max(values[fit], positive[fit])
        assert f1_at(values[fit], positive[fit], row.threshold).f1 == pytest.approx(best.f1)
        scored = f1_at(values[test], positive[test], row.threshold)
        assert (row.f1, row.precision, row.recall) == pytest.approx(scored[1:], abs=1e-6)
        assert row.ap == pytest.approx(average_precision(values[test], positive[test]), abs=1e-6)
        assert row.auroc == pytest.approx(auroc(values[test], positive[test]), abs=1e-6)
        assert row.f1_low <= row.f1 <= row.f1_high


def test_the_order_in_which_features_are_labelled_changes_nothing() -> None:
    """Blocks are labelled by several threads, and what is a class's best so far depends on who was first; four kinds
    each that say the same make every feature's tenth class a tie."""
    rng = np.random.default_rng(0)
    n_clips, n_frames, n = 40, 50, 6 * N_BEST
    classes = rng.integers(0, 3, n_clips * n_frames // 5).repeat(5).astype(np.int16)
    heard = [np.where(rng.random(len(classes)) < 0.02 * i, rng.permutation(classes), classes) for i in range(8)]
    names = ("a", "b", "c")
    sets = [LabelSet("manner", names, heard[i], np.bincount(heard[i]), False, 0) for i in rng.permutation(32) % 8]
    values = rng.random((n, len(classes))) * (
        1 + (classes == np.arange(n)[:, None] % 3) * np.linspace(0, 2, n)[:, None]
    )
    clip = np.arange(n_clips, dtype=np.int32).repeat(n_frames)

    def rows(order: list[int]) -> dict[str, np.ndarray]:
        labeller = Labeller.of(sets, clip, (np.arange(n_clips) % 2).astype(np.uint8), seed=0)
        named = {}
        for i in order:
            frames = np.flatnonzero(values[i] > 0.9).astype(np.uint32)
            block = Block(i, np.array([0, len(frames)]), frames, values[i, frames].astype(np.float32))
            named[i] = labeller.label(block)
        acoustic = {"explained": np.zeros(n)}
        return judge(labeller.labelling, [named[i] for i in range(n)], acoustic, n).pairs

    first, second = rows(list(range(n))), rows(list(range(n))[::-1])
    assert len(first["feature"]) > n * N_RANKED
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)


def test_no_voice_chooses_and_scores(world: World) -> None:
    counts = [len(world.model.frames[clip.clip_id]) for clip in world.corpus]
    half, held_out = split_clips(world.corpus, counts, seed=3)
    sides: dict[str, set[int]] = {}
    for clip, side in zip(world.corpus, half, strict=True):
        sides.setdefault(clip.speaker or clip.clip_id, set()).add(int(side))
    assert held_out == "speakers"
    assert all(len(each) == 1 for each in sides.values())


def test_clips_are_held_out_where_no_speakers_are_known(world: World) -> None:
    nameless = Corpus("nameless", [dataclasses.replace(clip, speaker=None) for clip in world.corpus])
    atlas = build_atlas(world.model, world.dictionary, nameless, progress=False)
    assert atlas.meta["held_out"] == "clips"
    assert atlas.features.loc[M, "label"] == "m"


def test_frames_without_a_label_are_dropped_and_counted(world: World, atlas: Atlas) -> None:
    covered = 0
    for clip in world.corpus:
        t = np.arange(len(world.model.frames[clip.clip_id])) * 0.02
        inside = [(t >= each.start_s - 1e-9) & (t < each.end_s - 1e-9) for each in clip.tier("phones")]
        covered += len(t) if not inside else int(np.any(inside, axis=0).sum())
    kinds = {each["kind"]: each for each in atlas.meta["labels"]}
    assert kinds["phone"]["n_dropped"] == atlas.meta["n_frames"] - covered
    assert kinds["sound_class"]["n_dropped"] == 0


def test_a_detector_of_noise_does_not_pass_for_a_phone(world: World) -> None:
    """A unit that fires on m and on every siren is a worse m detector than F1 on speech alone would say."""
    frames = {name: x.copy() for name, x in world.model.frames.items()}
    for x in frames.values():
        x[:, NOISE] = np.maximum(x[:, M], x[:, SIREN])
    model = dataclasses.replace(world.model, frames=frames)
    atlas = build_atlas(model, world.dictionary, world.corpus, progress=False)
    rows = atlas[NOISE].labels.set_index("label")
    assert rows.loc["m", "f1"] < 0.6 < atlas[M].labels.set_index("label").loc["m", "f1"]


def test_moved_labels_leave_nothing(world: World) -> None:
    """The same world with every clip's tiers taken from another clip: no spoken label survives."""
    spoken = [clip for clip in world.corpus if clip.tiers]
    swapped = [
        dataclasses.replace(clip, tiers=other.tiers, clip_id=clip.clip_id)
        for clip, other in zip(spoken, spoken[3:] + spoken[:3], strict=True)
    ]
    atlas = build_atlas(world.model, world.dictionary, Corpus("swapped", swapped), progress=False)
    named = atlas.features[atlas.features["label"].notna()]
    assert len(named) <= 1
    assert not (named["f1"] > 0.5).any()


def test_labels_of_whole_clips_are_tested_between_clips() -> None:
    """Shifting a label within a clip that it fills would change nothing; dealing clips to each other does."""
    rng = np.random.default_rng(0)
    clips, frames = [], {}
    for i in range(48):
        n, word = 60, ("zero", "one", "two")[i % 3]
        clips.append(silence(n, f"{word}-{i}", speaker=f"s{i // 3 % 6}", tiers={"words": (Interval(0, 9, word),)}))
        x = rng.normal(size=(n, 2)).astype(np.float32)
        x[:, 0] += 3 * (word == "one")
        x[:, 1] += 3 * (i % 5 == 0)
        frames[clips[-1].clip_id] = x
    model = dataclasses.replace(plant().model, frames=frames)
    atlas = build_atlas(model, Neurons("encoder.0.resid_post", 2), Corpus("digits", clips), progress=False)
    assert atlas.meta["labels"][0]["whole_clips"]
    assert atlas.features.loc[0, "label"] == "one"
    assert atlas.features["label"].isna().loc[1]


def test_p_values_of_noise_are_small_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    p = shift_p_value(rng.normal(size=4000), rng.normal(size=(32, 4000)), np.zeros(4000))
    for level in (0.5, 0.1, 0.01):
        assert (p < level).mean() == pytest.approx(level, abs=4 * np.sqrt(level / 4000))


def test_an_empty_null_proves_nothing_about_one_frame() -> None:
    assert shift_p_value(np.array([0.02]), np.zeros((32, 1)), np.array([0.02]))[0] > 0.1


def test_intervals_hold_the_true_f1_of_clustered_hits() -> None:
    """Clips differ in how well their frames are detected; 95 % intervals over clips must cover the truth."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        rate = rng.beta(4, 4, 40)
        hits = rng.binomial(20, rate)
        found, positive = np.full(40, 20), np.full(40, 20)
        f1 = 2 * hits.sum() / (found + positive).sum()
        residual = 2 * hits - f1 * (found + positive)
        variance = 40 / 39 * (residual**2).sum() / (found + positive).sum() ** 2
        low, high = f1_interval(np.array([f1]), np.array([variance]), np.array([40]))
        covered += low[0] <= 0.5 <= high[0]
    assert 0.91 <= covered / 300 <= 0.99


def test_a_perfect_score_on_few_clips_is_not_certain() -> None:
    low, high = f1_interval(np.array([1.0]), np.array([0.0]), np.array([3]))
    assert low[0] < 0.5
    assert high[0] == 1.0


def test_frames_are_labelled_by_the_clock_of_their_site() -> None:
    """A wav2vec2-like frame is centred 12.5 ms later than Whisper's, so fewer of them lie before a boundary."""
    phones = (Interval(0.0, 0.05, "s"), Interval(0.05, 0.1, "m"))
    clips = [silence(5, f"c{i}", speaker=f"v{i % 2}", tiers={"phones": phones}) for i in range(60)]
    half = np.arange(60, dtype=np.uint8) % 2

    def first_clip(clock: Clock) -> list[str]:
        (found,) = (s for s in label_sets(Corpus("c", clips), [5] * 60, half, clock) if s.kind == "phone")
        return [found.classes[i] for i in found.frame_class[:5]]

    assert first_clip(Clock()) == ["s", "s", "s", "m", "m"]
    assert first_clip(Clock(offset_s=0.0125)) == ["s", "s", "m", "m", "m"]
