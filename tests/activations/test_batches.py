"""Batches hold the same rows of every site, each frame once an epoch, and whole segments of one clip where asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otoscope.activations import ActivationStore, harvest
from otoscope.activations.shuffle import Block, blocks_of, shuffled_batches
from otoscope.audio import Corpus
from otoscope.errors import InputError
from otoscope.models import SpeechModel

SITE, WIDE = "encoder.2.resid_post", "encoder.2.mlp.post"


@pytest.fixture(scope="module")
def store(pocket: SpeechModel, tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    folder = tmp_path_factory.mktemp("stores") / "tones"
    return harvest(pocket, tones, [SITE, WIDE], folder, shard_frames=150, progress=False)


def numbered(frames: int) -> Tensor:
    """Frame i holds i + 1, so that a row of zeros is no frame."""
    return torch.arange(1.0, frames + 1)[:, None]


def reader(x: Tensor, asked: list[int] | None = None) -> object:
    def read(pool: Sequence[Block]) -> list[Tensor]:
        spans = [span for block in pool for span in block]
        if asked is not None:
            asked.append(sum(stop - start for start, stop in spans))
        return [torch.cat([x[start:stop] for start, stop in spans])]

    return read


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(SPANS, st.integers(1, 90), st.sampled_from([1, 2, 5, 8]), st.sampled_from([1 << 18, 100]), st.integers(0, 3))
def test_every_frame_comes_once_in_whole_segments(
    lengths: list[tuple[int, int]], batch_size: int, segment: int, pool_frames: int, skip: int
) -> None:
    spans, at = [], 0
    for gap, length in lengths:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    blocks = blocks_of(spans, segment, block_frames=40)

    def drawn(skip: int) -> list[tuple[Tensor, Tensor | None]]:
        options = {"seed": 0, "epoch": 0, "segment": segment, "pool_frames": pool_frames}
        found = shuffled_batches(reader(numbered(at)), blocks, batch_size, skip=skip, **options)  # type: ignore[arg-type]
        return [(rows[0][:, 0], inside) for rows, inside in found]

    batches = drawn(0)
    rows = max(batch_size // segment, 1) * segment
    assert all(len(batch) == rows for batch, _ in batches[:-1])
    assert all(torch.equal(inside, batch > 0) for batch, inside in batches if inside is not None)
    every = torch.cat([batch for batch, _ in batches])
    assert sorted(every[every > 0].int().tolist()) == [i + 1 for start, stop in spans for i in range(start, stop)]
    clip_of = {i + 1: clip for clip, (start, stop) in enumerate(spans) for i in range(start, stop)}
    for piece in every.int().reshape(-1, segment).tolist():
        frames = [i for i in piece if i]
        assert piece == frames + [0] * (segment - len(frames)), "what is missing is at the end"
        assert frames == list(range(frames[0], frames[0] + len(frames)))
        assert len({clip_of[i] for i in frames}) == 1
    for (later, _), (batch, _) in zip(drawn(skip), batches[skip:], strict=True):
        assert torch.equal(later, batch)


def test_a_large_selection_is_mixed_across_blocks_and_skipped_pools_are_not_read() -> None:
    frames = torch.arange(1 << 16, dtype=torch.float32)[:, None]
    blocks = blocks_of([(0, len(frames))])
    options = {"seed": 0, "epoch": 0, "pool_frames": 1 << 14}

    def first(skip: int) -> tuple[Tensor, list[int]]:
        asked: list[int] = []
        batches = shuffled_batches(reader(frames, asked), blocks, 4096, skip=skip, **options)  # type: ignore[arg-type]
        return next(iter(batches))[0][0][:, 0], asked

    drawn, _ = first(0)
    assert len(torch.unique(drawn // 1024)) == 16  # sixteen random blocks fill the first pool
    _, asked = first(9)
    assert asked == [1 << 14], "two whole pools are left out unread, the third is read"


def test_all_sites_give_the_same_rows_and_in_the_same_order_as_alone(store: ActivationStore) -> None:
    rows = {site: {tuple(x.tolist()): i for i, x in enumerate(store.read(site))} for site in (SITE, WIDE)}
    both = list(store.batches([SITE, WIDE], 100, seed=3, epoch=1))
    alone = list(store.batches(WIDE, 100, seed=3, epoch=1))
    for batch, single in zip(both, alone, strict=True):
        assert batch.inside is None
        assert torch.equal(batch.frames[WIDE], single)
        places = [[rows[site][tuple(x.tolist())] for x in batch.frames[site]] for site in (SITE, WIDE)]
        assert places[0] == places[1]


def test_segments_of_a_store_stay_within_their_clips(store: ActivationStore) -> None:
    clips = ["tone-1", "tone-3", "tone-6"]
    batches = list(store.batches([SITE], 64, seed=0, epoch=0, clips=clips, segment=8))
    pieces = torch.cat([batch.frames[SITE] for batch in batches]).reshape(-1, 8, store.d(SITE))
    inside = torch.cat([batch.inside for batch in batches if batch.inside is not None]).reshape(-1, 8)
    expected = {}
    for clip in clips:
        frames = store.clip(SITE, clip)
        for start in range(0, len(frames), 8):
            piece = frames[start : start + 8]
            expected[tuple(piece[0].tolist())] = piece
    assert len(pieces) == len(expected)
    for piece, mask in zip(pieces, inside, strict=True):
        np.testing.assert_array_equal(piece[mask].numpy(), expected[tuple(piece[0].tolist())])
        assert piece[~mask].count_nonzero() == 0


def test_wrong_requests_are_refused(store: ActivationStore) -> None:
    with pytest.raises(InputError, match=r"did you mean encoder\.2\.resid_post"):
        store.batches([SITE, "encoder.2.resid_pots"], 8, seed=0, epoch=0)
    with pytest.raises(InputError, match="list of sites"):
        store.batches(SITE, 8, seed=0, epoch=0, segment=4)
    with pytest.raises(InputError, match="segment must be at least 1, got 8 and 0"):
        store.batches([SITE], 8, seed=0, epoch=0, segment=0)
