"""Transcoders rebuild one site from another: gradients, folding, the skip connection, and SAELens beside them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries import load_dictionary
from otoscope.dictionaries.architectures.transcoder import TopKTranscoder, Transcoder
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, TrainingPlan
from otoscope.errors import InputError, OtoscopeError

N, D_IN, D_OUT, T = 40, 10, 14, 80
SITES = ("encoder.2.mlp.in", "encoder.2.mlp.out")
random = torch.Generator


def shaken(spec: Transcoder, dead: tuple[int, ...] = ()) -> Learner:
    """A learner in which no gradient vanishes by symmetry; dead features lose against all others."""
    made = spec.learner(TrainingPlan(D_IN, 100, 10_000, 0, torch.device("cpu"), D_OUT))
    generator = random().manual_seed(1)
    for parameter in made.parameters.values():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    if dead:
        made.parameters["encoder_bias"] += 25.0
        made.parameters["encoder_bias"][list(dead)] = 0.0
        made.state["silent_frames"][list(dead)] = 10**9
    return made


def frames() -> tuple[Tensor, Tensor]:
    generator = random().manual_seed(3)
    return torch.randn(T, D_IN, generator=generator), torch.randn(T, D_OUT, generator=generator)


def published_loss(
    p: dict[str, Tensor], x: Tensor, y: Tensor, spec: Transcoder, dead: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Fraction of the output's variance left over, written densely, and AuxK beside it."""
    pre = x @ p["encoder"].T + p["encoder_bias"]

    def keep(pre: Tensor, k: int) -> Tensor:
        values, indices = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, indices, values.relu())

    rebuilt = keep(pre, spec.k) @ p["decoder"] + p["decoder_bias"]
    if spec.skip:
        rebuilt = rebuilt + x @ p["skip"].T
    loss = (y - rebuilt).square().sum() / (y - y.mean(dim=0)).square().sum()
    if not dead:
        return loss, loss.new_zeros(())
    left_over = (y - rebuilt).detach()
    mask = torch.full((N,), -torch.inf)
    mask[list(dead)] = 0
    miss = left_over - keep(pre + mask, min(D_OUT // 2, len(dead))) @ p["decoder"]
    weight = spec.aux_coefficient * min(len(dead) / (D_OUT // 2), 1.0)
    return loss, weight * miss.square().sum() / left_over.square().sum()


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize("dead", [(), tuple(range(6, 33))], ids=["none dead", "many dead"])
def test_gradients_equal_autograd_of_the_published_loss(skip: bool, dead: tuple[int, ...]) -> None:
    spec = Transcoder(N, k=5, skip=skip)
    made, (x, y) = shaken(spec, dead), frames()
    leaves = {name: p.clone().requires_grad_() for name, p in made.parameters.items()}
    loss, auxiliary = published_loss(leaves, x, y, spec, dead)
    (loss + auxiliary).backward()
    gradients, metrics = made.gradients(Batch(x, y), 0)
    assert float(metrics["fvu"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(metrics["aux"]) == pytest.approx(auxiliary.item(), rel=1e-5)
    assert (float(metrics["aux"]) > 0) == bool(dead)
    assert set(gradients) == set(leaves) == set(made.parameters)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        alone = list(dead) if len(leaf) == N else []  # what only the auxiliary loss reaches, which is far smaller
        for rows in ([*range(len(leaf))], alone):
            size = leaf.grad[rows].abs().max() if rows else 0.0
            assert torch.allclose(gradients[name][rows], leaf.grad[rows], atol=5e-5 * float(size), rtol=0), name
            assert bool(rows == [] or size > 0)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_the_dictionary_takes_and_gives_raw_activations(skip: bool) -> None:
    made = shaken(Transcoder(N, k=5, skip=skip))
    generator = random().manual_seed(5)
    scaling = Scaling(
        torch.randn(D_IN, generator=generator).double(),
        torch.full((D_IN,), 0.2).double(),
        torch.randn(D_OUT, generator=generator).double(),
        torch.full((D_OUT,), 3.0).double(),
    )
    x, _ = frames()
    p = made.parameters
    values, indices = made.select(x, 0)  # type: ignore[attr-defined]
    trained = torch.zeros(T, N).scatter_(1, indices.long(), values) @ p["decoder"] + p["decoder_bias"]
    trained = trained + x @ p["skip"].T if skip else trained
    dictionary = made.dictionary(scaling, sites=SITES, name="mlp")
    raw = x.double() / scaling.scale_in + scaling.mean_in
    expected = trained.double() / scaling.scale_out + scaling.mean_out
    assert torch.allclose(dictionary.reconstruct(raw.float()), expected.float(), atol=1e-4)
    assert (dictionary.site, dictionary.target_site) == SITES
    assert dictionary.reconstruct(raw.float().reshape(2, T // 2, D_IN)).shape == (2, T // 2, D_OUT)


def made_dictionary(*, skip: bool) -> TopKTranscoder:
    plain = Scaling(*(value for d in (D_IN, D_OUT) for value in (torch.zeros(d).double(), torch.ones(d).double())))
    dictionary = shaken(Transcoder(N, k=5, skip=skip)).dictionary(plain, sites=SITES, name="mlp")
    assert isinstance(dictionary, TopKTranscoder)
    return dictionary


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_a_saved_transcoder_computes_the_same(tmp_path: Path, skip: bool) -> None:
    dictionary, (x, _) = made_dictionary(skip=skip), frames()
    dictionary.save(tmp_path / "mlp")
    again = load_dictionary(tmp_path / "mlp")
    assert torch.equal(again.reconstruct(x), dictionary.reconstruct(x))
    assert (again.site, again.target_site, again.d_out) == (*SITES, D_OUT)
    assert again.fingerprint == dictionary.fingerprint


@pytest.fixture
def saelens() -> ModuleType:
    """SAELens' transcoders, where it is installed."""
    pytest.importorskip("sae_lens")
    from sae_lens.saes import transcoder

    return transcoder


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_saelens_opens_one_with_a_threshold_and_computes_the_same(
    tmp_path: Path, skip: bool, saelens: ModuleType
) -> None:
    ours, (x, _) = made_dictionary(skip=skip).with_threshold(0.4), frames()
    ours.save(tmp_path / "mlp")
    peer = saelens.JumpReLUSkipTranscoder if skip else saelens.JumpReLUTranscoder
    theirs = peer.load_from_disk(tmp_path / "mlp")
    assert torch.allclose(theirs.encode(x), ours.encode(x).dense(), atol=1e-5)
    assert torch.allclose(theirs(x), ours.reconstruct(x), atol=1e-5)


def test_a_topk_transcoder_is_refused_by_saelens_rather_than_read_as_a_relu_one(
    tmp_path: Path, saelens: ModuleType
) -> None:
    made_dictionary(skip=False).save(tmp_path / "mlp")
    with pytest.raises(Exception, match="topk_transcoder"):
        saelens.SAE.load_from_disk(tmp_path / "mlp")


def test_saelens_own_skip_transcoder_opens_here(tmp_path: Path, saelens: ModuleType) -> None:
    theirs = saelens.SkipTranscoder.from_dict({"d_in": D_IN, "d_sae": N, "d_out": D_OUT, "apply_b_dec_to_input": False})
    with torch.no_grad():
        theirs.W_skip += torch.randn(D_OUT, D_IN)
    theirs.save_model(tmp_path / "theirs")
    ours, (x, _) = load_dictionary(tmp_path / "theirs"), frames()
    assert torch.allclose(ours.reconstruct(x), theirs(x), atol=1e-5)
    ours.save(tmp_path / "ours")
    assert torch.allclose(saelens.SkipTranscoder.load_from_disk(tmp_path / "ours")(x), theirs(x), atol=1e-5)


def test_a_skip_connection_of_the_wrong_shape_is_refused() -> None:
    weights = {
        "encoder": torch.ones(3, 2),
        "encoder_bias": torch.zeros(3),
        "decoder": torch.ones(3, 4),
        "decoder_bias": torch.zeros(4),
    }
    with pytest.raises(InputError, match=r"shape \[4, 2\], got \[2, 4\]"):
        TopKTranscoder(**weights, k=1, skip=torch.zeros(2, 4), site=SITES[0])


def test_a_transcoder_without_weights_is_named(tmp_path: Path) -> None:
    made_dictionary(skip=False).save(tmp_path / "mlp")
    (tmp_path / "mlp" / "sae_weights.safetensors").unlink()
    with pytest.raises(OtoscopeError, match="incomplete"):
        load_dictionary(tmp_path / "mlp")
