"""The adapter printed in docs/families.md works: it is run from the page and must pass what every family must."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conformance import all_sites, check_identities, check_names, check_sites
from speech_checkpoints import BASE, LARGE, plain, save_checkpoint

import otoscope as oto
from otoscope.models import families

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


@pytest.fixture
def page_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_REGISTERED", {})
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})


@pytest.mark.usefixtures("page_has_run")
@pytest.mark.parametrize("arrangement", [BASE, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("head", [True, False])
def test_the_adapter_on_the_page_passes_what_every_family_must(
    tmp_path: Path, arrangement: dict[str, object], head: bool
) -> None:
    folder = save_checkpoint(tmp_path, {"model_type": "unispeech", **arrangement}, head=head)
    model, theirs = oto.load_model(folder), plain(folder)
    samples = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    check_sites(model, theirs, samples)
    check_identities(model, model.encode(samples, all_sites(model)))
    assert check_names(model, theirs, samples[:1]) > 15
    clip = oto.Clip.from_samples(samples[0].numpy(), 16000)
    assert model.run(clip, ["encoder.embed"])["encoder.embed"].shape == (49, 24)


def test_without_it_such_checkpoints_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_REGISTERED", {})
    folder = save_checkpoint(tmp_path, {"model_type": "unispeech", **BASE})
    with pytest.raises(oto.InputError, match="no adapter for 'unispeech'"):
        oto.load_model(folder)


@pytest.mark.usefixtures("page_has_run")
def test_the_names_of_otoscopes_own_families_are_taken() -> None:
    with pytest.raises(oto.InputError, match="already"):
        families.register_family(families.find_family("hubert"))
    families.register_family(families.find_family("unispeech"))  # a notebook cell may run twice


def test_the_page_lists_the_families_there_are() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert tuple(listed) == families.FAMILIES
