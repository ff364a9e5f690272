"""A multi-frame dictionary is a convolution and its transpose: gradients, clip edges, segments, folding, saving."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.atlas import build_atlas
from otoscope.dictionaries import load_dictionary
from otoscope.dictionaries.architectures.multi_frame import MultiFrame, MultiFrameDictionary, overlapped, unfolded
from otoscope.dictionaries.training.learner import Batch, Learner, Scaling, TrainingPlan
from otoscope.errors import InputError

N, D, K, SIZE, SEGMENTS = 30, 6, 3, 16, 5


def shaken(spec: MultiFrame, dead: tuple[int, ...] = ()) -> Learner:
    """A learner in which no gradient vanishes by symmetry; dead features lose against all others."""
    made = spec.learner(TrainingPlan(D, 100, 10_000, 0, torch.device("cpu")))
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters.values():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    if dead:
        made.parameters["encoder_bias"] += 25.0
        made.parameters["encoder_bias"][list(dead)] = 0.0
        made.state["silent_frames"][list(dead)] = 10**9
    return made


def segments(*, ragged: bool) -> Batch:
    """Segments of which the last two, if `ragged`, reach past the ends of their clips."""
    x = torch.randn(SEGMENTS, SIZE, D, generator=torch.Generator().manual_seed(4))
    inside = torch.ones(SEGMENTS, SIZE, dtype=torch.bool)
    if ragged:
        inside[3, 11:] = False
        inside[4, 2:] = False
        x = x * inside[..., None]
    return Batch(x.flatten(0, 1), x.flatten(0, 1), SIZE, inside.flatten() if ragged else None)


def published_loss(
    p: dict[str, Tensor], batch: Batch, spec: MultiFrame, dead: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Convolve, keep the `k` largest of each frame, convolve back: variance left over on whole frames, AuxK beside."""
    w = spec.width
    before, after = (w - 1) // 2, w // 2
    x = batch.x.view(SEGMENTS, SIZE, D)
    inside = torch.ones(SEGMENTS, SIZE, dtype=torch.bool) if batch.inside is None else batch.inside.view(SEGMENTS, SIZE)
    kernels = p["encoder"].view(N, w, D).transpose(1, 2)
    atoms = p["decoder"].view(N, w, D).transpose(1, 2)
    pre = F.conv1d(x.transpose(1, 2), kernels, p["encoder_bias"]).transpose(1, 2)
    whole = inside & (torch.arange(SIZE) >= w - 1) & (torch.arange(SIZE) < SIZE - w + 1)

    def keep(pre: Tensor, k: int) -> Tensor:
        values, indices = pre.topk(k, dim=2)
        code = torch.zeros_like(pre).scatter(2, indices, values.relu())
        return code * inside[:, before : SIZE - after, None]

    def lay(code: Tensor) -> Tensor:
        return F.conv_transpose1d(code.transpose(1, 2), atoms).transpose(1, 2)[whole]

    y = x[whole]
    left_over = y - lay(keep(pre, spec.k)) - p["decoder_bias"]
    loss = left_over.square().sum() / (y - y.mean(dim=0)).square().sum()
    if not dead:
        return loss, loss.new_zeros(())
    mask = torch.full((N,), -torch.inf)
    mask[list(dead)] = 0
    miss = left_over.detach() - lay(keep(pre + mask, min(D // 2, len(dead))))
    weight = spec.aux_coefficient * min(len(dead) / (D // 2), 1.0)
    return loss, weight * miss.square().sum() / left_over.detach().square().sum()


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole segments", "ends of clips"])
@pytest.mark.parametrize("dead", [(), tuple(range(4, 22))], ids=["none dead", "many dead"])
def test_gradients_equal_autograd_of_the_convolution(width: int, ragged: bool, dead: tuple[int, ...]) -> None:
    spec = MultiFrame(N, k=K, width=width, segment_frames=SIZE)
    made, batch = shaken(spec, dead), segments(ragged=ragged)
    leaves = {name: p.clone().requires_grad_() for name, p in made.parameters.items()}
    loss, auxiliary = published_loss(leaves, batch, spec, dead)
    (loss + auxiliary).backward()
    gradients, metrics = made.gradients(batch, 0)
    assert float(metrics["fvu"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(metrics["aux"]) == pytest.approx(auxiliary.item(), rel=1e-5)
    assert (float(metrics["aux"]) > 0) == bool(dead)
    if dead:
        assert float(metrics["l0"]) == pytest.approx(K), "frames past the end of a clip do not count"
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert gradients[name].shape == leaf.shape
        alone = list(dead) if len(leaf) == N else []  # what only the auxiliary loss reaches, which is far smaller
        for rows in ([*range(len(leaf))], alone):
            size = leaf.grad[rows].abs().max() if rows else 0.0
            assert torch.allclose(gradients[name][rows], leaf.grad[rows], atol=5e-5 * float(size), rtol=0), name
            assert bool(rows == [] or size > 0)


def test_laying_is_the_adjoint_of_cutting() -> None:
    x = torch.randn(3, 9, 2, dtype=torch.float64)
    pieces = torch.randn(3 * 6, 4 * 2, dtype=torch.float64)
    assert float((unfolded(x, 4) * pieces).sum()) == pytest.approx(float((x * overlapped(pieces, 3, 4)).sum()))


def dictionary_of(learner: Learner, *, mean: float = 0.0, scale: float = 1.0) -> MultiFrameDictionary:
    scaling = Scaling.of(torch.full((D,), mean), scale)
    made = learner.dictionary(scaling, sites=("encoder.2.resid_post",), name="stretches")
    assert isinstance(made, MultiFrameDictionary)
    return made


@pytest.mark.parametrize("width", [1, 2, 5])
def test_training_and_the_dictionary_rebuild_the_same_frames(width: int) -> None:
    """The middle of a segment, and the end of a clip, are rebuilt as when the whole clip is given."""
    spec = MultiFrame(N, k=K, width=width, segment_frames=SIZE)
    made, dictionary = shaken(spec), dictionary_of(shaken(spec))
    clip = torch.randn(SIZE - 4, D, generator=torch.Generator().manual_seed(7))
    rows = torch.cat([clip, torch.zeros(4, D)])
    _, metrics = made.gradients(Batch(rows, rows, SIZE, torch.arange(SIZE) < SIZE - 4), 0)
    whole = slice(width - 1, min(SIZE - 4, SIZE - width + 1))
    left_over = (dictionary.reconstruct(clip) - clip)[whole].square().sum()
    variance = (clip[whole] - clip[whole].mean(dim=0)).square().sum()
    assert float(metrics["fvu"]) == pytest.approx(float(left_over / variance), rel=1e-4)


def test_the_dictionary_takes_and_gives_raw_activations() -> None:
    made = shaken(MultiFrame(N, k=K, segment_frames=SIZE))
    plain, raw = dictionary_of(made), dictionary_of(made, mean=3.0, scale=0.25)
    x = torch.randn(40, D, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(raw.reconstruct(4 * x + 3), 4 * plain.reconstruct(x) + 3, atol=1e-3)
    assert torch.allclose(raw.encode(4 * x + 3).dense(), 4 * plain.encode(x).dense(), atol=1e-3)
    assert torch.equal(raw.decoder, plain.decoder), "atoms keep their length"


def test_a_code_is_shared_by_neighbouring_frames_only() -> None:
    dictionary = dictionary_of(shaken(MultiFrame(N, k=K, width=5)))
    x = torch.randn(30, D, generator=torch.Generator().manual_seed(7))
    other = x.clone()
    other[10] += 5
    changed = (dictionary.encode(x).dense() != dictionary.encode(other).dense()).any(dim=1).nonzero().flatten()
    assert 8 <= int(changed.min()) <= int(changed.max()) <= 12
    rebuilt = (dictionary.reconstruct(x) - dictionary.reconstruct(other)).abs().amax(dim=1) > 1e-5
    far = rebuilt.nonzero().flatten() - 10
    assert int(far.abs().max()) <= dictionary.context == 4


def test_clips_of_a_batch_do_not_meet() -> None:
    dictionary = dictionary_of(shaken(MultiFrame(N, k=K, width=5)))
    clips = torch.randn(2, 12, D, generator=torch.Generator().manual_seed(7))
    apart = torch.stack([dictionary.reconstruct(clip) for clip in clips])
    assert torch.equal(dictionary.reconstruct(clips), apart)
    joined = dictionary.reconstruct(clips.flatten(0, 1)).view(2, 12, D)
    assert not torch.allclose(joined[:, 10:], apart[:, 10:], atol=1e-3)


def test_a_feature_adds_its_atom_around_its_frame() -> None:
    dictionary = dictionary_of(shaken(MultiFrame(N, k=K, width=4)))
    values = torch.zeros(9, 1)
    values[5] = 2.0
    added = dictionary.spread(values, [7])
    assert torch.allclose(added[4:8], 2 * dictionary.atoms([7])[0])
    assert added[:4].count_nonzero() == added[8:].count_nonzero() == 0
    held = dictionary.spread(torch.ones(9, 1), [7])
    assert torch.allclose(held[4], dictionary.directions([7])[0], atol=1e-5)


def test_a_saved_dictionary_computes_the_same(tmp_path: Path) -> None:
    dictionary = dictionary_of(shaken(MultiFrame(N, k=K)), mean=1.0)
    dictionary.save(tmp_path / "stretches")
    again = load_dictionary(tmp_path / "stretches")
    x = torch.randn(30, D)
    assert torch.equal(again.reconstruct(x), dictionary.reconstruct(x))
    assert (again.context, again.fingerprint) == (4, dictionary.fingerprint)


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_clips_shorter_than_an_atom_are_rebuilt(frames: int) -> None:
    dictionary = dictionary_of(shaken(MultiFrame(N, k=K, width=5)))
    assert dictionary.reconstruct(torch.randn(frames, D)).shape == (frames, D)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"width": 0}, "at least 1 frame, got 0"), ({"width": 5, "segment_frames": 8}, "width − 1 = 9, got 8")],
)
def test_impossible_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiFrame(N, k=K, **settings)


def test_an_atlas_is_made_clip_by_clip(pocket, mini, tmp_path: Path) -> None:
    site, d = "encoder.2.resid_post", 128
    generator = torch.Generator().manual_seed(3)
    rows = F.normalize(torch.randn(N, 5 * d, generator=generator), dim=1)
    dictionary = MultiFrameDictionary(
        encoder=rows,
        encoder_bias=torch.zeros(N),
        decoder=rows,
        decoder_bias=torch.zeros(d),
        input_mean=torch.zeros(d),
        width=5,
        k=K,
        site=site,
    )
    clips = mini[:4]
    atlas = build_atlas(pocket, dictionary, clips, tmp_path / "atlas", progress=False)
    codes = [dictionary.encode(pocket.run(clip, [site])[site]).dense() for clip in clips]
    apart, together = (
        torch.cat(codes),
        dictionary.encode(torch.cat([pocket.run(c, [site])[site] for c in clips])).dense(),
    )
    density = torch.from_numpy(atlas.features["density"].to_numpy(copy=True)).float()
    assert torch.allclose(density, (apart > 0).float().mean(dim=0), atol=1e-6)
    assert not torch.allclose(density, (together > 0).float().mean(dim=0), atol=1e-6)
