"""Dictionaries that other programs trained are opened as what they are: each file is made here as its program saves it,
and what it computes is written down again from that program's own definition."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize, relu

from otoscope.dictionaries import Dictionary, load_dictionary
from otoscope.dictionaries.formats.opening import FORMATS, recognise
from otoscope.errors import InputError, OtoscopeError

T, D, N, K = 60, 12, 40, 5


def x_like_speech() -> Tensor:
    """Frames with a mean and a few large units."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(T, D, generator=generator) * torch.linspace(0.5, 4, D) + 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def top_k(pre: Tensor, k: int = K) -> Tensor:
    values, indices = relu(pre).topk(k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, indices, values)


def check(dictionary: Dictionary, features: Tensor, rebuilt: Tensor, x: Tensor | None = None) -> None:
    """Hold codes and reconstruction of frames against what the other program makes of them."""
    x = x_like_speech() if x is None else x
    assert features.count_nonzero() > 0
    for found, expected in ((dictionary.encode(x).dense(), features), (dictionary.reconstruct(x), rebuilt)):
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def freud_checkpoint(path: Path, model: dict[str, Tensor], variant: str, **config: Any) -> Path:
    """What FREUD's `save_checkpoint` writes, optimiser state and the NumPy scalar included."""
    linear = torch.nn.Linear(3, 3)
    optimiser = torch.optim.RAdam(linear.parameters())
    linear(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    hparams = {
        "autoencoder_variant": variant,
        "autoencoder_config": config,
        "whisper_config": {"model": "tiny", "layer_name": "encoder.blocks.2"},
        "activation_size": D,
        "lr": 1e-4,
        "start_checkpoint": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model, "optimizer": optimiser.state_dict(), "scheduler": scheduler.state_dict(), "step": 100}
    torch.save({**state, "best_val_loss": np.float64(0.25), "hparams": hparams}, path)
    return path


def freud_top_k_weights() -> dict[str, Tensor]:
    return {
        "W_dec": drawn(N, D, seed=1) * torch.linspace(0.5, 2, N)[:, None],
        "b_dec": drawn(D),
        "encoder.weight": drawn(N, D),
        "encoder.bias": drawn(N),
    }


def test_freud_l1_has_its_columns_brought_to_length_1_and_no_bias_but_the_encoders(tmp_path: Path) -> None:
    weights = {"encoder_bias": drawn(N), "decoder.weight": drawn(D, N)}
    freud_checkpoint(tmp_path / "run" / "checkpoints" / "bestval.pth", weights, "l1", n_dict_components=N)
    dictionary = load_dictionary(tmp_path / "run")
    columns = normalize(weights["decoder.weight"], dim=0)
    code = relu(x_like_speech() @ columns + weights["encoder_bias"])
    check(dictionary, code, code @ columns.T)
    assert dictionary.site == "encoder.2.resid_post"
    assert dictionary.metadata["imported"]["format"] == "freud"
    assert dictionary.metadata["model_name"] == "tiny"


def test_freud_top_k_keeps_the_lengths_of_its_rows_and_takes_its_size_from_the_tensors(tmp_path: Path) -> None:
    weights = freud_top_k_weights()
    path = freud_checkpoint(tmp_path / "step5.pth", weights, "topk", k=K, expansion_factor=16, normalize_decoder=True)
    dictionary = load_dictionary(path)
    assert dictionary.n_features == N
    pre = (x_like_speech() - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"]
    check(dictionary, top_k(pre), top_k(pre) @ weights["W_dec"] + weights["b_dec"])
    assert not torch.allclose(dictionary.encode(x_like_speech()).dense(), relu(pre)), "a ReLU would keep more"
    renormalised = top_k(pre) @ normalize(weights["W_dec"], dim=1) + weights["b_dec"]
    assert not torch.allclose(dictionary.reconstruct(x_like_speech()), renormalised, atol=1e-2)


def test_what_was_imported_is_saved_and_opened_again_as_it_was(tmp_path: Path) -> None:
    path = freud_checkpoint(tmp_path / "a.pth", freud_top_k_weights(), "topk", k=K)
    dictionary = load_dictionary(path)
    dictionary.save(tmp_path / "ours")
    again = load_dictionary(tmp_path / "ours")
    assert again.fingerprint == dictionary.fingerprint
    assert again.metadata["imported"] == dictionary.metadata["imported"]


def test_er537_is_freuds_l1_without_settings(tmp_path: Path) -> None:
    weights = {"encoder_bias": drawn(N), "decoder.weight": drawn(D, N)}
    torch.save({"model": weights, "step": 3, "best_val_loss": 0.5}, tmp_path / "tiny.bestval.pt")
    columns = normalize(weights["decoder.weight"], dim=0)
    code = relu(x_like_speech() @ columns + weights["encoder_bias"])
    assert recognise(tmp_path / "tiny.bestval.pt").name == "er537"
    dictionary = load_dictionary(tmp_path / "tiny.bestval.pt", site="encoder.blocks.1.mlp.1")
    check(dictionary, code, code @ columns.T)
    assert dictionary.site == "encoder.1.mlp.post"


def linear(**more: Tensor) -> dict[str, Tensor]:
    return {
        "encoder.weight": drawn(N, D),
        "encoder.bias": drawn(N),
        "decoder.weight": drawn(D, N),
        "decoder.bias": drawn(D),
        **more,
    }


COUNTERS = {"feature_last_activated": torch.zeros(N, dtype=torch.long), "step_count": torch.tensor(7)}


@pytest.mark.parametrize("bare", [True, False])
def test_whisper_sae_subtracts_and_adds_a_bias_of_its_own_beside_the_decoders(tmp_path: Path, bare: bool) -> None:
    weights = linear(b_pre=drawn(D, seed=3), **COUNTERS)
    config = {"k": K, "component": "encoder", "layer_idx": 3, "model_name": "openai/whisper-tiny"}
    torch.save(weights if bare else {"model_state_dict": weights, "config": config}, tmp_path / "sae_final.pt")
    if bare:
        with pytest.raises(InputError, match=r"sae_final\.pt does not say how many features.*give k"):
            load_dictionary(tmp_path / "sae_final.pt")
    dictionary = load_dictionary(tmp_path / "sae_final.pt", k=K if bare else None)
    pre = (x_like_speech() - weights["b_pre"]) @ weights["encoder.weight"].T + weights["encoder.bias"]
    rebuilt = top_k(pre) @ weights["decoder.weight"].T + weights["decoder.bias"] + weights["b_pre"]
    check(dictionary, top_k(pre), rebuilt)
    assert dictionary.site == ("" if bare else "encoder.ln_post")


def test_whisper_sae_1_is_a_relu_of_the_encoders_output(tmp_path: Path) -> None:
    weights = linear()
    torch.save(weights, tmp_path / "encoder_sae_tiny.pth")
    code = relu(x_like_speech() @ weights["encoder.weight"].T + weights["encoder.bias"])
    dictionary = load_dictionary(tmp_path / "encoder_sae_tiny.pth")
    check(dictionary, code, code @ weights["decoder.weight"].T + weights["decoder.bias"])
    assert dictionary.site == "encoder.ln_post"
    torch.save(weights, tmp_path / "decoder_sae_tiny.pth")
    assert load_dictionary(tmp_path / "decoder_sae_tiny.pth").site == "decoder.ln_post"


@pytest.mark.parametrize("skip", [False, True])
def test_whisper_saes_transcoders(tmp_path: Path, skip: bool) -> None:
    bypass = {"skip.weight": drawn(D, D), "skip.bias": drawn(D, seed=9)} if skip else {}
    weights = linear(**COUNTERS, **bypass)
    torch.save(weights, tmp_path / "t.pt")
    with pytest.raises(InputError, match="give k"):
        load_dictionary(tmp_path / "t.pt")
    code = top_k(x_like_speech() @ weights["encoder.weight"].T + weights["encoder.bias"])
    rebuilt = code @ weights["decoder.weight"].T + weights["decoder.bias"]
    if skip:
        rebuilt = rebuilt + x_like_speech() @ bypass["skip.weight"].T + bypass["skip.bias"]
    check(load_dictionary(tmp_path / "t.pt", k=K, site="encoder.1.mlp.in"), code, rebuilt)


@pytest.mark.parametrize("k", [K, N])
def test_whisper_saes_crosscoders_read_layers_side_by_side(tmp_path: Path, k: int) -> None:
    layers = 3
    weights = {"W_enc": drawn(layers, D, N), "b_enc": drawn(N), "W_dec": drawn(N, layers, D), "b_dec": drawn(layers, D)}
    torch.save(weights | COUNTERS, tmp_path / "cc.pt")
    x = torch.stack([x_like_speech() + layer for layer in range(layers)], dim=1)
    code = top_k(torch.einsum("tld,ldn->tn", x, weights["W_enc"]) + weights["b_enc"], k)
    rebuilt = torch.einsum("tn,nld->tld", code, weights["W_dec"]) + weights["b_dec"]
    dictionary = load_dictionary(tmp_path / "cc.pt", k=k)
    check(dictionary, code, rebuilt.flatten(1), x.flatten(1))
    assert dictionary.sites == tuple(f"encoder.{layer}.resid_post" for layer in range(layers))


def their_layer_norm(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = centred.std(dim=-1, keepdim=True)
    return centred / (deviation + 1e-5), deviation, x.mean(dim=-1, keepdim=True)


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_openai_normalises_frames_if_and_only_if_it_is_top_k(tmp_path: Path, activation: str) -> None:
    weights = {
        "pre_bias": drawn(D),
        "latent_bias": drawn(N),
        "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "encoder.weight": drawn(N, D),
        "decoder.weight": drawn(D, N),
    }
    state = {"k": K, "postact_fn": "ReLU"} if activation == "TopK" else {}
    torch.save({**weights, "activation": activation, "activation_state_dict": state}, tmp_path / "0.pt")
    x = x_like_speech()
    normal, deviation, mean = their_layer_norm(x) if activation == "TopK" else (x, torch.tensor(1.0), torch.tensor(0.0))
    pre = (normal - weights["pre_bias"]) @ weights["encoder.weight"].T + weights["latent_bias"]
    code = top_k(pre) if activation == "TopK" else relu(pre)
    rebuilt = (code @ weights["decoder.weight"].T + weights["pre_bias"]) * deviation + mean
    check(load_dictionary(tmp_path / "0.pt", site="encoder.0.mlp.out"), code, rebuilt)


def dictionary_learning_folder(folder: Path, kind: str, weights: dict[str, Any], **more: Any) -> Path:
    folder.mkdir(parents=True)
    torch.save(weights, folder / "ae.pt")
    trainer = {"dict_class": kind, "layer": 2, "lm_name": "pocket", "activation_dim": D, "dict_size": 7, **more}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"d_submodule": D}}))
    return folder


