"""What many tests share: the bundled model, the mini corpus, and real recordings when they are beside the checkout."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otoscope.audio import Corpus
    from otoscope.models import SpeechModel

SHARED = Path(__file__).resolve().parents[2] / "shared"
IN_CI = bool(os.environ.get("CI"))


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
