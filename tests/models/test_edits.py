"""Edits change what they name, nothing else, and never meet across threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.models import Clock, Edit

WRITABLE = ["mel", "encoder.conv1", "encoder.conv2", "encoder.embed", "encoder.ln_post"] + [
    f"encoder.1.{kind}"
    for kind in (
        "resid_pre",
        "attn.q",
        "attn.k",
        "attn.v",
        "attn.scores",
        "attn.pattern",
        "attn.z",
        "attn.out",
        "resid_mid",
        "mlp.in",
        "mlp.pre",
        "mlp.post",
        "mlp.out",
        "resid_post",
    )
]
LAST = "encoder.ln_post"


def noise(seconds: float, seed: int = 0) -> oto.Clip:
    samples = np.random.default_rng(seed).standard_normal(int(16000 * seconds)).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id=f"noise-{seed}")


def last(model: oto.SpeechModel, clip: oto.Clip, *edits: Edit) -> Tensor:
    return model.run(clip, [LAST], edits)[LAST]


@pytest.fixture(scope="module")
def clip() -> oto.Clip:
    return noise(2.0)


@pytest.mark.parametrize("site", WRITABLE)
def test_every_site_takes_edits_that_reach_the_output(site: str, pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    before = pocket.run(clip, [site, LAST])
    after = pocket.run(clip, [site, LAST], [Edit.zero(site)])
    assert not after[site].any()
    assert not torch.allclose(before[LAST], after[LAST], atol=1e-3)


@pytest.mark.parametrize("site", WRITABLE)
@pytest.mark.parametrize("make", [lambda site: Edit.scale(site, 1.0), lambda site: Edit.add(site, 0.0)])
def test_edits_that_change_nothing_change_not_a_bit(
    site: str, make: Callable[[str], Edit], pocket: oto.SpeechModel, clip: oto.Clip
) -> None:
    assert torch.equal(last(pocket, clip), last(pocket, clip, make(site)))


@pytest.mark.parametrize("site", WRITABLE)
def test_an_edit_that_writes_the_same_values_reaches_the_same_output(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip
) -> None:
    """The edited tensor is the one that the model goes on with: writing and taking back is the identity."""
    there_and_back = [Edit.scale(site, 2.0), Edit.scale(site, 0.5)]
    assert torch.equal(last(pocket, clip), last(pocket, clip, *there_and_back))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit.zero("encoder.1.mlp.post"), lambda x: torch.zeros_like(x)),
        (Edit.scale("encoder.1.mlp.post", -2.0), lambda x: x * -2.0),
        (Edit.add("encoder.1.mlp.post", 1.5), lambda x: x + 1.5),
        (Edit.clamp("encoder.1.mlp.post", 0.25), lambda x: torch.full_like(x, 0.25)),
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


def test_edits_in_two_threads_equal_edits_one_after_the_other(pocket: oto.SpeechModel) -> None:
    jobs: list[tuple[oto.Clip, list[Edit]]] = [
        (noise(2.0, 1), [Edit.scale("encoder.1.mlp.post", 3.0)]),
        (noise(3.0, 2), [Edit.zero("encoder.0.attn.pattern[1]"), Edit.add("mel", 0.5)]),
        (noise(2.5, 3), []),
    ]
    alone = [last(pocket, clip, *edits) for clip, edits in jobs]
    together: list[list[Tensor]] = [[] for _ in jobs]

    def work(number: int) -> None:
        clip, edits = jobs[number]
        together[number] = [last(pocket, clip, *edits) for _ in range(5)]

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, results in zip(alone, together, strict=True):
        assert len(results) == 5
        assert all(torch.equal(expected, result) for result in results)
    assert not torch.equal(alone[0], last(pocket, jobs[0][0]))


def test_a_run_leaves_nothing_behind_even_when_it_fails(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    """The modules are shared with whoever calls them next; what a run asked of them ends with the run."""

    class Broken(PairOfDirections):
        def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
            raise RuntimeError("broken dictionary")

    mel, _ = pocket.mel_windows(clip)
    encoder = pocket.module.model.encoder
    with torch.no_grad():
        before = encoder(mel).last_hidden_state
        broken = Broken("encoder.0.resid_post", pocket.dims.d_model)
        with pytest.raises(RuntimeError, match="broken dictionary"):
            last(pocket, clip, Edit(broken.site, "zero", features=(0,), dictionary=broken))
        last(pocket, clip, Edit.zero("encoder.0.resid_post"))
        assert torch.equal(encoder(mel).last_hidden_state, before)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Edit.zero("encoder.9.mlp.post"), "layers are 0 to 3"),
        (lambda: Edit.zero("encoder.1.mlp"), "did you mean"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[10_000]), "its units are 0 to"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[-1]), "its units are 0 to"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[]), "selects no units"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[1, 1]), "twice"),
        (lambda: Edit.zero("encoder.1.mlp.post", time_s=(1.0, 0.5)), "start < end"),
        (lambda: Edit.zero("encoder.1.mlp.post", time_s=(50.0, 51.0)), "the clip ends at 2.00 s"),
        (lambda: Edit.scale("encoder.1.mlp.post", float("nan")), "finite"),
        (lambda: Edit.add("encoder.1.resid_post", torch.tensor([float("nan")] * 128)), "NaN or infinity"),
        (lambda: Edit.add("encoder.1.resid_post", torch.zeros(5) + 1), "must have shape"),
        (lambda: Edit("encoder.1.mlp.post", "double"), "the edits are zero"),
        (lambda: Edit("encoder.1.mlp.post", "scale", features=(1,)), "dictionary"),
        (
            lambda: Edit("encoder.1.resid_post", "zero", features=(0,), dictionary=PairOfDirections("mel", 80)),
            "belongs to mel",
        ),
        (
            lambda: Edit("mel", "zero", features=(0,), dictionary=PairOfDirections("mel", 7)),
            "the model the dictionary was made for",
        ),
    ],
)
def test_edits_that_do_not_fit_are_refused(
    make: Callable[[], Edit], reason: str, pocket: oto.SpeechModel, clip: oto.Clip
) -> None:
    with pytest.raises(oto.InputError, match=reason):
        pocket.run(clip, [LAST], [make()])


def test_refusals_come_before_any_work(pocket: oto.SpeechModel) -> None:
    """An unreadable clip would fail later; the bad edit is named first."""
    missing = oto.Clip(clip_id="gone", uri="gone.wav")
    with pytest.raises(oto.InputError, match="its units are 0 to"):
        pocket.run(missing, [LAST], [Edit.zero("encoder.1.mlp.post", units=[10_000])])
    with pytest.raises(oto.InputError, match="There is no site"):
        pocket.transcribe(missing, edits=[Edit.zero("encoder.one")])
