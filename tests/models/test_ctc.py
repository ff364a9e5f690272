"""CTC: the most probable path, free and forced, against a search through all paths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import otoscope as oto
from otoscope.models.ctc import Aligned, ctc_align, ctc_greedy


def collapse(path: tuple[int, ...], blank: int) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != blank]


def random_rows(n_frames: int, n_vocab: int, seed: int) -> torch.Tensor:
    return (2 * torch.randn(n_frames, n_vocab, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def total(rows: torch.Tensor, path: tuple[int, ...]) -> float:
    return float(rows.double()[torch.arange(len(path)), list(path)].sum())


def spelled_path(found: list[Aligned], n_frames: int, blank: int) -> tuple[int, ...]:
    """The path that an alignment stands for."""
    path = [blank] * n_frames
    for token in found:
        path[token.first_frame : token.stop_frame] = [token.id] * (token.stop_frame - token.first_frame)
    return tuple(path)


@given(st.integers(1, 6), st.integers(0, 2), st.lists(st.integers(0, 2), max_size=4), st.integers(0, 1000))
def test_the_forced_path_is_the_most_probable_one_that_spells_the_tokens(
    n_frames: int, blank: int, ids: list[int], seed: int
) -> None:
    ids = [token for token in ids if token != blank]
    rows = random_rows(n_frames, 3, seed)
    spelling = [path for path in itertools.product(range(3), repeat=n_frames) if collapse(path, blank) == ids]
    if not spelling:
        with pytest.raises(oto.InputError, match="frames"):
            ctc_align(rows, ids, blank)
        return
    found = ctc_align(rows, ids, blank)
    assert [token.id for token in found] == ids
    path = spelled_path(found, n_frames, blank)
    assert collapse(path, blank) == ids
    assert total(rows, path) == pytest.approx(max(total(rows, other) for other in spelling), abs=1e-9)
    for token in found:
        here = rows.double()[token.first_frame : token.stop_frame, token.id]
        assert token.log_prob == pytest.approx(float(here.sum()), abs=1e-9)


@given(st.integers(1, 40), st.integers(0, 4), st.integers(0, 1000))
def test_what_is_read_off_greedily_is_found_again_when_forced(n_frames: int, blank: int, seed: int) -> None:
    rows = random_rows(n_frames, 5, seed)
    free = ctc_greedy(rows, blank)
    assert [token.id for token in free] == collapse(tuple(rows.argmax(1).tolist()), blank)
    assert ctc_align(rows, [token.id for token in free], blank) == free


def test_a_planted_path_is_recovered_to_the_frame() -> None:
    planted = [0, 0, 3, 3, 0, 3, 1, 1, 1, 2, 0, 0]
    rows = torch.full((len(planted), 4), 0.01)
    rows[torch.arange(len(planted)), planted] = 0.97
    found = ctc_align(rows.log(), [3, 3, 1, 2], blank=0)
    assert [(token.first_frame, token.stop_frame) for token in found] == [(2, 4), (5, 6), (6, 9), (9, 10)]
    assert found[2].log_prob == pytest.approx(3 * math.log(0.97), abs=1e-6)


def test_the_letters_of_half_a_minute_keep_their_order() -> None:
    rows = random_rows(1500, 32, 0)
    ids = torch.randint(1, 32, (450,), generator=torch.Generator().manual_seed(0)).tolist()
    found = ctc_align(rows.numpy(), ids, blank=0)
    edges = np.array([(token.first_frame, token.stop_frame) for token in found])
    assert (edges[:, 0] < edges[:, 1]).all()
    assert (edges[1:, 0] >= edges[:-1, 1]).all()


@pytest.mark.parametrize(
    ("rows", "ids", "blank", "reason"),
    [
        (torch.zeros(4, 3), [1, 3], 0, "no token 3"),
        (torch.zeros(4, 3), [1], 7, "no token 7"),
        (torch.zeros(4, 3), [1, 0], 0, "The blank"),
        (torch.zeros(3, 3), [1, 1, 1], 0, "at least 5 frames, but there are 3"),
        (torch.zeros(3), [1], 0, "shape"),
        (torch.full((3, 3), torch.nan), [1], 0, "NaN"),
        (torch.tensor([[0.0, -math.inf]] * 3), [1], 0, "No path"),
    ],
)
def test_what_cannot_be_aligned_is_refused_with_the_reason(
    rows: torch.Tensor, ids: list[int], blank: int, reason: str
) -> None:
    with pytest.raises(oto.InputError, match=reason):
        ctc_align(rows, ids, blank)
