"""Where the server listens: a free port, or one sentence that names one."""

from __future__ import annotations

import re
import socket

import pytest

from otoscope.errors import OtoscopeError
from otoscope.server.listen import bind


def test_a_free_port_is_taken_at_once() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), timeout=5):
        pass


def test_a_taken_port_is_refused_with_a_free_one() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OtoscopeError, match=rf"^Port {port} is already taken; use --port \d+, which is free\.$"
        ) as told:
            bind("127.0.0.1", port)
        free = int(re.findall(r"--port (\d+)", str(told.value))[0])
        bind("127.0.0.1", free).close()


@pytest.mark.parametrize(("host", "port"), [("no-such-host.invalid", 0), ("192.0.2.1", 0), ("127.0.0.1", 99999)])
def test_impossible_addresses_are_refused(host: str, port: int) -> None:
    with pytest.raises(OtoscopeError, match=r"^[^\n]+\.$"):
        bind(host, port)
