"""Bytes for the browser: ranges, pooling and caching on any input."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otoscope.server.caching import ByteCache
from otoscope.server.media import parse_range, peaks, pool_columns, quantise


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_a_range_is_a_slice(first: int, last: int, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    span = parse_range(f"bytes={first}-{last}", size)
    if last < first:
        assert span is None
    else:
        assert span is not None
        assert data[span[0] : span[1]] == data[first : last + 1]
    suffix = parse_range(f"bytes=-{last}", size)
    assert suffix is not None
    assert data[suffix[0] : suffix[1]] == (data[-last:] if last else b"")


@given(st.text(max_size=20))
def test_nonsense_ranges_are_ignored_or_valid(text: str) -> None:
    span = parse_range(text, 100)
    assert span is None or (span[0] >= 0 and span[1] <= 100)


@given(st.integers(1, 500), st.integers(1, 60))
def test_pooling_loses_no_event(n: int, columns: int) -> None:
    for hit in {0, n // 2, n - 1}:
        values = np.zeros((2, n), np.uint8)
        values[1, hit] = 9
        pooled = pool_columns(values, columns)
        assert pooled.shape == (2, min(n, columns))
        assert pooled[1].max() == 9
        assert pooled[0].max() == 0
        assert abs(int(pooled[1].argmax()) * n / pooled.shape[1] - hit) <= n / pooled.shape[1]


@given(st.integers(1, 400), st.integers(1, 50))
def test_an_outline_holds_the_extremes(n: int, columns: int) -> None:
    samples = np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32)
    low, high = peaks(samples, columns)
    assert low.min() == round(float(samples.min()) * 127)
    assert high.max() == round(float(samples.max()) * 127)


def test_quantising_a_constant_is_finite() -> None:
    assert quantise(np.full((3, 4), 2.0, np.float32), 2.0, 2.0).max() == 0


def test_the_cache_stays_within_its_bytes_and_drops_the_oldest() -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)
    for key in range(10):
        cache.get(key, lambda: b"x" * 30)
    made = []
    for key in (9, 8, 7, 0):
        cache.get(key, lambda key=key: made.append(key) or b"x" * 30)  # type: ignore[misc, func-returns-value]
    assert made == [0]


def test_what_many_ask_for_is_made_once() -> None:
    cache: ByteCache[int] = ByteCache(100, lambda _: 1)
    calls, gate = [], threading.Barrier(8)

    def make() -> int:
        calls.append(1)
        return 7

    def ask() -> int:
        gate.wait(timeout=30)
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert [f.result() for f in [pool.submit(ask) for _ in range(8)]] == [7] * 8
    assert len(calls) == 1


def test_a_failure_is_not_kept() -> None:
    cache: ByteCache[int] = ByteCache(100, lambda _: 1)

    def fail() -> int:
        raise ValueError

    for _ in range(2):
        try:
            cache.get("key", fail)
        except ValueError:
            continue
        raise AssertionError
    assert cache.get("key", lambda: 5) == 5
