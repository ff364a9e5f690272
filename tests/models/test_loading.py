"""Finding and opening checkpoints of every shape, without the network."""

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
LOGITS = "logits"


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


def change(folder: Path, file: str, **settings: Any) -> None:
    """Change settings of a JSON file; None removes one."""
    path = folder / file
    merged = json.loads(path.read_text("utf-8")) | settings
    path.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}), "utf-8")


def rewrite(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.usefixtures("no_network")
def test_the_bundled_model_and_its_tokenizer_load_offline() -> None:
    model = oto.load_model()
    assert model.name == "pocket"
    assert "pocket" in repr(model)
    assert model.tokenizer is not None
    assert model.tokenizer.decode(model.tokenizer.encode(" seven carrots")) == " seven carrots"


def test_the_weights_hash_is_of_the_weights_alone(pocket: oto.SpeechModel, copy: Path) -> None:
    as_stored = pocket.weights_hash
    assert oto.load_model(copy, dtype="bfloat16").weights_hash == as_stored
    weights = load_file(copy / "model.safetensors")
    rewrite(copy, dict(reversed(weights.items())))
    assert oto.load_model(copy).weights_hash == as_stored
    weights["model.encoder.layer_norm.bias"][0] += 1
    rewrite(copy, weights)
    assert oto.load_model(copy).weights_hash != as_stored


def same_model(folder: Path, pocket: oto.SpeechModel, clip: oto.Clip) -> bool:
    model = oto.load_model(folder)
    return model.weights_hash == pocket.weights_hash and torch.equal(
        model.run(clip, [SITE])[SITE], pocket.run(clip, [SITE])[SITE]
    )


def test_a_bin_checkpoint_gives_the_same_model(pocket: oto.SpeechModel, copy: Path, mini: oto.Corpus) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    assert same_model(copy, pocket, mini[0])
    torch.save(weights, copy / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert same_model(copy, pocket, mini[0])


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_sharded_checkpoint_gives_the_same_model(
    kind: str, pocket: oto.SpeechModel, copy: Path, mini: oto.Corpus
) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    where = {}
    for part in range(3):
        shard = {name: value for number, (name, value) in enumerate(weights.items()) if number % 3 == part}
        file = f"{stem}-0000{part + 1}-of-00003.{kind}"
        (save_file if kind == "safetensors" else torch.save)(shard, copy / file)
        where |= dict.fromkeys(shard, file)
    (copy / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": where}))
    assert same_model(copy, pocket, mini[0])
    (copy / f"{stem}-00002-of-00003.{kind}").unlink()
    with pytest.raises(oto.OtoscopeError, match=r"00002-of-00003.* is missing"):
        oto.load_model(copy)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_run_in_the_format_asked_for_whatever_they_are_stored_in(stored: torch.dtype, copy: Path) -> None:
    weights = {name: value.to(stored) for name, value in load_file(copy / "model.safetensors").items()}
    rewrite(copy, weights)
    name = "model.decoder.layers.2.fc1.weight"
    for dtype in (torch.float32, torch.bfloat16):
        model = oto.load_model(copy, dtype=str(dtype).removeprefix("torch."))
        assert {weight.dtype for weight in model.module.state_dict().values()} == {dtype}
        assert torch.equal(model.module.get_parameter("decoder.blocks.2.mlp.up.weight"), weights[name].to(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_loaded_model_does_not_change_with_its_file(kind: str, dtype: str, copy: Path) -> None:
    """Files are often written over while a notebook still holds the model."""
    file = copy / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
    weights = load_file(copy / "model.safetensors")
    weights = {name: value.to(getattr(torch, dtype)) for name, value in weights.items()}
    (copy / "model.safetensors").unlink()
    (save_file if kind == "safetensors" else torch.save)(weights, file)
    model = oto.load_model(copy, dtype=dtype)
    with open(file, "r+b") as opened:
        opened.write(bytes(file.stat().st_size))
        opened.truncate(100)
    for name, weight in model.module.state_dict().items():
        assert torch.isfinite(weight).all(), name
        assert weight.any() or name.endswith("bias"), name


def test_quantised_weights_are_refused_not_taken_for_numbers(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = "model.encoder.layers.1.fc1.weight"
    rewrite(copy, weights | {name: torch.ones(512, 128, dtype=torch.int8)})
    with pytest.raises(oto.InputError, match=r"quantised \(.*fc1.weight is stored as int8\)"):
        oto.load_model(copy)
    rewrite(copy, weights | {name: torch.ones(512, 128, dtype=torch.float8_e4m3fn)})
    with pytest.raises(oto.InputError, match=r"stores .* as F8_E4M3; give a checkpoint of 16 or 32 bits"):
        oto.load_model(copy)


def logits(model: oto.SpeechModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(1, 80, 600, generator=generator)
    return model.encode(mel, [LOGITS], ids=torch.tensor([[1057, 1058, 1061]]))[LOGITS]


def test_an_output_layer_counts_only_where_it_differs_from_the_embedding(pocket: oto.SpeechModel, copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    embedding = weights["model.decoder.embed_tokens.weight"]
    rewrite(copy, weights | {"proj_out.weight": embedding.clone()})
    tied = oto.load_model(copy)
    assert tied.module.head is None
    assert torch.equal(logits(tied), logits(pocket))
    rewrite(copy, weights | {"proj_out.weight": 2 * embedding})
    untied = oto.load_model(copy)
    assert torch.allclose(logits(untied), 2 * logits(pocket), rtol=1e-5)
    change(copy, "config.json", tie_word_embeddings=False)
    assert torch.equal(logits(oto.load_model(copy)), logits(untied))
    rewrite(copy, weights)
    with pytest.raises(oto.InputError, match="lacks a weight"):
        oto.load_model(copy)


def test_weights_of_other_parts_are_left_alone(pocket: oto.SpeechModel, copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    rewrite(copy, weights | {"classifier.weight": torch.zeros(3, 3), "projector.bias": torch.zeros(3)})
    assert torch.equal(logits(oto.load_model(copy)), logits(pocket))


def test_names_without_the_prefix_of_the_head_are_understood(pocket: oto.SpeechModel, copy: Path) -> None:
    """What `WhisperModel.save_pretrained` writes."""
    weights = load_file(copy / "model.safetensors")
    rewrite(copy, {name.removeprefix("model."): value for name, value in weights.items()})
    assert torch.equal(logits(oto.load_model(copy)), logits(pocket))


def test_a_distilled_decoder_has_the_layers_its_config_says(copy: Path, mini: oto.Corpus) -> None:
    weights = load_file(copy / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "decoder.layers.2" not in name and "layers.3" not in name}
    kept |= {name: value for name, value in weights.items() if "encoder.layers.3" in name}
    rewrite(copy, kept)
    change(copy, "config.json", decoder_layers=2)
    change(copy, "generation_config.json", alignment_heads=None)
    model = oto.load_model(copy)
    assert (model.dims.n_layers, model.dims.n_decoder_layers) == (4, 2)
    assert isinstance(model.transcribe(mini[0]).text, str)


def test_old_checkpoints_without_generation_config_still_write(
    pocket: oto.SpeechModel, copy: Path, spoken: oto.Clip
) -> None:
    theirs = pocket.checkpoint.generation
    (copy / "generation_config.json").unlink()
    model = oto.load_model(copy)
    told = model.checkpoint.generation
    for setting in ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id", "lang_to_id", "task_to_id"):
        assert told[setting] == theirs[setting], setting
    assert model.transcribe(spoken).text == pocket.transcribe(spoken).text


def test_a_checkpoint_without_tokenizer_reads_sites_and_refuses_text_with_the_way_out(
    copy: Path, spoken: oto.Clip, pocket: oto.SpeechModel
) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (copy / name).unlink()
    model = oto.load_model(copy)
    assert len(model.run(spoken, [SITE])[SITE])
    with pytest.raises(oto.InputError, match="has no tokenizer"):
        model.transcribe(spoken)
    assert pocket.folder is not None
    for given in (pocket.folder, pocket.folder / "tokenizer.json", "pocket"):
        lent = oto.load_model(copy, tokenizer=given)
        assert lent.transcribe(spoken).text == pocket.transcribe(spoken).text
    with pytest.raises(oto.InputError, match="There is no tokenizer in"):
        oto.load_model(copy, tokenizer=copy.parent).transcribe(spoken)


def test_a_model_that_reads_no_text_opens_no_tokenizer(copy: Path, spoken: oto.Clip) -> None:
    """A tokenizer takes longer to open than many an activation to compute; a broken one is named when it is needed."""
    (copy / "tokenizer.json").write_text("{")
    model = oto.load_model(copy)
    assert len(model.run(spoken, [SITE])[SITE])
    with pytest.raises(oto.OtoscopeError, match=r"The tokenizer in .* is damaged"):
        model.transcribe(spoken)


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_pickled_code_is_never_run(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"model.encoder.conv1.weight": Trap()}, copy / "pytorch_model.bin")
    with pytest.raises(oto.InputError, match=r"holds Python objects .*which could run code"):
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
        ("whisper-tinny", "There is no model 'whisper-tinny'; did you mean tiny"),
        ("./no/such/folder", r"There is no model '\./no/such/folder'; give a folder"),
        ("no-such-file.pt", "There is no model 'no-such-file.pt'"),
        ("bad name/with spaces", "neither a folder nor a valid name"),
        ("", "There is no model ''"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name: str, reason: str) -> None:
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model(name)


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("openai/whisper-does-not-exist", "openai/whisper-does-not-exist"),
        ("tiny", "openai/whisper-tiny"),
        ("whisper-base.en", "openai/whisper-base.en"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("large", "openai/whisper-large-v3"),
        ("large-v1", "openai/whisper-large"),
    ],
)
def test_a_hub_name_without_network_says_what_to_do(
    name: str, hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_network: None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(oto.OtoscopeError, match=f"'{hub}' is not in the local cache and the Hugging Face Hub cannot"):
        oto.load_model(name)


def test_folders_that_hold_something_else_are_refused(copy: Path) -> None:
    change(copy, "config.json", model_type="bert")
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


def test_missing_mismatched_strange_and_damaged_weights_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = "model.encoder.layers.1.fc1.weight"
    rewrite(copy, {other: value for other, value in weights.items() if other != name})
    with pytest.raises(oto.InputError, match=r"lacks a weight that its sizes ask for, e\.g\. encoder\.blocks\.1"):
        oto.load_model(copy)
    rewrite(copy, weights | {name: weights[name][:-1]})
    with pytest.raises(oto.InputError, match=rf"{name} has shape \(511, 128\) instead of \(512, 128\)"):
        oto.load_model(copy)
    rewrite(copy, weights | {"model.encoder.layers.9.fc1.weight": weights[name].clone()})
    with pytest.raises(
        oto.InputError, match=r"weights that its sizes do not speak of, e\.g\. model\.encoder\.layers\.9"
    ):
        oto.load_model(copy)
    rewrite(copy, weights)
    whole = (copy / "model.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", bytes(100), b"\xff" * 100):
        (copy / "model.safetensors").write_bytes(damaged)
        with pytest.raises(oto.OtoscopeError, match=r"model\.safetensors is damaged or cut short"):
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
