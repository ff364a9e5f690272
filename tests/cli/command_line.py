"""One command, run through the same entry point as the installed program."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from otoscope.cli import main


@dataclass(frozen=True)
class Finished:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON; anything else on it is an error."""
        return json.loads(self.out)


def otoscope(*words: object) -> Finished:
    """Run `otoscope WORDS…` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Finished(code, out.getvalue(), err.getvalue())


def refused(*words: object, code: int = 2) -> str:
    """Run a command that must be refused; return its one sentence."""
    done = otoscope(*words)
    assert done.code == code, done
    assert done.out == ""
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("otoscope: ")
    assert "Traceback" not in done.err
    return lines[0].removeprefix("otoscope: ")
