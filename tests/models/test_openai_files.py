"""The `.pt` files of openai-whisper: loaded safely, with the tokens and rules that openai-whisper would use."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper
from twins import random_openai, save_openai
from whisper.model import ModelDimensions

import otoscope as oto
from otoscope.models.loading.released import heads_of_released_model, hub_name, released_name

SITE = "encoder.1.resid_post"
SMALL = ModelDimensions(80, 1500, 64, 2, 2, 51865, 448, 64, 2, 4)


@pytest.fixture(scope="module")
def openai() -> whisper.model.Whisper:
    return random_openai(SMALL, seed=3)


@pytest.fixture
def file(openai: whisper.model.Whisper, tmp_path: Path) -> Path:
    save_openai(openai, tmp_path / "mine.pt")
    return tmp_path / "mine.pt"


@pytest.fixture(scope="module")
def noise() -> oto.Clip:
    return oto.Clip.from_samples(np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32), 16000)


def test_sizes_and_name_come_from_the_file(file: Path) -> None:
    model = oto.load_model(file)
    dims = model.dims
    assert (dims.n_mels, dims.n_layers, dims.n_decoder_layers) == (80, 2, 4)
    assert (dims.n_vocab, dims.n_positions, dims.n_text_positions) == (51865, 1500, 448)
    assert model.name == "mine"
    assert model.folder is None


def test_text_needs_no_other_file_where_openai_whisper_is_installed(file: Path, noise: oto.Clip) -> None:
    model = oto.load_model(file)
    theirs = whisper.tokenizer.get_tokenizer(True, num_languages=99)
    text = " Où est la gare?"
    assert model.tokenizer is not None
    assert model.tokenizer.encode(text) == theirs.encode(text)
    run = model.run(noise, ["decoder.0.resid_post"], text="la gare", language="fr")
    french = whisper.tokenizer.get_tokenizer(True, num_languages=99, language="fr", task="transcribe")
    read = [position.id for position in run.positions]
    assert read == [*french.sot_sequence_including_notimestamps, *theirs.encode(" la gare")]


def test_words_are_aligned_by_the_last_half_unless_the_file_is_a_released_one(
    openai: whisper.model.Whisper, file: Path
) -> None:
    theirs = openai.alignment_heads.indices().T.tolist()
    assert oto.load_model(file).checkpoint.generation["alignment_heads"] == theirs
    for name, dump in whisper._ALIGNMENT_HEADS.items():
        mask = np.frombuffer(gzip.decompress(base64.b85decode(dump)), dtype=bool)
        n_layers = {24: 4, 48: 6, 144: 12, 384: 24, 640: 32, 80: 4}[len(mask)]
        heads = heads_of_released_model(str(released_name(name)), n_layers, len(mask) // n_layers)
        assert heads == np.argwhere(mask.reshape(n_layers, -1)).tolist(), name
    assert heads_of_released_model("tiny", 5, 6) is None


def test_every_name_of_openai_whisper_is_understood() -> None:
    for name in whisper.available_models():
        released = released_name(name)
        assert released is not None
        assert hub_name(released).startswith("openai/whisper-")
        assert released_name(f"whisper-{name}") == released


def test_the_download_of_openai_whisper_is_used_where_the_hub_has_not_been_asked(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "cache/whisper").mkdir(parents=True)
    shutil.copy(file, tmp_path / "cache/whisper/base.en.pt")
    assert oto.load_model("base.en").name == "base.en"


def test_files_beside_it_count_where_they_fit(pocket: oto.SpeechModel, spoken: oto.Clip, tmp_path: Path) -> None:
    """The bundled model as a `.pt` file: its vocabulary is its own, so its tokenizer must lie beside it or be named."""
    assert pocket.folder is not None
    dims = pocket.dims
    sizes = ModelDimensions(80, 300, 128, 4, 4, dims.n_vocab, 64, 128, 4, 4)
    assert dims.n_text_positions == sizes.n_text_ctx
    state = {to_openai(name): value for name, value in pocket.module.state_dict().items()}
    model = whisper.model.Whisper(sizes)
    model.load_state_dict(state)
    save_openai(model, tmp_path / "pocket.pt")

    alone = oto.load_model(tmp_path / "pocket.pt")
    assert torch.equal(alone.run(spoken, [SITE])[SITE], pocket.run(spoken, [SITE])[SITE])
    with pytest.raises(oto.InputError, match="has no tokenizer"):
        alone.transcribe(spoken)
    named = oto.load_model(tmp_path / "pocket.pt", tokenizer=pocket.folder)
    assert named.transcribe(spoken).text == pocket.transcribe(spoken).text
    shutil.copy(pocket.folder / "tokenizer.json", tmp_path)
    beside = oto.load_model(tmp_path / "pocket.pt")
    assert beside.transcribe(spoken).text == pocket.transcribe(spoken).text
    assert [3, 0] in beside.checkpoint.generation["alignment_heads"]
    for name in ("config.json", "generation_config.json"):
        shutil.copy(pocket.folder / name, tmp_path)
    told = oto.load_model(tmp_path / "pocket.pt").checkpoint.generation
    assert told["alignment_heads"] == pocket.checkpoint.generation["alignment_heads"]


def test_a_tokenizer_of_another_model_beside_it_is_not_taken(
    file: Path, pocket: oto.SpeechModel, tmp_path: Path
) -> None:
    assert pocket.folder is not None
    for name in ("tokenizer.json", "config.json", "generation_config.json"):
        shutil.copy(pocket.folder / name, tmp_path)
    model = oto.load_model(file)
    assert model.tokenizer is not None
    assert len(model.tokenizer.vocabulary) == 51865
    assert model.checkpoint.generation["decoder_start_token_id"] == 50258


def to_openai(name: str) -> str:
    """openai-whisper's name of one of our weights."""
    for ours, theirs in {
        r"\.norm_attn\.": ".attn_ln.",
        r"\.norm_cross\.": ".cross_attn_ln.",
        r"\.norm_mlp\.": ".mlp_ln.",
        r"\.cross\.": ".cross_attn.",
        r"attn\.q\.": "attn.query.",
        r"attn\.k\.": "attn.key.",
        r"attn\.v\.": "attn.value.",
        r"\.mlp\.up\.": ".mlp.0.",
        r"\.mlp\.down\.": ".mlp.2.",
        r"\.positions$": ".positional_embedding",
        r"\.tokens\.": ".token_embedding.",
        r"^encoder\.norm_post\.": "encoder.ln_post.",
        r"^decoder\.norm_post\.": "decoder.ln.",
    }.items():
        name = re.sub(ours, theirs, name)
    return name


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def _held(model: whisper.model.Whisper, **changes: Any) -> dict[str, Any]:
    return {"dims": asdict(model.dims) | changes, "model_state_dict": model.state_dict()}


