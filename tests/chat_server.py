"""A chat endpoint on this machine that speaks the OpenAI protocol, with models that really read what they are sent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Model = Callable[[list[dict[str, str]]], str]


class ChatServer(ThreadingHTTPServer):
    """Answers with what `model` says, after the misbehaviour of `faults`, one per request.

    A fault is a function of the request handler that answers in the model's place.
    """

    daemon_threads = True

    def __init__(self, model: Model, faults: list[Callable[[Handler], None]] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model
        self.faults = list(faults or [])
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = self._at_once = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def questions(self) -> list[str]:
        """What was asked, without the system's words."""
        return [request["messages"][-1]["content"] for request in self.requests]

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self.lock:
                self._at_once -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.counted():
            with self.server.lock:
                self.server.requests.append({"path": self.path, **body})
                self.server.headers.append(dict(self.headers))
                fault = self.server.faults.pop(0) if self.server.faults else None
            if fault is not None:
                fault(self)
            else:
                self.say(self.server.model(body["messages"]))

    def say(self, text: str) -> None:
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        self.send(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}))

    def send(self, status: int, text: str, **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def chat_server(model: Model, *faults: Callable[[Handler], None]) -> Iterator[ChatServer]:
    server = ChatServer(model, list(faults))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def is_question_for_explanation(messages: list[dict[str, str]]) -> bool:
    return '"confidence"' in messages[0]["content"]


def reader(messages: list[dict[str, str]]) -> str:
    """A model that explains with the commonest phone of the strongest moments, else with the commonest sound."""
    text = messages[1]["content"]
    if is_question_for_explanation(messages):
        rows = table(text, "Phones") or table(text, "What there is to hear")
        best = max(rows, key=lambda row: float(row[2].rstrip(" %")))[0]
        sound = best if table(text, "What there is to hear")[0][0] == "speech" else table(text, "What there is")[0][0]
        return json.dumps({"name": f"«{sound}»", "explanation": f"It is active at {sound}.", "confidence": 0.9})
    wanted = re.findall(r"Explanation: «(.*?)»", text)[0]
    fits = {n: int(f"[{wanted}]" in line or f"sound: {wanted};" in line) for n, line in numbered(text).items()}
    return json.dumps(fits)


def coin(messages: list[dict[str, str]]) -> str:
    """A model that explains with an empty phrase and judges without reading: by a hash."""
    if is_question_for_explanation(messages):
        return json.dumps({"name": "something", "explanation": "It is active at times.", "confidence": 0.5})
    text = messages[1]["content"]
    return json.dumps({n: hashlib.sha256(f"{n} {text}".encode()).digest()[0] & 1 for n in numbered(text)})


def numbered(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\d+)\. (.*)$", text, flags=re.MULTILINE))


def table(card: str, title: str) -> list[list[str]]:
    """The rows of the table below a heading of a card."""
    found = re.search(rf"^## {re.escape(title)}.*?\n\n(.*?)(?:\n\n|\Z)", card, flags=re.MULTILINE | re.DOTALL)
    lines = found[1].splitlines()[2:] if found else []
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
