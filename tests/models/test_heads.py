"""Statistics of heads: what streaming measures equals the formulas on whole maps, and joins over clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.models import Edit, HeadStatistics
from otoscope.models.heads import MEASURES

TEXT = "we were behind the bakery"


@pytest.fixture(scope="module")
def clips(mini: oto.Corpus) -> list[oto.Clip]:
    return [clip for clip in mini if clip.text][:2]


@pytest.fixture(scope="module")
def found(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> HeadStatistics:
    return pocket.head_statistics(clips[0], text=lambda clip: TEXT)


def maps(model: oto.SpeechModel, clip: oto.Clip, site: str) -> tuple[Tensor, int]:
    """A whole map, padding included, and how many frames the clip fills."""
    window = model.windows(clip)[0]
    positions = model.run(clip, ["decoder.embed"], text=TEXT, language="en").positions
    ids = torch.tensor([[position.id for position in positions]])
    return model.encode(window.input[None], [site], ids=ids)[site][0].double(), window.n_frames


def entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp_min(1e-300).log()).sum(-1)


def log_energy(clip: oto.Clip, n_positions: int) -> np.ndarray:
    samples = np.zeros(320 * n_positions + 320)
    samples[160 : 160 + len(clip.samples())] = clip.samples()
    return np.log10((samples[: 320 * n_positions].reshape(n_positions, 320) ** 2).mean(1) + 1e-10)


@pytest.mark.parametrize("region", ["sound", "window"])
@pytest.mark.parametrize(("part", "site"), [("encoder", "encoder.{}.attn"), ("decoder", "decoder.{}.attn")])
def test_measures_of_attention_among_equals_follow_their_definitions(
    part: str, site: str, region: str, found: HeadStatistics, pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    for layer in (0, 3):
        p, n_frames = maps(pocket, clips[0], site.format(layer) + ".pattern")
        inside = n_frames if part == "encoder" else p.shape[1]
        rows = inside if region == "sound" else p.shape[1]
        sound_mass = p[:, :rows, :inside].sum(-1)
        if region == "sound":
            p = p[:, :inside, :inside] / p[:, :inside, :inside].sum(-1, keepdim=True)
        n = p.shape[1]
        distance = (torch.arange(n)[:, None] - torch.arange(n)).abs()
        column = p.mean(1)
        expected = {
            "entropy": entropy(p).mean(1),
            "peak": p.amax(-1).mean(1),
            "first": p[..., 0].mean(1),
            "uniformity": entropy(column) / np.log(n),
            "sound": sound_mass.mean(1),
            "distance": (p * distance).sum(-1).mean(1),
            "locality": 1 - (p * distance).sum(-1).mean(1) / n,
            "diagonal": p.diagonal(dim1=1, dim2=2).mean(1),
            "previous": p.diagonal(offset=-1, dim1=1, dim2=2).mean(1),
        }
        if part == "encoder":
            energy = torch.from_numpy(log_energy(clips[0], n))
            expected["energy"] = torch.stack([torch.corrcoef(torch.stack([c, energy]))[0, 1] for c in column])
        for measure in MEASURES:
            ours = found.mean(part, layer, measure, region)
            if measure in expected:
                np.testing.assert_allclose(ours, expected[measure].numpy(), rtol=2e-4, atol=2e-5, err_msg=measure)
            else:
                assert np.isnan(ours).all()


@pytest.mark.parametrize("region", ["sound", "window"])
def test_measures_of_attention_from_text_to_sound_follow_their_definitions(
    region: str, found: HeadStatistics, pocket: oto.SpeechModel, clips: list[oto.Clip]
) -> None:
    p, n_frames = maps(pocket, clips[0], "decoder.2.cross.pattern")
    mass = p[..., :n_frames].sum(-1).mean(1)
    if region == "sound":
        p = p[..., :n_frames] / p[..., :n_frames].sum(-1, keepdim=True)
    place = (p * torch.arange(p.shape[-1])).sum(-1)
    energy = torch.from_numpy(log_energy(clips[0], p.shape[-1]))
    expected = {
        "entropy": entropy(p).mean(1),
        "uniformity": entropy(p.mean(1)) / np.log(p.shape[-1]),
        "sound": mass,
        "forward": (place.diff(dim=1) > 0).double().mean(1),
        "energy": torch.stack([torch.corrcoef(torch.stack([c, energy]))[0, 1] for c in p.mean(1)]),
    }
    for measure, values in expected.items():
        ours = found.mean("cross", 2, measure, region)
        np.testing.assert_allclose(ours, values.numpy(), rtol=2e-4, atol=2e-5, err_msg=measure)
    assert np.isnan(found.mean("cross", 2, "locality", region)).all()


def test_statistics_of_two_clips_are_those_of_each_joined(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    together = pocket.head_statistics(clips, parts=["encoder"])
    joined = sum((pocket.head_statistics(clip, parts=["encoder"]) for clip in clips), HeadStatistics({}, 0))
    assert together.n_windows == joined.n_windows == 2
    assert together.table().equals(joined.table())
    first, second = (pocket.head_statistics(clip, parts=["encoder"]).mean("encoder", 1, "entropy") for clip in clips)
    np.testing.assert_allclose(together.mean("encoder", 1, "entropy"), (first + second) / 2)
    row = together.table().query("layer == 1 and head == 2 and region == 'sound'").iloc[0]
    assert row["entropy"] == pytest.approx((first[2] + second[2]) / 2)
    assert row["entropy_sd"] == pytest.approx(abs(first[2] - second[2]) / 2)


def test_edits_and_layers_are_respected(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    banded = pocket.head_statistics(clips[0], [1], parts=["encoder"], edits=[Edit.band("encoder.1.attn[2]", 3)])
    assert set(banded.table()["layer"]) == {1}
    distance = banded.mean("encoder", 1, "distance", "window")
    assert distance[2] < 3
    assert min(distance[[0, 1, 3]]) > 3


def test_a_head_that_copies_the_previous_frame_is_recognised(pocket: oto.SpeechModel, clips: list[oto.Clip]) -> None:
    """A planted head: nearly all weight on the frame before."""
    shifted = torch.full((300, 300), -30.0)
    shifted[torch.arange(1, 300), torch.arange(299)] = 0.0
    run = pocket.run(clips[0], ["encoder.0.attn.scores"])
    tensors = {"encoder.0.attn.scores": shifted.expand(4, -1, -1)}
    planted = type(run)(run.clip_id, run.model, run.dims, tensors)
    edit = Edit.patch("encoder.0.attn.scores[2]", planted)
    statistics = pocket.head_statistics(clips[0], [0], parts=["encoder"], edits=[edit])
    previous = statistics.mean("encoder", 0, "previous", "window")
    assert previous[2] > 0.99
    assert max(previous[[0, 1, 3]]) < 0.5
    assert statistics.mean("encoder", 0, "distance", "window")[2] == pytest.approx(1.0, abs=0.6)


def test_unknown_parts_and_measures_are_refused(pocket: oto.SpeechModel, found: HeadStatistics) -> None:
    with pytest.raises(oto.InputError, match="no heads of 'middle'"):
        pocket.head_statistics([], parts=["middle"])
    with pytest.raises(oto.InputError, match="no clips"):
        pocket.head_statistics([])
    with pytest.raises(oto.InputError, match="layers are 0 to 3"):
        pocket.head_statistics([], [9], parts=["encoder"])
    with pytest.raises(oto.InputError, match="no measure 'beauty'"):
        found.mean("encoder", 0, "beauty")
    assert "48 heads" in repr(found)
