"""Windows cover everything once: nothing is skipped, heard twice or cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.audio import cut_windows
from otoscope.errors import InputError


@given(st.integers(1, 10**7), st.integers(1000, 10**6))
def test_windows_cover_every_sample_once(n_samples: int, size: int) -> None:
    windows = cut_windows(n_samples, size)
    at = 0
    for window in windows:
        assert window.start_sample == at
        assert 1 <= window.n_samples <= size
        at += window.n_samples
    assert at == n_samples
    assert all(window.n_samples == size for window in windows[:-1])


@pytest.mark.parametrize(("n_samples", "size"), [(0, 10), (-1, 10), (10, 0)])
def test_nothing_cannot_be_cut(n_samples: int, size: int) -> None:
    with pytest.raises(InputError):
        cut_windows(n_samples, size)
