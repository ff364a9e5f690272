"""Every command in the `console` blocks of docs/cli.md works, in the order of the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import soundfile
from command_line import otoscope
from small_demo import SMALL

from otoscope.audio import Corpus
from otoscope.cli import demo
from otoscope.cli.program import VERBS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands() -> list[str]:
    """The lines after a `$` in console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_page_shows_every_verb() -> None:
    text = PAGE.read_text("utf-8")
    assert [verb for verb in VERBS if f"otoscope {verb}" not in text] == []
    assert {shlex.split(command)[0] for command in commands()} == {"otoscope"}


def test_every_command_of_the_page_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTOSCOPE_WORKSPACE", raising=False)
    monkeypatch.setattr(demo, "make_plan", lambda *_: SMALL)
    clips = Corpus.load(few)
    Corpus("mini", clips).save(tmp_path / "mini")  # a folder of this name goes before the bundled corpus
    (tmp_path / "recordings").mkdir()
    for name, clip in zip(("recording.wav", "recordings/one.wav", "recordings/two.wav"), clips, strict=False):
        soundfile.write(tmp_path / name, clip.samples(), 16000)
    names = ("one", "two")
    rows = [f"{name}.wav,{clip.text}" for name, clip in zip(names, clips[1:], strict=False)]
    (tmp_path / "recordings" / "manifest.csv").write_text("\n".join(["path,text", *rows]), "utf-8")
    for command in commands():
        done = otoscope(*shlex.split(command)[1:])
        assert done.code == 0, (command, done.err)
        assert done.out, command
        if "--json" in command:
            assert done.json
