"""What axe-core finds wrong with a page that is open in a browser."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(__file__).resolve().parents[1] / "node_modules" / "axe-core" / "axe.min.js"
SCAN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .flatMap(each => each.nodes.map(node => `${each.impact}: ${each.id}: ${node.html.slice(0, 160)}`))"""


def violations(page: Page) -> list[str]:
    """Return what is wrong with a page as it is now; nothing, with a warning, where `make web-check` never ran."""
    if not AXE.is_file():
        message = "accessibility was not scanned: node_modules has no axe-core; `make web-check` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        warnings.warn(message, stacklevel=2)
        return []
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    return list(page.evaluate(SCAN))
