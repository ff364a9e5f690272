"""Sealed folders: no changed byte is ever used, and what changed is named."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otoscope.errors import OtoscopeError
from otoscope.storage import arrays
from otoscope.storage.arrays import (
    BLOCK_BYTES,
    ArrayFile,
    DamagedError,
    Growing,
    Strings,
    pack_strings,
    write_arrays,
)
from otoscope.storage.sealed import CHECKS, COPY, META, SealedFolder, seal

FORMAT = {"format": "test-folder", "version": 2}
LONG = np.arange(50_000, dtype=np.int64)
FILES = ("long.safetensors", "deep/short.safetensors", "plain.bin", META, CHECKS, COPY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "folder"
    (folder / "deep").mkdir(parents=True)
    texts = {f"names.{part}": array for part, array in pack_strings(["one", "zwei", ""]).items()}
    write_arrays(folder / "long.safetensors", {"long": LONG, "bytes": np.arange(7, dtype=np.uint8), **texts})
    write_arrays(folder / "deep" / "short.safetensors", {"x": np.ones((3, 4), np.float32)})
    (folder / "plain.bin").write_bytes(bytes(100_000))
    seal(folder, {"name": "ein Test"}, **FORMAT)
    return folder


def read_all(folder: Path) -> list[object]:
    """Read everything there is, and look over the copy."""
    sealed = SealedFolder(folder, **FORMAT)
    long = sealed.arrays("long.safetensors")
    rows = [long.read("long", start, start + 1000).tolist() for start in range(0, 50_000, 1000)]
    names = Strings(long, "names").all()
    short = sealed.arrays("deep/short.safetensors").read("x").tolist()
    plain = sealed.path("plain.bin").read_bytes()
    for damage in sealed.damage():
        raise DamagedError(folder / damage.file, damage.what, damage.start, damage.stop)
    return [sealed.meta, rows, long.read("bytes").tolist(), names, short, plain]


def test_what_is_whole_reads_as_it_was_written(folder: Path) -> None:
    meta, rows, small, names, short, plain = read_all(folder)
    assert isinstance(meta, dict)
    assert isinstance(rows, list)
    assert meta["name"] == "ein Test"
    assert np.concatenate(rows).tolist() == LONG.tolist()
    assert (small, names, short) == (list(range(7)), ["one", "zwei", ""], [[1.0] * 4] * 3)
    assert plain == bytes(100_000)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_named_and_never_used(folder: Path, name: str, where: float, flip: int) -> None:
    path = folder / name
    at = int(where * path.stat().st_size)
    with Changed(path, at, flip), pytest.raises(DamagedError) as caught:
        read_all(folder)
    assert caught.value.path == path
    if caught.value.start >= 0 and name not in (META, COPY, CHECKS):
        assert caught.value.stop == 0 or caught.value.start <= at < caught.value.stop


class Changed:
    """A file of which one byte is different for a while."""

    def __init__(self, path: Path, at: int, flip: int) -> None:
        self.path, self.at, self.flip = path, at, flip

    def __enter__(self) -> None:
        with open(self.path, "r+b") as file:
            file.seek(self.at)
            (old,) = file.read(1)
            file.seek(self.at)
            file.write(bytes([old ^ self.flip]))

    def __exit__(self, *_: object) -> None:
        self.__enter__()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")


def _make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [_cut, _empty, _grow, Path.unlink, _make_a_folder])
def test_a_file_of_another_size_is_named(folder: Path, tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    harm(copy / name)
    with pytest.raises(OtoscopeError) as caught:
        read_all(copy)
    assert str(copy / name) in str(caught.value)
    assert isinstance(caught.value, DamagedError) or name == META


def test_swapped_files_of_one_size_are_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_arrays(tmp_path / name, {"x": np.full(10, ord(name), dtype=np.int64)})
    seal(tmp_path, {}, **FORMAT)
    os.rename(tmp_path / "a", tmp_path / "c")
    os.rename(tmp_path / "b", tmp_path / "a")
    os.rename(tmp_path / "c", tmp_path / "b")
    with pytest.raises(DamagedError, match="/a is damaged"):
        SealedFolder(tmp_path, **FORMAT).arrays("a")


def test_only_what_is_asked_for_is_looked_at(folder: Path, tmp_path: Path) -> None:
    """So opening costs nothing however large the folder is; and damage elsewhere does not stop reading."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    with Changed(copy / "long.safetensors", 5 * BLOCK_BYTES, 1):
        file = SealedFolder(copy, **FORMAT).arrays("long.safetensors")
        assert file.read("long", 0, 8000).tolist() == LONG[:8000].tolist()
        with pytest.raises(DamagedError, match="327,680 to 393,216"):
            file.read("long")


