"""The chat endpoint: what misbehaves is tried again, bounded or refused, and the key goes to no other host."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from chat_server import ChatServer, Handler, chat_server

from otoscope.atlas.interpretation import Endpoint, EndpointError, EndpointRefused
from otoscope.errors import InputError

ASKED = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret"
Fault = Callable[[Handler], None]


def echo(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"].upper()


def endpoint(server: ChatServer, **options: object) -> Endpoint:
    url = str(options.pop("url", server.url))
    return Endpoint(url, "tiny", **{"backoff_s": 0.0, "timeout_s": 5.0, **options})  # type: ignore[arg-type]


def status(code: int, text: str = "no", **headers: str) -> Fault:
    return lambda handler: handler.send(code, text, **headers)


def hangs(handler: Handler) -> None:
    """Take the question and say nothing until the test is over."""
    handler.server.over.wait(10)


def trickles(handler: Handler) -> None:
    """Send an answer that never ends, a byte at a time, each well within any time limit of a single read."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b" ")


def trickles_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"X")


def breaks_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def test_a_question_is_answered_and_its_cost_counted() -> None:
    with chat_server(echo) as server:
        answer = endpoint(server, key=KEY).ask(ASKED)
    assert (answer.text, answer.attempts, answer.prompt_tokens, answer.completion_tokens) == ("HELLO", 1, 100, 10)
    (request,), (headers,) = server.requests, server.headers
    assert (request["path"], request["model"], request["messages"]) == ("/v1/chat/completions", "tiny", ASKED)
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_an_answer_says_where_and_when_it_was_asked_for() -> None:
    with chat_server(echo, status(500)) as server:
        began = datetime.now(UTC).replace(microsecond=0)
        answer = endpoint(server, url=f"{server.url}/").ask(ASKED)
    assert answer.endpoint == server.url
    assert began <= datetime.strptime(answer.asked_at or "", "%Y-%m-%dT%H:%M:%S%z") <= datetime.now(UTC)
    assert (answer.asked_at or "").endswith("Z")


def test_without_a_key_none_is_sent() -> None:
    with chat_server(echo) as server:
        endpoint(server).ask(ASKED)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/", "/v1/chat/completions"])
def test_an_address_may_be_written_short(suffix: str) -> None:
    with chat_server(echo) as server:
        Endpoint(server.url.removesuffix("/v1") + suffix, "tiny").ask(ASKED)
    assert server.requests[0]["path"] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "fault",
    [
        status(429),
        status(500),
        status(503),
        status(200, "not json"),
        status(200, '{"choices": []}'),
        status(200, '{"choices": [{"message": {"content": null}}]}'),
        status(200, "[" * 100_000),
        breaks_off,
    ],
)
def test_what_fails_once_is_tried_again(fault: Fault) -> None:
    with chat_server(echo, fault, fault) as server:
        answer = endpoint(server).ask(ASKED)
    assert (answer.text, answer.attempts) == ("HELLO", 3)


def test_waits_double_and_keep_to_what_the_server_asks_within_reason() -> None:
    waits: list[float] = []
    faults = [status(500), status(500), status(429, Retry_After="7"), status(429, Retry_After="86400")]
    with chat_server(echo, *faults) as server:
        endpoint(server, backoff_s=1.0, wait=waits.append).ask(ASKED)
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0
    assert waits[2:] == [7.0, 60.0]


def test_a_server_that_keeps_failing_is_given_up_with_its_reason() -> None:
    with (
        chat_server(echo, *[status(503, "overloaded")] * 9) as server,
        pytest.raises(EndpointError, match="overloaded"),
    ):
        endpoint(server, attempts=3).ask(ASKED)
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [hangs, trickles, trickles_headers])
def test_a_slow_answer_ends_at_the_time_limit(fault: Fault) -> None:
    with chat_server(echo, fault) as server:
        answer = endpoint(server, timeout_s=0.3).ask(ASKED)
        assert (answer.text, answer.attempts) == ("HELLO", 2)
    with chat_server(echo, fault) as server, pytest.raises(EndpointError, match=r"did not answer within 0\.3 s"):
        endpoint(server, timeout_s=0.3, attempts=1).ask(ASKED)


