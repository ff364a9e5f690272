"""Every question put to a language model, with its raw answer: kept, so that nothing is asked or paid for twice.

`<dictionary>.exchanges.jsonl`: a line with format and version, then one exchange a line, on disk before the next
question goes out. A line that a crash cut off is dropped when the file is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from otoscope.atlas.interpretation.endpoint import Answer, Endpoint, EndpointError, Message
from otoscope.atlas.interpretation.prompts import PROMPT_VERSION, UnusableAnswer, repair_messages
from otoscope.atlas.interpretation.results import json_line
from otoscope.errors import OtoscopeError
from otoscope.storage import plain_os_errors

T = TypeVar("T")

FORMAT, VERSION = "otoscope-exchanges", 1


@dataclass
class Usage:
    """What questions cost, those answered in earlier runs included.

    Attributes:
        questions: answered so far; `asked`: of these, in this run.
        requests: HTTP requests they took, repeated ones included.
        seconds: sum of the times to the answers.
        prompt_tokens, completion_tokens: as the endpoint counts them.
    """

    questions: int = 0
    asked: int = 0
    requests: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, answer: Answer, *, asked: bool) -> None:
        """Count one answer."""
        self.questions += 1
        self.asked += asked
        self.requests += answer.attempts
        self.seconds += answer.seconds
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    def plus(self, other: Usage) -> Usage:
        """Return the sum of two."""
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Exchanges:
    """Puts questions to an endpoint and remembers the answers, on disk where a path is given.

    A question is known by the endpoint's model, the prompt version and every word of it. Safe to share between threads.

    Raises:
        OtoscopeError: the file is of another format, or cannot be read.
    """

    def __init__(self, endpoint: Endpoint, path: Path | None = None, prompt_version: str = PROMPT_VERSION) -> None:
        self.endpoint, self.path, self.prompt_version = endpoint, path, prompt_version
        self._lock = threading.Lock()
        self._known: dict[str, Answer] = {}
        if path is not None and path.exists():
            self._read(path)

    def ask(self, messages: Sequence[Message], read: Callable[[str], T], usage: Usage, *, feature: int, why: str) -> T:
        """Return the answer to a question as `read` understands it; an answer that it refuses is asked for once more.

        Raises:
            EndpointError: no answer, or none that can be used.
            EndpointRefused: the endpoint will answer no question.
        """
        key, known = self._key(messages), self.answer_to(messages)
        if known is not None:
            usage.add(known, asked=False)
            return read(known.text)
        asked = list(messages)
        for last in (False, True):
            answer = self.endpoint.ask(asked)
            usage.add(answer, asked=True)
            try:
                value = read(answer.text)
            except UnusableAnswer as problem:
                self._keep(key, asked, answer, {"feature": feature, "purpose": why, "unusable": str(problem)})
                if last:
                    raise EndpointError(f"{self.endpoint.model} gave no usable answer, twice: {problem}.") from problem
                asked = repair_messages(asked, answer.text, str(problem))
            else:
                self._keep(key, asked, answer, {"feature": feature, "purpose": why, "unusable": None})
                return value
        raise AssertionError("the second answer either is usable or raises")

    def answer_to(self, messages: Sequence[Message]) -> Answer | None:
        """Return the answer to a question as it was kept, in this run or an earlier one; None if there is none."""
        with self._lock:
            return self._known.get(self._key(messages))

    def _key(self, messages: Sequence[Message]) -> str:
        text = json.dumps([self.endpoint.model, self.prompt_version, [dict(each) for each in messages]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _keep(self, key: str, messages: Sequence[Message], answer: Answer, about: dict[str, Any]) -> None:
        row = {
            "key": key,
            **about,
            "model": self.endpoint.model,
            "prompt_version": self.prompt_version,
            "endpoint": answer.endpoint,
            "asked_at": answer.asked_at,
            "messages": [dict(each) for each in messages],
            "answer": answer.text,
            "seconds": answer.seconds,
            "attempts": answer.attempts,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        with self._lock:
            if about["unusable"] is None:
                self._known[key] = answer
            if self.path is not None:
                _append(self.path, row)

    def _read(self, path: Path) -> None:
        with plain_os_errors(path):
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        try:
            rows = [json.loads(line) for line in whole.split(b"\n") if line]
            head = (rows[0]["format"], rows[0]["version"]) if rows else (FORMAT, VERSION)
            known = {row["key"]: _answer(row) for row in rows[1:] if row["unusable"] is None}
        except (ValueError, LookupError, TypeError) as error:
            raise OtoscopeError(f"{path} is damaged ({error}); move it away to ask everything again.") from error
        if head != (FORMAT, VERSION):
            raise OtoscopeError(f"{path} is not {FORMAT} version {VERSION}; move it away to ask everything again.")
        self._known = known


def _answer(row: dict[str, Any]) -> Answer:
    attempts, prompt, completion = (int(row[name]) for name in ("attempts", "prompt_tokens", "completion_tokens"))
    source = {name: None if row.get(name) is None else str(row[name]) for name in ("endpoint", "asked_at")}
    return Answer(str(row["answer"]), float(row["seconds"]), attempts, prompt, completion, **source)


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a line, on disk before this returns.

    Raises:
        OtoscopeError: the disk is full or the file cannot be written.
    """
    with plain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            head = json_line({"format": FORMAT, "version": VERSION}) if file.tell() == 0 else ""
            file.write((head + json_line(row)).encode())
            file.flush()
            os.fsync(file.fileno())
