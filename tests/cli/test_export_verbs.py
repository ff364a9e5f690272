"""`otoscope export` and `otoscope sql`: what docs/exports.md shows works, what cannot be is refused in a sentence."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
from command_line import otoscope, refused

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exports.md"


def test_every_command_of_the_page_runs(ws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTOSCOPE_WORKSPACE", str(ws))
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert {re.search(r"--format (\w+)", each)[1] for each in commands if "--format" in each} == {  # type: ignore[index]
        "parquet",
        "neuronpedia",
        "delphi",
    }
    for command in commands:
        done = otoscope(*shlex.split(command)[1:])
        assert done.code == 0, (command, done.err)
        assert done.out, command
        if "--json" in command:
            assert done.json
    assert (tmp_path / "exported" / "pages" / "index.html").is_file()
    assert list((tmp_path / "exported" / "neuronpedia").rglob("features/*.gz"))
    assert list((tmp_path / "exported" / "delphi").rglob("*.safetensors"))
    assert list((tmp_path / "exported" / "parquet" / "postings").glob("*.parquet"))


def test_answers_come_as_a_table_as_csv_and_as_json(ws: Path) -> None:
    query = "SELECT feature, label, density FROM features ORDER BY feature"
    rows = otoscope("sql", "sae-2", query, "--json", "-w", ws).json
    assert [row["feature"] for row in rows] == list(range(64))
    listed = list(csv.DictReader(otoscope("sql", "sae-2", query, "--csv", "-w", ws).out.splitlines()))
    assert [float(row["density"]) for row in listed] == pytest.approx([row["density"] for row in rows])
    some = otoscope("sql", "sae-2", query, "--limit", 3, "-w", ws)
    assert "more than 3 rows" in some.err
    assert len(some.out.strip().splitlines()) == 5, "a head, a line and three rows"


def test_what_was_exported_is_counted(ws: Path, tmp_path: Path) -> None:
    said = otoscope(
        "export", "neurons-0", "--to", tmp_path / "site", "--features", 3, "--audio", "none", "--json", "-w", ws
    )
    files = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    assert said.json["files"] == len(files)
    assert said.json["bytes"] == sum(path.stat().st_size for path in files)


def test_what_cannot_be_is_refused(ws: Path, tmp_path: Path) -> None:
    here, place = ("-w", ws), tmp_path / "out"
    (tmp_path / "taken").mkdir()
    assert "Only one SELECT" in refused("sql", "sae-2", "DROP VIEW features", *here)
    assert "not both" in refused("sql", "sae-2", "SELECT 1", "--csv", "--json", *here)
    assert "no format 'parqet'" in refused("export", "sae-2", "--to", place, "--format", "parqet", *here)
    assert "--audio belongs to --format site" in refused(
        "export", "sae-2", "--to", place, "--format", "delphi", "--audio", "wav", *here
    )
    assert "exists" in refused("export", "sae-2", "--to", tmp_path / "taken", *here)
    assert "No atlas 'sae-9'" in refused("export", "sae-9", "--to", place, *here)
    assert "no features 'best'" in refused("export", "sae-2", "--to", place, "--features", "best", *here)
    assert not place.exists()
