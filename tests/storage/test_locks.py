"""Locks: one writer at a time, whoever is refused learns whom to wait for, and a dead holder frees its lock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otoscope.errors import OtoscopeError
from otoscope.storage.locks import only_one

HOLDER = """
import sys
from otoscope.storage.locks import only_one
with only_one(sys.argv[1], "building atlas 'x'"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / ".x.lock"


def test_a_second_writer_is_refused_with_the_name_of_the_first(lock: Path) -> None:
    refused = pytest.raises(OtoscopeError)
    with only_one(lock, "building atlas 'x'"), refused as caught, only_one(lock, "repairing atlas 'x'"):
        pytest.fail("two writers at once")
    assert f"(process {os.getpid()}, since " in str(caught.value)
    assert str(caught.value).endswith("is building atlas 'x'; wait for it to finish.")
    with only_one(lock, "repairing atlas 'x'"):
        pass


def test_nothing_is_left_behind_whatever_happens_inside(lock: Path) -> None:
    with pytest.raises(KeyboardInterrupt), only_one(lock, "building"):
        raise KeyboardInterrupt
    assert list(lock.parent.iterdir()) == []


def test_errors_inside_are_not_taken_for_the_locks(lock: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), only_one(lock, "building"):
        raise FileNotFoundError("mine")


def test_a_dead_holder_frees_its_lock_and_its_file_is_no_obstacle(lock: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    refused = pytest.raises(OtoscopeError, match=rf"process {holder.pid}, since .* is building atlas 'x'")
    with refused, only_one(lock, "building"):
        pytest.fail("two writers at once")
    holder.kill()
    holder.communicate()
    assert lock.exists()
    with only_one(lock, "building"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"process": null, "since": 1e300, "machine": 3}'])
def test_a_holder_that_has_not_signed_yet_is_refused_all_the_same(lock: Path, text: str) -> None:
    with only_one(lock, "building"):
        lock.write_text(text)
        with pytest.raises(OtoscopeError, match="Another otoscope is repairing; wait"), only_one(lock, "repairing"):
            pass


def test_who_waits_gets_the_lock_in_turn_and_never_two_at_once(lock: Path) -> None:
    counter = lock.with_name("counter")
    counter.write_text("0")

    def work() -> None:
        for _ in range(50):
            with only_one(lock, "counting", wait=True):
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "200"
    assert list(lock.parent.iterdir()) == [counter]


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OtoscopeError, match=r"Could not write .*\.lock"), only_one(tmp_path / "file" / ".lock", "b"):
        pass
