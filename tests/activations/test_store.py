"""A store reads back any part of itself, gives exact statistics and reproducible batches, and finds damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from otoscope.activations import ActivationStore, harvest
from otoscope.audio import Corpus
from otoscope.errors import InputError, OtoscopeError
from otoscope.models import SpeechModel

SITE, WIDE = "encoder.2.resid_post", "encoder.2.mlp.post"


@pytest.fixture(scope="module")
def store(pocket: SpeechModel, tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    folder = tmp_path_factory.mktemp("stores") / "tones"
    return harvest(pocket, tones, [SITE, WIDE], folder, shard_frames=150, progress=False)


def whole(store: ActivationStore, site: str) -> np.ndarray:
    files = sorted((store.folder / site).glob("*.safetensors"))
    assert len(files) > 2
    return np.concatenate([load_file(file)["activations"].float().numpy() for file in files])


def test_shards_are_plain_safetensors(store: ActivationStore) -> None:
    np.testing.assert_array_equal(store.read(SITE), whole(store, SITE))
    assert store.read(WIDE).shape == (store.n_frames, store.d(WIDE)) == (len(store), 512)


@given(st.data())
def test_any_range_reads_the_same_as_a_slice(store: ActivationStore, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, store.n_frames))
    stop = data.draw(st.integers(start, store.n_frames))
    np.testing.assert_array_equal(store.read(SITE, start, stop), whole(store, SITE)[start:stop])


def test_clips_follow_one_another(store: ActivationStore) -> None:
    at = 0
    for (clip_id, frames), (offset, n_frames) in zip(store.iter_clips(SITE), store.clips.values(), strict=True):
        assert (offset, n_frames) == (at, len(frames))
        np.testing.assert_array_equal(store.clip(SITE, clip_id), frames)
        at += n_frames
    assert at == store.n_frames


@pytest.mark.parametrize("site", [SITE, WIDE])
def test_statistics_are_those_of_the_stored_numbers(store: ActivationStore, site: str) -> None:
    x = store.read(site).astype(np.float64)
    np.testing.assert_allclose(store.mean(site), x.mean(0), rtol=1e-12, atol=1e-15)
    centred = (x - x.mean(0)) * store.scale(site)
    assert np.square(centred).sum(1).mean() == pytest.approx(store.d(site), rel=1e-9)
    assert store.meta["sites"][site]["mean_norm"] == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=1e-12)


def rows(x: np.ndarray | torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(map(tuple, np.asarray(x).tolist()))


def test_an_epoch_holds_every_frame_once_in_another_order(store: ActivationStore) -> None:
    batches = list(store.batches(SITE, 64, seed=1, epoch=0))
    assert [len(batch) for batch in batches[:-1]] == [64] * (len(batches) - 1)
    epoch = torch.cat(batches)
    assert epoch.dtype == torch.float32
    assert rows(epoch) == rows(store.read(SITE))
    assert not np.array_equal(epoch.numpy(), store.read(SITE))


def test_batches_depend_on_seed_and_epoch_alone(store: ActivationStore) -> None:
    def epoch(**options: int) -> torch.Tensor:
        return torch.cat(list(store.batches(SITE, 64, **options)))  # type: ignore[arg-type]

    first = epoch(seed=1, epoch=0)
    assert torch.equal(first, epoch(seed=1, epoch=0))
    assert not torch.equal(first, epoch(seed=1, epoch=1))
    assert not torch.equal(first, epoch(seed=2, epoch=0))


def test_batches_of_chosen_clips_hold_nothing_else(store: ActivationStore) -> None:
    chosen = ["tone-5", "tone-0", "tone-8"]
    expected = np.concatenate([store.clip(SITE, clip_id) for clip_id in chosen])
    drawn = torch.cat(list(store.batches(SITE, 50, seed=0, epoch=0, clips=chosen)))
    assert rows(drawn) == rows(expected)
    again = torch.cat(list(store.batches(SITE, 50, seed=0, epoch=0, clips=chosen[::-1])))
    assert torch.equal(drawn, again)


@pytest.mark.parametrize("change", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_found_and_named(store: ActivationStore, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store.folder, copy)
    ActivationStore.open(copy).verify()
    shard = copy / WIDE / "00001.safetensors"
    data = bytearray(shard.read_bytes())
    if change == "flip":
        data[-5] ^= 1
        shard.write_bytes(data)
        damaged = ActivationStore.open(copy)
        with pytest.raises(OtoscopeError, match=rf"{WIDE}/00001\.safetensors is damaged"):
            damaged.verify()
        return
    shard.write_bytes(data[:-5]) if change == "cut" else shard.unlink()
    with pytest.raises(OtoscopeError, match=rf"{WIDE}/00001\.safetensors is missing or cut"):
        ActivationStore.open(copy)


def test_wrong_questions_are_refused_with_the_nearest_answer(store: ActivationStore) -> None:
    with pytest.raises(InputError, match=r"did you mean encoder\.2\.resid_post"):
        store.read("encoder.2.resid_pst")
    with pytest.raises(InputError, match="did you mean tone-1"):
        store.clip(SITE, "tone1")
    with pytest.raises(InputError, match="not within"):
        store.read(SITE, 5, store.n_frames + 1)
    with pytest.raises(InputError, match="at least 1"):
        store.batches(SITE, 0, seed=0, epoch=0)


def test_a_store_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OtoscopeError, match="does not exist"):
        ActivationStore.open(tmp_path / "nowhere")


def test_a_store_prints_what_it_holds(store: ActivationStore) -> None:
    assert "12 clips" in repr(store)
    assert "encoder.2.resid_post (d=128)" in repr(store)
