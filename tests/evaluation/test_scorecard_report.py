"""The page of a scorecard: everything is on it, it asks nobody for anything, and it reads in light and in dark."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from otoscope.errors import InputError, OtoscopeError
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.scorecard import Row, Scorecard, Subject, comparison, report
from otoscope.evaluation.scorecard.charts import Dot, Point, Series, dots, figure, lines, scatter

VOID = {"meta", "line", "circle", "polyline"}


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def provenance(name: str, **other: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "model": {"name": "pocket", "weights_hash": "a" * 64},
        "corpus": {"name": "mini", "fingerprint": "b" * 64, "clips": 590},
        "store": {"fingerprint": "c" * 64, "frames": 77123},
        "dictionary": {
            "name": name, "kind": "topk", "site": "encoder.2.resid_post", "n_features": 1024, "fingerprint": "d" * 64,
            "training": None,
        },
        "baselines": {},
        "further_seeds": [],
        "held_out": {"clips": 153, "frames": 9000, "apart_in": "speakers", "intervals_over": "clips", "sha256": "e"},
        "parameters": {"full": False, "splice_clips": 120, "seed": 0},
        "code": {"otoscope": "0", "torch": "0", "threads": 1},
        "seconds": {"splice": 12.5},
        "cpu_seconds": {"splice": 11.5},
    }  # fmt: skip
    return {**kept, **other}


def made_up(name: str = "sae-2", fvu: float = 0.12, wer: float = 0.08, **other: Any) -> Scorecard:
    rows = [
        Row("reconstruction", "trained", Measure("reconstruction.fvu", fvu, fvu - 0.01, fvu + 0.01, n=9000)),
        Row("reconstruction", "trained", Measure("reconstruction.l0", 15.5, n=9000)),
        Row("reconstruction", "random", Measure("reconstruction.fvu", 0.61, 0.6, 0.62, n=9000)),
        Row("reconstruction", "random", Measure("reconstruction.l0", 16.0, n=9000)),
        Row("reconstruction", "trained", Measure("reconstruction.fvu", 0.2, of={"class": "vowel"}, n=3000)),
        Row("reconstruction", "trained", Measure("reconstruction.l0", 15.0, of={"class": "vowel"}, n=3000)),
        *(
            Row("probes", subject, Measure("probe.accuracy", 0.7 + k / 100, 0.6, 0.9, {"kind": "phone", "k": str(k)}))
            for subject in ("trained", "random")
            for k in (1, 5, 20)
        ),
        Row("probes", "raw", Measure("probe.accuracy", 0.95, of={"kind": "phone", "k": "dense"})),
        Row("splice", "none", Measure("splice.wer", 0.05, n=700, n_unit="words")),
        Row("splice", "trained", Measure("splice.wer", wer, 0.06, 0.1, n=700, n_unit="words")),
        Row("splice", "trained", Measure("splice.delta_wer", wer - 0.05, 0.01, 0.05, n=700, n_unit="words")),
        Row("splice", "zero", Measure("splice.wer", math.nan, n=700, n_unit="words")),
    ]
    subjects = (
        Subject("trained", name),
        Subject("random", "Random directions"),
        Subject("raw", "All activations"),
        Subject("none", "Unedited model"),
        Subject("zero", "Site set to zero"),
    )
    return Scorecard(tuple(rows), subjects, provenance(name, **other), ("No stability: one seed",))


def test_the_page_shows_every_subject_section_and_note() -> None:
    text = " ".join(Outline(report(made_up())).text)
    for words in ("sae-2", "Random directions", "Unedited model", "Reconstruction", "Splice", "vowel", "No stability"):
        assert words in text
    assert "8.0 %" in text
    assert f"All {len(made_up().rows)} figures" in text
    assert "nan" not in text.lower().split()


def test_the_page_asks_nobody_for_anything_and_knows_the_dark() -> None:
    html = report(made_up())
    assert re.findall(r"""(?:src|href)=|url\(|@import|<script|<link""", html) == []
    assert set(re.findall(r"https?://[^\"' ]+", html)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme:dark" in html
    assert re.findall(r'(?:fill|stroke)="#', html) == []


def test_names_cannot_write_into_the_page() -> None:
    html = report(made_up("<script>alert(1)</script>"))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_scorecard_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    card = made_up()
    card.save(tmp_path)
    back = Scorecard.load(tmp_path)
    assert str(back.to_json()) == str(card.to_json())
    assert back.find("reconstruction.fvu").value == 0.12
    assert back.find("reconstruction.fvu", "random").low == 0.6
    table = pq.read_table(tmp_path / "scorecard.parquet").to_pylist()
    assert [row["value"] for row in table] == [row["value"] for row in card.to_json()["rows"]]
    assert table[4]["of"] == [("class", "vowel")]
    (tmp_path / "scorecard.json").write_text("{}", "utf-8")
    with pytest.raises(OtoscopeError, match="not an otoscope-scorecard"):
        Scorecard.load(tmp_path)


def test_a_figure_is_asked_for_by_name_subject_and_what_it_belongs_to() -> None:
    card = made_up()
    assert card.find("probe.accuracy", k="5").value == pytest.approx(0.75)
    with pytest.raises(InputError, match=r"did you mean reconstruction\.fvu"):
        card.find("reconstruction.fvus")
    with pytest.raises(InputError, match="3 figures"):
        card.find("probe.accuracy")


def test_a_comparison_draws_the_frontiers_and_says_what_differs() -> None:
    other = made_up("sae-3", 0.2, 0.15, corpus={"name": "other", "fingerprint": "f", "clips": 3})
    html = comparison([made_up(), other])
    text = " ".join(Outline(html).text)
    assert "FVU over L0" in text
    assert "WER over L0" in text
    assert "different corpora" in text
    assert "different models" not in text
    assert html.count('aria-label="FVU over L0"') == 1
    with pytest.raises(InputError, match="two scorecards"):
        comparison([made_up()])


def test_plots_put_values_where_they_belong() -> None:
    svg = dots([Dot("a", 0.5, 0.4, 0.6, mine=True), Dot("b", 1.0), Dot("none", math.nan)], title="t")
    places = [float(x) for x in re.findall(r'<circle[^>]*cx="([0-9.]+)"', svg)]
    low, high = (float(x) for x in re.findall(r'<line class="bar mine" x1="([0-9.]+)" x2="([0-9.]+)"', svg)[0])
    assert len(places) == 2
    assert low < places[0] < high < places[1]
    assert places[0] - low == pytest.approx(high - places[0], abs=0.11)
    drawn = scatter([Series("s", (Point(1, 1), Point(2, 3)), "s0")], title="t", x_title="x", y_title="y")
    (first, second) = re.findall(r'<circle[^>]*cx="([0-9.]+)" cy="([0-9.]+)"', drawn)
    assert float(first[0]) < float(second[0])
    assert float(first[1]) > float(second[1])
    assert lines([], title="t", x_title="x", y_title="y") == ""
    assert dots([], title="t") == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (0.12345, "0.123"), (15.5, "15.5"), (12345.6, "12,346"), (math.nan, "–")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert figure(value) == shown
