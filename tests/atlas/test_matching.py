"""The same feature elsewhere: found by when it fires, on common clips, and not found where clips are shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from otoscope.atlas.codes import Codes
from otoscope.atlas.format import CLIPS, codes_part
from otoscope.atlas.moments import Clips
from otoscope.atlas.search.matching import match_features
from otoscope.dictionaries import RandomBasis
from otoscope.errors import InputError
from otoscope.models import Clock
from otoscope.storage.arrays import pack_strings, write_arrays
from otoscope.storage.sealed import SealedFolder, seal

SITE = "encoder.1.resid_post"
N = 24


@dataclass
class CodesOnly:
    """As much of an atlas as matching reads."""

    sealed: SealedFolder
    name: str

    @cached_property
    def clips(self) -> Clips:
        return Clips(self.sealed)

    @cached_property
    def codes(self) -> Codes:
        return Codes(self.sealed)

    @property
    def meta(self) -> dict:
        return self.sealed.meta

    @property
    def clock(self) -> Clock:
        return Clock(self.meta["frame_s"], self.meta["first_frame_s"])

    def __len__(self) -> int:
        return int(self.meta["n_features"])

    def __getitem__(self, feature: int) -> SimpleNamespace:
        return SimpleNamespace(feature=feature)


def written(folder: Path, clips: dict[str, np.ndarray], frame_s: float = 0.02, weights: str = "w") -> CodesOnly:
    """An atlas of values `[t, n]` by clip fingerprint."""
    values = np.concatenate(list(clips.values()))
    counts = np.array([len(each) for each in clips.values()])
    frames, features = np.nonzero(values)
    (folder / "codes").mkdir(parents=True)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(frames, minlength=len(values))))).astype(np.int64)
    code = {"indptr": indptr, "features": features.astype(np.uint32), "values": values[frames, features]}
    write_arrays(folder / codes_part(0), code)
    texts = {f"fingerprint.{part}": array for part, array in pack_strings(clips).items()}
    ids = {f"clip_id.{part}": array for part, array in pack_strings(clips).items()}
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
    write_arrays(folder / CLIPS, {"first_frame": starts, "n_frames": counts, **texts, **ids})
    meta = {
        "codes": {"parts": [{"first_frame": 0}]},
        "n_frames": len(values),
        "n_features": values.shape[1],
        "frame_s": frame_s,
        "first_frame_s": 0.0,
        "model": {"weights_hash": weights},
    }
    seal(folder, meta, format="x", version=1)
    return CodesOnly(SealedFolder(folder, format="x", version=1), folder.name)


def spoken(seed: int, n_clips: int = 30, n_features: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(n_clips):
        shape = (int(rng.integers(80, 120)), n_features)
        slow = np.repeat(rng.random((shape[0] // 4 + 1, n_features)) < 0.1, 4, axis=0)[: shape[0]]
        found[f"clip {i}"] = (slow * rng.uniform(0.5, 2, shape)).astype(np.float32)
    return found


def permuted(clips: dict[str, np.ndarray], order: np.ndarray, noise: float, seed: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (x[:, order] * (rng.random(x[:, order].shape) > noise)).astype(np.float32) for name, x in clips.items()
    }


@pytest.fixture(scope="module")
def order() -> np.ndarray:
    return np.random.default_rng(1).permutation(N)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, order: np.ndarray) -> tuple[CodesOnly, CodesOnly]:
    folder = tmp_path_factory.mktemp("matching")
    clips = spoken(0)
    other = permuted(clips, order, 0.2)
    shuffled = {name: other[name] for name in [*list(other)[10:], *list(other)[:10]] if name != "clip 3"}
    return written(folder / "a", clips), written(folder / "b", shuffled, weights="other")


def test_features_find_themselves_by_when_they_fire(pair: tuple[CodesOnly, CodesOnly], order: np.ndarray) -> None:
    """Another layer or model: other numbering, other order of clips, one clip absent, a fifth of the frames silent."""
    found = match_features(pair[0], None, pair[1], None)
    assert order[found.partner].tolist() == list(range(N))
    assert found.mutual.all()
    assert found.n_clips == 29
    assert found.iou == pytest.approx(0.8, abs=0.06)
    assert np.isnan(found.cosine).all()
    x = np.concatenate([x for name, x in spoken(0).items() if name != "clip 3"])
    y = np.concatenate([y for name, y in permuted(spoken(0), order, 0.2).items() if name != "clip 3"])
    expected = [np.corrcoef(x[:, f], y[:, g])[0, 1] for f, g in enumerate(found.partner)]
    assert found.score == pytest.approx(expected, abs=0.02)
    assert found.rows()[0]["partner"] == found.partner[0]


def test_shuffled_clips_match_nothing(pair: tuple[CodesOnly, CodesOnly], order: np.ndarray) -> None:
    found = match_features(pair[0], None, pair[1], None, shuffled=True)
    assert found.score.max() < 0.3
    assert (order[found.partner] == np.arange(N)).mean() < 0.3


def test_some_features_are_matched_as_among_all(
    pair: tuple[CodesOnly, CodesOnly], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = match_features(pair[0], None, pair[1], None)
    monkeypatch.setattr("otoscope.atlas.search.matching._BLOCK_BYTES", 5 * 16 * N)
    few = match_features(pair[0], None, pair[1], None, features=[20, 3])
    assert few.partner.tolist() == every.partner[[20, 3]].tolist()
    assert few.score == pytest.approx(every.score[[20, 3]])
    assert few.mutual.all()


def test_a_feature_that_two_resemble_is_the_best_of_both_but_mutual_with_one(tmp_path: Path) -> None:
    clips = spoken(2)
    for x in clips.values():
        x[:, 5] = x[:, 4] * (np.random.default_rng(0).random(len(x)) > 0.3)
    a = written(tmp_path / "a", clips)
    b = written(tmp_path / "b", {name: x[:, [0, 4, 7]] for name, x in clips.items()})
    found = match_features(a, None, b, None)
    assert found.partner[[4, 5]].tolist() == [1, 1]
    assert found.mutual[[4, 5]].tolist() == [True, False]
    assigned = match_features(a, None, b, None, one_to_one=True)
    assert sorted(assigned.feature[assigned.partner >= 0].tolist()) == [0, 4, 7]


def test_a_few_frames_together_are_no_match(tmp_path: Path) -> None:
    clips = spoken(6)
    for x in clips.values():
        x[:, 9] = 0
    clips["clip 2"][40:47, 9] = 1  # seven frames
    a, b = written(tmp_path / "a", clips), written(tmp_path / "b", {name: x.copy() for name, x in clips.items()})
    found = match_features(a, None, b, None)
    assert (found.partner[9], found.mutual[9], found.score[9]) == (-1, False, 0)
    assert found.partner[8] == 8


def test_clocks_of_different_models_are_paired_by_time(tmp_path: Path) -> None:
    clips = spoken(3)
    a = written(tmp_path / "a", clips)
    b = written(tmp_path / "b", {name: x[::2] for name, x in clips.items()}, frame_s=0.04)
    found = match_features(b, None, a, None)
    assert found.partner.tolist() == list(range(N))
    assert found.score == pytest.approx(1, abs=1e-6)


def test_directions_count_where_two_dictionaries_share_a_site(tmp_path: Path) -> None:
    one, other = (RandomBasis(SITE, 16, N, seed=0, k=3, name=name) for name in "ab")
    a, b = written(tmp_path / "a", spoken(4)), written(tmp_path / "b", spoken(5))
    assert match_features(a, None, b, None).score.max() < 0.3
    same = match_features(a, one, b, other)
    assert same.partner.tolist() == list(range(N))
    assert same.cosine == pytest.approx(1, abs=1e-6)
    assert same.score == pytest.approx((same.cosine + same.correlation) / 2)
    elsewhere = RandomBasis("encoder.2.resid_post", 16, N, seed=0, k=3)
    assert np.isnan(match_features(a, one, b, elsewhere).cosine).all()
    of_another_model = written(tmp_path / "c", spoken(5), weights="other")
    assert np.isnan(match_features(a, one, of_another_model, other).cosine).all()
    with pytest.raises(InputError, match="built from"):
        match_features(a, RandomBasis(SITE, 16, N + 1, seed=0, k=3), b, other)


def test_atlases_without_common_clips_are_refused(pair: tuple[CodesOnly, CodesOnly], tmp_path: Path) -> None:
    other = written(tmp_path / "c", {"elsewhere": np.ones((9, N), np.float32)})
    with pytest.raises(InputError, match="no clips in common"):
        match_features(pair[0], None, other, None)
    with pytest.raises(InputError, match="one_to_one"):
        match_features(pair[0], None, pair[1], None, features=[1], one_to_one=True)


def test_a_part_of_the_clips_is_enough(pair: tuple[CodesOnly, CodesOnly], order: np.ndarray) -> None:
    found = match_features(pair[0], None, pair[1], None, max_frames=1000)
    assert 500 < found.n_frames <= 1200
    assert (order[found.partner] == np.arange(N)).mean() > 0.9
