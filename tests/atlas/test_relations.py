"""Relations between features: who writes alike, who fires together, and what chance would say."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.atlas.building import cofiring
from otoscope.atlas.building.cofiring import CofiringCounter
from otoscope.atlas.building.neighbours import decoder_neighbours, nearest_directions
from otoscope.atlas.building.statistics import Columns
from otoscope.dictionaries import RandomBasis
from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import ArrayFile, write_arrays

N_FRAMES, N_FEATURES = 3000, 40
CUTS = (0, 700, 701, 2200, N_FRAMES)


def planted(rng: np.random.Generator) -> np.ndarray:
    """Values `[t, n]`: 3 goes with 7, 11 and 12 exclude each other, 20 is active everywhere, 30 never, the rest by
    chance."""
    values = np.where(rng.random((N_FRAMES, N_FEATURES)) < 0.05, rng.uniform(0.5, 2, (N_FRAMES, N_FEATURES)), 0)
    values[:, 7] = np.where(rng.random(N_FRAMES) < 0.8, 2 * values[:, 3], values[:, 7])
    values[:, 12] *= values[:, 11] == 0
    values[:, 20] = 1
    values[:, 30] = 0
    return values.astype(np.float32)


def counter(values: np.ndarray, folder: Path, *, correlate: bool = False) -> tuple[CofiringCounter, Block]:
    """The counter of codes cut into parts, and all their entries by feature."""
    folder.mkdir(exist_ok=True)
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        frames, features = np.nonzero(values[start:stop])
        counts = np.bincount(frames, minlength=stop - start)
        arrays = {
            "indptr": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            "features": features.astype(np.uint32),
            "values": values[start:stop][frames, features],
        }
        write_arrays(folder / f"{number}", arrays)
        parts.append((start, ArrayFile(folder / f"{number}")))
    features, frames = np.nonzero(values.T)
    active = np.bincount(features, minlength=values.shape[1])
    indptr = np.concatenate(([0], np.cumsum(active))).astype(np.int64)
    block = Block(0, indptr, frames.astype(np.uint32), values.T[features, frames])
    return CofiringCounter(parts, active, len(values), correlate=correlate), block


def all_partners(found: CofiringCounter, block: Block) -> Columns:
    """The partners of a block of all features."""
    columns = found.of(block)
    found.complete(columns)
    return columns


@pytest.fixture(params=["own frames", "common sample"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of counting: the frames of each feature, and one sample of frames for all."""
    monkeypatch.setattr(cofiring, "FULL", {"own frames": 2.0, "common sample": 0.0}[request.param])
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_partners_are_those_of_counting_every_frame(tmp_path: Path) -> None:
    values = planted(np.random.default_rng(0))
    found, block = counter(values, tmp_path)
    rows = all_partners(found, block)
    on = (values > 0).astype(float)
    together, active = on.T @ on, on.sum(0)
    for f in range(N_FEATURES):
        expected = active[f] * active / N_FRAMES
        with np.errstate(divide="ignore", invalid="ignore"):
            npmi = np.log(together[f] / expected) / -np.log(together[f] / N_FRAMES)
        kept = (together[f] >= 8) & (together[f] - 3 * np.sqrt(together[f]) > expected) & (np.arange(N_FEATURES) != f)
        best = sorted(np.flatnonzero(kept), key=lambda g: (-npmi[g], g))[:10]
        n = len(best)
        assert rows["cofiring"][f].tolist() == best + [-1] * (10 - n)
        assert rows["cofiring_pmi"][f, :n] == pytest.approx(npmi[best], abs=1e-3)
        assert rows["cofiring_share"][f, :n] == pytest.approx(together[f][best] / active[f], abs=1e-3)
    assert (rows["cofiring"][3, 0], rows["cofiring"][7, 0]) == (7, 3)
    assert rows["cofiring_share"][3, 0] == pytest.approx(0.8, abs=0.1)


@pytest.mark.usefixtures("way")
def test_frames_that_were_shuffled_give_no_partners(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = planted(rng)
    for f in range(N_FEATURES):
        values[:, f] = rng.permutation(values[:, f])
    found, block = counter(values, tmp_path)
    assert (all_partners(found, block)["cofiring"] >= 0).sum() <= 0.003 * N_FEATURES**2  # one in 740 by chance


def test_a_sample_of_the_frames_finds_the_same_partner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cofiring, "FULL", 2.0)
    values = planted(np.random.default_rng(2))
    found, block = counter(values, tmp_path)
    whole = all_partners(found, block)
    monkeypatch.setattr(cofiring, "MAX_SAMPLED", 60)
    monkeypatch.setattr(cofiring, "BATCH_ENTRIES", 500)
    sampled = all_partners(found, block)
    assert sampled["cofiring"][3, 0] == whole["cofiring"][3, 0] == 7
    assert sampled["cofiring_share"][3, 0] == pytest.approx(whole["cofiring_share"][3, 0], abs=0.15)


