"""Files that the peers' own code writes are opened here and compute the same; what we write, they open.

Run by `make interop` in an environment of its own: dictionary-learning and eai-sparsify at the versions of `peers.txt`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dictionary_learning.dictionary as theirs_dl
import pytest
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
from dictionary_learning.utils import load_dictionary as load_theirs
from sparsify import SparseCoder, SparseCoderConfig

from otoscope.dictionaries import Dictionary, load_dictionary, save_as

D, N, K, T = 24, 96, 6, 200


def frames() -> torch.Tensor:
    return torch.randn(T, D, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.3, 3, D) + 1


def shake(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.abs() if "threshold" in name else 0.3 * drawn if name == "r_mag" else drawn)


def hold(ours: Dictionary, features: torch.Tensor, rebuilt: torch.Tensor) -> None:
    assert features.count_nonzero() > 0
    for found, wanted in ((ours.encode(frames()).dense(), features), (ours.reconstruct(frames()), rebuilt)):
        assert float((found - wanted.detach()).abs().max() / wanted.abs().max()) < 1e-5


CLASSES = {
    "AutoEncoder": lambda: theirs_dl.AutoEncoder(D, N),
    "AutoEncoderNew": lambda: theirs_dl.AutoEncoderNew(D, N),
    "GatedAutoEncoder": lambda: theirs_dl.GatedAutoEncoder(D, N),
    "JumpReluAutoEncoder": lambda: theirs_dl.JumpReluAutoEncoder(D, N),
    "AutoEncoderTopK": lambda: AutoEncoderTopK(D, N, K),
    "BatchTopKSAE": lambda: BatchTopKSAE(D, N, K),
    "MatryoshkaBatchTopKSAE": lambda: MatryoshkaBatchTopKSAE(D, N, K, [24, 72]),
}


def save_like_their_training(module: torch.nn.Module, folder: Path, **trainer: Any) -> Path:
    """As `dictionary_learning.training` writes a run."""
    folder.mkdir(parents=True)
    torch.save({key: value.cpu() for key, value in module.state_dict().items()}, folder / "ae.pt")
    config = {"dict_class": type(module).__name__, "activation_dim": D, "dict_size": N, "layer": 1, "lm_name": "tiny"}
    (folder / "config.json").write_text(json.dumps({"trainer": {**config, **trainer}, "buffer": None}))
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_dictionary_learning_is_opened_and_written(tmp_path: Path, name: str) -> None:
    module = CLASSES[name]()
    shake(module)
    if name.endswith("BatchTopKSAE"):
        module.threshold.fill_(2.5)
    folder = save_like_their_training(module, tmp_path / "trainer_0", k=K)
    reference, _ = load_theirs(str(folder), "cpu")  # which brings decoders to length 1 where that is its default
    ours = load_dictionary(folder)
    assert ours.site == "encoder.1.resid_post"
    if name == "AutoEncoder":
        assert torch.allclose(ours.reconstruct(frames()), reference(frames()), atol=1e-3)
        hold(ours, module.encode(frames()), module(frames()))
    else:
        hold(ours, reference.encode(frames()), reference.decode(reference.encode(frames())))
    save_as(ours, tmp_path / "ours", "dictionary_learning")
    again, config = load_theirs(str(tmp_path / "ours"), "cpu")
    assert config["trainer"]["dict_size"] == N
    with torch.no_grad():
        assert torch.allclose(again(frames()), ours.reconstruct(frames()), rtol=1e-5, atol=1e-3)
        assert torch.equal(again.encode(frames()) > 0, ours.encode(frames()).dense() > 0)


@pytest.mark.parametrize("trainer", [TopKTrainer, BatchTopKTrainer])
def test_what_dictionary_learning_has_trained_is_opened(tmp_path: Path, trainer: Any) -> None:
    training = trainer(
        steps=40, activation_dim=D, dict_size=N, k=K, layer=1, lm_name="tiny", warmup_steps=2, threshold_start_step=5,
        seed=0, device="cpu",
    )  # fmt: skip
    for step in range(30):
        training.update(step, frames())
    module = training.ae
    assert float(module.threshold) > 0
    folder = save_like_their_training(module, tmp_path / "trainer_0", k=K)
    with torch.no_grad():
        hold(load_dictionary(folder), module.encode(frames()), module(frames()))


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("multi", [False, True])
def test_what_sparsify_saves_is_opened(tmp_path: Path, transcode: bool, skip: bool, multi: bool) -> None:
    config = SparseCoderConfig(num_latents=N, k=K, transcode=transcode, skip_connection=skip, multi_topk=multi)
    coder = SparseCoder(D, config)
    shake(coder)
    coder.save_to_disk(tmp_path / "layers.1")
    loaded = SparseCoder.load_from_disk(tmp_path / "layers.1")
    ours = load_dictionary(tmp_path / "layers.1")
    with torch.no_grad():
        values, indices, _ = loaded.encode(frames())
        features = torch.zeros(T, N).scatter_(1, indices, values)
        rebuilt = loaded.decode(values, indices)
        rebuilt = rebuilt + frames() @ loaded.W_skip.mT if skip else rebuilt
    hold(ours, features, rebuilt)
    if not multi:  # its forward returns the reconstruction from 4 k features otherwise
        assert torch.allclose(loaded(frames()).sae_out.detach(), rebuilt, rtol=1e-4, atol=1e-3)
