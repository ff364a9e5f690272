"""The exported pages in a real browser, behind Python's own web server: search, open, hear, and no other server."""

from __future__ import annotations

import functools
import http.server
import importlib
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from accessibility import violations
from exported_site import audible
from interpreted import HOSTILE, explained, tried, write_interpretations
from planted_world import MORNING, M, World

from otoscope.atlas import Atlas
from otoscope.atlas.exports import site
from otoscope.atlas.exports.site import export_site
from otoscope.atlas.interpretation.reading import Interpretations

pytestmark = pytest.mark.browser
# Users without Playwright skip these tests; CI must have it.
find_module = importlib.import_module if os.environ.get("CI") else pytest.importorskip
expect = find_module("playwright.sync_api").expect
expect.set_options(timeout=30_000)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OpenPage = Callable[..., "Page"]
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(atlas: Atlas, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "ROWS", 4)
        place = tmp_path_factory.mktemp("site")
        told = write_interpretations(place / "said.jsonl", atlas, {M: explained(HOSTILE, tried(18, 0.85))})
        said = Interpretations(told, atlas)
        folder = export_site(atlas, audible(world), place / "units", features="all", interpretations=said)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join(timeout=30)
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(args=ARGUMENTS)
        except Error:
            try:
                opened = playwright.chromium.launch(args=ARGUMENTS, executable_path="/usr/bin/chromium")
            except Error as error:
                message = f"the exported pages were not tested: {str(error).splitlines()[0]}"
                if os.environ.get("CI"):
                    pytest.fail(message)
                warnings.warn(message, stacklevel=1)
                pytest.skip(message)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[OpenPage]:
    """Open an address; errors on the console, and requests of anything but this folder, fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_(path: str = "", *, size: tuple[int, int] = (1280, 900), theme: str = "dark", missing: str = "-") -> Page:
        def complain(text: str) -> None:
            if missing == "-" or "404" not in text:
                complaints.append(text)

        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="light" if theme == "light" else "dark"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda m: complain(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else complain(f"asked {r.url}"))
        page.goto(address + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def painted(page: Page, selector: str) -> None:
    page.wait_for_function(
        "s => { const c = document.querySelector(s); if (!c || !c.width) return false;"
        " const copy = new OffscreenCanvas(60, 30).getContext('2d', { willReadFrequently: true });"
        " copy.drawImage(c, 0, 0, 60, 30); const d = new Uint32Array(copy.getImageData(0, 0, 60, 30).data.buffer);"
        " return new Set(d).size > 20; }",
        arg=selector,
    )


def test_search_a_sound_open_its_feature_and_hear_it(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_contain_text("features of planted")
    page.get_by_label("Search features").fill("/m/")
    expect(page.get_by_role("status")).to_contain_text("for m")
    page.locator(f"[data-feature='{M}']").click()
    expect(page).to_have_url(re.compile(f"#/feature/{M}$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("/m/")
    expect(page.locator(".rungs")).to_contain_text("<b onclick=alert(1)>Hiss</b> & [31mbreath .")
    expect(page.locator(".rungs .badge")).to_have_text(["supported", "not supported"])
    painted(page, ".example .mel")
    expect(page.locator(".example .lane").first).to_be_visible()
    page.locator(".example").first.get_by_role("button", name=re.compile("^Play")).click()
    cursor = "document.querySelector('.example .cursor').style"
    page.wait_for_function(f"() => {cursor}.visibility === 'visible'")
    before = page.evaluate(f"() => parseFloat({cursor}.left)")
    page.wait_for_function(f"before => parseFloat({cursor}.left) > before + 2", arg=before)
    page.get_by_role("tab", name=re.compile("Random")).click()
    expect(page).to_have_url(re.compile("show=random"))
    page.get_by_role("button", name="Read as table").first.click()
    expect(page.locator(".example table").first).to_be_visible()
    page.reload()
    expect(page.get_by_role("tab", name=re.compile("Random"))).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page).to_have_url(re.compile("q="))


def test_orders_and_filters_read_every_file_of_the_table(open_page: OpenPage) -> None:
    page = open_page()
    rows = page.locator(".body .row")
    expect(rows.first).to_be_visible()
    total = int(re.search(r"(\d+) features", page.get_by_role("status").inner_text())[1])  # type: ignore[index]
    expect(rows).to_have_count(total)
    page.get_by_role("button", name="Feature").click()
    expect(rows.first).to_have_attribute("data-feature", str(M))
    shown = [int(row.get_attribute("data-feature") or -1) for row in rows.all()]
    assert shown == sorted(shown)
    page.get_by_label("Names").select_option("word")
    expect(rows).to_have_count(1)
    expect(rows.first).to_have_attribute("data-feature", str(MORNING))
    page.get_by_label("Search features").fill(str(MORNING))
    expect(rows.first).to_have_attribute("data-feature", str(MORNING))
    page.get_by_label("Search features").fill("nothing of the kind")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()


def test_a_feature_that_was_not_exported_says_so(open_page: OpenPage) -> None:
    page = open_page("#/feature/123456", missing="123456")
    expect(page.get_by_role("alert")).to_contain_text("Feature 123456 is not among")


def test_pages_fit_the_window_and_are_open_to_everybody(open_page: OpenPage) -> None:
    """On a phone in a light theme, and on a desk in a dark one."""
    page = open_page(size=(420, 844), theme="light")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for name, path, ready in (
        ("table", "#/", ".body .row"),
        ("feature", f"#/feature/{M}", ".example .mel"),
        ("about", "#/about", ".prose"),
    ):
        page.evaluate("path => { location.hash = path }", path)
        expect(page.locator(ready).first).to_be_visible()
        for theme, width, height in (("light", 420, 844), ("dark", 1280, 900)):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert violations(page) == []
            page.screenshot(path=SCREENSHOTS / f"site-{name}-{width}-{theme}.png")
    expect(page.get_by_text("CC BY 4.0 · Jane <b>Doe</b>")).to_be_visible()
