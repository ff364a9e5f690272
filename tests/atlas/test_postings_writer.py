"""Postings are appended in blocks of any size; the parts are those of the whole written at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otoscope.atlas.building import clip_lists as lists
from otoscope.atlas.building import indexing
from otoscope.atlas.building.indexing import PostingsWriter
from otoscope.atlas.format import postings_part
from otoscope.evaluation.naming.by_feature import Block
from otoscope.storage.arrays import ArrayFile


@pytest.mark.parametrize("step", [1, 3, 7, 40])
def test_parts_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Light, heavy and silent features; every part holds what `clip_lists` says of all of its features at once."""
    monkeypatch.setattr(lists, "HEAVY_ENTRIES", 200)
    monkeypatch.setattr(indexing, "PART_ENTRIES", 1500)
    rng = np.random.default_rng(0)
    bounds = np.arange(0, 2001, 100)
    counts = rng.choice([0, 5, 50, 300, 600], 40)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    frames = np.concatenate([np.sort(rng.choice(2000, n, replace=False)) for n in counts]).astype(np.uint32)
    values = rng.uniform(1, 2, len(frames)).astype(np.float32)
    writer = PostingsWriter(tmp_path, bounds)
    for first in range(0, 40, step):
        last = min(first + step, 40)
        span = slice(indptr[first], indptr[last])
        writer.append(Block(first, indptr[first : last + 1] - indptr[first], frames[span], values[span]))
    parts = writer.close()
    assert len(parts) > 3
    assert [part["first"] for part in parts] == [0, *(part["last"] for part in parts[:-1])]
    n_heavy = 0
    for number, part in enumerate(parts):
        file = ArrayFile(tmp_path / postings_part(number))
        own = indptr[part["first"] : part["last"] + 1]
        span = slice(own[0], own[-1])
        expected = {"indptr": own - own[0], "frames": frames[span], "values": values[span]}
        expected |= lists.clip_lists(own - own[0], frames[span], values[span], bounds)
        assert set(file.names) == set(expected)
        for name, array in expected.items():
            assert np.array_equal(file.read(name), array), name
            assert file.read(name).dtype == array.dtype
        n_heavy += len(file.read("heavy"))
    assert n_heavy > 5
    assert parts[-1]["last"] == 40
