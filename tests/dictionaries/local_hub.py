"""A Hugging Face Hub on this machine, with as much of its interface as publishing and downloading a folder take."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class LocalHub:
    """Repositories by name, each a table of files; `denied` ones may not be written."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.denied: set[str] = set()
        self.sent: list[str] = []


class Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, value: object = None, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.hub.sent.append(f"POST {path}")
        if path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            if repo in self.hub.denied:
                self._answer(403, {"error": "Forbidden"})
            else:
                self.hub.repos.setdefault(repo, {})
                self._answer(200, {"url": f"http://{self.headers['Host']}/{repo}"})
        elif "/preupload/" in path:
            files = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(body)["files"]]
            self._answer(200, {"files": [{**each, "shouldIgnore": False} for each in files]})
        elif "/commit/" in path:
            repo = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.hub.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"http://{self.headers['Host']}/{repo}/commit/{COMMIT}"
            self._answer(200, {"commitUrl": url, "commitOid": COMMIT})
        else:
            self._answer(404, {"error": "unknown"})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.sent.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            files = self.hub.repos.get(repo)
            if files is None:
                self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                rows = [{"type": "file", "path": name, "size": len(each), "oid": "0"} for name, each in files.items()]
                self._answer(200, rows)
            else:
                siblings = [{"rfilename": name} for name in files]
                self._answer(200, {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "private": False})
            return
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        content = self.hub.repos.get(repo, {}).get(rest.partition("/")[2])
        if content is None:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        else:
            self._answer(200, content, X_Repo_Commit=COMMIT, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    def do_HEAD(self) -> None:
        self.do_GET()


@contextmanager
def local_hub() -> Iterator[tuple[LocalHub, str]]:
    """Yield a hub and its address while it runs."""
    hub = LocalHub()
    handler = type("BoundHandler", (Handler,), {"hub": hub, "protocol_version": "HTTP/1.1"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