def test_a_sample_is_of_the_whole_corpus_and_not_of_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = planted(np.random.default_rng(5))
    early = np.arange(N_FRAMES) < N_FRAMES // 2
    values[:, 1] = values[:, 0] * early
    values[:, 2] = values[:, 0] * ~early
    monkeypatch.setattr(cofiring, "MAX_SAMPLED", 60)
    monkeypatch.setattr(cofiring, "FULL", 2.0)
    found, block = counter(values, tmp_path)
    rows = all_partners(found, block)
    assert set(rows["cofiring"][0, :2].tolist()) == {1, 2}
    assert rows["cofiring_share"][0, :2] == pytest.approx(0.5, abs=0.15)


@pytest.mark.usefixtures("way")
def test_blocks_and_batches_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, block = counter(planted(np.random.default_rng(3)), tmp_path, correlate=True)
    whole = all_partners(found, block)
    monkeypatch.setattr(cofiring, "BATCH_ENTRIES", 300)
    lo, hi = block.indptr[10], block.indptr[25]
    rows = found.of(Block(10, block.indptr[10:26] - lo, block.frames[lo:hi], block.values[lo:hi]))
    for name, column in rows.items():
        assert np.array_equal(column, whole[name][10:25], equal_nan=True), name


@pytest.mark.usefixtures("way")
def test_values_correlate_as_numpy_says(tmp_path: Path) -> None:
    values = planted(np.random.default_rng(4))
    found, block = counter(values, tmp_path, correlate=True)
    rows = all_partners(found, block)
    for f in (3, 7, 15):
        expected = np.array(
            [np.corrcoef(values[:, f], values[:, g])[0, 1] if values[:, g].std() else -2 for g in range(40)]
        )
        expected[f] = -2
        best = np.argsort(-expected, kind="stable")[:10]
        assert rows["neighbours"][f].tolist() == best.tolist()
        assert rows["neighbour_cosines"][f] == pytest.approx(expected[best], abs=1e-3)
    assert (rows["neighbours"][30] == -1).all()


def test_a_common_sample_finds_what_all_frames_show_and_leaves_rare_features_to_their_own_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    values = np.where(rng.random((N_FRAMES, N_FEATURES)) < 0.5, rng.uniform(0.5, 2, (N_FRAMES, N_FEATURES)), 0)
    values[:, 7] = np.where(rng.random(N_FRAMES) < 0.8, values[:, 3], 0)
    values[:, 9] = np.where(np.arange(N_FRAMES) % 150 == 7, 1, 0)
    values[:, 8] = values[:, 9]  # no frame of these two is in the sample
    monkeypatch.setattr(cofiring, "FULL", 2.0)
    whole, block = counter(values.astype(np.float32), tmp_path / "all", correlate=True)
    monkeypatch.setattr(cofiring, "FULL", 0.0)
    monkeypatch.setattr(cofiring, "SAMPLED", 1000)
    sampled, _ = counter(values.astype(np.float32), tmp_path / "sampled", correlate=True)
    expected, rows = all_partners(whole, block), all_partners(sampled, block)
    for feature, partner in ((3, 7), (7, 3), (8, 9), (9, 8)):
        for name in ("cofiring", "neighbours"):
            assert rows[name][feature, 0] == expected[name][feature, 0] == partner, (name, feature)
        assert rows["cofiring_share"][feature, 0] == pytest.approx(expected["cofiring_share"][feature, 0], abs=0.05)
        assert rows["neighbour_cosines"][feature, 0] == pytest.approx(
            expected["neighbour_cosines"][feature, 0], abs=0.05
        )


def test_neighbours_are_the_nearest_directions() -> None:
    basis = RandomBasis("encoder.1.mlp.post", 12, 300, seed=0, k=3)
    rows = torch.nn.functional.normalize(basis.directions(range(300)), dim=1).numpy()
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    order = np.argsort(-cosines, axis=1)[:, :10]
    found = decoder_neighbours(basis)
    assert (found["neighbours"] == order).all()
    assert found["neighbour_cosines"] == pytest.approx(np.take_along_axis(cosines, order, 1), abs=1e-3)
    features, near = nearest_directions(basis, 5, 25)
    assert features.tolist() == np.argsort(-cosines[5])[:25].tolist()
    assert near == pytest.approx(np.sort(cosines[5])[::-1][:25], abs=1e-5)


def test_few_features_have_few_neighbours() -> None:
    found = decoder_neighbours(RandomBasis("encoder.1.mlp.post", 12, 3, seed=0, k=1))
    assert (found["neighbours"][:, 2:] == -1).all()
    assert sorted(found["neighbours"][0, :2].tolist()) == [1, 2]
