"""Atlases in parts: wherever a corpus is cut, the joined atlas has the bytes of the one built at once."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from planted_world import SITE, World, plant

from otoscope.atlas import build_atlas, build_parts, clips_of_part, merge_atlases
from otoscope.audio import Corpus
from otoscope.dictionaries import RandomBasis
from otoscope.errors import InputError, OtoscopeError

SPARSE = RandomBasis(SITE, 8, 32, seed=0, k=3, name="sparse")


@pytest.fixture(scope="module")
def small() -> World:
    return plant(seed=2, n_speech=12, n_sounds=4)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("seed", range(3))
def test_parts_cut_anywhere_join_to_the_whole(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Neurons and a sparse dictionary in one pass for each part; the parts come in any order."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr("otoscope.atlas.building.code_pass.PART_FRAMES", int(rng.integers(200, 1500)))
    both, n = [small.dictionary, SPARSE], len(small.corpus)
    cuts = [0, *sorted(rng.choice(np.arange(1, n), size=int(rng.integers(1, 4)), replace=False).tolist()), n]
    parts: list[list[Path]] = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        to = [tmp_path / f"{each.name}-{number}" for each in both]
        parts.append(build_parts(small.model, both, small.corpus, small.corpus[start:stop], to, progress=False))
    for i, each in enumerate(both):
        folders = [part[i] for part in parts]
        rng.shuffle(folders)  # type: ignore[arg-type]
        merged = merge_atlases(folders, each, small.corpus, tmp_path / f"m{i}", n_shifts=2, progress=False)
        whole = build_atlas(small.model, each, small.corpus, tmp_path / f"w{i}", n_shifts=2, progress=False)
        assert bytes_of(merged.folder) == bytes_of(whole.folder)


def test_atlases_of_different_clips_join_in_the_order_asked_for(small: World, tmp_path: Path) -> None:
    halves = Corpus("planted", small.corpus[::2]), Corpus("planted", small.corpus[1::2])
    for name, half in zip("ab", halves, strict=True):
        build_atlas(small.model, SPARSE, half, tmp_path / name, n_shifts=2, progress=False)
    corpus = Corpus("both", [*halves[1], *halves[0]])
    merged = merge_atlases(
        [tmp_path / "a", tmp_path / "b"], SPARSE, corpus, tmp_path / "a", n_shifts=2, progress=False
    )  # in the place of one of them
    whole = build_atlas(small.model, SPARSE, corpus, tmp_path / "whole", n_shifts=2, progress=False)
    assert bytes_of(merged.folder) == bytes_of(whole.folder)


def test_mixtures_are_refused_with_the_reason(small: World, tmp_path: Path) -> None:
    first, rest = small.corpus[:8], small.corpus[8:]
    other = RandomBasis(SITE, 8, 32, seed=1, k=3, name="sparse")
    retrained = dataclasses.replace(small.model, weights_hash="1" * 64)
    for name, model, dictionary, clips in (
        ("first", small.model, SPARSE, first),
        ("rest", small.model, SPARSE, rest),
        ("other", small.model, other, rest),
        ("retrained", retrained, SPARSE, rest),
    ):
        build_parts(model, [dictionary], small.corpus, clips, [tmp_path / name], progress=False)

    def refused(names: str, why: str) -> None:
        with pytest.raises(InputError, match=why):
            merge_atlases([tmp_path / name for name in names.split()], SPARSE, small.corpus, tmp_path / "m")
        assert not (tmp_path / "m").exists()

    refused("first other", "another dictionary")
    refused("first retrained", "another model")
    refused("first", r"lack 8 of the 16 clips .*first: 'speech-08'")
    with pytest.raises(OtoscopeError, match="does not exist"):
        merge_atlases([tmp_path / "nothing"], SPARSE, small.corpus, tmp_path / "m")
    merge_atlases([tmp_path / "first", tmp_path / "rest"], SPARSE, small.corpus, tmp_path / "m", progress=False)


def test_neurons_of_separate_corpora_are_not_joined(small: World, tmp_path: Path) -> None:
    """Their floors were set by other clips: frames that the whole would keep are gone."""
    for name, clips in (("a", small.corpus[:8]), ("b", small.corpus[8:])):
        build_atlas(small.model, small.dictionary, clips, tmp_path / name, n_shifts=2, progress=False)
    with pytest.raises(InputError, match=r"floors .* other clips.*--part"):
        merge_atlases([tmp_path / "a", tmp_path / "b"], small.dictionary, small.corpus, tmp_path / "m")
    with pytest.raises(InputError, match="in two of them"):
        merge_atlases([tmp_path / "a", tmp_path / "a", tmp_path / "b"], small.dictionary, small.corpus, tmp_path / "m")


def test_parts_cover_every_clip_once(small: World) -> None:
    parts = [clips_of_part(small.corpus, part, 5) for part in range(1, 6)]
    assert [clip for part in parts for clip in part] == list(small.corpus)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ((0, 2), (3, 2), (1, 99)):
        with pytest.raises(InputError, match=r"no part \d+/\d+"):
            clips_of_part(small.corpus, *wrong)
