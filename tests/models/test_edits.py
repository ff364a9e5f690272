"""Operations do what they say, where they say it: columns, heads, times, tokens, features."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.dictionaries import Dictionary, RandomBasis
from otoscope.models import Clock, Edit, Run, class_means

LAST = "encoder.ln_post"


def noise(seconds: float, seed: int = 0) -> oto.Clip:
    samples = np.random.default_rng(seed).standard_normal(int(16000 * seconds)).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id=f"noise-{seed}")


def last(model: oto.SpeechModel, clip: oto.Clip, *edits: Edit) -> Tensor:
    return model.run(clip, [LAST], edits)[LAST]


@pytest.fixture(scope="module")
def clip() -> oto.Clip:
    return noise(2.0)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit.zero("encoder.1.mlp.post"), lambda x: torch.zeros_like(x)),
        (Edit.scale("encoder.1.mlp.post", -2.0), lambda x: x * -2.0),
        (Edit.add("encoder.1.mlp.post", 1.5), lambda x: x + 1.5),
        (Edit.clamp("encoder.1.mlp.post", 0.25), lambda x: torch.full_like(x, 0.25)),
        (Edit.limit("encoder.1.mlp.post", low=0.0, high=0.5), lambda x: x.clamp(0.0, 0.5)),
        (Edit.limit("encoder.1.mlp.post", high=0.1), lambda x: x.clamp(max=0.1)),
        (Edit.mean("encoder.1.mlp.post", torch.arange(512)), lambda x: torch.arange(512.0).expand_as(x)),
    ],
)
def test_operations_do_what_they_say(
    edit: Edit, expected: Callable[[Tensor], Tensor], pocket: oto.SpeechModel, clip: oto.Clip
) -> None:
    site = edit.site
    before, after = (pocket.run(clip, [site], edits)[site] for edits in ((), (edit,)))
    assert torch.equal(after, expected(before))


def test_units_and_time_limit_an_edit(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.2.mlp.post"
    before = pocket.run(clip, [site])[site]
    after = pocket.run(clip, [site], [Edit.zero(site, units=[3, 100], time_s=(0.5, 1.0))])[site]
    expected = before.clone()
    expected[25:50, [3, 100]] = 0
    assert torch.equal(after, expected)


def test_a_head_is_edited_alone(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.1.attn.z"
    before = pocket.run(clip, [site])[site]
    after = pocket.run(clip, [site], [Edit.zero(f"{site}[2]")])[site]
    width = pocket.dims.d_head
    assert not after[:, 2 * width : 3 * width].any()
    assert torch.equal(after[:, : 2 * width], before[:, : 2 * width])
    same = pocket.run(clip, [site], [Edit.zero("encoder.1.attn.pattern[2]")])[site]
    assert torch.equal(after, same)


def test_a_vector_is_added_to_each_frame(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.0.resid_mid"
    vector = torch.linspace(-1, 1, pocket.dims.d_model)
    before = pocket.run(clip, [site])[site]
    after = pocket.run(clip, [site], [Edit.add(site, vector, alpha=2.0)])[site]
    assert torch.equal(after, before + 2 * vector)


def test_an_edit_of_the_residual_stream_passes_around_the_mlp(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    """`resid_mid` feeds the MLP and the sum after it; both must see the edit."""
    read = ["encoder.1.resid_mid", "encoder.1.mlp.out", "encoder.1.resid_post"]
    run = pocket.run(clip, read, [Edit.add("encoder.1.resid_mid", 3.0)])
    assert torch.equal(run[read[0]] + run[read[1]], run[read[2]])


def test_time_is_counted_over_the_windows_of_a_long_clip(pocket: oto.SpeechModel) -> None:
    site = "encoder.0.mlp.post"
    window_s = pocket.dims.window_s
    long = noise(1.5 * window_s)
    edit = Edit.zero(site, time_s=(window_s - 1.0, window_s + 0.5))
    before, after = (pocket.run(long, [site], edits)[site] for edits in ((), (edit,)))
    first, stop = Clock().span(window_s - 1.0, window_s + 0.5)
    assert len(before) == pocket.frames(long) == round(75 * window_s)
    assert not after[first:stop].any()
    assert torch.equal(after[:first], before[:first])
    assert torch.equal(after[stop:], before[stop:])


@dataclass
class PairOfDirections:
    """A dictionary of two features: rectified projections on two directions."""

    site: str
    width: int

    def directions(self, features: Sequence[int]) -> Tensor:
        both = torch.randn(2, self.width, generator=torch.Generator().manual_seed(0))
        return both[list(features)] / both.norm(dim=1)[list(features), None]

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        return (h @ self.directions(features).T).relu()


def test_feature_edits_keep_everything_but_the_feature(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.2.resid_post"
    pair = PairOfDirections(site, pocket.dims.d_model)
    edit = Edit(site, "scale", value=-1.0, features=(1,), dictionary=pair, time_s=(0.2, 1.0))
    before, after = (pocket.run(clip, [site], edits)[site] for edits in ((), (edit,)))
    change = after - before
    value = pair.feature_values(before, [1])
    assert torch.allclose(change[10:50], (-2 * value * pair.directions([1]))[10:50], atol=1e-5)
    assert not change[:10].any()
    assert not change[50:].any()


def test_a_feature_that_is_not_active_can_be_switched_on(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.2.resid_post"
    pair = PairOfDirections(site, pocket.dims.d_model)
    edit = Edit(site, "clamp", value=4.0, features=(0,), dictionary=pair)
    before, after = (pocket.run(clip, [site], edits)[site] for edits in ((), (edit,)))
    value = pair.feature_values(before, [0])
    assert (value == 0).any()
    assert torch.allclose(after - before, (4.0 - value) * pair.directions([0]), atol=1e-5)


SITE = "encoder.2.resid_post"
TEXT = "we were behind"


@pytest.fixture(scope="module")
def other(pocket: oto.SpeechModel) -> Run:
    """A shorter clip's run: 60 frames."""
    return pocket.run(noise(1.2, 7), [SITE, "encoder.1.attn.z", "encoder.1.attn.pattern"])


