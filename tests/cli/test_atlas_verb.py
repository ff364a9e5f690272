"""`otoscope atlas`: several dictionaries at once, from a store or the model, in parts, and merged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import otoscope, refused

from otoscope.audio import Corpus


@pytest.fixture(scope="module")
def own(ws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace, to write in."""
    folder = tmp_path_factory.mktemp("atlas-verb") / "ws"
    shutil.copytree(ws, folder)
    Corpus("few", Corpus.load(folder / "corpora" / "few")[::6]).save(folder / "corpora" / "some")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_pass_of_the_model_makes_several_atlases_where_no_store_fits(own: Path) -> None:
    done = otoscope("atlas", "-d", "sae-2", "-d", "neurons-0", "-c", "some", "--from", "model", "-w", own, "--json")
    assert done.code == 0, done.err
    assert [(row["name"], row["state"]) for row in done.json] == [("sae-2", "redone"), ("neurons-0", "redone")]
    again = otoscope("atlas", "-d", "sae-2", "-c", "some", "--from", "model", "-w", own, "--json")
    assert again.json["state"] == "reused"


def test_parts_are_merged_to_the_atlas_of_the_whole(own: Path) -> None:
    source = ("-c", "some", "--from", "model", "-w", own)
    names = [otoscope("atlas", "-d", "sae-2", "--part", f"{i}/2", *source, "--json").json[0]["name"] for i in (1, 2)]
    assert names == ["sae-2-1-of-2", "sae-2-2-of-2"]
    assert otoscope("atlas", "-d", "sae-2", *source).code == 0
    whole = contents(own / "atlases" / "sae-2")
    shutil.rmtree(own / "atlases" / "sae-2")
    (own / "stages" / "atlas.sae-2.json").unlink()
    done = otoscope("atlas", "--merge", names[1], "--merge", own / "parts" / names[0], "-c", "some", "-w", own)
    assert done.code == 0, done.err
    assert contents(own / "atlases" / "sae-2") == whole
    assert otoscope("atlas", "-d", "sae-2", *source, "--json").json["state"] == "reused"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-d", "sae-2", "-d", "neurons-0", "--name", "x"), "--name names one atlas"),
        (("-d", "sae-2", "--part", "two"), "--part 'two' is not a part"),
        (("-d", "sae-2", "--part", "3/2"), "no part 3/2"),
        (("--merge", "nothing"), "no part or atlas 'nothing'"),
        (("--merge", "neurons-0", "--part", "1/2"), "--part makes no sense"),
        (("-d", "sae-2", "--store", "few", "--from", "model"), "--store makes no sense"),
        (("--merge", "neurons-0", "-d", "sae-2"), "another dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused(own: Path, words: tuple[str, ...], said: str) -> None:
    assert said in refused("atlas", *words, "--corpus", "few", "--workspace", own)
