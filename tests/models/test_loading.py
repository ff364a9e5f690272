"""Finding and opening checkpoints, without the network."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import otoscope as oto

SITE = "encoder.1.resid_post"


@pytest.fixture
def copy(pocket: oto.SpeechModel, tmp_path: Path) -> Path:
    assert pocket.folder is not None
    return Path(shutil.copytree(pocket.folder, tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_the_bundled_model_and_its_tokenizer_load_offline() -> None:
    model = oto.load_model()
    assert model.name == "pocket"
    assert "pocket" in repr(model)
    assert model.tokenizer.decode(model.tokenizer("seven carrots").input_ids, skip_special_tokens=True)


def test_the_weights_hash_is_of_the_weights_alone(pocket: oto.SpeechModel, copy: Path) -> None:
    as_stored = pocket.weights_hash
    assert oto.load_model(copy, dtype="bfloat16").weights_hash == as_stored
    weights = load_file(copy / "model.safetensors")
    save_file(dict(reversed(weights.items())), copy / "model.safetensors", {"format": "pt"})
    assert oto.load_model(copy).weights_hash == as_stored
    weights["model.encoder.layer_norm.bias"][0] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert oto.load_model(copy).weights_hash != as_stored


def test_a_bin_checkpoint_gives_the_same_model(pocket: oto.SpeechModel, copy: Path, mini: oto.Corpus) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    model = oto.load_model(copy)
    assert model.weights_hash == pocket.weights_hash
    assert torch.equal(model.run(mini[0], [SITE])[SITE], pocket.run(mini[0], [SITE])[SITE])


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_pickled_code_is_never_run(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"model.encoder.conv1.weight": Trap()}, copy / "pytorch_model.bin")
    with pytest.raises(oto.OtoscopeError, match="could not be loaded"):
        oto.load_model(copy)
    assert "code ran" not in capsys.readouterr().out


def test_random_weights_are_deterministic_and_unlike_the_trained_ones(
    pocket: oto.SpeechModel, mini: oto.Corpus
) -> None:
    one, same, other = (pocket.random_weights(seed) for seed in (1, 1, 2))
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert one.dims == pocket.dims
    activations = one.run(mini[0], [SITE])[SITE]
    assert torch.equal(activations, same.run(mini[0], [SITE])[SITE])
    assert not torch.equal(activations, pocket.run(mini[0], [SITE])[SITE])
    assert 0.1 < activations.std() < 10
    edited = one.run(mini[0], [SITE], [oto.Edit.scale(SITE, 2.0)])[SITE]
    assert torch.equal(edited, 2 * activations)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("whisper-tinny", "There is no model folder 'whisper-tinny'"),
        ("./no/such/folder", "There is no model folder"),
        ("bad name/with spaces", "neither a folder nor a valid name"),
        ("", "There is no model folder"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name: str, reason: str) -> None:
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model(name)


def test_a_hub_name_without_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_network: None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(oto.OtoscopeError, match="not in the local cache and the Hugging Face Hub cannot be reached"):
        oto.load_model("openai/whisper-does-not-exist")


def test_folders_that_hold_something_else_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(oto.InputError, match="'bert' model"):
        oto.load_model(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(oto.OtoscopeError, match="damaged"):
        oto.load_model(copy)
    (copy / "config.json").unlink()
    with pytest.raises(oto.InputError, match=r"no config\.json"):
        oto.load_model(copy)
    with pytest.raises(oto.InputError, match="is a file"):
        oto.load_model(copy / "tokenizer.json")


def test_missing_and_damaged_weights_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.encoder.layers.1.fc1.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(oto.InputError, match=r"lacks 1 weights its config asks for, e\.g\. model\.encoder\.layers\.1"):
        oto.load_model(copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(oto.OtoscopeError, match="could not be loaded"):
        oto.load_model(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(oto.InputError, match="weights are missing"):
        oto.load_model(copy)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"dtype": "float8"}, "no dtype 'float8'"), ({"device": "tpu9"}, "'tpu9' is not available")],
)
def test_unknown_dtype_and_device_are_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model("pocket", **options)