def at(model: oto.SpeechModel, clip: oto.Clip, *edits: Edit, site: str = SITE) -> Tensor:
    return model.run(clip, [site], edits)[site]


def test_a_mean_comes_from_a_vector_a_store_or_a_run(pocket: oto.SpeechModel, clip: oto.Clip, other: Run) -> None:
    mean = other[SITE].double().mean(0).float()

    class Store:
        def mean(self, site: str) -> np.ndarray:
            assert site == SITE
            return mean.double().numpy()

    for source in (mean, mean.tolist(), other, Store()):
        after = at(pocket, clip, Edit.mean(SITE, source))
        assert torch.allclose(after, mean.expand_as(after), atol=1e-6)
    some = at(pocket, clip, Edit.mean(SITE, other, units=[3, 5], time_s=(0.5, 1.0)))
    assert torch.allclose(some[25:50, [3, 5]], mean[[3, 5]].expand(25, 2), atol=1e-6)
    assert torch.equal(some[:25], at(pocket, clip)[:25])


def test_resampling_takes_the_same_positions_of_another_clip_in_a_circle(
    pocket: oto.SpeechModel, clip: oto.Clip, other: Run
) -> None:
    assert len(other[SITE]) == 60
    expected = other[SITE][torch.arange(100) % 60]
    assert torch.equal(at(pocket, clip, Edit.resample(SITE, other)), expected)
    late = at(pocket, clip, Edit.resample(SITE, other, time_s=(1.0, 2.0)))
    assert torch.equal(late[50:], expected[50:])
    assert torch.equal(late[:50], at(pocket, clip)[:50])


