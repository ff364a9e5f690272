"""Start the server: find the port, print the address, open the browser."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from otoscope.errors import OtoscopeError
from otoscope.server.app import create_app

if TYPE_CHECKING:
    from otoscope.workspace import Workspace

PORTS_TO_TRY = 100


def serve(workspace: Workspace, host: str = "127.0.0.1", port: int = 8080, open_browser: bool = True) -> None:
    """Serve the app of `workspace` at http://host:port until Ctrl-C; port 0 takes any free one.

    Raises:
        OtoscopeError: the port is taken (the message names a free one) or the address is not this machine's.
    """
    with bind(host, port) as listener:
        port = listener.getsockname()[1]
        app = create_app(workspace, allowed_hosts=_own_names(host))
        config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
        url = f"http://{_url_host(host)}:{port}/"
        print(f"Otoscope listens at {url} (Ctrl-C stops it)", flush=True)
        if open_browser:
            threading.Timer(0.5, webbrowser.open, [url]).start()
        uvicorn.Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket at `host:port`, so that nobody can take the port between the check and the start.

    Raises:
        OtoscopeError: the port is taken or the address is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise OtoscopeError(f"Port {port} does not exist; choose one from 0 to 65535.")
    try:
        return _listen(host, port)
    except socket.gaierror:
        raise OtoscopeError(f"The host {host!r} is unknown; use 127.0.0.1 or this machine's own address.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = next(_free_ports(host, port + 1), None)
            advice = f"use --port {free}, which is free" if free else "use --port 0 for any free one"
            raise OtoscopeError(f"Port {port} is already taken; {advice}.") from None
        if error.errno == errno.EACCES:
            raise OtoscopeError(f"Port {port} needs administrator rights; use --port 8080.") from None
        raise OtoscopeError(f"Cannot listen at {host}:{port}: {error.strerror or error}.") from None


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _free_ports(host: str, first: int) -> Iterator[int]:
    for port in range(first, min(first + PORTS_TO_TRY, 65536)):
        try:
            _listen(host, port).close()
        except OSError:
            continue
        yield port


def _own_names(host: str) -> tuple[str, ...]:
    """Return the names by which a browser may address us: those of this machine unless we listen only to it."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        return (host,)
    return () if local else (socket.gethostname(), socket.getfqdn())


def _url_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
