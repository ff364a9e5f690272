"""The program starts quickly, says in one sentence what went wrong, and leaves with the right exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import otoscope, refused

from otoscope.cli import models as models_verb
from otoscope.cli.program import VERBS
from otoscope.errors import OtoscopeError

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "numpy", "fastapi", "huggingface_hub")


def test_help_lists_every_verb() -> None:
    done = otoscope("--help")
    assert done.code == 0
    assert [verb for verb in VERBS if f" {verb} " not in done.out] == []
    assert otoscope().out == done.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    done = otoscope(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: otoscope {verb}" in done.out


@pytest.mark.parametrize("words", [["--help"], ["edit", "--help"], ["--version"], ["nonsense"]])
def test_nothing_heavy_is_imported_to_say_little(words: list[str]) -> None:
    code = (
        f"import sys; from otoscope.cli import main; main({words!r}); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    done = otoscope("--version")
    assert (done.code, done.out.split()[0]) == (0, "otoscope")


def test_an_unknown_verb_is_refused_with_the_nearest() -> None:
    assert refused("harvst") == "There is no verb 'harvst'; did you mean harvest?"


def test_an_unknown_option_is_refused() -> None:
    assert "--colour" in refused("models", "--colour")


def _raise(error: BaseException) -> None:
    raise error


def _while_compiled() -> SystemError:
    """What Python makes of Ctrl-C that comes while compiled code is being called."""
    error = SystemError("CPUDispatcher(...) returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OtoscopeError("The disk is full."), 1, "The disk is full."),
        (OSError(errno.ENOSPC, "No space left", "/w/x"), 1, "The disk is full while writing /w/x; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/w/x"), 1, "/w/x: Permission denied."),
        (ZeroDivisionError("division\nby zero"), 1, "Unexpected ZeroDivisionError: division by zero (add --debug"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to resume"),
        (_while_compiled(), 130, "stopped; run the same command again to resume"),
        (SystemError("bad"), 1, "Unexpected SystemError: bad"),
        (MemoryError(), 1, "There is not enough memory"),
    ],
)
def test_failures_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    monkeypatch.setattr(models_verb, "_from_hub", lambda: _raise(error))
    assert sentence in refused("models", code=code)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_verb, "_from_hub", lambda: _raise(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        otoscope("models", "--debug")


def test_a_reader_that_stops_reading_is_no_error() -> None:
    code = "import sys; from otoscope.cli import main; sys.exit(main(['corpus', 'show', 'mini', '--json']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are set with POSIX calls")
def test_a_disk_that_refuses_to_grow_leaves_nothing_that_is_trusted(few: Path, tmp_path: Path) -> None:
    words = ["harvest", "--corpus", str(few), "--site", "encoder.0.mlp.out", "--workspace", str(tmp_path / "ws")]
    code = f"""
import resource, sys
from otoscope.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
sys.exit(main({words!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 1
    sentences = [line for line in done.stderr.splitlines() if line.startswith("otoscope: ")]
    assert len(sentences) == 1
    assert "Traceback" not in done.stderr
    again = otoscope(*words, "--json")
    assert (again.code, again.json["state"]) == (0, "resumed")
    fresh = otoscope(*words[:-1], tmp_path / "other", "--json")
    assert again.json["fingerprint"] == fresh.json["fingerprint"]
