"""A real browser on the served app; every page that logs an error fails its test."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn

from otoscope.server import create_app
from otoscope.server.listen import bind

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

    from otoscope.workspace import Workspace

DEBIAN_CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def address(workspace: Workspace) -> Iterator[str]:
    """Serve the workspace on a free port and return the app's address."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(workspace), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)


def _launch(playwright: Playwright) -> Browser:
    from playwright.sync_api import Error

    try:
        return playwright.chromium.launch(args=ARGUMENTS)
    except Error:
        return playwright.chromium.launch(args=ARGUMENTS, executable_path=str(DEBIAN_CHROMIUM))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Playwright's own Chromium or Debian's; without either, users skip these tests and CI fails.

    One for this folder and not for the session: while Playwright runs, no other test can run an event loop.
    """
    try:
        from playwright.sync_api import Error, sync_playwright

        with sync_playwright() as playwright:
            try:
                opened = _launch(playwright)
            except Error as error:
                raise ImportError(f"no Chromium could be started ({str(error).splitlines()[0]})") from error
            yield opened
            opened.close()
    except ImportError as error:
        message = f"the browser app was not tested: {error}"
        if os.environ.get("CI"):
            pytest.fail(message)
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Open an address in a fresh browser profile; errors on its console (but answers `refused`) fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_(path: str = "/", *, size: tuple[int, int] = (1366, 900), theme: str = "dark", refused: int = 0) -> Page:
        def complain(text: str) -> None:
            if not (refused and f"status of {refused}" in text):
                complaints.append(text)

        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="light" if theme == "light" else "dark",
            permissions=["microphone"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda m: complain(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.goto(address + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