def test_what_was_given_back_is_checked_again(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    sealed = SealedFolder(copy, **FORMAT)
    file = sealed.arrays("long.safetensors")
    assert file.read("long", 10, 11) == 10
    with Changed(copy / "long.safetensors", 100, 1):
        sealed.release()
        with pytest.raises(DamagedError, match="changed"):
            file.read("long", 10, 11)


def test_what_was_repaired_meanwhile_is_read_again(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    Changed(copy / "long.safetensors", 100_000, 1).__enter__()
    sealed = SealedFolder(copy, **FORMAT)
    with pytest.raises(DamagedError):
        sealed.arrays("long.safetensors").read("long")
    with pytest.raises(DamagedError, match="65,536 to 131,072"):
        sealed.restore("long.safetensors", copy / "plain.bin")
    sealed.restore("long.safetensors", folder / "long.safetensors")
    assert sealed.arrays("long.safetensors").read("long").tolist() == LONG.tolist()
    assert sealed.damage() == []


def test_many_threads_read_one_folder(folder: Path) -> None:
    sealed = SealedFolder(folder, **FORMAT)
    found: list[bool] = []

    def read() -> None:
        for start in range(0, 50_000, 500):
            rows = sealed.arrays("long.safetensors").read("long", start, start + 500)
            found.append(bool((rows == LONG[start : start + 500]).all()))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 800
    assert sealed.arrays("long.safetensors") is sealed.arrays("long.safetensors")


def test_what_is_of_another_version_is_not_called_damaged(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / META).write_text(json.dumps({"format": "test-folder", "version": 1}))
    with pytest.raises(OtoscopeError, match="has version 1; this program reads version 2: build it again") as caught:
        SealedFolder(copy, **FORMAT)
    assert not isinstance(caught.value, DamagedError)
    with pytest.raises(OtoscopeError, match="is not an other"):
        SealedFolder(folder, format="other", version=2)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../b", "c:\\x", ""])
def test_a_folder_from_elsewhere_cannot_point_outside_itself(tmp_path: Path, name: str) -> None:
    import hashlib

    seal(tmp_path, {}, **FORMAT)
    whole = json.loads((tmp_path / META).read_text())
    whole.pop("seal")
    whole["files"] = {name: {"bytes": 0, "first_block": 0}}
    body = json.dumps(whole, indent=1)[:-2]
    digest = hashlib.sha256(body.encode()).hexdigest()
    (tmp_path / META).write_text(f'{body},\n "seal": "{digest}"\n}}\n')
    with pytest.raises(DamagedError, match="list of files"):
        SealedFolder(tmp_path, **FORMAT)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "I64", "shape": [2**62, 4], "data_offsets": [0, 0]},
        {"dtype": "I64", "shape": [-1], "data_offsets": [8, 0]},
        {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
        {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "U8", "shape": [1], "data_offsets": [-1, 0]},
        {"dtype": "U8", "shape": 1},
        [],
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, entry: object) -> None:
    text = json.dumps({"x": entry}).encode()
    (tmp_path / "file").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(DamagedError, match="cannot be understood"):
        ArrayFile(tmp_path / "file")


def test_a_long_header_is_checked_to_its_end(tmp_path: Path) -> None:
    write_arrays(tmp_path / "many", {f"array number {i:05d}": np.zeros(1, np.uint8) for i in range(1500)})
    seal(tmp_path, {}, **FORMAT)
    assert len(SealedFolder(tmp_path, **FORMAT).arrays("many").names) == 1500
    with Changed(tmp_path / "many", BLOCK_BYTES + 500, 4), pytest.raises(DamagedError, match="contents changed"):
        SealedFolder(tmp_path, **FORMAT).arrays("many")


def test_who_looks_for_what_is_whole_is_told_of_other_sizes_too(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    _grow(copy / "long.safetensors")
    sealed = SealedFolder(copy, **FORMAT, lenient=True)
    assert sealed.arrays("deep/short.safetensors").shape("x") == (3, 4)
    with pytest.raises(DamagedError, match="not as many as were written"):
        sealed.arrays("long.safetensors")


def test_rows_beyond_the_end_are_none(folder: Path) -> None:
    file = SealedFolder(folder, **FORMAT).arrays("long.safetensors")
    assert [len(file.read("long", *span)) for span in ((-5, 3), (49_999, 60_000), (60_000, None), (5, 2), (0, -3))] == [
        3, 1, 0, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("held_bytes", [0, 100_000, arrays.HELD_BYTES])
def test_arrays_that_grew_are_written_as_if_they_had_been_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_bytes: int
) -> None:
    monkeypatch.setattr(arrays, "HELD_BYTES", held_bytes)
    rng = np.random.default_rng(0)
    growing = {"wide": Growing(tmp_path, np.float32, (3,)), "long": Growing(tmp_path, np.int64)}
    for sizes in ((0, 1, 70_000, 5), (), (2, 0, 3)):  # begun anew each time, shorter than before
        whole: dict[str, list[np.ndarray]] = {"wide": [np.zeros((0, 3), np.float32)], "long": [np.zeros(0, np.int64)]}
        for size in sizes:
            whole["wide"].append(rng.random((2 * size, 3), dtype=np.float32)[::2])
            whole["long"].append(rng.integers(0, 9, size))
            for name, array in growing.items():
                array.append(whole[name][-1])
        write_arrays(tmp_path / "grown", growing)
        write_arrays(tmp_path / "whole", {name: np.concatenate(pieces) for name, pieces in whole.items()})
        assert (tmp_path / "grown").read_bytes() == (tmp_path / "whole").read_bytes()
        for array in growing.values():
            array.clear()
    with pytest.raises(ValueError, match="do not fit"):
        growing["wide"].append(np.zeros((2, 4), np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "whole"]