REFUSED: dict[str, tuple[Callable[[whisper.model.Whisper], Any], str]] = {
    "weights alone": (lambda model: model.state_dict(), r"weights alone \(.*save \{'dims'"),
    "a sparse autoencoder": (
        lambda _: {"model": {}, "hparams": {"autoencoder_variant": "l1"}, "step": 3},
        "as files of sparse autoencoders do",
    ),
    "a dictionary of directions": (lambda _: {"encoder.weight": torch.zeros(2, 2)}, "sparse autoencoders"),
    "a tensor": (lambda _: torch.zeros(3), "it holds a Tensor"),
    "nothing": (lambda _: {}, "it holds nothing"),
    "code": (lambda model: _held(model) | {"optimizer": Trap()}, "which could run code"),
    "dims as an object": (lambda model: {"dims": model.dims, "model_state_dict": {}}, "whisper.model.ModelDimensions"),
    "no sizes": (lambda model: {"dims": {"n_mels": 80}, "model_state_dict": {}}, "its dims say n_audio_ctx = None"),
    "sizes that are words": (lambda model: _held(model, n_mels="80"), "its dims say n_mels = '80'"),
    "two widths": (lambda model: _held(model, n_text_state=32), "only equal widths"),
    "other sizes": (lambda model: _held(model, n_text_layer=5), "lacks .* weights that its sizes ask for"),
    "fewer layers than weights": (lambda model: _held(model, n_text_layer=3), "do not speak of, e.g. decoder.blocks.3"),
    "another width": (lambda model: _held(model, n_audio_state=32, n_text_state=32), "has shape .* instead of"),
    "weights that are no tensors": (
        lambda model: {"dims": asdict(model.dims), "model_state_dict": {"encoder.conv1.weight": 3}},
        "'encoder.conv1.weight' is not a tensor",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_of_something_else_are_refused_with_the_reason(
    what: str, openai: whisper.model.Whisper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = REFUSED[what]
    torch.save(make(openai), tmp_path / "x.pt")
    with pytest.raises(oto.InputError, match=reason) as refused:
        oto.load_model(tmp_path / "x.pt")
    assert str(tmp_path) in str(refused.value)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("keep", [0, 3, 1000, 0.5, -10])
def test_a_file_cut_short_is_said_to_be_damaged(keep: float, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(oto.OtoscopeError, match=r"damaged or cut short|not a file of weights") as refused:
        oto.load_model(file)
    assert str(file) in str(refused.value)


FOREIGN = {
    "ggml-base.en.bin": (b"lmgg" + bytes(50), "GGML.*'openai/whisper-base.en'"),
    "ggml-large-v3-turbo-q5_0.bin": (b"GGUF" + bytes(50), "GGUF.*'openai/whisper-large-v3-turbo'"),
    "whisper.onnx": (b"\x08\x07", "ONNX"),
    "model.h5": (b"\x89HDF" + bytes(50), "Keras"),
    "weights.npz": (b"PK\x03\x04", "MLX"),
    "notes.txt": (b"hello", "give the folder of a Hugging Face checkpoint"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_refused_with_the_way_to_a_usable_one(name: str, tmp_path: Path) -> None:
    content, reason = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"config.json": "{}", "vocabulary.json": "[]", "model.bin": ""}, "CTranslate2.*'openai/whisper-medium'"),
        ({"config.json": '{"model_type": "whisper"}', "flax_model.msgpack": ""}, "Flax"),
        ({"config.json": '{"model_type": "whisper"}', "tf_model.h5": ""}, "TensorFlow"),
        ({"config.json": '{"n_mels": 80}', "weights.npz": ""}, "MLX"),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "PEFT.*merge"),
    ],
)
def test_folders_of_other_programs_are_refused_likewise(members: dict[str, str], reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "faster-whisper-medium"
    folder.mkdir()
    for name, content in members.items():
        (folder / name).write_text(content)
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model(folder)
