"""What many tests share: the bundled model, the mini corpus, and real recordings when they are beside the checkout."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from otoscope.audio import Corpus
    from otoscope.models import SpeechModel

SHARED = Path(__file__).resolve().parents[2] / "shared"
IN_CI = bool(os.environ.get("CI"))
TOGETHER = ("tests/cli/", "tests/server/", "tests/workspace/")
"""Folders whose tests share what takes seconds to make; all others are handed to workers file by file."""
FIRST = (
    "tests/cli/",
    "tests/server/",
    "tests/evaluation/test_necessity.py",
    "tests/atlas/test_science.py",
    "tests/atlas/",
    "tests/audio/test_fuzz_decoding.py",
)
"""What takes longest begins first, so that no worker is left with it at the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Keep tests with common fixtures in one worker: a harvest or a trained dictionary is made once, not by each.

    Said by a scheduler and not by marks: pytest 9.2 no longer hands the marks of xdist 3.8 on.
    """
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::")[0])

    config.option.loadscopereorder = False  # by number of tests, which says little about how long they take
    return ByPlace(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: next((i for i, first in enumerate(FIRST) if item.nodeid.startswith(first)), len(FIRST)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; absent for users (skipped with a notice), required in CI."""
    if not (SHARED / "data" / "manifest.csv").is_file():
        message = f"real recordings not found at {SHARED}: tests on real speech did not run"
        if IN_CI:
            pytest.fail(message)
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def pocket() -> SpeechModel:
    """The bundled model."""
    import otoscope as oto

    return oto.load_model("pocket")


@pytest.fixture(scope="session")
def mini() -> Corpus:
    """The bundled corpus."""
    import otoscope as oto

    return oto.corpus("mini")
