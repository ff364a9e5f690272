"""Running the program in this process, and a small workspace made with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Finished, otoscope

from otoscope.audio import Corpus

DICTIONARY = ("--features", "64", "--k", "4", "--steps", "20", "--batch-size", "256", "--lr", "0.002")


@pytest.fixture(scope="session")
def few(mini: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved corpus: thirty-six spoken clips of several voices and eight sounds."""
    spoken = [clip for clip in mini if clip.text]
    sounds = [clip for clip in mini if not clip.text]
    folder = tmp_path_factory.mktemp("corpora") / "few"
    Corpus("few", [*spoken[:36], *sounds[:8]]).save(folder)
    return folder


@pytest.fixture(scope="session")
def ws(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace made verb by verb; tests only read it."""
    folder = tmp_path_factory.mktemp("cli") / "ws"
    sites = ("--site", "encoder.2.resid_post", "--site", "encoder.blocks.0.mlp")
    done: list[Finished] = [
        otoscope("harvest", "--corpus", few, *sites, "--workspace", folder),
        otoscope("train", "--site", "encoder.2.resid_post", *DICTIONARY, "--workspace", folder),
        otoscope("train", "--site", "encoder.0.mlp.out", "--kind", "neurons", "--workspace", folder),
        otoscope("atlas", "--dictionary", "sae-2", "--workspace", folder),
        otoscope("atlas", "--dictionary", "neurons-0", "--workspace", folder),
    ]
    assert [(each.code, each.err) for each in done if each.code] == []
    return folder
