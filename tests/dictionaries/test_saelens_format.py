"""SAELens opens what we save, and we open what it saves; everything doubtful is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from otoscope.dictionaries import Dictionary, TopKDictionary, load_dictionary, save_as
from otoscope.dictionaries.autoencoder import Normalisation
from otoscope.dictionaries.formats.saelens import ARCHITECTURES
from otoscope.dictionaries.registry import dictionary_class
from otoscope.errors import InputError, OtoscopeError

D, N, T = 16, 60, 80


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


def frames() -> torch.Tensor:
    return torch.randn(T, D, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.3, 3, D) + 1


def shake(module: torch.nn.Module) -> None:
    """Draw every parameter anew, thresholds positive, so that no default hides a mistake."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.abs() if "threshold" in name else 0.3 * drawn if name == "r_mag" else drawn)


def outputs(theirs: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What SAELens makes of frames; reconstructions with the skip connection, where there is one."""
    with torch.no_grad():
        return theirs.encode(x) * 1.0, theirs(x)


def hold(ours: Dictionary, expected: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor) -> None:
    """Codes and reconstructions are equal to 1e-5 of the largest."""
    features, rebuilt = expected
    assert features.count_nonzero() > 0
    for found, wanted in ((ours.encode(x).dense(), features), (ours.reconstruct(x), rebuilt)):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def their_settings(kind: str, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"d_in": D, "d_sae": N, **more}
    settings |= {"k": 5} if kind == "topk" else {}
    return settings | ({"d_out": D + 4, "apply_b_dec_to_input": False} if "transcoder" in kind else {})


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_both_open_what_the_other_saves_whatever_the_architecture(tmp_path: Path, kind: str) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_class

    cls, config = get_sae_class(kind)
    theirs = cls(config(**their_settings(kind)))
    shake(theirs)
    theirs.save_model(tmp_path / "theirs")
    x = frames()
    ours = load_dictionary(tmp_path / "theirs")
    assert type(ours) is dictionary_class(kind, "")
    hold(ours, outputs(theirs, x), x)
    for number, save in enumerate((lambda folder: ours.save(folder), lambda folder: save_as(ours, folder, "saelens"))):
        save(tmp_path / f"ours-{number}")
        again = sae_lens.SAE.load_from_disk(tmp_path / f"ours-{number}")
        assert again.cfg.architecture() == kind
        hold(ours, outputs(again, x), x)


@pytest.mark.parametrize("kind", ["topk", "standard", "jumprelu", "gated"])
@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm", "unit_norm"])
def test_what_is_done_to_every_frame_is_the_same_there(tmp_path: Path, kind: str, normalisation: Normalisation) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_class

    cls, config = get_sae_class(kind)
    names = {"layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale", "unit_norm": "none"}
    theirs = cls(config(**their_settings(kind, normalize_activations=names[normalisation])))
    shake(theirs)
    theirs.save_model(tmp_path / "theirs")
    ours = load_dictionary(tmp_path / "theirs", normalisation=normalisation)
    x = frames()
    if normalisation != "unit_norm":
        hold(ours, outputs(theirs, x), x)
    save_as(ours, tmp_path / "ours", "saelens")
    hold(ours, outputs(sae_lens.SAE.load_from_disk(tmp_path / "ours"), x), x)
    ours.save(tmp_path / "native")
    assert load_dictionary(tmp_path / "native").fingerprint == ours.fingerprint
    if normalisation == "unit_norm":
        with pytest.raises(ValueError, match="normalize_activations must be"):
            sae_lens.SAE.load_from_disk(tmp_path / "native")


@pytest.mark.parametrize("name", ["BatchTopK", "MatryoshkaBatchTopK", "JumpReLU", "Gated", "Standard"])
def test_what_saelens_trains_is_opened_as_it_is_saved_for_inference(tmp_path: Path, name: str) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    more = {"k": 5} if "TopK" in name else {}
    more |= {"matryoshka_widths": [20, N]} if "Matryoshka" in name else {}
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=D, d_sae=N, **more)
    trained = getattr(sae_lens, f"{name}TrainingSAE")(config)
    shake(trained)
    with torch.no_grad():
        for buffer_name, buffer in trained.named_buffers():
            if "threshold" in buffer_name:
                buffer.fill_(0.7)
    trained.save_inference_model(tmp_path / "theirs")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "theirs")
    hold(load_dictionary(tmp_path / "theirs"), outputs(theirs, frames()), frames())


def test_a_checkpoints_scaling_factor_is_folded_as_saelens_folds_it(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    theirs = sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(d_in=D, d_sae=N))
    shake(theirs)
    theirs.save_model(tmp_path / "theirs")
    change_config(tmp_path / "theirs", normalize_activations="expected_average_only_in")
    (tmp_path / "theirs" / "activation_scaler.json").write_text('{"scaling_factor": 0.37}')
    theirs.fold_activation_norm_scaling_factor(0.37)
    hold(load_dictionary(tmp_path / "theirs"), outputs(theirs, frames()), frames())


def test_folders_from_before_version_6(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    theirs = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D, d_sae=N, k=5))
    shake(theirs)
    theirs.save_model(tmp_path / "theirs")
    old = {"d_in": D, "d_sae": N, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}, "dtype": "float32"}
    old |= {"hook_point": "blocks.1.hook_resid_post", "model_name": "tiny", "normalize_activations": None}
    (tmp_path / "theirs" / "cfg.json").write_text(json.dumps(old))
    ours = load_dictionary(tmp_path / "theirs")
    hold(ours, outputs(theirs, frames()), frames())
    assert ours.site == "encoder.1.resid_post"


def test_export_says_how_often_features_are_active_and_refuses_what_saelens_lacks(
    trained: TopKDictionary, tmp_path: Path
) -> None:
    density = torch.rand(trained.n_features)
    save_as(trained, tmp_path / "out", "saelens", density=density)
    held = load_file(tmp_path / "out" / "sparsity.safetensors")
    assert torch.allclose(10 ** held["sparsity"], density, atol=1e-6)
    with pytest.raises(InputError, match="densities of shape"):
        save_as(trained, tmp_path / "out", "saelens", density=density[:3])
    neurons = dictionary_class("neurons", "").from_saved({"d_in": 4}, {}, name="units", site="encoder.0.mlp.post")
    with pytest.raises(InputError, match=r"SAELens has no architecture for 'units' \(neurons\); it has standard"):
        save_as(neurons, tmp_path / "units", "saelens")


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
