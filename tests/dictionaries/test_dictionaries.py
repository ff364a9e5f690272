"""Dictionaries: codes, neurons, the random control, single features and their edits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.dictionaries import (
    Dictionary,
    Neurons,
    RandomBasis,
    SparseCode,
    TopKDictionary,
    load_dictionary,
)
from otoscope.errors import InputError

SITE = "encoder.2.resid_post"


def make(kind: str, n: int = 40, d: int = 12, k: int = 5) -> Dictionary:
    generator = torch.Generator().manual_seed(3)
    if kind == "neurons":
        return Neurons(SITE, d)
    if kind == "random":
        return RandomBasis(SITE, d, n, seed=3, k=k, mean=torch.randn(d, generator=generator))
    return TopKDictionary(
        encoder=torch.randn(n, d, generator=generator),
        encoder_bias=torch.randn(n, generator=generator),
        decoder=torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1),
        decoder_bias=torch.randn(d, generator=generator),
        k=k,
        site=SITE,
    )


every_kind = pytest.mark.parametrize("kind", ["neurons", "random", "topk"])


def test_entries_of_value_zero_are_not_active() -> None:
    code = SparseCode(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1, 0], [0, 0]]), 3)
    assert code.l0.tolist() == [1, 0]
    assert code.dense().tolist() == [[0, 2, 0], [0, 0, 0]]
    assert code.feature(0).tolist() == [0, 0]
    assert "2 frames, 0.5 of 3 features" in repr(code)


def test_a_code_of_unequal_shapes_is_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        SparseCode(torch.zeros(2, 3), torch.zeros(2, 2, dtype=torch.int32), 5)


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_neurons_lose_nothing(d: int, t: int, seed: int) -> None:
    neurons = Neurons(SITE, d)
    x = torch.randn(t, d, generator=torch.Generator().manual_seed(seed))
    code = neurons.encode(x)
    assert torch.equal(neurons.decode(code), x)
    assert torch.equal(code.dense(), torch.cat([x.relu(), (-x).relu()], dim=1))


def test_neurons_say_which_side_they_are() -> None:
    neurons = Neurons(SITE, 8)
    assert neurons.n_features == 16
    assert neurons.dense
    assert [neurons.unit_label(index) for index in (5, 13)] == ["5", "5−"]
    assert torch.equal(neurons.feature(13).direction, -neurons.feature(5).direction)


@every_kind
def test_feature_values_and_directions_agree_with_encode_and_decode(kind: str) -> None:
    dictionary = make(kind)
    x = torch.randn(2, 7, 12)
    features = [3, 0, 21]
    code = dictionary.encode(x.reshape(14, 12))
    values = dictionary.feature_values(x, features)
    assert torch.allclose(values.reshape(14, 3), code.dense()[:, features])
    assert torch.allclose(code.features(torch.tensor(features)), code.dense()[:, features])
    one = SparseCode(torch.ones(3, 1), torch.tensor(features)[:, None].int(), dictionary.n_features)
    zero = dictionary.decode(SparseCode(torch.zeros(3, 1), one.indices, dictionary.n_features))
    assert torch.allclose(dictionary.decode(one) - zero, dictionary.directions(features), atol=1e-6)


@every_kind
@pytest.mark.parametrize("index", [-1, 999])
def test_a_feature_out_of_range_is_refused_with_the_range(kind: str, index: int) -> None:
    dictionary = make(kind)
    for ask in (dictionary.feature, dictionary.unit_label, lambda i: dictionary.directions([i])):
        with pytest.raises(InputError, match=rf"no feature {index} .*from 0 to {dictionary.n_features - 1}"):
            ask(index)
    with pytest.raises(InputError, match="from 0 to"):
        dictionary.feature_values(torch.zeros(1, 12), [index])
    with pytest.raises(InputError, match="from 0 to"):
        dictionary.encode(torch.zeros(1, 12)).feature(index)


@every_kind
def test_activations_of_another_width_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"\[frames, 12\], got \[4, 13\]"):
        make(kind).encode(torch.zeros(4, 13))


@every_kind
def test_saved_dictionaries_come_back_the_same(kind: str, tmp_path: Path) -> None:
    dictionary = make(kind)
    dictionary.metadata = {"note": "kept"}
    dictionary.save(tmp_path / "mine")
    loaded = load_dictionary(tmp_path / "mine")
    assert type(loaded) is type(dictionary)
    assert (loaded.name, loaded.site, loaded.n_features) == ("mine", SITE, dictionary.n_features)
    assert loaded.metadata["note"] == "kept"
    assert loaded.fingerprint == dictionary.fingerprint
    x = torch.randn(9, 12)
    assert torch.equal(loaded.encode(x).dense(), dictionary.encode(x).dense())
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_fingerprints_tell_dictionaries_apart() -> None:
    prints = [make("neurons"), make("random"), make("topk"), Neurons("encoder.1.resid_post", 12), make("topk", k=4)]
    assert len({dictionary.fingerprint for dictionary in prints}) == len(prints)


def test_the_random_control_is_orthonormal_and_repeatable() -> None:
    basis = RandomBasis(SITE, 16, 40, seed=5, k=4)
    assert torch.allclose(basis.rows[:16] @ basis.rows[:16].T, torch.eye(16), atol=1e-5)
    assert torch.allclose(basis.rows.norm(dim=1), torch.ones(40), atol=1e-5)
    assert basis.fingerprint == RandomBasis(SITE, 16, 40, seed=5, k=4).fingerprint
    assert basis.fingerprint != RandomBasis(SITE, 16, 40, seed=6, k=4).fingerprint
    assert int(basis.encode(torch.randn(50, 16)).l0.max()) <= 4


@every_kind
def test_edits_of_a_feature_say_what_they_do(kind: str) -> None:
    dictionary = make(kind)
    feature = dictionary.feature(7)
    assert feature.address == f"{dictionary.name}:7"
    edits = [feature.zero(), feature.scale(-1), feature.add(2.5, time_s=(0.5, 1.0)), feature.clamp(3)]
    assert [edit.op for edit in edits] == ["zero", "scale", "add", "clamp"]
    assert [edit.value for edit in edits] == [0, -1, 2.5, 3]
    assert all(edit.site == SITE and edit.features == (7,) and edit.dictionary is dictionary for edit in edits)
    assert edits[2].time_s == (0.5, 1.0)
