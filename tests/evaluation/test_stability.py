"""Stability counts features that come again in direction and in activity, and none by chance."""

from __future__ import annotations

import pytest
import torch
from planted_speech import PHONES, D, N, Speech, value

from otoscope.errors import InputError
from otoscope.evaluation import match_features, stability
from otoscope.evaluation import stability as stability_function


def shuffled(speech: Speech, seed: int) -> tuple[object, torch.Tensor]:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    return speech.dictionary(speech.directions[order], speech.directions[order], f"seed {seed}"), order


def test_the_same_features_in_another_order_are_all_found(speech: Speech) -> None:
    dictionary, order = shuffled(speech, 1)
    match = match_features(speech.oracle(), dictionary, speech.frames)
    assert torch.equal(order[torch.from_numpy(match.partner)], torch.from_numpy(match.feature))
    assert match.stable.all()
    assert (match.n_alive, len(match.feature)) == (N, N)


def test_three_seeds_are_compared_pair_by_pair_beside_random_directions(speech: Speech) -> None:
    seeds = [shuffled(speech, seed)[0] for seed in range(3)]
    measures = stability(seeds, speech.frames)
    assert [m.of["pair"] for m in measures if m.name == "stability.share" and m.of] == [
        "seed 0 – seed 1", "seed 0 – seed 2", "seed 1 – seed 2",
    ]  # fmt: skip
    assert value(measures, "stability.share") == 1
    assert value(measures, "stability.cosine") == pytest.approx(1)
    assert value(measures, "stability.share.chance") == 0
    assert value(measures, "stability.cosine.chance") < 0.6


def test_what_changed_between_seeds_is_not_stable(speech: Speech) -> None:
    other = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(9)))[0]
    half = len(PHONES)
    rows = torch.cat([speech.directions[:half], other[: N - half]])
    match = match_features(speech.oracle(), speech.dictionary(rows, rows), speech.frames)
    assert match.stable.sum() == half
    assert set(match.feature[match.stable]) == set(range(half))


def test_the_same_direction_that_is_active_elsewhere_is_not_the_same_feature(speech: Speech) -> None:
    turned = speech.directions.roll(1, dims=0)
    match = match_features(speech.oracle(), speech.dictionary(turned, speech.directions), speech.frames)
    assert (match.cosine > 0.99).all()
    assert not match.stable.any()


def test_dead_features_neither_match_nor_count(speech: Speech) -> None:
    dying = speech.oracle()
    dying.encoder_bias[:4] = -1e9
    match = match_features(dying, speech.oracle(), speech.frames)
    assert (len(match.feature), match.n_alive) == (N - 4, N)
    assert value(stability([dying, speech.oracle()], speech.frames), "stability.share") == pytest.approx(1 - 4 / N)


def test_large_dictionaries_are_matched_by_mutual_neighbours_alike(
    speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    dictionary, _ = shuffled(speech, 2)
    exact = match_features(speech.oracle(), dictionary, speech.frames)
    monkeypatch.setattr(sys.modules[stability_function.__module__], "MAX_HUNGARIAN", 0)
    monkeypatch.setattr(sys.modules[stability_function.__module__], "_ROWS", 7)
    quick = match_features(speech.oracle(), dictionary, speech.frames)
    assert quick.partner.tolist() == exact.partner.tolist()
    assert quick.iou.tolist() == exact.iou.tolist()


def test_one_dictionary_or_two_of_different_sites_are_refused(speech: Speech) -> None:
    with pytest.raises(InputError, match="two dictionaries at least, got 1"):
        stability([speech.oracle()], speech.frames)
    elsewhere = speech.oracle()
    elsewhere.target_site = "encoder.3.mlp.out"
    with pytest.raises(InputError, match="only dictionaries of one site"):
        match_features(speech.oracle(), elsewhere, speech.frames)
