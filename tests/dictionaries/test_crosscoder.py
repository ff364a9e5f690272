"""A crosscoder reads several sites side by side, each at its own size, and says where every feature lives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from otoscope.dictionaries import load_dictionary
from otoscope.dictionaries.architectures.crosscoder import Crosscoder, CrosscoderDictionary
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.errors import InputError

SITES = ("encoder.1.resid_post", "encoder.3.resid_post")
WIDTHS = (8, 12)
N, K = 30, 4


def learner(steps: int = 0) -> tuple[Learner, Tensor]:
    """A learner after some steps on noise, so that no weight is at its initial value."""
    made = Crosscoder(N, k=K).learner(TrainingPlan(20, 50, 5_000, 0, torch.device("cpu"), widths=WIDTHS))
    x = torch.randn(200, 20, generator=torch.Generator().manual_seed(2))
    optimiser = Optimiser(made)
    for step in range(steps):
        optimiser.step(Batch.of(x), step, 1e-2)
    return made, x


def raw_scaling() -> Scaling:
    """The first site is a hundred times as loud as the second, as residual streams of distant layers are."""
    mean = torch.linspace(-3, 3, 20).double()
    factors = torch.tensor([0.05] * WIDTHS[0] + [5.0] * WIDTHS[1]).double()
    return Scaling(mean, factors, mean, factors)


@pytest.fixture(scope="module")
def crosscoder() -> CrosscoderDictionary:
    made = learner(steps=20)[0].dictionary(raw_scaling(), sites=SITES, name="both")
    assert isinstance(made, CrosscoderDictionary)
    return made


def test_it_takes_and_gives_raw_activations_of_each_size(crosscoder: CrosscoderDictionary) -> None:
    made, x = learner(steps=20)
    weights, scaling = made.parameters, raw_scaling()
    values, indices = made.select(x - weights["decoder_bias"], 0)  # type: ignore[attr-defined]
    trained = torch.zeros(len(x), N).scatter_(1, indices.long(), values) @ weights["decoder"] + weights["decoder_bias"]
    raw = (x / scaling.scale_in + scaling.mean_in).float()
    rebuilt = crosscoder.reconstruct(raw)
    expected = (trained / scaling.scale_out + scaling.mean_out).float()
    assert torch.allclose((rebuilt - expected) * scaling.scale_out.float(), torch.zeros(20), atol=1e-4)
    assert torch.equal(
        crosscoder.encode(raw).dense() > 0, torch.zeros(len(x), N).scatter_(1, indices.long(), values) > 0
    )


def test_shares_compare_sites_at_one_size(crosscoder: CrosscoderDictionary) -> None:
    trained = learner(steps=20)[0].parameters["decoder"]
    norms = torch.stack([part.norm(dim=1) for part in trained.split(WIDTHS, dim=1)], dim=1)
    assert torch.allclose(crosscoder.layer_norms(), norms, atol=1e-5)
    assert torch.allclose(crosscoder.shares().sum(dim=1), torch.ones(N))
    share = crosscoder.share(3)
    assert share[SITES[0]] == pytest.approx(float(norms[3, 0] / norms[3].sum()), abs=1e-5)
    raw_norms = torch.stack([part.norm(dim=1) for part in crosscoder.decoder.split(WIDTHS, dim=1)], dim=1)
    assert float(raw_norms[:, 0].mean() / raw_norms[:, 1].mean()) > 50, (
        "raw lengths would call all features the first's"
    )


def test_owners_are_the_sites_that_have_a_feature_to_themselves() -> None:
    decoder = torch.zeros(3, 20)
    decoder[0, 0], decoder[1, 15], decoder[2, 3], decoder[2, 12] = 1.0, 1.0, 0.7, 0.7
    made = CrosscoderDictionary(
        encoder=decoder,
        encoder_bias=torch.zeros(3),
        decoder=decoder,
        decoder_bias=torch.zeros(20),
        k=1,
        widths=WIDTHS,
        site_scales=torch.ones(2),
        site=SITES[0],
        sites=SITES,
    )
    assert made.owners().tolist() == [0, 1, -1]
    assert torch.equal(made.directions_at(SITES[1], [1])[0], decoder[1, 8:])


def test_activations_of_a_run_are_laid_side_by_side(crosscoder: CrosscoderDictionary, pocket, mini) -> None:
    d = pocket.width("encoder.1.resid_post")
    clip = mini[0]
    run = pocket.run(clip, read=SITES)
    wide = CrosscoderDictionary(
        encoder=torch.eye(2 * d)[:9],
        encoder_bias=torch.zeros(9),
        decoder=torch.eye(2 * d)[:9],
        decoder_bias=torch.zeros(2 * d),
        k=2,
        widths=(d, d),
        site_scales=torch.ones(2),
        site=SITES[0],
        sites=SITES,
    )
    beside = wide.side_by_side(run)
    assert torch.equal(beside, torch.cat([run[SITES[0]], run[SITES[1]]], dim=1))
    assert torch.equal(wide.split(beside)[SITES[1]], run[SITES[1]])
    assert len(wide.encode(beside)) == len(run[SITES[0]])
    with pytest.raises(InputError, match=r"also reads encoder\.3\.resid_post"):
        wide.side_by_side(pocket.run(clip, read=[SITES[0]]))
    with pytest.raises(InputError, match=r"\[3, 5\] rows"):
        wide.side_by_side({SITES[0]: torch.zeros(3, d), SITES[1]: torch.zeros(5, d)})


def test_a_saved_crosscoder_computes_the_same(crosscoder: CrosscoderDictionary, tmp_path: Path) -> None:
    crosscoder.save(tmp_path / "both")
    again = load_dictionary(tmp_path / "both")
    assert isinstance(again, CrosscoderDictionary)
    x = torch.randn(50, 20)
    assert torch.equal(again.reconstruct(x), crosscoder.reconstruct(x))
    assert (again.sites, again.widths) == (SITES, WIDTHS)
    assert torch.equal(again.shares(), crosscoder.shares())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: made.share(N), f"features go from 0 to {N - 1}"),
        (lambda made: made.directions_at("encoder.1.resid_pst", [0]), "does not read 'encoder.1.resid_pst'"),
    ],
)
def test_what_it_does_not_have_is_refused(crosscoder: CrosscoderDictionary, call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(crosscoder)


def test_widths_that_do_not_fit_are_refused(crosscoder: CrosscoderDictionary) -> None:
    config = {**crosscoder.config(), "widths": [8, 8]}
    with pytest.raises(InputError, match=r"\[8, 8\] and 2 scales .* 20 units"):
        CrosscoderDictionary.from_saved(config, crosscoder.tensors(), name="both", site=SITES[0])
