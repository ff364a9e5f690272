"""One chat endpoint that speaks the OpenAI protocol (`/v1/chat/completions`), on this machine or elsewhere.

The standard library does it. Nothing follows a redirect, so that neither the key nor a card reaches a host that nobody
named; every request ends after `timeout_s`, however slowly the answer trickles; answers are limited in size.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from otoscope.errors import InputError, OtoscopeError

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": …}`."""

RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
LONGEST_WAIT_S = 60.0
MAX_ANSWER_BYTES = 1 << 20
_CHUNK = 1 << 16
DEFAULTS: Mapping[str, Any] = MappingProxyType({"temperature": 0, "max_tokens": 2000})
"""Sent with every question; one that the endpoint refuses by name (status 400) is left out from then on."""


class EndpointError(OtoscopeError):
    """One question got no usable answer; others may."""


class EndpointRefused(OtoscopeError):  # noqa: N818
    """The endpoint will answer no question of this run: wrong address, key or model, or nobody listens."""


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it cost.

    Attributes:
        text: of the first choice.
        seconds: from the last attempt's start to its end, to the millisecond.
        attempts: requests it took.
        prompt_tokens, completion_tokens: as the endpoint counts them; 0 where it does not say.
        endpoint: address that was asked, without user and query; None where it is not known any more.
        asked_at: when the last attempt began (UTC, ISO 8601, to the second); None where it is not known any more.
    """

    text: str
    seconds: float
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    endpoint: str | None = None
    asked_at: str | None = None


@dataclass(eq=False)
class Endpoint:
    """Where questions to a language model go.

    Args:
        url: `http(s)://host[:port][/v1[/chat/completions]]`.
        model: name of the model there.
        key: sent as a bearer token to this host and to no other; never printed or stored.
        timeout_s: longest time for one request, from connecting to the last byte.
        attempts: how often a question is asked when the endpoint is busy (429), fails (5xx) or does not answer in time.
        backoff_s: wait before the second attempt; doubles each time, unless `Retry-After` says otherwise.
        concurrency: questions on their way at the same time.
        max_bytes: longest answer that is read.

    Raises:
        InputError: the address is of another form, or would carry the key unencrypted over the internet.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    concurrency: int = 4
    max_bytes: int = MAX_ANSWER_BYTES
    wait: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        self._parts = _checked(self.url, self.key)
        if not self.model.strip():
            raise InputError(f"The endpoint {self.url} needs the name of a model (--llm-model).")
        if min(self.attempts, self.concurrency, self.max_bytes) < 1 or not self.timeout_s > 0:
            raise InputError(
                f"An endpoint needs at least one attempt, one question at a time and a positive time limit, "
                f"not {self.attempts}, {self.concurrency} and {self.timeout_s:g} s."
            )
        self._options: dict[str, Any] = dict(DEFAULTS)
        self._slots = threading.BoundedSemaphore(self.concurrency)

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return self._parts.netloc

    @property
    def address(self) -> str:
        """Where questions go, as it may be kept: without user, password, query and key."""
        parts = self._parts
        return self._clean(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}")

    def ask(self, messages: Sequence[Message]) -> Answer:
        """Ask one question; safe to call from several threads.

        Raises:
            EndpointError: no usable answer after all attempts.
            EndpointRefused: asking anything else is of no use either.
        """
        said = ""
        with self._slots:
            for attempt in range(1, self.attempts + 1):
                try:
                    return self._once(messages, attempt)
                except _Busy as busy:
                    said = str(busy)
                    if attempt < self.attempts:
                        self.wait(min(LONGEST_WAIT_S, max(self._pause_s(attempt), busy.retry_after_s)))
        raise EndpointError(f"{self.host} {said}, {self.attempts} times; run the same command again later.")

    def _pause_s(self, attempt: int) -> float:
        return self.backoff_s * float(2 ** (attempt - 1)) * random.uniform(0.5, 1.0)

    def _once(self, messages: Sequence[Message], attempt: int) -> Answer:
        while True:
            options = dict(self._options)
            body = json.dumps({"model": self.model, "messages": [dict(each) for each in messages], **options})
            asked_at, began = datetime.now(UTC), time.monotonic()
            status, headers, data = self._post(body.encode())
            refused = next((name for name in options if name in data.decode("utf-8", "replace")), None)
            if status == 400 and refused is not None:
                self._options.pop(refused, None)
                continue
            self._check(status, headers, data)
            return self._read(data, time.monotonic() - began, attempt, asked_at)

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and read its whole answer within `timeout_s`."""
        deadline = time.monotonic() + self.timeout_s
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "otoscope"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        watch: threading.Timer | None = None
        try:
            connection.connect()
            watch = threading.Timer(max(0.0, deadline - time.monotonic()), _hang_up, (connection.sock,))
            watch.daemon = True
            watch.start()
            connection.request("POST", _path(self._parts), body, headers)
            response = connection.getresponse()
            data = self._limited(response)
            if time.monotonic() >= deadline:  # what was read may be cut short
                raise TimeoutError
            return response.status, {name.lower(): value for name, value in response.getheaders()}, data
        except ssl.SSLCertVerificationError as error:
            raise EndpointRefused(f"{self.host} shows no valid certificate ({error.verify_message}).") from error
        except ConnectionRefusedError as error:
            raise EndpointRefused(f"Nobody listens at {self.url}; start the server, or correct --endpoint.") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise _Busy(f"did not answer within {self.timeout_s:g} s") from error
            if isinstance(error, socket.gaierror):
                raise EndpointRefused(f"There is no host {self._parts.hostname!r} ({error}).") from error
            raise _Busy(f"broke the connection off ({self._clean(str(error)) or type(error).__name__})") from error
        finally:
            if watch is not None:
                watch.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        context = ssl.create_default_context()
        if not context.get_ca_certs():  # Python from python.org on macOS comes without certificates
            import certifi

            context.load_verify_locations(certifi.where())
        return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=context)

    def _limited(self, response: http.client.HTTPResponse) -> bytes:
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > self.max_bytes:
                raise EndpointError(
                    f"{self.host} sent an answer of more than {self.max_bytes:,} bytes; it was dropped."
                )
        return bytes(data)

    def _check(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        if status == 200:
            return
        said = self._clean(" ".join(data[:300].decode("utf-8", "replace").split()))
        if status in RETRIED:
            raise _Busy(f"answered {status} ({said or 'no reason given'})", _seconds(headers.get("retry-after", "")))
        if 300 <= status < 400:
            to = self._clean(headers.get("location", "nowhere"))
            raise EndpointRefused(
                f"{self.url} redirects to {to}; nothing was sent there: give that address if it is right."
            )
        if status in (401, 403):
            raise EndpointRefused(
                f"{self.host} refuses the key ({status}: {said}); set OTOSCOPE_LLM_KEY or --llm-key-file."
            )
        if status == 413 or "context" in said.casefold():
            raise EndpointError(f"{self.host} cannot take a question of this length ({status}: {said}).")
        raise EndpointRefused(
            f"{self.url} answered {status} ({said}); check --endpoint and --llm-model {self.model!r}."
        )

    def _read(self, data: bytes, seconds: float, attempt: int, asked_at: datetime) -> Answer:
        try:
            answer = json.loads(data)
            text = answer["choices"][0]["message"]["content"]
            usage = answer.get("usage") or {}
            prompt, completion = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _Busy("did not answer in the form of /v1/chat/completions") from error
        if not isinstance(text, str):
            raise _Busy("answered without a text")
        when = asked_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return Answer(self._clean(text), round(seconds, 3), attempt, prompt, completion, self.address, when)

    def _clean(self, text: str) -> str:
        """Take the key out of what came back, and what is no text (lone surrogates)."""
        text = text.encode("utf-8", "replace").decode()
        return text.replace(self.key, "…") if self.key else text


class _Busy(Exception):  # noqa: N818
    """Worth another attempt."""

    def __init__(self, said: str, retry_after_s: float = 0.0) -> None:
        super().__init__(said)
        self.retry_after_s = retry_after_s


def _checked(url: str, key: str | None) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is not an address ({error}); write http://localhost:8000/v1.") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(f"{url!r} is not the address of a chat endpoint; write http://localhost:8000/v1.")
    if parts.username is not None or parts.password is not None:
        raise InputError("The endpoint's address holds a password; give the key in OTOSCOPE_LLM_KEY or --llm-key-file.")
    if key is not None and (not key.isascii() or not key.isprintable() or not key.strip()):
        raise InputError("The key for the language model is empty or holds characters that no key has.")
    if key and parts.scheme == "http" and not _is_near(host):
        raise InputError(f"The key would travel unencrypted to {host}; use https, or leave the key out.")
    return parts


def _is_near(host: str) -> bool:
    """This machine or a private network: a name without dots, or a private number."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))


def _path(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        return path
    return f"{path or '/v1'}/chat/completions"


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0


def _hang_up(connected: socket.socket) -> None:
    """End a connection that another thread is reading from (TLS as well: what is open is the line below it)."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
