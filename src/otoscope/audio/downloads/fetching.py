"""One file over HTTPS: resumed where it stopped, tried again when the line drops, never mixed from two versions.

The standard library does it: it is always there, while the HTTP library that huggingface_hub brings has changed twice.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import write_json

ATTEMPTS = 6
"""How often a file is asked for again without a single new byte, before giving up."""
TIMEOUT_S = 30.0
_CHUNK = 1 << 18
_LONGEST_WAIT_S = 60.0
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))

Wait = Callable[[float], None]


@dataclass(frozen=True)
class Remote:
    """What the server said about a file: its size (None if it does not know) and what names this version of it."""

    size_bytes: int | None
    version: str | None


def refuse_unsafe_address(url: str) -> None:
    """Refuse addresses that are not HTTPS; plain HTTP only on this machine.

    Raises:
        InputError: names the address.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise InputError(f"{url} is not an https address; downloads use nothing else.")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        refuse_unsafe_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if not context.get_ca_certs():  # Python from python.org on macOS comes without certificates
        import certifi

        context.load_verify_locations(certifi.where())
    return urllib.request.build_opener(_SafeRedirects, urllib.request.HTTPSHandler(context=context))


def fetch(
    url: str,
    part: Path,
    *,
    expected_bytes: int | None = None,
    has_checksum: bool = False,
    advance: Callable[[int], None] = lambda n: None,
    wait: Wait = time.sleep,
) -> Remote:
    """Download `url` to `part`, going on from what is there, and return what the server said about it.

    The version (ETag or date) is kept in `part` + ".json"; when the server has another one by now, or cannot go on in
    the middle, the file begins anew. Ctrl-C and failures leave `part` for the next run.

    Raises:
        InputError: the address is not https, or leads to one that is not.
        OtoscopeError: the server refuses, the size is not the expected one, the line drops too often, the disk is full.
    """
    refuse_unsafe_address(url)
    opener, failures = _opener(), 0
    while True:
        before = _size(part)
        try:
            return _fetch_once(opener, url, part, expected_bytes, has_checksum, advance)
        except _TryAgainError as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise OtoscopeError(
                    f"Could not download {url} after {ATTEMPTS} attempts ({error}); "
                    f"{_size(part):,} bytes are kept, run the same command again to go on."
                ) from error
            wait(error.after_s if error.after_s is not None else min(_LONGEST_WAIT_S, 2.0 ** (failures - 1)))


class _TryAgainError(Exception):
    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


def _fetch_once(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    expected_bytes: int | None,
    has_checksum: bool,
    advance: Callable[[int], None],
) -> Remote:
    have, version = _size(part), _kept_version(part)
    if have and version is None and not has_checksum:  # nothing could tell whether the rest belongs to it
        have = _begin_anew(part, have, advance)
    request = urllib.request.Request(url, headers={"User-Agent": "otoscope", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if version is not None:
            request.add_header("If-Range", version)
    with _as_try_again(url, part):
        try:
            response = opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            error.close()
            if have == expected_bytes or error.headers.get("Content-Range") == f"bytes */{have}":
                return Remote(have, version)
            _begin_anew(part, have, advance)
            raise _TryAgainError("the server has less than what is here; beginning anew", 0.0) from error
        with response:
            if not _goes_on(response, have):
                have = _begin_anew(part, have, advance)
            remote = Remote(_total(response, have), _version(response))
            if expected_bytes is not None and remote.size_bytes not in (None, expected_bytes):
                raise OtoscopeError(
                    f"{url} has {remote.size_bytes:,} bytes now, not the {expected_bytes:,} that its checksum belongs "
                    "to: the source has changed; nothing was downloaded."
                )
            write_json(_version_path(part), {"version": remote.version, "url": url})
            _append(response, part, remote.size_bytes, advance)
    if remote.size_bytes is not None and _size(part) < remote.size_bytes:
        raise _TryAgainError(f"the line dropped after {_size(part):,} of {remote.size_bytes:,} bytes")
    return remote


def _goes_on(response: http.client.HTTPResponse, have: int) -> bool:
    """Return whether the answer begins right behind what is here."""
    if response.status != 206:
        return have == 0
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _total(response: http.client.HTTPResponse, have: int) -> int | None:
    if response.status == 206:
        total = (response.headers.get("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length") or ""
    return have + int(length) if length.isdigit() else None


def _version(response: http.client.HTTPResponse) -> str | None:
    """Return a strong ETag or a date: all that If-Range may carry (RFC 9110, section 13.1.5)."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _append(response: http.client.HTTPResponse, part: Path, total: int | None, advance: Callable[[int], None]) -> None:
    with open(part, "ab") as file:
        while chunk := response.read(_CHUNK):
            if total is not None and file.tell() + len(chunk) > total:
                raise OtoscopeError(f"The server sends more than the {total:,} bytes it announced; stopped.")
            file.write(chunk)
            advance(len(chunk))


@contextlib.contextmanager
def _as_try_again(url: str, part: Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code not in _RETRIED:
            raise OtoscopeError(f"{url} cannot be downloaded: the server says {error.code} {error.reason}.") from error
        after = error.headers.get("Retry-After") or ""
        raise _TryAgainError(
            f"the server says {error.code}", min(_LONGEST_WAIT_S, float(after)) if after.isdigit() else None
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise OtoscopeError(f"{url} cannot be trusted: {error}.") from error
        raise _TryAgainError(str(getattr(error, "reason", None) or error or type(error).__name__)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OtoscopeError(
                f"The disk is full: could not write {part}; free some space and run the same command again."
            ) from error
        raise OtoscopeError(f"Could not write {part}: {error.strerror or error}.") from error


def _begin_anew(part: Path, have: int, advance: Callable[[int], None]) -> int:
    if have:
        advance(-have)
    part.unlink(missing_ok=True)
    return 0


def forget(part: Path) -> None:
    """Delete a part file and what is known about it."""
    part.unlink(missing_ok=True)
    _version_path(part).unlink(missing_ok=True)


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _kept_version(part: Path) -> str | None:
    try:
        version = json.loads(_version_path(part).read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def _size(part: Path) -> int:
    return os.stat(part).st_size if part.exists() else 0
