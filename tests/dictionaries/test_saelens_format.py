"""SAELens opens what we save, and we open what it saves; everything doubtful is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from otoscope.dictionaries import TopKDictionary, load_dictionary
from otoscope.errors import InputError, OtoscopeError


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_saelens_opens_ours(trained: TopKDictionary, store, tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    trained.save(tmp_path / "sae")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    assert theirs.cfg.architecture() == "topk"
    assert theirs.cfg.metadata.hook_name == "encoder.2.resid_post"
    x = store.frames[:500]
    with torch.no_grad():
        features = theirs.encode(x)
        rebuilt = theirs.decode(features)
    code = trained.encode(x)
    assert torch.allclose(features, code.dense(), atol=1e-5)
    assert torch.allclose(rebuilt, trained.decode(code), atol=1e-5)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("apply_b_dec", [False, True])
def test_we_open_what_saelens_saves(tmp_path: Path, rescale: bool, apply_b_dec: bool) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    torch.manual_seed(0)
    config = sae_lens.TopKSAEConfig(
        d_in=16, d_sae=60, k=5, rescale_acts_by_decoder_norm=rescale, apply_b_dec_to_input=apply_b_dec
    )
    theirs = sae_lens.TopKSAE(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter))
    theirs.save_model(tmp_path / "theirs")
    ours = load_dictionary(tmp_path / "theirs")
    x = torch.randn(80, 16)
    with torch.no_grad():
        features = theirs.encode(x)
        rebuilt = theirs.decode(features)
    code = ours.encode(x)
    assert torch.allclose(code.dense(), features, atol=1e-4)
    assert torch.allclose(ours.decode(code), rebuilt, atol=1e-4)


def test_a_trained_saelens_dictionary_survives_their_own_export(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    theirs = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=16, d_sae=60, k=5))
    theirs.save_inference_model(tmp_path / "theirs")
    x = torch.randn(20, 16)
    with torch.no_grad():
        expected = theirs.encode(x) * 1.0
    assert torch.allclose(load_dictionary(tmp_path / "theirs").encode(x).dense(), expected, atol=1e-5)


def test_shapes_come_from_the_tensors_never_from_the_config(trained: TopKDictionary, tmp_path: Path) -> None:
    trained.save(tmp_path / "sae")
    change_config(tmp_path / "sae", d_sae=999, d_in=1)
    loaded = load_dictionary(tmp_path / "sae")
    assert (loaded.n_features, loaded.d_in) == (trained.n_features, trained.d_in)


def test_a_missing_folder_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no dictionary at .*nowhere"):
        load_dictionary(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "top"}, "architecture 'top'.*known are .*neurons.*topk.*did you mean topk"),
        ({"architecture": None}, "architecture None"),
        ({"normalize_activations": "covariance_whitening"}, "'covariance_whitening'.*not supported"),
        ({"normalize_activations": "expected_average_only_in"}, "the factor is lost"),
        ({"reshape_activations": "transposed"}, "reshape_activations"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
        ({"k": None}, "not a complete topk dictionary"),
        ({"k": 0}, "k must be between 1 and the 64 features"),
    ],
)
def test_what_cannot_be_read_is_refused(
    trained: TopKDictionary, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    trained.save(tmp_path / "sae")
    change_config(tmp_path / "sae", **changes)
    with pytest.raises(OtoscopeError, match=message):
        load_dictionary(tmp_path / "sae")


def test_damaged_files_are_refused(trained: TopKDictionary, tmp_path: Path) -> None:
    folder = tmp_path / "sae"
    trained.save(folder)
    weights = load_file(folder / "sae_weights.safetensors")

    save_file({name: w for name, w in weights.items() if name != "b_enc"}, folder / "sae_weights.safetensors")
    with pytest.raises(OtoscopeError, match=r"not a complete topk dictionary.*b_enc"):
        load_dictionary(folder)
    save_file(weights | {"b_enc": torch.zeros(3)}, folder / "sae_weights.safetensors")
    with pytest.raises(OtoscopeError, match="do not fit together"):
        load_dictionary(folder)
    (folder / "sae_weights.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(OtoscopeError, match="damaged"):
        load_dictionary(folder)
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(OtoscopeError, match="incomplete"):
        load_dictionary(folder)
    (folder / "cfg.json").write_text("{")
    with pytest.raises(OtoscopeError, match="damaged"):
        load_dictionary(folder)
