"""The best path through a lattice is the best of all paths, and CTC spellings agree with the CTC aligner."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.alignment.ctc_alignment import best_spelling
from otoscope.alignment.lattice import Builder, Lattice, Segment, best_path_plainly
from otoscope.errors import InputError, OtoscopeError
from otoscope.models.ctc import ctc_align

N_COLUMNS = 4


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    """Words of one to two ways of one to two phones of one to two states, with optional pauses."""
    builder = Builder()
    for word in range(draw(st.integers(1, 2))):
        ends = []
        for _ in range(draw(st.integers(1, 2))):
            front = [(state, score + draw(st.sampled_from([0.0, -0.5]))) for state, score in builder.front]
            for phone in range(draw(st.integers(1, 2))):
                columns = draw(st.lists(st.integers(0, N_COLUMNS - 1), min_size=1, max_size=2))
                loops = draw(st.lists(st.booleans(), min_size=len(columns), max_size=len(columns)))
                front = builder.chain(Segment(word, str(phone)), columns, loops, front)
            ends += front
        pause = builder.chain(Segment(-1, "sil"), [0], [True], [(s, score - 1.0) for s, score in ends])
        builder.front = ends + pause
    return builder.finish()


@settings(max_examples=60, deadline=None)
@given(lattice=lattices(), n_frames=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_best_path_is_the_best_of_all(lattice: Lattice, n_frames: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(n_frames, N_COLUMNS))
    expected, _ = best_path_plainly(lattice, scores)
    if not np.isfinite(expected):
        with pytest.raises(OtoscopeError, match="too few"):
            lattice.best_path(scores)
        return
    score, path = lattice.best_path(scores)
    assert score == pytest.approx(expected)
    assert len(path) == n_frames
    assert (np.diff(path) >= 0).all()
    stretches = lattice.stretches(path)
    assert stretches[0].first == 0
    assert stretches[-1].stop == n_frames
    assert all(a.stop == b.first for a, b in pairwise(stretches))


def chain(*columns: int) -> Lattice:
    builder = Builder()
    for number, column in enumerate(columns):
        builder.front = builder.chain(Segment(number, str(column)), [column], [True], builder.front)
    return builder.finish()


def test_a_planted_path_is_recovered_exactly() -> None:
    planted = [0] * 3 + [1] * 5 + [0] * 2 + [2] * 4
    scores = np.full((len(planted), 3), -5.0)
    scores[np.arange(len(planted)), planted] = -0.1
    lattice = chain(0, 1, 0, 2)
    stretches = lattice.stretches(lattice.best_path(scores)[1])
    assert [(each.first, each.stop) for each in stretches] == [(0, 3), (3, 8), (8, 10), (10, 14)]


def test_too_few_frames_say_how_many_are_needed() -> None:
    with pytest.raises(OtoscopeError, match="2 frames are too few for the 3"):
        chain(0, 1, 2).best_path(np.zeros((2, 3)))


def test_what_would_not_fit_in_memory_is_refused() -> None:
    scores = np.broadcast_to(np.zeros(1), (2**29 + 1, 3))
    with pytest.raises(InputError, match="cut the clip"):
        chain(0, 1).best_path(scores)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(1, 3), min_size=1, max_size=4), extra=st.integers(0, 4), seed=st.integers(0, 1000))
def test_one_way_of_spelling_lies_where_the_ctc_aligner_puts_it(ids: list[int], extra: int, seed: int) -> None:
    needed = len(ids) + sum(a == b for a, b in pairwise(ids))
    raw = np.random.default_rng(seed).normal(size=(needed + extra, 4))
    log_probs = raw - np.logaddexp.reduce(raw, axis=1, keepdims=True)
    words = [[([token], 0.0)] for token in ids]
    tokens = [each for each in best_spelling(log_probs, words, 0, None) if each.segment.word >= 0]
    expected = ctc_align(log_probs, ids, 0)
    ours = sum(log_probs[t, int(each.segment.phone)] for each in tokens for t in range(each.first, each.stop))
    assert [int(each.segment.phone) for each in tokens] == ids
    assert [(each.first, each.stop) for each in tokens] == [(each.first_frame, each.stop_frame) for each in expected]
    assert ours == pytest.approx(sum(each.log_prob for each in expected))


def test_of_two_spellings_the_one_that_is_heard_is_chosen() -> None:
    log_probs = np.log(np.full((6, 4), 0.05))
    for frame, token in enumerate([1, 0, 3, 3, 0, 2]):
        log_probs[frame, token] = np.log(0.85)
    stretches = best_spelling(log_probs, [[([1, 2], 0.0), ([1, 3], 0.0)], [([2], 0.0)]], 0, None)
    assert [each.segment.phone for each in stretches if each.segment.word >= 0] == ["1", "3", "2"]
