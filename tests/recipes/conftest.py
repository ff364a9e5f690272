"""The recipes live beside the package, at the root of the checkout."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of the bundled model and corpus."""
    return ROOT / "src/otoscope/assets"
