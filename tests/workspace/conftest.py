"""A small corpus, a small plan, and a workspace in which that plan has run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_plan import PLAN

from otoscope.audio import Corpus
from otoscope.workspace import Workspace, run_pipeline


@pytest.fixture(scope="session")
def few(mini: Corpus) -> Corpus:
    """Thirty-six spoken clips of several voices and eight sounds."""
    spoken = [clip for clip in mini if clip.text]
    sounds = [clip for clip in mini if not clip.text]
    return Corpus("few", [*spoken[:36], *sounds[:8]])


@pytest.fixture(scope="session")
def built(few: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace; tests only read it."""
    workspace = Workspace.open(tmp_path_factory.mktemp("built") / "ws", create=True)
    run_pipeline(workspace, PLAN, progress=False, source=few)
    return workspace


@pytest.fixture
def copied(built: Workspace, tmp_path: Path) -> Workspace:
    """A finished workspace to change."""
    return Workspace.open(shutil.copytree(built.folder, tmp_path / "copied"))


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace.open(tmp_path / "ws", create=True)
