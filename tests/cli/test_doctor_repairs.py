"""`otoscope doctor` reads every byte of the atlases of a workspace, and repairs them with what the workspace holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import otoscope


@pytest.fixture
def copied(ws: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ws, tmp_path / "ws"))


def rows(workspace: Path, *options: str) -> dict[str, tuple[bool, str]]:
    found = otoscope("doctor", "--workspace", workspace, "--json", *options).json
    return {row["check"]: (row["ok"], row["found"]) for row in found if row["check"].startswith("atlas ")}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_doctor_names_damage_and_repairs_it(copied: Path) -> None:
    atlas = copied / "atlases" / "sae-2"
    whole = files(atlas)
    for name in ("postings/00000.safetensors", "codes/00000.safetensors", "features.safetensors"):
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 0x10
        (atlas / name).write_bytes(data)
    found = rows(copied)
    assert found["atlas neurons-0"][0]
    ok, told = found["atlas sae-2"]
    assert not ok
    for words in (
        "postings/00000.safetensors: its contents changed (bytes ",
        "it holds the frames of features 0 to 63",
    ):
        assert words in told
    assert "--repair" in told
    done = otoscope("doctor", "--workspace", copied, "--repair")
    assert done.code == 0, done.out
    assert "codes/00000.safetensors: repaired by encoding its clips again" in done.out
    assert files(atlas) == whole
    for stage in ("check neurons-0", "check sae-2", "encode", "index and label"):
        assert stage in done.err, "a bar for everything that may take long"
    again = otoscope("doctor", "--workspace", copied, "--json")
    assert {row["ok"] for row in again.json if row["check"].startswith("atlas ")} == {True}
    assert again.err == ""


def test_what_cannot_be_repaired_is_said(copied: Path) -> None:
    atlas = copied / "atlases" / "sae-2"
    for name in ("meta.json", "meta.copy.json"):
        (atlas / name).unlink()
    done = otoscope("doctor", "--workspace", copied, "--repair", "--json")
    (row,) = [row for row in done.json if row["check"] == "atlas sae-2"]
    assert (done.code, row["ok"]) == (1, False)
    assert "meta.json does not exist" in row["found"]
