"""Who may talk to the server: this machine's own browser pages, and nobody else through them.

A page on the internet can make the visitor's browser send requests to 127.0.0.1. Three checks stop it:
the Host header must be an IP address or a name we were told (a rebinding attack needs a domain name of its own),
a writing request must come from our own origin, and no answer carries CORS headers.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def host_name(host: str) -> str:
    """Return the name of a Host header without its port, lower case: `[::1]:80` → `::1`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Guard:
    """ASGI middleware: Host and Origin checks on every request, security headers on every answer."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.allowed = {"localhost", *(name.lower() for name in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, send_guarded)
        else:
            body = json.dumps({"error": refusal}, ensure_ascii=False).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send_guarded({"type": "http.response.start", "status": 403, "headers": headers})
            await send_guarded({"type": "http.response.body", "body": body})

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Say in one sentence why a request is refused, or None."""
        host = headers.get("host", "")
        if not self.knows(host):
            return (
                f"This server does not answer to the host {host!r}; open it as http://127.0.0.1 or http://localhost, "
                "or start it with --host NAME."
            )
        origin = headers.get("origin")
        if method not in SAFE_METHODS and origin is not None and urlsplit(origin).netloc != host:
            return f"A page of {origin!r} tried to write here; only the app's own pages may."
        return None

    def knows(self, host: str) -> bool:
        """Tell whether a Host header is an IP address, localhost or a name given at the start."""
        name = host_name(host)
        if name in self.allowed or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
