"""What many tests share: the bundled model, the mini corpus, and real recordings when they are beside the checkout."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from otoscope.audio import Corpus
    from otoscope.models import SpeechModel

SHARED = Path(__file__).resolve().parents[2] / "shared"
IN_CI = bool(os.environ.get("CI"))
LEARNED = ("tests/evaluation/test_necessity.py", "tests/evaluation/test_science.py")
"""The files whose tests ask for the dictionary `learned`."""
TOGETHER = {"tests/cli/": "cli", "tests/server/": "server", "tests/workspace/": "workspace"} | dict.fromkeys(
    LEARNED, "learned"
)
"""Whose tests share what takes seconds to make, and run in one worker; all others are handed out file by file."""
FIRST = (
    "tests/cli/",
    "tests/models/test_edits_everywhere.py",
    "tests/models/test_families.py",
    "tests/models/test_generation_parity.py",
    "tests/models/test_transcription.py",
    "tests/models/test_parity_whisper.py",
    "tests/audio/test_fuzz_decoding.py",
    "tests/server/",
    *LEARNED,
    "tests/evaluation/test_scorecard.py",
    "tests/dictionaries/test_resume.py",
    "tests/dictionaries/test_planted_",
    "tests/workspace/",
    "tests/atlas/",
    "tests/activations/",
    "tests/test_docs.py",
    "tests/audio/",
    "tests/dictionaries/test_gpu_kernels.py",
)
"""What takes longest begins first, so that no worker is left with it at the end; but in a fresh checkout the first
worker compiles (the pipeline by the verbs, over a minute) what the next would compile again beside it, so the second
begins with what needs none of that."""


# How long an example takes says more about what else runs here than about what is tested.
hypothesis.settings.register_profile("otoscope", deadline=None)
hypothesis.settings.load_profile("otoscope")


# Collecting makes millions of objects that all stay: looking through them for garbage took a third of its time.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from here on, among what the tests make."""
    gc.freeze()
    gc.enable()


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
            return next((name for place, name in TOGETHER.items() if nodeid.startswith(place)), nodeid.split("::")[0])

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