def test_a_patch_ends_where_the_other_run_ends(pocket: oto.SpeechModel, clip: oto.Clip, other: Run) -> None:
    plain = at(pocket, clip)
    patched = at(pocket, clip, Edit.patch(SITE, other))
    assert torch.equal(patched[:60], other[SITE])
    assert torch.equal(patched[60:], plain[60:])


@pytest.mark.parametrize("offset", [-20, 0, 13])
def test_a_patch_may_be_moved_and_limited(offset: int, pocket: oto.SpeechModel, clip: oto.Clip, other: Run) -> None:
    plain = at(pocket, clip)
    patched = at(pocket, clip, Edit.patch(SITE, other, offset=offset, frames=(10, 55), units=[0, 127]))
    expected = plain.clone()
    for frame in range(10, 55):
        if 0 <= frame + offset < 60:
            expected[frame, [0, 127]] = other[SITE][frame + offset, [0, 127]]
    assert torch.equal(patched, expected)
    assert not torch.equal(patched, plain)


def test_a_head_is_patched_from_a_run_of_all_heads(pocket: oto.SpeechModel, clip: oto.Clip, other: Run) -> None:
    site = "encoder.1.attn.z"
    patched = at(pocket, clip, Edit.patch(f"{site}[1]", other), site=site)
    plain = at(pocket, clip, site=site)
    assert torch.equal(patched[:60, 32:64], other[site][:, 32:64])
    assert torch.equal(patched[:, :32], plain[:, :32])
    pattern = "encoder.1.attn.pattern"
    patched = at(pocket, clip, Edit.patch(f"{pattern}[1]", other), site=pattern)
    assert torch.equal(patched[1, :60, :60], other[pattern][1])
    assert torch.equal(patched[[0, 2, 3]], at(pocket, clip, site=pattern)[[0, 2, 3]])


