"""Dictionaries go to a hub and come back the same, SAELens opens them there, and errors say what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from local_hub import LocalHub, local_hub

from otoscope.dictionaries import TopKDictionary
from otoscope.dictionaries.formats.hub import pull, push
from otoscope.errors import InputError, OtoscopeError


def made(name: str = "sae-2", kind: str = "topk") -> TopKDictionary:
    drawn = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(40, 12, generator=drawn), dim=1)
    return TopKDictionary(
        encoder=torch.randn(40, 12, generator=drawn),
        encoder_bias=torch.randn(40, generator=drawn),
        decoder=rows,
        decoder_bias=torch.ones(12),
        k=4,
        site="encoder.2.resid_post",
        name=name,
        metadata={"model": {"name": "openai/whisper-tiny"}},
    )


class Address(str):
    """The address of a hub on this machine, and the hub."""

    hub: LocalHub


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A hub on this machine, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with local_hub() as (running, address):
        place = Address(address)
        place.hub = running
        yield place


def front_matter(page: bytes) -> dict[str, object]:
    found = re.match(r"---\n(.*?)\n---\n", page.decode(), flags=re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


def test_what_is_pushed_is_pulled_unchanged(at: Address) -> None:
    dictionary = made()
    address = push(dictionary, "someone/speech", licence="cc-by-4.0", endpoint=at, token="hf_made_up")
    assert address.endswith("/someone/speech/tree/main/sae-2")
    files = at.hub.repos["someone/speech"]
    assert set(files) == {
        "README.md",
        *(f"sae-2/{name}" for name in ("README.md", "cfg.json", "sae_weights.safetensors")),
    }
    again = pull("someone/speech", "sae-2", endpoint=at)
    assert again.fingerprint == dictionary.fingerprint
    assert again.metadata["hub"] == {"repo": "someone/speech", "path": "sae-2", "revision": "c" * 40}
    assert pull("someone/speech", endpoint=at).fingerprint == dictionary.fingerprint, "the only one needs no path"


def test_the_page_says_what_it_is_and_how_to_open_it(at: Address, tmp_path: Path) -> None:
    rows = [
        {
            "section": "reconstruction",
            "subject": "trained",
            "name": "fvu",
            "value": 0.1234,
            "low": 0.1,
            "high": 0.2,
            "of": {},
        },
        {
            "section": "reconstruction",
            "subject": "random",
            "name": "fvu",
            "value": 0.9876,
            "low": None,
            "high": None,
            "of": {},
        },
        {
            "section": "probes",
            "subject": "trained",
            "name": "a|b <script>",
            "value": 0.5,
            "low": None,
            "high": None,
            "of": {},
        },
    ]
    card = {"format": "otoscope-scorecard", "version": 1, "subjects": [{"role": "trained", "name": "x"}], "rows": rows}
    (tmp_path / "scorecard.json").write_text(json.dumps(card))
    push(
        made(),
        "someone/speech",
        "l2/k4",
        licence="cc-by-4.0",
        scorecard=tmp_path / "scorecard.json",
        endpoint=at,
        token="hf_made_up",
    )
    page = at.hub.repos["someone/speech"]["l2/k4/README.md"]
    front = front_matter(page)
    assert (front["license"], front["base_model"], front["library_name"]) == (
        "cc-by-4.0",
        "openai/whisper-tiny",
        "saelens",
    )
    text = page.decode()
    assert 'oto.pull("someone/speech", "l2/k4")' in text
    assert 'SAE.from_pretrained("someone/speech", "l2/k4")' in text
    assert "| reconstruction | fvu | 0.123 | 0.1 to 0.2 |" in text
    assert "0.988" not in text, "a baseline's figure is not the dictionary's"
    assert "a\\|b &lt;script>" in text
    assert json.loads(at.hub.repos["someone/speech"]["l2/k4/scorecard.json"]) == card


def test_a_second_dictionary_leaves_the_first_and_its_page(at: Address) -> None:
    push(made("one"), "someone/speech", endpoint=at, token="hf_made_up")
    front = at.hub.repos["someone/speech"]["README.md"]
    push(made("two"), "someone/speech", endpoint=at, token="hf_made_up")
    assert at.hub.repos["someone/speech"]["README.md"] == front
    with pytest.raises(InputError, match=r"has 2 dictionaries \(one, two\); choose one with path"):
        pull("someone/speech", endpoint=at)
    assert pull("someone/speech", "two", endpoint=at).name == "two"


def test_foreign_files_are_pulled_and_code_is_not(at: Address, tmp_path: Path) -> None:
    torch.save({"model": {"encoder_bias": torch.ones(8), "decoder.weight": torch.randn(4, 8)}}, tmp_path / "a.pth")
    at.hub.repos["lab/old"] = {
        "checkpoints/bestval.pth": (tmp_path / "a.pth").read_bytes(),
        "modeling.py": b"raise SystemExit",
        "other.pkl": b"\x80\x04.",
    }
    dictionary = pull("lab/old", "checkpoints/bestval.pth", site="encoder.2.resid_post", endpoint=at)
    assert dictionary.metadata["imported"]["format"] == "er537"
    assert pull("lab/old", site="encoder.2.resid_post", endpoint=at).name == "old"
    assert not [line for line in at.hub.sent if line.endswith((".py", ".pkl"))]


def test_what_cannot_be_had_is_said_in_one_sentence(at: Address) -> None:
    with pytest.raises(InputError, match=r"The Hugging Face Hub has no repository 'someone/none'"):
        pull("someone/none", endpoint=at)
    with pytest.raises(InputError, match="is no name of a repository"):
        pull("not a name!", endpoint=at)
    at.hub.repos["someone/speech"] = {"a/cfg.json": b"{}"}
    with pytest.raises(InputError, match="has no dictionary at 'b'"):
        pull("someone/speech", "b", endpoint=at)
    for path in ("../x", "/x", "a//b", "*"):
        with pytest.raises(InputError, match="is no path inside a repository"):
            pull("someone/speech", path, endpoint=at)
    at.hub.denied.add("someone/closed")
    with pytest.raises(InputError, match=r"refused 'someone/closed'.*hf auth login"):
        push(made(), "someone/closed", endpoint=at, token="hf_made_up")


def test_a_hub_that_cannot_be_reached(at: Address) -> None:
    with local_hub() as (_, gone):
        pass
    for call in (lambda: push(made(), "someone/other", endpoint=gone), lambda: pull("someone/other", endpoint=gone)):
        with pytest.raises(OtoscopeError, match=r"cannot be reached for 'someone/other'"):
            call()