def batch_top_k_weights(threshold: float = 1.5) -> dict[str, Tensor]:
    weights = {
        "b_dec": drawn(D),
        "encoder.weight": drawn(N, D),
        "encoder.bias": drawn(N),
        "decoder.weight": drawn(D, N),
    }
    return weights | {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(threshold)}


def test_a_batch_top_k_dictionary_is_active_above_its_threshold(tmp_path: Path) -> None:
    weights = batch_top_k_weights()
    folder = dictionary_learning_folder(tmp_path / "a", "BatchTopKSAE", weights, k=K, submodule_name="layers.1")
    pre = relu((x_like_speech() - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"])
    code = pre * (pre > weights["threshold"])
    dictionary = load_dictionary(folder)
    check(dictionary, code, code @ weights["decoder.weight"].T + weights["b_dec"])
    assert dictionary.site == "encoder.1.resid_post"
    assert not torch.equal(code, top_k(pre)), "as TopK it would differ"


def test_thresholds_stay_in_32_bits_whatever_the_weights_are_kept_in(tmp_path: Path) -> None:
    """A threshold rounded to bfloat16 is moved by up to 0.4 %, and with it what is active."""
    weights = {name: w.bfloat16() if w.ndim else w for name, w in batch_top_k_weights(1.2345678).items()}
    dictionary: Any = load_dictionary(dictionary_learning_folder(tmp_path / "a", "BatchTopKSAE", weights, k=K))
    assert dictionary.threshold.dtype == torch.float32
    assert float(dictionary.threshold[0]) == pytest.approx(1.2345678, abs=1e-7)
    dictionary.save(tmp_path / "saved")
    again: Any = load_dictionary(tmp_path / "saved")
    assert torch.equal(again.threshold, dictionary.threshold)


def test_audiosae_counts_layers_from_1_and_brings_frames_to_length_1(tmp_path: Path) -> None:
    weights = batch_top_k_weights(0.8)
    folder = dictionary_learning_folder(tmp_path / "layer_6", "BatchTopKSAE", weights, k=K, lm_name="whisper-small")
    assert recognise(folder).name == "audiosae"
    dictionary = load_dictionary(folder)
    assert dictionary.site == "encoder.5.resid_post"
    x = x_like_speech()
    length = x.norm(dim=1, keepdim=True)
    pre = relu((x / length - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"])
    code = pre * (pre > weights["threshold"])
    check(dictionary, code, (code @ weights["decoder.weight"].T + weights["b_dec"]) * length)
    assert torch.allclose(dictionary.encode(7 * x).dense(), code, atol=1e-5), "loudness of a frame does not matter"


def test_audiosae_without_a_threshold_takes_k_per_frame_and_says_so(tmp_path: Path) -> None:
    weights = {name: w for name, w in batch_top_k_weights().items() if name != "threshold"}
    folder = dictionary_learning_folder(tmp_path / "layer_1", "BatchTopKSAE", weights, k=K, lm_name="hubert-base")
    dictionary = load_dictionary(folder)
    assert int(dictionary.encode(x_like_speech()).l0.max()) == K
    assert "no threshold" in dictionary.metadata["imported"]["notes"][0]
    above: Any = load_dictionary(folder, threshold=0.7)
    assert float(above.threshold[0]) == pytest.approx(0.7)


def shared(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return weights["encoder.weight"].T, weights["decoder.weight"].T


def relu_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    encoder, decoder = shared(w)
    code = relu((x - w["bias"]) @ encoder + w["encoder.bias"])
    return code, code @ decoder + w["bias"]


def new_relu_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    encoder, decoder = shared(w)
    code = relu(x @ encoder + w["encoder.bias"])
    return code, code @ decoder + w["decoder.bias"]


def top_k_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    encoder, decoder = shared(w)
    code = top_k((x - w["b_dec"]) @ encoder + w["encoder.bias"])
    return code, code @ decoder + w["b_dec"]


def gated_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    encoder, decoder = shared(w)
    pre = (x - w["decoder_bias"]) @ encoder
    code = (pre + w["gate_bias"] > 0) * relu(w["r_mag"].exp() * pre + w["mag_bias"])
    return code, code @ decoder + w["decoder_bias"]


def jump_relu_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    pre = x @ w["W_enc"] + w["b_enc"]
    code = relu(pre * (pre > w["threshold"]))
    return code, code @ w["W_dec"] + w["b_dec"]


def matryoshka_class(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    pre = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    code = pre * (pre > w["threshold"])
    return code, code @ w["W_dec"] + w["b_dec"]


MATRICES = {"W_enc": drawn(D, N), "b_enc": drawn(N), "W_dec": drawn(N, D), "b_dec": drawn(D)}
CLASSES: dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], dict[str, Any]]] = {
    "AutoEncoder": (relu_class, {k: v for k, v in linear(bias=drawn(D)).items() if k != "decoder.bias"}),
    "AutoEncoderNew": (new_relu_class, linear()),
    "AutoEncoderTopK": (top_k_class, batch_top_k_weights(-1.0)),
    "GatedAutoEncoder": (
        gated_class,
        {
            "decoder_bias": drawn(D),
            "r_mag": 0.3 * drawn(N, seed=5),
            "gate_bias": drawn(N, seed=6),
            "mag_bias": drawn(N, seed=7),
            "encoder.weight": drawn(N, D),
            "decoder.weight": drawn(D, N),
        },
    ),
    "JumpReluAutoEncoder": (jump_relu_class, MATRICES | {"threshold": drawn(N, seed=8).abs()}),
    "MatryoshkaBatchTopKSAE": (
        matryoshka_class,
        MATRICES
        | {
            "k": torch.tensor(K, dtype=torch.int),
            "threshold": torch.tensor(2.0),
            "group_sizes": torch.tensor([10, 30]),
        },
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("configured", [True, False])
def test_every_class_of_dictionary_learning(tmp_path: Path, kind: str, configured: bool) -> None:
    compute, weights = CLASSES[kind]
    folder = dictionary_learning_folder(tmp_path / "trainer_0", kind, weights, k=K)
    if not configured:
        (folder / "config.json").unlink()
    check(load_dictionary(folder), *compute(weights, x_like_speech()))


@pytest.mark.parametrize("kind", ["AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "GatedAutoEncoder"])
def test_what_we_write_for_dictionary_learning_computes_the_same_there(tmp_path: Path, kind: str) -> None:
    from otoscope.dictionaries.formats.opening import save_as

    weights = CLASSES[kind][1]
    ours = load_dictionary(dictionary_learning_folder(tmp_path / "theirs", kind, weights, k=K))
    save_as(ours, tmp_path / "ours", "dictionary_learning")
    written = torch.load(tmp_path / "ours" / "ae.pt", weights_only=True)
    config = json.loads((tmp_path / "ours" / "config.json").read_text())["trainer"]
    assert (config["activation_dim"], config["dict_size"]) == (D, N)
    compute_there = CLASSES[config["dict_class"]][0]
    check(ours, *compute_there(written, x_like_speech()))


def sparsify_folder(folder: Path, weights: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(weights, folder / "sae.safetensors")
    defaults = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": 0, "k": K}
    (folder / "cfg.json").write_text(json.dumps({**defaults, "d_in": D, "multi_topk": True, **config}))
    return folder


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_sparsify_with_and_without_transcoding_and_skip_connection(tmp_path: Path, transcode: bool, skip: bool) -> None:
    weights = {"encoder.weight": drawn(N, D), "encoder.bias": drawn(N), "W_dec": drawn(N, D), "b_dec": drawn(D)}
    weights |= {"W_skip": drawn(D, D)} if skip else {}
    name = "layers.2.fc2" if transcode else "layers.2"
    folder = sparsify_folder(tmp_path / name, weights, transcode=transcode, skip_connection=skip)
    x = x_like_speech()
    shown = x if transcode else x - weights["b_dec"]
    code = top_k(shown @ weights["encoder.weight"].T + weights["encoder.bias"])
    rebuilt = code @ weights["W_dec"] + weights["b_dec"] + (x @ weights["W_skip"].T if skip else 0)
    dictionary = load_dictionary(folder)
    check(dictionary, code, rebuilt)
    ends = ("encoder.2.mlp.in", "encoder.2.mlp.out") if transcode else ("encoder.2.resid_post",) * 2
    assert (dictionary.site, dictionary.target_site) == ends


def test_another_activation_of_sparsify_is_refused(tmp_path: Path) -> None:
    weights = {"encoder.weight": drawn(N, D), "encoder.bias": drawn(N), "W_dec": drawn(N, D), "b_dec": drawn(D)}
    folder = sparsify_folder(tmp_path / "layers.0", weights, activation="groupmax")
    with pytest.raises(OtoscopeError, match="an activation 'groupmax', which cannot be read here; known are topk"):
        load_dictionary(folder)


def test_what_is_no_known_format_is_refused_with_the_nearest(tmp_path: Path) -> None:
    torch.save({"encoder.weight": drawn(N, D), "encoder.bias": drawn(N), "W_dec": drawn(N, D)}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"no known format; the nearest is freud \(missing: b_dec\)"):
        load_dictionary(tmp_path / "odd.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="holds no table of weights"):
        load_dictionary(tmp_path / "tensor.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no dictionary of a known format.*but nothing"):
        load_dictionary(tmp_path / "empty")
    with pytest.raises(InputError, match=r"There is no format 'freude'; known are .*did you mean freud"):
        load_dictionary(tmp_path / "odd.pt", format="freude")


def test_a_format_that_the_file_is_not_of_is_refused(tmp_path: Path) -> None:
    torch.save(linear(), tmp_path / "v1.pt")
    with pytest.raises(
        InputError, match=r"v1\.pt is not a checkpoint of FREUD; it looks like weights of whisper-sae 1"
    ):
        load_dictionary(tmp_path / "v1.pt", format="freud")


def test_weights_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    torch.save(linear(b_pre=drawn(D + 1)), tmp_path / "v2.pt")
    with pytest.raises(OtoscopeError, match=r"not a complete dictionary of the format whisper-sae"):
        load_dictionary(tmp_path / "v2.pt", k=K)


def test_every_format_is_recognised_by_its_own_row_only(tmp_path: Path) -> None:
    """The order of the table decides nothing but between dictionary_learning and AudioSAE, whose folders are its."""
    from otoscope.dictionaries.formats.found import look

    l1 = {"encoder_bias": drawn(N), "decoder.weight": drawn(D, N)}
    torch.save({"model": l1}, tmp_path / "er537.pt")
    torch.save(linear(), tmp_path / "v1.pt")
    torch.save(linear(b_pre=drawn(D)), tmp_path / "v2.pt")
    torch.save({"pre_bias": drawn(D), "latent_bias": drawn(N), "encoder.weight": drawn(N, D)}, tmp_path / "openai.pt")
    weights = {"encoder.weight": drawn(N, D), "encoder.bias": drawn(N), "W_dec": drawn(N, D), "b_dec": drawn(D)}
    samples = {
        "freud": freud_checkpoint(tmp_path / "freud.pth", l1, "l1"),
        "er537": tmp_path / "er537.pt",
        "whisper-sae-v1": tmp_path / "v1.pt",
        "whisper-sae": tmp_path / "v2.pt",
        "openai": tmp_path / "openai.pt",
        "sparsify": sparsify_folder(tmp_path / "layers.0", weights),
        "dictionary_learning": dictionary_learning_folder(tmp_path / "dl", "AutoEncoderNew", linear()),
        "audiosae": dictionary_learning_folder(
            tmp_path / "layer_1", "BatchTopKSAE", batch_top_k_weights(), lm_name="whisper"
        ),
    }
    assert set(samples) == set(FORMATS) - {"saelens"}
    for name, path in samples.items():
        found = look(path)
        rows = {row.name for row in FORMATS.values() if row.recognise(found)}
        if name == "dictionary_learning":
            rows -= {"whisper-sae-v1"}  # the same weights without a configuration
        assert rows == ({name, "dictionary_learning"} if name == "audiosae" else {name}), path
