"""Nobody but this machine's own pages talks to the server, and the pages run only their own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.server.security import Guard, host_name

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "localhost:9", "[::1]:8080", "192.168.1.7:8080"])
def test_addresses_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/clips?limit=1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "", "["]
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/clips?limit=1", headers={"Host": host})
    assert answer.status_code == 403
    assert "host" in answer.json()["error"]


@settings(max_examples=40)
@given(st.from_regex(r"[a-z0-9.-]{1,30}\.[a-z]{2,6}", fullmatch=True))
def test_no_domain_name_passes_for_this_machine(name: str) -> None:
    if not name.endswith(".localhost"):
        assert not Guard(app=None).knows(name)  # type: ignore[arg-type]
        assert Guard(app=None, allowed_hosts=[name]).knows(f"{name}:8080")  # type: ignore[arg-type]
    assert host_name(f"{name}:80") == name


def test_other_pages_cannot_write(client: TestClient) -> None:
    for origin in ("https://evil.example", "http://127.0.0.1:9999", "null"):
        answer = client.post("/api/uploads", content=b"x", headers={"Origin": origin})
        assert answer.status_code == 403
    own = client.post("/api/uploads", content=b"", headers={"Origin": "http://127.0.0.1:8080"})
    assert own.status_code == 400


def test_no_other_page_may_read(client: TestClient) -> None:
    answer = client.get("/api/workspace", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    preflight = client.options("/api/edit", headers={"Origin": "https://evil.example"})
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/", "/feature/sae-2:1", "/web/app.js", "/api/workspace", "/api/nothing", "/nowhere"])
def test_every_answer_forbids_foreign_code(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"


def test_pages_have_no_inline_code(client: TestClient) -> None:
    page = client.get("/").text
    assert "<script>" not in page
    assert " style=" not in page
    assert " onclick=" not in page.lower()
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize("path", ["/", "/features", "/feature/sae-2:1", "/clips", "/clip/a%2Fb", "/edit", "/api"])
def test_deep_links_open_the_app(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert 'src="/web/app.js"' in answer.text


@pytest.mark.parametrize("path", ["/nowhere", "/web/nothing.js", "/web/../security.py", "/web/%2e%2e/security.py"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "class Guard" not in answer.text
