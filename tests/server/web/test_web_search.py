"""Searching in a real browser: by sound, by value, by combination; every step is in the address."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from otoscope.atlas.notes import FeatureKey
from otoscope.server.media import wav_bytes

pytestmark = pytest.mark.browser
find_module = importlib.import_module if os.environ.get("CI") else pytest.importorskip
expect = find_module("playwright.sync_api").expect
expect.set_options(timeout=30_000)

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from otoscope.audio import Clip
    from otoscope.workspace import Workspace

OpenPage = Callable[..., "Page"]


def drag(page: Page, target: Locator, start: float, end: float) -> None:
    """Drag over an element between two shares of its width."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 3
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y, steps=3)
    page.mouse.move(box["x"] + end * box["width"], y)
    page.mouse.up()


def test_a_brushed_stretch_finds_features_and_moments_and_survives_reload(open_page: OpenPage, clip: Clip) -> None:
    page = open_page("/sound")
    page.get_by_label("Search clips").fill(clip.text or "")
    page.locator(f".clip-list a[href*='{clip.clip_id}']").first.click()
    expect(page).to_have_url(re.compile(f"clip={clip.clip_id}"))
    expect(page.locator(".lane-row")).to_have_count(10)
    whole = page.locator(".lane-row .lift").first.inner_text()
    drag(page, page.locator(".timeline .strip"), 0.3, 0.4)
    expect(page).to_have_url(re.compile(r"[?&]t=\d+\.\d+-\d+\.\d+"))
    start, end = (float(x) for x in re.findall(r"t=([\d.]+)-([\d.]+)", page.url)[0])
    assert start == pytest.approx(0.3 * clip.duration_s, abs=0.1)
    assert end == pytest.approx(0.4 * clip.duration_s, abs=0.1)
    expect(page.get_by_role("heading", name="What fires here more than elsewhere")).to_be_visible()
    expect(page.locator(".lane-row .lift").first).not_to_have_text(whole)
    expect(page.locator(".similar .moment")).to_have_count(12)
    expect(page.locator(f".similar [data-moment='{clip.clip_id}']")).to_have_count(0)
    shown = page.locator(".lane-row .lift").all_inner_texts()
    page.reload()
    expect(page.locator(".lane-row .lift")).to_have_text(shown)
    expect(page.get_by_label("Start of the stretch")).to_have_value(f"{start:.2f}")
    page.locator(".similar .moment").first.get_by_role("button", name=re.compile("^Play")).click()
    expect(page.locator(".similar .play.on")).to_have_count(1)
    page.keyboard.press("Escape")


def test_a_row_that_a_note_found_has_a_mark_that_says_so(open_page: OpenPage, workspace: Workspace) -> None:
    atlas = workspace.atlas("sae-2")
    feature = int(np.argmax(atlas.column("n_active")))
    notes = workspace.notes()
    note = notes.add(FeatureKey.of(atlas, feature), "comment", "a crepitating sound", author="Ada")
    try:
        page = open_page("/features?q=crepitating")
        row = page.locator(f"[data-feature='sae-2:{feature}']")
        expect(row.get_by_role("img", name="found by people's notes")).to_be_visible()
        page = open_page("/features")  # where nothing was asked, nothing was found by words
        expect(page.locator(".body .row .c-label").first).to_be_visible()
        expect(page.locator(".body .told")).to_have_count(0)
    finally:
        notes.delete(note.id, note.current.revision, editor="Ada")


def test_a_recording_of_ones_own_is_searched_by(open_page: OpenPage, clip: Clip) -> None:
    page = open_page("/sound")
    sound = {"name": "mine.wav", "mimeType": "audio/wav", "buffer": wav_bytes(clip.samples())}
    page.locator("input[type=file]").set_input_files([sound])
    expect(page).to_have_url(re.compile("clip=upload-"))
    page.get_by_label("End of the stretch").fill("1.5")
    page.get_by_label("End of the stretch").press("Enter")
    expect(page).to_have_url(re.compile(r"t=0\.00-1\.50"))
    expect(page.locator(".similar .moment").first).to_have_attribute("data-moment", clip.clip_id)


def test_a_brushed_histogram_lists_the_moments_in_that_range(open_page: OpenPage, workspace: Workspace) -> None:
    atlas = workspace.atlas("sae-2")
    feature = int(np.argmax(atlas.column("n_active")))
    page = open_page(f"/feature/sae-2:{feature}")
    drag(page, page.locator(".brushed"), 0.4, 0.6)
    expect(page).to_have_url(re.compile(r"low=[\d.]+&high=[\d.]+&show=range|show=range.*low="))
    low, high = (float(re.findall(f"{name}=([\\d.]+)", page.url)[0]) for name in ("low", "high"))
    values = atlas.postings[feature].values
    inside = int(((values >= np.float32(low)) & (values <= np.float32(high))).sum())
    expect(page.locator(".examples .count")).to_contain_text(f"{inside:,} frame")
    shown = [float(text) for text in page.locator(".moment .value").all_inner_texts()]
    assert shown
    assert all(low * 0.99 <= value <= high * 1.01 for value in shown)
    page.get_by_label("Highest value").fill(str(high / 1.1))
    page.get_by_label("Highest value").press("Enter")
    expect(page.locator(".examples .count")).not_to_contain_text(f"{inside:,} frame")
    page.locator(".brushed").click(position={"x": 60, "y": 20})
    expect(page).not_to_have_url(re.compile("low="))
    expect(page.get_by_role("tab", name="Strongest")).to_have_attribute("aria-selected", "true")


def test_combinations_are_searched_and_refused_where_they_stand(open_page: OpenPage, workspace: Workspace) -> None:
    atlas = workspace.atlas("sae-2")
    one, other = (int(i) for i in np.argsort(-atlas.column("n_active"))[:2])
    page = open_page("/moments", refused=400)
    page.get_by_label("Atlas").select_option("sae-2")
    field = page.get_by_label("Combination of features")
    field.fill(f"{one} and not {other}")
    field.press("Enter")
    wanted = len(np.setdiff1d(atlas.postings[one].frames, atlas.postings[other].frames))
    expect(page.locator(".count")).to_contain_text(f"{wanted:,} frame")
    expect(page.locator(".moment").first).to_be_visible()
    field.fill(f"{one} and")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("character")
    field.fill(f"{one} and {other}")
    field.press("Enter")
    expect(page.locator(".moment").first).to_be_visible()
    page.go_back()
    expect(page.get_by_role("alert")).to_be_visible()


def test_a_label_chip_keeps_the_features_of_that_name(open_page: OpenPage) -> None:
    page = open_page("/features?atlas=sae-2")
    chip = page.locator(".facets .chip").first
    name, count = chip.inner_text().rsplit(" ", 1)
    chip.click()
    expect(page).to_have_url(re.compile("label="))
    expect(page.locator(".count")).to_contain_text(f"{count} feature")
    expect(page.locator("[role=row] .c-label .chip").first).to_have_text(name.strip())
    expect(page.locator("[role=row] .c-sentence").nth(1)).not_to_be_empty()
