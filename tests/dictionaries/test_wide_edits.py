"""Edits of features that are read at one site and written at another, or that reach over several frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.dictionaries.architectures.crosscoder import CrosscoderDictionary
from otoscope.dictionaries.architectures.multi_frame import MultiFrameDictionary
from otoscope.dictionaries.architectures.transcoder import TopKTranscoder
from otoscope.errors import InputError
from otoscope.models import Edit

IN, OUT = "encoder.2.mlp.in", "encoder.2.mlp.out"
SITE = "encoder.2.resid_post"
D, N = 128, 40


def weights(d_in: int = D, d_out: int = D) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = [torch.nn.functional.normalize(torch.randn(N, d, generator=generator), dim=1) for d in (d_in, d_out)]
    zeros = {"encoder_bias": torch.zeros(N), "decoder_bias": torch.zeros(d_out)}
    return {"encoder": rows[0], "decoder": rows[1], **zeros}


@pytest.fixture(scope="module")
def clip(mini: oto.Corpus) -> oto.Clip:
    return mini[0]


@pytest.fixture(scope="module")
def transcoder() -> TopKTranscoder:
    skip = 0.05 * torch.randn(D, D, generator=torch.Generator().manual_seed(5))
    return TopKTranscoder(**weights(), k=6, skip=skip, site=IN, target_site=OUT, name="mlp")


@pytest.fixture(scope="module")
def stretches() -> MultiFrameDictionary:
    made = weights(5 * D, 5 * D) | {"decoder_bias": torch.zeros(D), "input_mean": torch.zeros(D)}
    return MultiFrameDictionary(**made, width=5, k=6, site=SITE)


def active(dictionary: oto.dictionaries.Dictionary, h: Tensor) -> int:
    """A feature that is active in many frames."""
    return int((dictionary.encode(h).dense() > 0).sum(dim=0).argmax())


def test_a_transcoder_feature_is_read_at_one_site_and_written_at_the_other(pocket, clip, transcoder) -> None:
    before = pocket.run(clip, [IN, OUT])
    feature = transcoder.feature(active(transcoder, before[IN]))
    values = transcoder.encode(before[IN]).feature(feature.index)[:, None]
    after = pocket.run(clip, [IN, OUT], [feature.zero()])
    assert float(values.max()) > 0.1
    assert torch.equal(after[IN], before[IN])
    assert torch.allclose(after[OUT], before[OUT] - values * feature.direction, atol=1e-4)
    raised = pocket.run(clip, [OUT], [feature.clamp(2.0, frames=(10, 20))])[OUT]
    expected = before[OUT].clone()
    expected[10:20] += (2.0 - values[10:20]) * feature.direction
    assert torch.allclose(raised, expected, atol=1e-4)
    same = pocket.run(clip, [OUT], [feature.scale(1), feature.add(0.0)])[OUT]
    assert torch.equal(same, before[OUT])


def test_it_reads_what_an_earlier_edit_made(pocket, clip, transcoder) -> None:
    before = pocket.run(clip, [IN])[IN]
    feature = transcoder.feature(active(transcoder, before))
    louder = Edit.scale(IN, 3.0)
    both = pocket.run(clip, [OUT], [louder, feature.zero()])[OUT]
    alone = pocket.run(clip, [OUT], [louder])[OUT]
    values = transcoder.encode(3 * before).feature(feature.index)[:, None]
    assert torch.allclose(alone - both, values * feature.direction, atol=1e-3)


def test_a_sweep_of_transcoder_edits_equals_single_runs(pocket, clip, transcoder) -> None:
    feature = transcoder.feature(active(transcoder, pocket.run(clip, [IN])[IN]))
    sweep = [[], [feature.scale(-1)], [feature.scale(3)], [Edit.zero("encoder.0.mlp.out"), feature.zero()]]
    together = pocket.run_each(clip, ["encoder.ln_post"], sweep)
    for edits, run in zip(sweep, together, strict=True):
        alone = pocket.run(clip, ["encoder.ln_post"], edits)
        assert torch.allclose(run["encoder.ln_post"], alone["encoder.ln_post"], atol=1e-4)
    assert not torch.allclose(together[0]["encoder.ln_post"], together[2]["encoder.ln_post"], atol=1e-2)


def test_a_transcoder_is_spliced_in_for_the_mlp(pocket, clip, transcoder) -> None:
    before = pocket.run(clip, [IN, OUT])
    spliced = pocket.run(clip, [OUT], [Edit.splice(transcoder, frames=(5, 25))])[OUT]
    expected = before[OUT].clone()
    expected[5:25] = transcoder.reconstruct(before[IN])[5:25]
    assert torch.allclose(spliced, expected, atol=1e-4)


def test_a_feature_is_patched_from_another_run_of_the_site_it_reads(pocket, mini, clip, transcoder) -> None:
    other = pocket.run(mini[1], [IN])
    before = pocket.run(clip, [IN, OUT])
    feature = transcoder.feature(active(transcoder, before[IN]))
    patched = pocket.run(clip, [OUT], [feature.patch(other)])[OUT]
    rows = min(len(other[IN]), len(before[IN]))
    own, theirs = (transcoder.encode(x).feature(feature.index)[:rows, None] for x in (before[IN], other[IN]))
    assert torch.allclose(patched[:rows], before[OUT][:rows] + (theirs - own) * feature.direction, atol=1e-4)


def test_an_edit_of_a_transcoder_reaches_the_transcript(pocket, clip, transcoder) -> None:
    feature = transcoder.feature(active(transcoder, pocket.run(clip, [IN])[IN]))
    plain, drowned = (pocket.transcribe(clip, edits=edits).text for edits in ([], [feature.clamp(500.0)]))
    assert plain != drowned


def test_a_feature_of_several_frames_is_removed_with_all_it_added(pocket, clip, stretches) -> None:
    before = pocket.run(clip, [SITE])[SITE]
    feature = stretches.feature(active(stretches, before))
    values = stretches.encode(before).feature(feature.index)[:, None].clone()
    values[:10] = values[20:] = 0
    assert float(values.max()) > 0.1
    after = pocket.run(clip, [SITE], [feature.zero(frames=(10, 20))])[SITE]
    assert torch.allclose(after, before - stretches.spread(values, [feature.index]), atol=1e-3)
    changed = (after != before).any(dim=1).nonzero().flatten()
    assert 8 <= int(changed.min()) <= int(changed.max()) < 22
    held = pocket.run(clip, [SITE], [feature.scale(1)])[SITE]
    assert torch.allclose(held, before, atol=1e-5)


def test_several_frames_are_spliced_with_their_neighbours_in_sight(pocket, clip, stretches) -> None:
    before = pocket.run(clip, [SITE])[SITE]
    after = pocket.run(clip, [SITE], [Edit.splice(stretches, frames=(10, 20))])[SITE]
    assert torch.allclose(after[10:20], stretches.reconstruct(before)[10:20], atol=1e-3)
    assert torch.equal(after[20:], before[20:])


def test_features_that_are_written_before_they_are_read_are_refused(pocket, clip) -> None:
    backwards = TopKTranscoder(**weights(), k=6, site=OUT, target_site=IN)
    with pytest.raises(InputError, match=r"read at encoder\.2\.mlp\.out cannot change encoder\.2\.mlp\.in"):
        pocket.run(clip, [OUT], [backwards.feature(0).zero()])


def test_features_of_several_sites_are_refused_with_the_way_round_it(pocket, clip) -> None:
    both = CrosscoderDictionary(
        **weights(2 * D, 2 * D), k=2, widths=(D, D), site_scales=torch.ones(2), site=SITE, sites=(SITE, OUT)
    )
    with pytest.raises(InputError, match=r"reads 2 sites at once .* Edit\.add"):
        pocket.run(clip, [SITE], [both.feature(0).zero()])


def test_a_transcoder_of_another_width_is_refused(pocket, clip) -> None:
    narrow = TopKTranscoder(**weights(64, D), k=6, site=IN, target_site=OUT)
    with pytest.raises(InputError, match="64"):
        pocket.run(clip, [OUT], [narrow.feature(0).zero()])
