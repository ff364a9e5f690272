"""The high-level features of a temporal dictionary stay the same from frame to frame, because they are trained to."""

from __future__ import annotations

import pytest
import torch
from dense_reference import frames, keep_per_batch, largest_error, pre_activations, shaken, unexplained
from planted import learn, mean_max_cosine, nearest_feature, slow_and_fast
from torch import Tensor

from otoscope.dictionaries import Matryoshka, Temporal
from otoscope.dictionaries.architectures import temporal
from otoscope.dictionaries.training.learner import Batch
from otoscope.errors import InputError

N, D, K, T = 50, 12, 4, 90


def searches(code: Tensor, spec: Temporal) -> Tensor:
    """The contrastive loss of adjacent frames, written densely."""
    unit = torch.nn.functional.normalize(code[:, : spec.edges[1]], dim=1)
    logits = unit[::2] @ unit[1::2].T / spec.temperature
    own = torch.arange(len(logits))
    cross_entropy = torch.nn.functional.cross_entropy
    return spec.contrast * (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize("pairs", [T, 15], ids=["one search", "split searches"])
@pytest.mark.parametrize(
    "spec",
    [Temporal(N, k=K), Temporal(N, k=K, contrast=3.0, temperature=1.0), Temporal(N, k=1, groups=(0.1, 0.4, 0.5))],
    ids=["default", "strong", "frames without high-level features"],
)
def test_gradients_equal_autograd_of_the_dense_loss(
    spec: Temporal, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal, "PAIRS", pairs)
    x = frames(T, D)

    def loss(p: dict[str, Tensor]) -> Tensor:
        code = keep_per_batch(pre_activations(p, x), spec.k)
        prefixes = torch.stack([unexplained(p, x, code, edge) for edge in spec.edges[1:]]).sum()
        parts = torch.stack([searches(part, spec) for part in code.split(2 * min(pairs, T // 2))])
        return prefixes + parts.mean()

    errors = largest_error(shaken(spec, D), Batch(x, x, segment=2), loss)
    assert max(errors.values()) < 2e-5, errors


def test_without_contrast_it_is_a_matryoshka_dictionary() -> None:
    x = frames(T, D)
    batch = Batch(x, x, segment=2)
    plain, _ = shaken(Matryoshka(N, k=K, groups=(0.2, 0.8)), D).gradients(batch, 0)
    same, _ = shaken(Temporal(N, k=K, contrast=0.0), D).gradients(batch, 0)
    other, _ = shaken(Temporal(N, k=K), D).gradients(batch, 0)
    assert all(torch.equal(same[name], gradient) for name, gradient in plain.items())
    assert not torch.allclose(other["encoder"], plain["encoder"], rtol=1e-2, atol=1e-4)
    assert torch.equal(other["decoder"], plain["decoder"]), "the contrast acts on the code, not on what is rebuilt"


def test_pairs_that_leave_the_clip_do_not_count() -> None:
    x, spec = frames(T, D), Temporal(N, k=K)
    padded = torch.cat([x, x[:1], torch.zeros(3, D)])
    inside = torch.tensor([True] * (T + 1) + [False] * 3)
    with_padding, metrics = shaken(spec, D).gradients(Batch(padded, padded, 2, inside), 0)
    without, expected = shaken(spec, D).gradients(Batch(x, x, 2), 0)
    assert all(torch.equal(with_padding[name], gradient) for name, gradient in without.items())
    assert metrics == expected


def test_slow_features_go_up_and_fast_ones_stay_out() -> None:
    data = slow_and_fast(4000, 64, 24, 2)

    def share_of_high_level(contrast: float) -> tuple[float, float]:
        spec = Temporal(64, k=4, groups=(0.5, 0.5), contrast=contrast)
        decoder = learn(spec, data.x, steps=300, lr=1e-2, batch_size=256).parameters["decoder"]
        assert mean_max_cosine(decoder, data.directions) > 0.92
        high = nearest_feature(decoder, data.directions) < spec.edges[1]
        return float(high[:24].float().mean()), float(high[24:].float().mean())

    slow, fast = share_of_high_level(0.3)
    assert slow > 0.7
    assert fast < 0.25
    _, fast = share_of_high_level(0.0)
    assert fast > 0.4, "nothing but the contrast tells slow features from fast ones"


def test_frames_out_of_order_are_refused() -> None:
    with pytest.raises(InputError, match="pairs of frames, got segments of 1"):
        shaken(Temporal(N, k=K), D).gradients(Batch.of(frames(T, D)), 0)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"temperature must be positive, got 0\.1 and 0\.0"):
        Temporal(64, k=4, temperature=0.0)
