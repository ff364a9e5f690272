"""The app in a real browser: the things a visitor does, by mouse and by keyboard."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from accessibility import violations
from interpreted import HOSTILE, explained, tried, write_interpretations

from otoscope.server.media import wav_bytes

pytestmark = pytest.mark.browser
# Users without Playwright skip these tests; CI must have it.
find_module = importlib.import_module if os.environ.get("CI") else pytest.importorskip
expect = find_module("playwright.sync_api").expect
expect.set_options(timeout=30_000)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from otoscope.audio import Clip
    from otoscope.workspace import Workspace

OpenPage = Callable[..., "Page"]
SCREENSHOTS = Path(__file__).resolve().parents[3] / "build" / "screenshots"
SIZES = {"phone": (390, 844), "desk": (1366, 900)}


@pytest.fixture(scope="session")
def best(workspace: Workspace) -> str:
    """The feature that detects s best, as ATLAS:INDEX."""
    found = {name: workspace.atlas(name).find("/s/").iloc[0] for name in workspace.names("atlases")}
    name = max(found, key=lambda each: found[each]["f1"])
    return f"{name}:{found[name].name}"


def cursor_left(page: Page) -> str:
    """Where the first visible cursor stands, in percent."""
    return str(
        page.evaluate(
            "[...document.querySelectorAll('.cursor')].find(c => c.style.visibility === 'visible')?.style.left ?? ''"
        )
    )


def wait_for_moving_cursor(page: Page) -> None:
    page.wait_for_function("[...document.querySelectorAll('.cursor')].some(c => c.style.visibility === 'visible')")
    before = cursor_left(page)
    page.wait_for_function(
        "before => { const c = [...document.querySelectorAll('.cursor')].find(c => c.style.visibility === 'visible');"
        " return c && parseFloat(c.style.left) > parseFloat(before) + 1; }",
        arg=before,
    )


def painted(page: Page, selector: str) -> None:
    """Wait until a canvas shows more than one colour."""
    page.wait_for_function(
        "s => { const c = document.querySelector(s); if (!c || !c.width) return false;"
        " const copy = new OffscreenCanvas(60, 30).getContext('2d', { willReadFrequently: true });"
        " copy.drawImage(c, 0, 0, 60, 30); const d = new Uint32Array(copy.getImageData(0, 0, 60, 30).data.buffer);"
        " return new Set(d).size > 20; }",
        arg=selector,
    )


def test_from_a_sound_to_its_feature_to_its_examples(open_page: OpenPage, best: str) -> None:
    page = open_page("/")
    page.get_by_label("Search features").fill("/s/")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile(r"/features\?q="))
    page.locator(f"[data-feature='{best}']").click()
    expect(page).to_have_url(re.compile(f"/feature/{best}$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("/s/")
    painted(page, ".example .mel")
    page.locator(".example").nth(1).get_by_role("button", name=re.compile("^Play")).click()
    wait_for_moving_cursor(page)
    page.locator(".example").nth(2).get_by_role("button", name=re.compile("^Play")).click()
    expect(page.locator(".example .play.on")).to_have_count(1)
    expect(page.locator(".player .play")).to_have_attribute("aria-label", "Play")


def test_a_recording_can_be_uploaded_and_tried_on_a_feature(open_page: OpenPage, clip: Clip, best: str) -> None:
    file = {"name": "mine.wav", "mimeType": "audio/wav", "buffer": wav_bytes(clip.samples())}
    page = open_page("/")
    page.locator("input[type=file]").first.set_input_files([file])
    expect(page).to_have_url(re.compile("/clip/upload-"))
    expect(page.locator(".transcript")).to_have_text(clip.text or "")
    painted(page, ".strip .mel")
    expect(page.locator(".lane-row")).to_have_count(10)
    page.reload()
    expect(page.locator(".transcript")).to_have_text(clip.text or "")

    page = open_page(f"/feature/{best}")
    page.locator("aside input[type=file]").set_input_files([file])
    expect(page).to_have_url(re.compile(r"\?test=upload-"))
    page.locator(".test").scroll_into_view_if_needed()
    painted(page, ".test .lane")


def test_a_recording_can_be_made_with_the_microphone(open_page: OpenPage) -> None:
    page = open_page("/clips")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("button", name="Stop, 1 s")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Stop")).click()
    expect(page).to_have_url(re.compile("/clip/upload-"))
    painted(page, ".strip .mel")


def test_an_edit_changes_the_transcript_and_survives_reload(open_page: OpenPage, best: str) -> None:
    page = open_page(f"/feature/{best}")
    page.locator(".feature-head").get_by_role("link", name="Edit").click()
    expect(page).to_have_url(re.compile("/edit\\?clip="))
    base = page.locator("[data-side=base] .transcript")
    edited = page.locator("[data-side=edited] .transcript")
    expect(base).not_to_have_text("…")
    page.get_by_label("Operation").select_option("add")
    strength = page.get_by_label("Strength as a number")
    with page.expect_response(lambda answer: '"value":500' in (answer.request.post_data or "")) as told:
        strength.fill("500")
        strength.press("Enter")
    words = told.value.json()["edited"]["text"]
    assert words != told.value.json()["base"]["text"]
    expect(edited).to_have_text(words)
    expect(page.locator("[data-side=edited] .words.new").first).to_be_visible()
    expect(page.locator("td.down").first).to_be_visible()
    page.reload()
    expect(edited).to_have_text(words)
    expect(page.get_by_label("Strength as a number")).to_have_value("500")
    page.locator(".python summary").click()
    expect(page.locator("pre")).to_contain_text(f".feature({best.split(':')[1]}).add(500)")
    page.get_by_role("button", name=f"Remove {best}").click()
    expect(page.locator(".busy")).to_have_text("the same words")


def test_a_time_range_can_be_drawn_for_an_edit(open_page: OpenPage, best: str, clip: Clip) -> None:
    page = open_page(f"/edit?clip={clip.clip_id}&corpus=mini&e={best}*add*500")
    box = page.locator(".strip").bounding_box()
    assert box is not None
    painted(page, ".strip .mel")
    y = box["y"] + 30
    page.mouse.move(box["x"] + 0.25 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], y, steps=4)
    page.mouse.move(box["x"] + 0.5 * box["width"], y)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"@\d+\.\d+-\d+\.\d+"))
    expect(page.locator(".selection")).to_be_visible()
    start, end = (float(x) for x in re.findall(r"@([\d.]+)-([\d.]+)", page.url)[0])
    assert start == pytest.approx(0.25 * clip.duration_s, abs=0.1)
    assert end == pytest.approx(0.5 * clip.duration_s, abs=0.1)


def test_units_of_a_site_can_be_edited_by_name(open_page: OpenPage, clip: Clip) -> None:
    page = open_page(f"/edit?clip={clip.clip_id}&corpus=mini")
    expect(page.locator(".busy")).to_have_text("the same words")
    page.get_by_label("Add an edit").fill("encoder.3.resid_post[0, 1, 2]")
    page.get_by_label("Add an edit").press("Enter")
    page.get_by_label("Operation").select_option("clamp")
    strength = page.get_by_label("Strength as a number")
    strength.fill("300")
    strength.press("Enter")
    expect(page.locator("[data-side=base] .words.gone").first).to_be_visible()
    page.locator(".python summary").click()
    expect(page.locator("pre")).to_contain_text('oto.Edit.clamp("encoder.3.resid_post", 300, units=(0, 1, 2,)')


def test_everything_has_a_key(open_page: OpenPage, best: str) -> None:
    page = open_page(f"/feature/{best}")
    expect(page.locator(".example.active")).to_have_count(1)
    painted(page, ".example .mel")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(r"\?x=2$"))
    page.keyboard.press("k")
    expect(page.locator(".example").nth(1)).to_have_class(re.compile("active"))
    page.keyboard.press(" ")
    wait_for_moving_cursor(page)
    page.keyboard.press(" ")
    expect(page.locator(".example .play.on")).to_have_count(0)
    page.keyboard.press("a")
    expect(page.get_by_label("only where it fires")).to_be_checked()
    page.keyboard.press("j")
    page.keyboard.press(" ")
    wait_for_moving_cursor(page)
    page.keyboard.press("Escape")
    expect(page.locator(".player .play")).to_have_attribute("aria-label", "Play")
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Star")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("play / pause")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("]")
    expect(page).not_to_have_url(re.compile(re.escape(best)))
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile(f"/feature/{best}$"))
    expect(page.get_by_role("button", name="Star")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("/")
    expect(page.get_by_label("Search features")).to_be_focused()
    page.keyboard.type("m?")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_address_holds_the_state(open_page: OpenPage) -> None:
    page = open_page("/features?atlas=sae-2&min_f1=0.1")
    first = page.locator("[role=row][data-feature]").first
    page.get_by_role("button", name="Density").click()
    expect(page).to_have_url(re.compile("sort=density"))
    page.get_by_role("button", name="Density").click()
    expect(page).to_have_url(re.compile("order=asc"))
    expect(page.locator("[aria-sort=ascending]")).to_have_text("Density▴")
    expect(first).to_be_visible()
    shown, address = first.get_attribute("data-feature") or "", page.url
    page.reload()
    expect(first).to_have_attribute("data-feature", shown)
    expect(page.get_by_label("Atlas")).to_have_value("sae-2")
    first.click()
    expect(page).to_have_url(re.compile("/feature/"))
    page.go_back()
    expect(page).to_have_url(address)
    expect(first).to_have_attribute("data-feature", shown)


def test_the_table_is_sorted_by_any_statistic_and_shows_it(open_page: OpenPage, workspace: Workspace) -> None:
    n_active = workspace.atlas("sae-2").column("n_active")
    page = open_page("/features?atlas=sae-2")
    first = page.locator("[role=row][data-feature]").first
    page.get_by_label("Sort by").select_option("active frames")
    expect(page).to_have_url(re.compile("sort=n_active"))
    expect(first).to_have_attribute("data-feature", f"sae-2:{n_active.argmax()}")
    expect(page.locator("[aria-sort=descending]")).to_contain_text("active frames")
    expect(first.locator(".c-ap")).to_have_text(f"{n_active.max():,}")
    page.get_by_role("button", name="Largest first").click()
    page.reload()
    expect(page.get_by_label("Sort by")).to_have_value("n_active")
    expect(page.get_by_role("button", name="Smallest first")).to_be_visible()
    assert n_active[int((first.get_attribute("data-feature") or "").split(":")[1])] == n_active[n_active > 0].min()
    for name in page.get_by_label("Sort by").locator("option").evaluate_all("options => options.map(o => o.value)"):
        assert page.evaluate("name => fetch(`/api/features?sort=${name}&limit=1`).then(answer => answer.ok)", name), (
            name
        )


def test_a_long_table_holds_only_the_rows_on_screen(open_page: OpenPage, workspace: Workspace) -> None:
    page = open_page("/features?dead=true&sort=index&order=asc&atlas=neurons-3")
    expect(page.locator("[data-feature='neurons-3:0']")).to_be_visible()
    last = len(workspace.atlas("neurons-3")) - 1
    page.locator(".table .body").evaluate("body => { body.scrollTop = body.scrollHeight; }")
    expect(page.locator(f"[data-feature='neurons-3:{last}']")).to_be_visible()
    assert page.locator(".table .body [role=row]").count() < 60


@pytest.mark.parametrize(
    ("path", "said"),
    [("/feature/nowhere:1", "There is no atlas"), ("/clip/nobody?corpus=mini", "There is no clip")],
)
def test_what_is_missing_is_said_where_it_is_missed(open_page: OpenPage, path: str, said: str) -> None:
    page = open_page(path, refused=404)
    expect(page.get_by_role("alert").first).to_contain_text(said)


def test_a_file_that_is_no_sound_is_refused_and_the_form_stays_usable(open_page: OpenPage, clip: Clip) -> None:
    page = open_page("/", refused=400)
    field = page.locator("input[type=file]").first
    field.set_input_files([{"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not a sound" * 100}])
    expect(page.locator(".audio-input .problem")).to_contain_text("notes.wav")
    field.set_input_files([{"name": "mine.wav", "mimeType": "audio/wav", "buffer": wav_bytes(clip.samples())}])
    expect(page).to_have_url(re.compile("/clip/upload-"))


NAMELESS = """() => [...document.querySelectorAll('button, a, input, select, canvas')].filter(e => {
  const named = e.getAttribute('aria-label') || e.innerText?.trim() || e.title
    || [...(e.labels ?? [])].some(l => l.innerText.trim());
  return !named && e.checkVisibility();
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture
def interpreted(workspace: Workspace, best: str) -> Iterator[None]:
    """A model has explained the best feature: one explanation held, its own did not, and a line is damaged."""
    name, index = best.split(":")
    path = workspace.folder / "interpretations" / f"{name}.jsonl"
    told = {int(index): explained(HOSTILE, tried(18, 0.85))}
    write_interpretations(path, workspace.atlas(name), told, '{"feature":')
    yield
    path.unlink()


def assert_explained(page: Page) -> None:
    """What was said is text, with who said it and how it did; where nothing was said, how to ask."""
    panel = page.locator("section", has=page.get_by_role("heading", name="Interpretation"))
    expect(panel).to_contain_text("<b onclick=alert(1)>Hiss</b> & [31mbreath .")
    expect(panel).to_contain_text(
        "Said by a-model at http://gpu-box:8000/v1, 2026-11-02 08:15 UTC. "
        "Picked 18 of 20 held-out moments and 2 of 20 silent ones: 90 % right"
    )
    expect(panel.locator(".badge")).to_have_text(["supported", "not supported"])
    expect(panel).to_contain_text("Do not rely on it: it fits random features about as well.")
    expect(panel).to_contain_text("Line 3 of interpretations/")
    page.get_by_role("button", name="Next feature").click()
    expect(panel).to_contain_text(re.compile(r"None yet: run otoscope interpret \S+:\d+"))
    page.go_back()
    expect(panel).to_contain_text("a-model")


@pytest.mark.parametrize("name", ["home", "features", "feature", "sound", "moments", "clips", "clip", "edit", "api"])
def test_every_page_fits_the_window_and_is_open_to_everybody(
    open_page: OpenPage, interpreted: None, best: str, clip: Clip, name: str
) -> None:
    """On a phone in a light theme, and then on a desk in a dark one; the scan finds what is planted at the end."""
    at = {
        "clip": f"/clip/{clip.clip_id}?corpus=mini",
        "edit": f"/edit?clip={clip.clip_id}&corpus=mini&e={best}*add*500",
        "sound": f"/sound?clip={clip.clip_id}&corpus=mini&t=1.0-1.4",
        "moments": f"/moments?atlas={best.split(':')[0]}&q={best.split(':')[1]}",
    }
    at |= {"home": "/", "feature": f"/feature/{best}"}
    page = open_page(at.get(name, f"/{name}"), size=SIZES["phone"], theme="light")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme, (size, (width, height)) in zip(("light", "dark"), SIZES.items(), strict=True):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        page.wait_for_load_state("networkidle")
        expect(page.get_by_text(re.compile("Loading|Listening|listening"))).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(NAMELESS) == []
        assert violations(page) == []
        page.screenshot(path=SCREENSHOTS / f"{name}-{size}-{theme}.png")
    if name == "feature":
        assert_explained(page)
    if name == "api":
        page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"/web/favicon.svg\">')"
        )
        assert [found.split(": ")[1] for found in violations(page)] in (["image-alt"], []), "[]: axe-core is missing"
