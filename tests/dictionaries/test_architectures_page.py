"""What the page on architectures shows runs, with fewer steps and clips than it takes to learn anything."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import otoscope as oto
from otoscope.dictionaries.registry import architectures

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"


class Briefly:
    """The package, but training stops at once and says nothing."""

    def __getattr__(self, name: str) -> Any:
        if name in ("train", "token_activations"):
            short = {"steps": 3, "batch_size": 256} if name == "train" else {}
            return partial(getattr(oto, name), progress=False, **short)
        return getattr(oto, name)


def test_every_example_of_the_page_runs(pocket: oto.SpeechModel, mini: oto.Corpus, tmp_path: Path) -> None:
    clips = mini[:3]
    sites = [
        "encoder.1.resid_post",
        "encoder.2.resid_post",
        "encoder.3.resid_post",
        "encoder.2.mlp.in",
        "encoder.2.mlp.out",
    ]
    store = oto.harvest(pocket, clips, sites, tmp_path / "store", progress=False)
    h = pocket.run(clips[0], ["encoder.2.mlp.in"])["encoder.2.mlp.in"]
    names: dict[str, Any] = {
        "oto": Briefly(),
        "model": pocket,
        "clips": clips,
        "clip": clips[0],
        "store": store,
        "h": h,
    }
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(examples) >= 4
    for example in examples:
        exec(compile(example, PAGE.name, "exec"), names)
    assert names["mlp"].target_site == "encoder.2.mlp.out"
    assert names["both"].sites == ("encoder.1.resid_post", "encoder.3.resid_post")
    assert names["across"].d_in == 2 * 128
    assert tuple(names["stretches"].atoms([30]).shape) == (1, 5, 128)


def test_every_architecture_has_a_row_with_its_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert dict(rows) == {kind: spec.__name__ for kind, spec in architectures().items()}
    assert len(rows) == len(dict(rows))
