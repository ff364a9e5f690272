"""`otoscope evaluate`: a scorecard on the terminal, as JSON and as a page; several compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import otoscope, refused

QUICK = ("--baselines", "random", "--sections", "reconstruction,splice", "--splice-clips", "2")


@pytest.fixture(scope="module")
def evaluated(ws: Path) -> Path:
    done = otoscope("evaluate", "sae-2", *QUICK, "--workspace", ws)
    assert done.code == 0, done.err
    assert "Random directions" in done.out
    assert "Variance unexplained (FVU)" in done.out
    assert "scorecard.html" in done.out
    return ws / "scorecards" / "sae-2"


def test_it_leaves_a_page_a_table_and_json_in_the_workspace(evaluated: Path) -> None:
    assert {path.name for path in evaluated.iterdir()} == {
        "scorecard.html", "scorecard.json", "scorecard.parquet", "sections",
    }  # fmt: skip
    assert "<h1>sae-2</h1>" in (evaluated / "scorecard.html").read_text("utf-8")


def test_machines_get_every_figure_and_how_it_was_made(evaluated: Path) -> None:
    ws = evaluated.parents[1]
    card = otoscope("evaluate", "sae-2", *QUICK, "--workspace", ws, "--json").json
    assert card["path"] == str(evaluated)
    assert {row["section"] for row in card["rows"]} == {"reconstruction", "splice"}
    assert {row["subject"] for row in card["rows"]} == {"trained", "random", "none", "zero", "mean"}
    assert card["provenance"]["held_out"]["apart_in"] == "speakers"
    assert card["provenance"]["parameters"]["splice_clips"] == 2


def test_dictionaries_are_compared_on_one_page(evaluated: Path) -> None:
    ws = evaluated.parents[1]
    words = ("evaluate", "sae-2", "neurons-0", *QUICK, "--baselines", "none", "--compare", "--workspace", ws, "--json")
    done = otoscope(*words)
    assert done.code == 0, done.err
    html = Path(done.json["comparison"]).read_text("utf-8")
    assert re.search("FVU over L0", html)
    assert re.search("WER over L0", html)
    assert [card["dictionary"] for card in done.json["scorecards"]] == ["sae-2", "neurons-0"]


def test_what_cannot_be_done_is_said_in_one_sentence(ws: Path) -> None:
    at = ("--workspace", ws)
    assert "There are several dictionaries" in refused("evaluate", *at)
    assert "did you mean sae-2" in refused("evaluate", "sae-3", *at)
    assert "two dictionaries or more" in refused("evaluate", "sae-2", "--compare", *at)
    assert "did you mean random" in refused("evaluate", "sae-2", "--baselines", "randm", *at)
    assert "did you mean splice" in refused("evaluate", "sae-2", "--sections", "splices", *at)
    assert "3 or more" in refused("evaluate", "sae-2", "--seeds", "2", *at)


def test_help_says_what_it_measures() -> None:
    text = otoscope("evaluate", "--help").out
    for words in ("--core", "--full", "--compare", "random_weights", "absorption", "held"):
        assert words in text