def test_a_huge_answer_is_dropped_and_not_asked_for_again() -> None:
    with chat_server(lambda _: "x" * 200_000) as server, pytest.raises(EndpointError, match="more than 100,000 bytes"):
        endpoint(server, max_bytes=100_000).ask(ASKED)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed_and_the_key_stays() -> None:
    with chat_server(echo) as other:
        for code in (301, 302, 307, 308):
            with chat_server(echo, status(code, Location=f"{other.url}/chat/completions")) as server:
                with pytest.raises(EndpointRefused, match="redirects to"):
                    endpoint(server, key=KEY).ask(ASKED)
                assert len(server.requests) == 1
        assert other.requests == []


def test_the_key_is_in_no_message_and_no_answer() -> None:
    def parrot(handler: Handler) -> None:
        handler.send(401, f"bad key {handler.headers['Authorization']}")

    with chat_server(lambda _: f"your key is {KEY}") as server:
        there = endpoint(server, key=KEY)
        assert there.ask(ASKED).text == "your key is …"
        server.faults.append(parrot)
        with pytest.raises(EndpointRefused, match="refuses the key") as refused:
            there.ask(ASKED)
    assert KEY not in str(refused.value) + repr(there)
    assert KEY not in Endpoint(f"http://127.0.0.1/{KEY}/v1", "tiny", KEY).address


@pytest.mark.parametrize("code", [400, 403, 404, 422])
def test_what_will_not_change_is_refused_at_once(code: int) -> None:
    with chat_server(echo, status(code)) as server, pytest.raises(EndpointRefused, match=str(code)):
        endpoint(server).ask(ASKED)
    assert len(server.requests) == 1


def test_an_option_that_the_server_does_not_know_is_left_out() -> None:
    refusal = json.dumps({"error": {"message": "Unsupported parameter: 'max_tokens'"}})
    with chat_server(echo, status(400, refusal)) as server:
        there = endpoint(server)
        assert there.ask(ASKED).text == there.ask(ASKED).text == "HELLO"
    assert ["max_tokens" in request for request in server.requests] == [True, False, False]
    assert all("temperature" in request for request in server.requests)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointRefused, match="Nobody listens"):
        Endpoint(f"http://127.0.0.1:{port}", "tiny").ask(ASKED)


def test_no_more_questions_at_a_time_than_allowed() -> None:
    with chat_server(echo) as server:
        there = endpoint(server, concurrency=2)
        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda _: there.ask(ASKED).text, range(24)))
    assert texts == ["HELLO"] * 24
    assert server.most_at_once <= 2


def test_an_answer_that_is_no_text_is_made_one() -> None:
    with chat_server(lambda _: "a\ud800b") as server:
        assert endpoint(server).ask(ASKED).text == "a?b"


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("localhost:8000", None, "not the address"),
        ("ftp://localhost/v1", None, "not the address"),
        ("http://", None, "not the address"),
        ("http://localhost:99999", None, "not an address"),
        ("http://localhost:8000/v1?key=abc", None, "not the address"),
        ("https://me:secret@example.com/v1", None, "holds a password"),
        ("http://api.example.com/v1", KEY, "unencrypted"),
        ("http://8.8.8.8/v1", KEY, "unencrypted"),
        ("https://api.example.com/v1", "two\nlines", "no key has"),
    ],
)
def test_unfit_addresses_are_refused(url: str, key: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        Endpoint(url, "tiny", key)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://192.168.1.5:8000", "http://gpu-box:8000/v1"])
def test_a_key_may_go_over_tls_and_within_a_private_network(url: str) -> None:
    assert KEY not in repr(Endpoint(url, "tiny", KEY))
