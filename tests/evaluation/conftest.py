"""Shared by the tests of measurements: speech of which everything is known."""

from __future__ import annotations

import pytest
from planted_speech import Speech, plant
from planted_words import Spoken, speak


@pytest.fixture(scope="session")
def speech() -> Speech:
    return plant()


@pytest.fixture(scope="session")
def spoken() -> Spoken:
    return speak()
