"""Notes in a real browser: two people at once lose nothing, the blind see nothing, and everything has a key."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from accessibility import violations

pytestmark = pytest.mark.browser
# Users without Playwright skip these tests; CI must have it.
find_module = importlib.import_module if os.environ.get("CI") else pytest.importorskip
expect = find_module("playwright.sync_api").expect
expect.set_options(timeout=30_000)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from otoscope.workspace import Workspace

OpenPage = Callable[..., "Page"]


@pytest.fixture
def sounds(workspace: Workspace) -> list[int]:
    """Features of sae-2 that detect a sound."""
    features = workspace.atlas("sae-2").features
    return [int(index) for index in features.index[features["label"].notna()]]


def enter(page: Page, name: str) -> None:
    """Say who is writing, by keyboard alone."""
    expect(page.get_by_label("Your name")).to_be_visible()
    page.keyboard.press("l")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    expect(page.locator(".who")).to_contain_text(f"as {name}")


def write(page: Page, text: str, kind: str = "label") -> None:
    page.locator(".kinds").get_by_text(kind, exact=True).click()
    page.get_by_label(f"New {kind}").fill(text)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label(f"New {kind}")).to_have_value("")


def assert_open_to_everybody(page: Page) -> None:
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert violations(page) == []


def said(page: Page) -> list[str]:
    return page.locator(".note .said .text").all_inner_texts()


def test_two_people_who_edit_the_same_label_at_once_lose_nothing(
    open_page: OpenPage, workspace: Workspace, sounds: list[int]
) -> None:
    at = f"/feature/sae-2:{sounds[0]}"
    ann = open_page(at)
    enter(ann, "Ann")
    write(ann, "a sound")
    expect(ann.locator(".note.is-label .text")).to_have_text("a sound")
    bob = open_page(at)
    enter(bob, "Bob")
    for page, name in ((ann, "Ann"), (bob, "Bob")):
        page.get_by_role("button", name="Edit “a sound”").click()
        page.get_by_label("Change the label").fill(f"{name}'s sound")
    ann.get_by_role("button", name="Save").click()
    expect(ann.locator(".note.is-label .text")).to_have_text("Ann's sound")
    bob.get_by_role("button", name="Save").click()
    expect(bob.locator(".conflict")).to_contain_text("Nothing is lost: which one should stay?")
    expect(bob.locator(".conflict")).to_contain_text("Ann's sound")
    expect(bob.locator(".conflict")).to_contain_text("Bob's sound")
    ann.reload()
    expect(ann.locator(".conflict li")).to_have_count(2)
    assert_open_to_everybody(ann)
    bob.get_by_role("button", name="Keep “Ann's sound” by Ann").click()
    expect(bob.locator(".conflict")).to_have_count(0)
    ann.reload()
    expect(ann.locator(".note.is-label .text")).to_have_text("Ann's sound")
    (note,) = [note for note in workspace.notes().all(kind="label") if note.feature.feature == sounds[0]]
    history = [each.text for each in workspace.notes().history(note.id)]
    assert history == ["a sound", "Ann's sound", "Bob's sound", "Ann's sound"]


HASTE = """new MutationObserver(() => {
    const field = document.querySelector("input[name=author]");
    if (field === null || field.value === "Ann") return;
    field.value = "Ann";
    field.form.requestSubmit();
}).observe(document, { childList: true, subtree: true });"""


def test_a_name_given_at_the_moment_that_its_field_appears_is_heard(open_page: OpenPage, sounds: list[int]) -> None:
    page = open_page("/clips")
    page.add_init_script(HASTE)
    page.goto(re.sub(r"/clips$", f"/feature/sae-2:{sounds[0]}", page.url))
    expect(page.locator(".who")).to_contain_text("as Ann")


def test_a_feature_is_labelled_starred_and_tagged_by_keyboard_and_found_again(
    open_page: OpenPage, sounds: list[int]
) -> None:
    page = open_page(f"/feature/sae-2:{sounds[1]}")
    enter(page, "Ann")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("l")
    page.keyboard.type("sharp s")
    page.keyboard.press("Enter")
    expect(page.locator(".note.is-label .text")).to_have_text("sharp s")
    page.locator("h1").click()
    page.keyboard.press("s")
    expect(page.locator(".notes")).to_contain_text("★ Ann")
    page.get_by_label("with this example").check()
    page.locator(".kinds").get_by_text("comment", exact=True).click()
    page.get_by_label("New comment").fill("loud\nand clear")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".evidence")).to_have_count(1)
    write(page, "fricative", "tag")
    page.get_by_role("button", name="disagree").click()
    expect(page.get_by_role("button", name="disagree")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(page.locator(".note.is-label .text")).to_have_text("sharp s")
    expect(page.locator(".tags")).to_contain_text("fricative")
    expect(page.get_by_role("button", name="disagree")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Star")).to_have_attribute("aria-pressed", "true")
    assert said(page) == ["sharp s", "loud\nand clear"]
    page.get_by_role("button", name="Delete “sharp s”").click()
    expect(page.locator(".note.is-label")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".note.is-label .text")).to_have_text("sharp s")
    page.locator(".evidence").click()
    expect(page).to_have_url(re.compile(r"/clip/.+[?&]t=\d"))


def test_the_blind_see_neither_the_automatic_label_nor_those_of_others(open_page: OpenPage, sounds: list[int]) -> None:
    at = f"/feature/sae-2:{sounds[2]}"
    ann = open_page(at)
    automatic = ann.locator(".feature-head .chip").inner_text()
    expect(ann.locator(".scores").first).to_be_visible()
    enter(ann, "Ann")
    write(ann, "what Ann thinks")
    expect(ann.locator(".note.is-label")).to_have_count(1)
    bob = open_page(f"/feature/sae-2:{sounds[3]}")
    enter(bob, "Bob")
    bob.get_by_label("blind").check()
    with bob.expect_response(re.compile(rf"{sounds[2]}/notes\?author=Bob&blind=1")) as told:
        bob.goto(bob.url.rsplit("/", 1)[0] + f"/sae-2:{sounds[2]}")
    assert told.value.json() == {"notes": [], "revealed": False, "hidden": 1}
    expect(bob.locator(".feature-head .chip")).to_have_text("hidden")
    expect(bob.locator(".notes")).to_contain_text("1 by others, shown once you have given a label")
    expect(bob.locator(".scores")).to_have_count(0)
    expect(bob.get_by_role("heading", name="Interpretation")).to_have_count(0)
    assert_open_to_everybody(bob)
    assert automatic not in bob.locator("aside").inner_text()
    write(bob, "what Bob thinks")
    expect(bob.locator(".feature-head .chip")).to_have_text(automatic)
    expect(bob.get_by_role("heading", name="Interpretation")).to_be_visible()
    expect(bob.locator(".note.is-label")).to_have_count(2)
    expect(bob.locator(".notes")).to_contain_text("blind")