def test_tokens_are_counted_from_the_start_of_the_prompt(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "decoder.1.resid_post"
    plain = pocket.run(clip, [site], text=TEXT)
    assert [position.kind for position in plain.positions[:5]] == ["prompt"] * 4 + ["text"]
    after = pocket.run(clip, [site], [Edit.zero(site, tokens=(4, 5))], text=TEXT)[site]
    assert not after[4].any()
    assert torch.equal(after[[0, 1, 2, 3, 5]], plain[site][[0, 1, 2, 3, 5]])


def test_a_shift_moves_the_mean_of_one_class_to_that_of_another(pocket: oto.SpeechModel, mini: oto.Corpus) -> None:
    clips = [clip for clip in mini if clip.text][:4]
    means = class_means(pocket, clips, SITE, tier="phones")
    label, elsewhere = sorted(means)[:2]
    frames = [
        at(pocket, clip)[slice(*Clock().span(item.start_s, item.end_s))]
        for clip in clips
        for item in clip.tiers["phones"]
        if item.label == label
    ]
    assert torch.allclose(means[label], torch.cat(frames).mean(0), atol=1e-5)
    shift = Edit.shift(SITE, means[label], means[elsewhere], alpha=1.0)
    moved = torch.cat(frames) + (means[elsewhere] - means[label])
    assert torch.allclose(moved.mean(0), means[elsewhere], atol=1e-5)
    plain = at(pocket, clips[0])
    assert torch.equal(at(pocket, clips[0], shift), plain + (means[elsewhere] - means[label]))


def test_class_means_go_by_labels_of_clips_or_by_a_store(pocket: oto.SpeechModel, mini: oto.Corpus) -> None:
    clips = list(mini)[:3]
    frames = {clip.clip_id: at(pocket, clip) for clip in clips}
    names = {clip.clip_id: "ab"[number % 2] for number, clip in enumerate(clips)}

    class Store:
        meta: ClassVar = {"clock": {"frame_s": 0.02, "offset_s": 0.0}}

        def clip(self, site: str, clip_id: str) -> np.ndarray:
            return frames[clip_id].numpy()

    for source in (pocket, Store()):
        means = class_means(source, clips, SITE, label=lambda clip: names[clip.clip_id])
        both = torch.cat([frames[clips[0].clip_id], frames[clips[2].clip_id]])
        assert torch.allclose(means["a"], both.mean(0), atol=1e-5)
        assert torch.allclose(means["b"], frames[clips[1].clip_id].mean(0), atol=1e-5)
    assert set(class_means(Store(), clips, SITE, label="speaker")) == {clip.speaker for clip in clips}
    with pytest.raises(oto.InputError, match="label` of the clips or from a `tier"):
        class_means(pocket, clips, SITE)
    with pytest.raises(oto.InputError, match="tier 'chords'"):
        class_means(pocket, clips, SITE, tier="chords")


@pytest.fixture(scope="module")
def basis(pocket: oto.SpeechModel) -> Dictionary:
    return RandomBasis(SITE, pocket.dims.d_model, 200, seed=0)


def test_splicing_replaces_activations_by_their_reconstruction(
    pocket: oto.SpeechModel, clip: oto.Clip, basis: Dictionary
) -> None:
    plain = at(pocket, clip)
    spliced = at(pocket, clip, Edit.splice(basis, time_s=(0.5, 1.0)))
    assert torch.allclose(spliced[25:50], basis.reconstruct(plain)[25:50], atol=1e-4)
    assert torch.equal(spliced[:25], plain[:25])
    assert torch.equal(spliced[50:], plain[50:])

    class Half:
        """A dictionary that rebuilds half of everything."""

        site = SITE
        d_in = 128

        def reconstruct(self, h: Tensor) -> Tensor:
            return h / 2

    assert torch.equal(at(pocket, clip, Edit.splice(Half())), plain / 2)


def test_features_take_limits_and_patches_too(
    pocket: oto.SpeechModel, clip: oto.Clip, other: Run, basis: Dictionary
) -> None:
    plain = at(pocket, clip)
    feature = basis.feature(5)
    before = basis.feature_values(plain, [5])
    for edit, expected in (
        (feature.limit(high=0.1), before.clamp(max=0.1)),
        (feature.patch(other), torch.cat([basis.feature_values(other[SITE], [5]), before[60:]])),
        (feature.scale(3.0, frames=(0, 10)), torch.cat([before[:10] * 3, before[10:]])),
    ):
        after = at(pocket, clip, edit)
        change = (expected - before) * feature.direction
        assert torch.allclose(after - plain, change, atol=1e-4)
        assert change.any()


def test_edits_without_tensors_travel_as_json(basis: Dictionary) -> None:
    edits = [
        Edit.zero("encoder.1.attn.z[2]"),
        Edit.scale("decoder.1.mlp.post", -1.5, units=[3, 4], tokens=(4, 6)),
        Edit.limit("mel", low=-0.5, time_s=(0.25, 1.0)),
        Edit.band("encoder.1.attn", 12),
        Edit.zero("decoder.2.cross.pattern[1]", keys_s=(0.5, 1.0)),
        basis.feature(5).clamp(4.0, frames=(3, 9)),
        Edit.splice(basis),
    ]
    for edit in edits:
        written = json.loads(json.dumps(edit.to_json()))
        back = Edit.from_json(written, {basis.name: basis}.__getitem__)
        assert back.to_json() == edit.to_json()
        assert all(getattr(back, field.name) == getattr(edit, field.name) for field in fields(Edit))
    with pytest.raises(oto.InputError, match="cannot be written as JSON"):
        Edit.add("mel", torch.ones(80)).to_json()
    with pytest.raises(oto.InputError, match="no setting 'factor'"):
        Edit.from_json({"site": "mel", "op": "scale", "factor": 2})
    with pytest.raises(oto.InputError, match="An edit needs a site"):
        Edit.from_json({"op": "scale"})
    with pytest.raises(oto.InputError, match="how to open it"):
        Edit.from_json(edits[-1].to_json())
