"""Evidence for labels: several meanings are told apart by band, one meaning stays one, chance gives no labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from planted_world import PlantedModel, silence

from otoscope.atlas import Atlas, build_atlas
from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import Neurons
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.collector import LabelCollector, labelling_of_sets
from otoscope.evaluation.naming.discovery import family_q_values
from otoscope.evaluation.naming.label_sets import LabelSet
from otoscope.evaluation.naming.labelling import SCORE, LabelKindClasses
from otoscope.evaluation.naming.targets import Targets, measure

SITE = "encoder.1.mlp.post"
PHONES = ("a", "iː", "u", "m", "n", "s", "t", "k", "l", "ɹ")
N_EQUAL, N_WEAK, N_SINGLE, N_NOISE = 5, 5, 10, 10
WEAK = 0.4


def pair(unit: int) -> tuple[str, str]:
    """The two phones of a unit with two meanings."""
    return PHONES[unit], PHONES[(unit + 3) % len(PHONES)]


def spoken(seed: int, n_clips: int = 40) -> tuple[list[Clip], dict[str, np.ndarray]]:
    """Units: sums of two phones (equally strong, then the second at 0.4), single phones, and drifting noise."""
    rng = np.random.default_rng(seed)
    clips, frames = [], {}
    for i in range(n_clips):
        n = 240
        phones, at = [], 10
        own = np.full(n, -1)
        while at < n - 20:
            length, which = int(rng.integers(3, 8)), int(rng.integers(len(PHONES)))
            phones.append(Interval(at * 0.02 - 0.01, (at + length) * 0.02 - 0.01, PHONES[which]))
            own[at : at + length] = which
            at += length
        is_phone = {name: own == j for j, name in enumerate(PHONES)}
        units = []
        for unit in range(N_EQUAL + N_WEAK):
            first, second = pair(unit)
            units.append(is_phone[first] * 1.0 + is_phone[second] * (1.0 if unit < N_EQUAL else WEAK))
        units += [is_phone[PHONES[unit]] * 1.0 for unit in range(N_SINGLE)]
        strength = np.stack(units, axis=1) * rng.uniform(0.8, 1.2, (n, len(units)))
        noise = np.maximum(np.cumsum(rng.normal(size=(n, N_NOISE)), axis=0) * 0.1, 0)
        noise += rng.uniform(0.01, 0.1, (n, N_NOISE))
        clips.append(silence(n, f"c{i:02d}", speaker=f"v{i % 8}", tiers={"phones": tuple(phones)}))
        frames[clips[-1].clip_id] = np.concatenate([strength, noise], axis=1).astype(np.float32)
    return clips, frames


def shuffled(seed: int, clips: list[Clip], frames: dict[str, np.ndarray]) -> tuple[list[Clip], dict[str, np.ndarray]]:
    """The same sounds, each with the labels of another clip."""
    order = np.random.default_rng(seed).permutation(len(clips))
    return [dataclasses.replace(c, tiers=clips[j].tiers) for c, j in zip(clips, order, strict=True)], frames


def atlas_of(clips: list[Clip], frames: dict[str, np.ndarray], seed: int = 0) -> Atlas:
    width = next(iter(frames.values())).shape[1]
    return build_atlas(PlantedModel(frames), Neurons(SITE, width), Corpus("c", clips), seed=seed, progress=False)


@pytest.fixture(scope="module")
def polysemous() -> Atlas:
    return atlas_of(*spoken(0))


def test_a_unit_with_two_meanings_gets_both_labels(polysemous: Atlas) -> None:
    for unit in range(N_EQUAL + N_WEAK):
        bands = polysemous[unit].bands
        assert {label for band in bands for label in band.labels} == set(pair(unit))
        assert polysemous.column("n_labels")[unit] == 2
        assert all(band.f1_low > band.chance and band.q_value <= 0.05 for band in bands)


def test_meanings_of_different_strength_have_bands_of_their_own(polysemous: Atlas) -> None:
    for unit in range(N_EQUAL, N_EQUAL + N_WEAK):
        first, second = pair(unit)
        bands = {band.labels[0]: band for band in polysemous[unit].bands}
        assert bands[second].high <= 0.81
        assert bands[second].low < 0.4
        assert bands[first].low > 0.4
        assert bands[first].high > 1.1
        assert "above" in polysemous[unit].sentence


def test_meanings_of_equal_strength_overlap_and_are_said_together(polysemous: Atlas) -> None:
    for unit in range(N_EQUAL):
        first, second = polysemous[unit].bands
        assert max(first.low, second.low) < min(first.high, second.high)
        (union,) = polysemous[unit].unions
        assert set(union.labels) == set(pair(unit))
        alone = max(row["f1"] for row in polysemous[unit].label_rows if row["kind"] == "phone")
        assert union.f1 > 0.7
        assert union.f1 > alone + 0.1
        assert all(f"/{label}/" in polysemous[unit].sentence for label in pair(unit))


def test_a_unit_with_one_meaning_gets_no_second_label(polysemous: Atlas) -> None:
    singles = range(N_EQUAL + N_WEAK, N_EQUAL + N_WEAK + N_SINGLE)
    assert [polysemous[unit].bands[0].labels for unit in singles] == [(phone,) for phone in PHONES]
    assert all(len(polysemous[unit].bands) == 1 and not polysemous[unit].unions for unit in singles)
    noise = range(N_EQUAL + N_WEAK + N_SINGLE, N_EQUAL + N_WEAK + N_SINGLE + N_NOISE)
    assert not any(polysemous[unit].bands for unit in noise)


def test_shuffled_labels_name_no_more_features_than_the_stated_rate() -> None:
    """Each clip keeps its sound and gets the labels of another; over seeds of clips and of halves."""
    named = total = 0
    for seed in range(3):
        atlas = atlas_of(*shuffled(seed, *spoken(seed + 1)), seed)
        alive = atlas.column("n_active") > 0
        named += int((atlas.column("label")[alive] >= 0).sum())
        total += int(alive.sum())
        rate = atlas.meta["false_discovery"]["rate"]
    assert total > 80
    assert named / total <= rate


def test_one_label_of_each_feature_is_false_no_more_often_than_stated() -> None:
    """Ten true tests in each of a few families must not carry false ones in through the many of the others."""
    rng = np.random.default_rng(0)
    false_shares, plain = [], []
    for _ in range(200):
        family = np.repeat(np.arange(100), 10)
        p = rng.random(1000)
        p[:300] = 1e-9
        q = family_q_values(p, family)
        shown = [int((q[family == f] <= 0.05).any()) for f in range(100)]
        false_shares.append(sum(shown[30:]) / max(sum(shown), 1))
        passed = np.sort(p)[300:] * 1000 / np.arange(301, 1001) <= 0.05
        plain.append(passed.sum() / (30 + passed.sum()))
    assert np.mean(false_shares) <= 0.055
    assert np.mean(plain) > 0.2, "the control: one family of all pairs lets too many through"


def test_short_clips_rotate_together_with_their_neighbours() -> None:
    """A clip of 20 frames alone has a handful of rotations, all alike; and sound never rotates into speech."""
    kind = LabelKindClasses("phone", ("a", "s"), np.array([40, 40]))
    collector = LabelCollector([kind], np.ones((1, 40), dtype=np.uint8), seed=0)
    spoken_clip, sound = np.repeat([0, 1], 10).astype(np.int16), np.full(20, 2, dtype=np.int16)
    part = collector.add(np.concatenate([*[spoken_clip] * 20, *[sound] * 20])[:, None], [20] * 40)
    assert part.ring_length.min() >= 150
    assert len(set(part.ring[0, :20]) & set(part.ring[0, 20:])) == 0
    assert part.moves.min() >= 25


@pytest.mark.parametrize("n_clips", [16, 320])
def test_p_values_of_unrelated_features_are_small_as_often_as_they_say(n_clips: int) -> None:
    """Runs of frames that know nothing of runs of labels, moved often in few rings and rarely in many."""
    rng = np.random.default_rng(n_clips)
    length, n_features = 200, 300
    n = n_clips * length
    own = np.repeat(rng.choice(4, n // 5, p=[0.1, 0.2, 0.1, 0.6]), 5).astype(np.int16)
    labels = LabelSet("phone", ("a", "s", "t"), own, np.bincount(own)[:3] // 5, whole_clips=False, n_dropped=0)
    of_clip = np.repeat(np.arange(n_clips, dtype=np.int32), length)
    labelling = labelling_of_sets([labels], of_clip, np.full(n_clips, SCORE, dtype=np.uint8), seed=0)
    found = [np.flatnonzero(np.repeat(rng.random(n // 4) < 0.05, 4)) for _ in range(n_features)]
    found.append(np.flatnonzero((own == 0) & (rng.random(n) < 0.3)))
    indptr = np.concatenate([[0], np.cumsum([len(each) for each in found])]).astype(np.int64)
    frames = np.concatenate(found).astype(np.uint32)
    targets = Targets()
    for feature in range(n_features + 1):
        targets.add(feature, 0, (0,), 0.5)
    figures = measure(labelling, Block(0, indptr, frames, np.ones(len(frames), dtype=np.float32)), targets)
    p = figures["p_value"][:-1]
    assert 0.3 < (p < 0.5).mean() < 0.7
    assert (p < 0.05).mean() <= 0.08
    assert (p < 0.005).mean() <= 0.015
    assert figures["p_value"][-1] < 1e-6, "the control: one that knows the label"
    share = (own == 0).mean()
    by_chance = 2 * np.diff(indptr) * share / (np.diff(indptr) + n * share)
    assert figures["chance"][:-1].mean() == pytest.approx(by_chance[:-1].mean(), rel=0.03)
    assert (labelling.n_moves[0] < 32) == (n_clips > 100)


def test_a_loud_feature_is_acoustic_and_says_so() -> None:
    rng = np.random.default_rng(0)
    clips, frames = [], {}
    for i in range(24):
        n = 150
        level = np.repeat(10 ** rng.uniform(-3, 0, 15), 10)
        samples = (np.repeat(level, 320) * rng.normal(size=n * 320) * 0.1).astype(np.float32)
        clip = Clip.from_samples(samples, 16000, clip_id=f"c{i}", speaker=f"v{i % 6}")
        heard = np.maximum(np.log10(level) + 3, 0)
        clips.append(clip)
        frames[clip.clip_id] = np.stack([heard, rng.uniform(0, 1, n)], axis=1).astype(np.float32)
    atlas = atlas_of(clips, frames)
    heard = atlas[0].acoustics["energy"]
    assert heard.low > 0.4
    assert heard.low <= heard.correlation <= heard.high
    assert atlas[0].stats["nature"] == "acoustic"
    assert atlas[0].sentence.startswith("loud")
    noise = atlas[1].acoustics["energy"]
    assert noise.low < 0.1
    assert atlas[1].stats["nature"] == "unlabelled"


def test_correlations_equal_the_plain_definition(polysemous: Atlas) -> None:
    measures = polysemous.codes.measures(0, polysemous.meta["n_frames"])
    for unit in (0, 22):
        frames, values = polysemous.postings[unit]
        whole = np.zeros(len(measures))
        whole[frames] = values
        for name, found in polysemous[unit].acoustics.items():
            column = {"energy": 0, "tilt": 1, "voicing": 2}.get(name)
            if column is not None:
                assert found.correlation == pytest.approx(np.corrcoef(whole, measures[:, column])[0, 1], abs=1e-3)
