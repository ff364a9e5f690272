"""What trained dictionaries have to beat: principal components and random decoders are what they say they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted import learn, planted
from torch import Tensor

from otoscope.dictionaries import (
    PCA,
    FrozenDecoder,
    RandomBasis,
    SoftFrozenDecoder,
    TopK,
    TopKDictionary,
    load_dictionary,
    train,
)
from otoscope.dictionaries.registry import architectures
from otoscope.dictionaries.training.learner import TrainingPlan
from otoscope.errors import InputError

SITE = "encoder.2.resid_post"
D = 24


def unexplained(dictionary: TopKDictionary | RandomBasis | PCA, x: Tensor) -> float:
    rebuilt = dictionary.reconstruct(x[None])[0]
    return float((x - rebuilt).square().sum() / (x - x.mean(dim=0)).square().sum())


def start(spec: TopK, d: int = D, seed: int = 0) -> Tensor:
    return spec.learner(TrainingPlan(d, 10, 100, seed, torch.device("cpu"))).parameters["decoder"].clone()


def test_principal_components_are_those_of_the_frames(store: object) -> None:
    pca = PCA.fit(store, k=D)  # type: ignore[arg-type]
    x: Tensor = store.frames  # type: ignore[attr-defined]
    expected = torch.linalg.svd((x - x.mean(dim=0)).double(), full_matrices=False).Vh.float()
    cosines = (pca.directions(range(D)) * expected).sum(dim=1).abs()
    assert cosines.tolist() == pytest.approx([1.0] * D, abs=1e-3)
    assert torch.allclose(pca.mean, x.mean(dim=0), atol=1e-4)
    assert torch.equal(pca.directions([5 + D]), -pca.directions([5]))
    assert [pca.unit_label(index) for index in (5, 5 + D)] == ["5", "5−"]


def test_all_components_lose_nothing_and_the_first_explain_their_share(store: object) -> None:
    x: Tensor = store.frames[:500]  # type: ignore[attr-defined]
    assert unexplained(PCA.fit(store, k=D), x) < 1e-6  # type: ignore[arg-type]
    variances = torch.linalg.svdvals(x - x.mean(dim=0)).square()
    first = PCA.fit(store, k=6, n_components=6)  # type: ignore[arg-type]
    assert len(first) == 12
    assert unexplained(first, x) == pytest.approx(float(variances[6:].sum() / variances.sum()), abs=0.03)


def test_a_frame_keeps_its_strongest_components_of_either_sign(store: object) -> None:
    pca = PCA.fit(store, k=3)  # type: ignore[arg-type]
    x: Tensor = store.frames[:50]  # type: ignore[attr-defined]
    projections = (x - pca.mean) @ pca.directions(range(D)).T
    code = pca.encode(x)
    assert torch.allclose(code.values, projections.abs().topk(3, dim=1).values, atol=1e-4)
    signed = code.dense()[:, :D] - code.dense()[:, D:]
    assert torch.allclose(signed, projections * (signed != 0), atol=1e-4)


def test_components_are_fitted_on_the_clips_asked_for(store: object) -> None:
    frames: Tensor = store.frames  # type: ignore[attr-defined]
    pca = PCA.fit(store, clips=["clip-1"])  # type: ignore[arg-type]
    begin, count = store.clips["clip-1"]  # type: ignore[attr-defined]
    assert torch.allclose(pca.mean, frames[begin : begin + count].mean(dim=0), atol=1e-4)
    with pytest.raises(InputError, match="no frames"):
        PCA.fit(store, clips=[])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="between 1 and the 24 units"):
        PCA.fit(store, n_components=25)  # type: ignore[arg-type]


def test_principal_components_come_back_the_same(store: object, tmp_path: Path) -> None:
    pca = PCA.fit(store, k=4)  # type: ignore[arg-type]
    pca.save(tmp_path / "pca")
    loaded = load_dictionary(tmp_path / "pca")
    assert isinstance(loaded, PCA)
    assert loaded.fingerprint == pca.fingerprint
    assert loaded.site == SITE


def test_a_frozen_decoder_keeps_every_bit_while_the_encoder_learns() -> None:
    x = planted(2000, D, 32, 3).x
    spec = FrozenDecoder(48, k=3)
    learner = learn(spec, x, steps=60, lr=5e-3)
    assert torch.equal(learner.parameters["decoder"], start(spec))
    assert float((learner.parameters["encoder"] - start(spec)).abs().mean()) > 0.01


def test_a_soft_frozen_decoder_learns_within_its_cone() -> None:
    x = planted(2000, D, 32, 3).x
    for cosine in (0.8, 0.95):
        spec = SoftFrozenDecoder(48, k=3, cosine=cosine)
        decoder = learn(spec, x, steps=120, lr=5e-3).parameters["decoder"]
        cosines = (decoder * start(spec)).sum(dim=1)
        assert torch.allclose(decoder.norm(dim=1), torch.ones(48), atol=1e-5)
        assert float(cosines.min()) == pytest.approx(cosine, abs=1e-4), "some rows are held at the surface"
    free = learn(TopK(48, k=3), x, steps=120, lr=5e-3).parameters["decoder"]
    assert float((free * start(spec)).sum(dim=1).min()) < 0.75, "nothing would have left the cone"


def test_a_trained_decoder_beats_a_frozen_one_which_beats_random_directions(store: object) -> None:
    x: Tensor = store.frames[:2000]  # type: ignore[attr-defined]
    lost = [
        unexplained(train(store, spec, steps=250, batch_size=512, lr=5e-3, progress=False), x)  # type: ignore[arg-type]
        for spec in (TopK(48, k=3), SoftFrozenDecoder(48, k=3), FrozenDecoder(48, k=3))
    ]
    lost.append(unexplained(RandomBasis(SITE, D, 48, k=3, mean=x.mean(dim=0)), x))
    assert lost == sorted(lost)
    assert lost[0] < 0.5 * lost[2]


def test_baselines_are_trained_by_name_and_open_as_topk(store: object, tmp_path: Path) -> None:
    assert architectures()["frozen_decoder"] is FrozenDecoder
    assert architectures()["soft_frozen"] is SoftFrozenDecoder
    train(store, FrozenDecoder(32, k=3), steps=5, batch_size=64, progress=False, to=tmp_path / "frozen")  # type: ignore[arg-type]
    loaded = load_dictionary(tmp_path / "frozen")
    assert isinstance(loaded, TopKDictionary)
    assert loaded.metadata["training"]["spec"]["kind"] == "frozen_decoder"
    with pytest.raises(InputError, match="cosine must be between 0 and 1"):
        SoftFrozenDecoder(8, k=2, cosine=1.2)
