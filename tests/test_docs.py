"""What the README and the documentation show works: every Python block runs, every link leads somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from otoscope.audio import Corpus

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def test_the_python_page_runs_from_top_to_bottom(mini: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    some = [clip for i, clip in enumerate(mini) if i % 4 == 0 or clip.clip_id in page]
    Corpus("mini", some).save(tmp_path / "mini")  # a folder of this name goes before the bundled corpus
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["feature"] in range(256)
    assert names["transcript"].text == names["clips"]["u0001-paul"].text


def test_the_readme_shows_the_python_page_in_short() -> None:
    """Each line of the README's example is on the page that runs, or differs from it in sizes only."""
    page = "\n".join(blocks(ROOT / "docs" / "python.md", "python"))
    (example,) = blocks(ROOT / "README.md", "python")
    for call in re.findall(r"(?:oto|model|atlas|sae)\.[a-z_]+\(", example):
        assert call in page, call


def test_the_readme_shows_verbs_that_exist() -> None:
    from otoscope.cli.program import VERBS

    shown = re.findall(r"^\$ otoscope (\w+)", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    assert shown
    assert set(shown) <= set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    spec = importlib.util.spec_from_file_location("api_page", ROOT / "tools" / "api_page.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == tool.page(), "run: python tools/api_page.py"
