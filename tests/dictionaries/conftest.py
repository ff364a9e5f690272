"""A store in memory with a known dictionary behind it."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore, frames_of
from torch import Tensor

from otoscope.dictionaries import TopK, TopKDictionary, train


@pytest.fixture(scope="session")
def planted_directions() -> tuple[MemoryStore, Tensor]:
    frames, directions = frames_of(16_000, d=24, n=32, k=3, seed=1)
    return MemoryStore(frames), directions


@pytest.fixture(scope="session")
def store(planted_directions: tuple[MemoryStore, Tensor]) -> MemoryStore:
    return planted_directions[0]


@pytest.fixture(scope="session")
def trained(store: MemoryStore) -> TopKDictionary:
    """A dictionary twice as large as the one behind the data, trained briefly."""
    dictionary = train(store, TopK(64, k=3), steps=800, batch_size=512, lr=5e-3, progress=False)
    assert isinstance(dictionary, TopKDictionary)
    return dictionary
