"""Transcoders, crosscoders and multi-frame dictionaries find what was planted for them, and controls do not."""

from __future__ import annotations

import torch
from planted import learn, mean_max_cosine, planted, unscaled
from torch import Tensor

from otoscope.dictionaries import Dictionary, TopK
from otoscope.dictionaries.architectures.crosscoder import Crosscoder, CrosscoderDictionary
from otoscope.dictionaries.architectures.multi_frame import MultiFrame, MultiFrameDictionary, overlapped
from otoscope.dictionaries.architectures.transcoder import Transcoder
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.schedule import learning_rate

CPU = torch.device("cpu")


def random_directions(n: int, d: int, *, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_transcoder_finds_which_directions_are_read_and_which_are_written() -> None:
    d_in, d_out, n = 24, 16, 24
    data = planted(8_000, d_in, n, 2, seed=1)
    written = random_directions(n, d_out, seed=8)
    spec = Transcoder(2 * n, k=2)
    found = learn(spec, data.x, data.code @ written, steps=600, lr=2e-2, batch_size=256)
    dictionary = found.dictionary(unscaled(d_in, d_out), sites=("in", "out"), name="found")
    assert mean_max_cosine(dictionary.directions(range(2 * n)), written) >= 0.95
    code = torch.cat([dictionary.encode(data.x[:2000]).dense(), data.code[:2000]], dim=1)
    agreement = torch.corrcoef(code.T)[: 2 * n, 2 * n :].nan_to_num().amax(dim=0)
    assert float(agreement.mean()) > 0.95, "every planted feature is read by one of those found"
    untrained = spec.learner(TrainingPlan(d_in, 1, 1, 0, CPU, d_out)).parameters["decoder"]
    assert mean_max_cosine(untrained, written) < 0.8


def test_a_skip_connection_takes_what_is_linear() -> None:
    d_in, d_out, n = 24, 16, 16
    data = planted(8_000, d_in, n, 2, seed=1, noise=0.3)
    linear = torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(9)) / d_in**0.5
    y = data.code @ random_directions(n, d_out, seed=8) + data.x @ linear.T
    left = {}
    for skip in (True, False):
        made = learn(Transcoder(n, k=2, skip=skip), data.x, y, steps=400, lr=2e-2, batch_size=256)
        dictionary = made.dictionary(unscaled(d_in, d_out), sites=("in", "out"), name="found")
        left[skip] = float((dictionary.reconstruct(data.x) - y).square().sum() / (y - y.mean(0)).square().sum())
    assert left[True] < 0.5 * left[False]


def two_layers(*, matched: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Frames of two sites of 16 units: 8 features in both, 8 in either; where each lives (-1: in both)."""
    d, n = 16, 24
    data = planted(8_000, d, n, 2, seed=2)
    second = random_directions(n, d, seed=5)
    lives = torch.tensor([-1] * 8 + [0] * 8 + [1] * 8)
    directions = torch.cat([data.directions * (lives != 1)[:, None], second * (lives != 0)[:, None]], dim=1)
    x = data.code @ directions
    if not matched:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        x = torch.cat([x[:, :d], x[order, d:]], dim=1)
    return x, directions, lives


def crosscoder_of(x: Tensor, *, steps: int = 600) -> CrosscoderDictionary:
    made = Crosscoder(48, k=2).learner(TrainingPlan(32, steps, steps * 256, 0, CPU, widths=(16, 16)))
    optimiser, generator = Optimiser(made), torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimiser.step(Batch.of(x[rows]), step, learning_rate(step, steps, 2e-2))
    dictionary = made.dictionary(unscaled(32), sites=("first", "second"), name="found")
    assert isinstance(dictionary, CrosscoderDictionary)
    return dictionary


def test_a_crosscoder_tells_shared_features_from_private_ones() -> None:
    x, directions, lives = two_layers(matched=True)
    found = crosscoder_of(x)
    assert mean_max_cosine(found.decoder, directions) >= 0.95
    unit = torch.nn.functional.normalize
    match = (unit(directions, dim=1) @ unit(found.decoder, dim=1).T).argmax(dim=1)
    assert torch.equal(found.owners()[match], lives)
    assert mean_max_cosine(crosscoder_of(x, steps=0).decoder, directions) < 0.8


def test_sites_of_other_frames_share_nothing() -> None:
    x, directions, lives = two_layers(matched=False)
    found = crosscoder_of(x)
    assert mean_max_cosine(found.decoder, directions[lives == -1]) < 0.85


def stretches(t: int, d: int, n: int, w: int) -> tuple[Tensor, Tensor]:
    """Frames `[t, d]` in each of which one of `n` stretches of `w` frames begins, and those stretches `[n, w·d]`."""
    generator = torch.Generator().manual_seed(3)
    atoms = random_directions(n, w * d, seed=4)
    chosen = torch.randint(n, (t,), generator=generator)
    pieces = atoms[chosen] * (torch.rand(t, 1, generator=generator) + 0.5)
    return overlapped(pieces, 1, w)[0, :t], atoms


def left_over(found: Dictionary, x: Tensor) -> float:
    return float((found.reconstruct(x) - x).square().sum() / (x - x.mean(dim=0)).square().sum())


def test_a_multi_frame_dictionary_finds_stretches_that_single_frames_cannot_hold() -> None:
    d, n, w = 16, 16, 5
    x, atoms = stretches(16_000, d, n, w)
    spec = MultiFrame(2 * n, k=1, width=w)
    found = learn(spec, x, steps=300, lr=2e-2).dictionary(unscaled(d), sites=("a",), name="found")
    assert isinstance(found, MultiFrameDictionary)
    assert mean_max_cosine(found.decoder, atoms) >= 0.95
    assert left_over(found, x) < 0.05

    untrained = spec.learner(TrainingPlan(d, 1, 1, 0, CPU)).parameters["decoder"]
    assert mean_max_cosine(untrained, atoms) < 0.8
    single = learn(TopK(2 * n * w, k=1), x, steps=150, lr=2e-2).dictionary(unscaled(d), sites=("a",), name="single")
    padded = torch.cat(
        [
            torch.nn.functional.pad(single.directions(range(len(single))), (lag * d, (w - 1 - lag) * d))
            for lag in range(w)
        ]
    )
    assert mean_max_cosine(padded, atoms) < 0.8
    assert left_over(single, x) > 5 * left_over(found, x)


def test_frames_out_of_order_hold_no_stretches() -> None:
    x, atoms = stretches(16_000, 16, 16, 5)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    found = learn(MultiFrame(32, k=1), x, steps=150, lr=2e-2)
    assert mean_max_cosine(found.parameters["decoder"], atoms) < 0.8
