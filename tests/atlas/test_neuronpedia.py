"""What is written for Neuronpedia has its fields, and its tokens are the phones of the corpus with their values."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_world import DEAD, MORNING, SIREN, M, World

from otoscope.atlas import Atlas
from otoscope.atlas.exports.frame_labels import PAUSE
from otoscope.atlas.exports.neuronpedia import export_neuronpedia
from otoscope.atlas.exports.neuronpedia_records import Publication
from otoscope.audio import Corpus
from otoscope.dictionaries import RandomBasis
from otoscope.errors import InputError

WHEN = Publication("units", created_at=datetime(2026, 1, 1, tzinfo=UTC))
FLOATS, TEXTS, INTEGERS = (float, int), str, int
FEATURE = {
    **dict.fromkeys(("modelId", "layer", "index", "creatorId", "createdAt", "hookName"), TEXTS),
    **dict.fromkeys(("maxActApprox", "vectorDefaultSteerStrength", "frac_nonzero"), FLOATS),
    "hasVector": bool,
}
LISTS = {
    **dict.fromkeys(("topkCosSimIndices", "neuron_alignment_indices", "correlated_neurons_indices"), INTEGERS),
    **dict.fromkeys(("pos_str", "neg_str"), TEXTS),
    **dict.fromkeys(("vector", "topkCosSimValues", "pos_values", "neg_values", "decoder_weights_dist"), FLOATS),
    **dict.fromkeys(("freq_hist_data_bar_heights", "freq_hist_data_bar_values"), FLOATS),
    **dict.fromkeys(("logits_hist_data_bar_heights", "logits_hist_data_bar_values"), FLOATS),
    **dict.fromkeys(("correlated_features_indices", "correlated_features_pearson", "neuron_alignment_l1"), FLOATS),
}
ACTIVATION = {
    **dict.fromkeys(("id", "index", "layer", "modelId", "creatorId", "dataSource", "dataIndex", "createdAt"), TEXTS),
    **dict.fromkeys(("maxValue", "minValue", "binMin", "binMax", "binContains"), FLOATS),
    **dict.fromkeys(("maxValueTokenIndex", "qualifyingTokenIndex"), INTEGERS),
}


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def written(atlas: Atlas, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_neuronpedia(atlas, world.dictionary, world.corpus, tmp_path_factory.mktemp("exports"), WHEN)


@pytest.fixture(scope="module")
def features(written: Path) -> dict[int, dict[str, Any]]:
    return {int(row["index"]): row for row in lines(written / "features" / "batch-0.jsonl.gz")}


@pytest.fixture(scope="module")
def moments(written: Path) -> list[dict[str, Any]]:
    return lines(written / "activations" / "batch-0.jsonl.gz")


def test_the_files_are_where_neuronpedia_looks_for_them(written: Path) -> None:
    assert written.parts[-2:] == ("planted", "1-units")
    found = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert found == {
        *(f"{name}.jsonl" for name in ("release", "model", "sourceset", "source")),
        "features/batch-0.jsonl.gz",
        "activations/batch-0.jsonl.gz",
        "explanations/batch-0.jsonl.gz",
    }
    heads = {name: lines(written / f"{name}.jsonl")[0] for name in ("release", "model", "sourceset", "source")}
    assert heads["source"]["id"] == "1-units"
    assert heads["source"]["setName"] == heads["sourceset"]["name"] == "units"
    assert heads["sourceset"]["releaseName"] == heads["release"]["name"]
    assert {heads[name]["modelId"] for name in ("sourceset", "source")} == {heads["model"]["id"]}


def test_every_field_is_there_and_of_its_type(features: dict[int, Any], moments: list[dict[str, Any]]) -> None:
    for row in features.values():
        for name, kind in FEATURE.items():
            assert isinstance(row[name], kind), name
        for name, kind in LISTS.items():
            assert all(isinstance(value, kind) for value in row[name]), name
        assert len(row["freq_hist_data_bar_heights"]) == len(row["freq_hist_data_bar_values"])
        assert len(row["pos_str"]) == len(row["pos_values"])
        assert len(row["topkCosSimIndices"]) == len(row["topkCosSimValues"])
    for row in moments:
        for name, kind in ACTIVATION.items():
            assert isinstance(row[name], kind), name
        assert len(row["tokens"]) == len(row["values"]) <= 128
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == max(row["values"])
        assert row["minValue"] == min(row["values"])
        assert 0 <= row["qualifyingTokenIndex"] < len(row["tokens"])
    assert max(Counter(row["id"] for row in moments).values()) == 1


def test_features_say_what_the_atlas_says(features: dict[int, Any], atlas: Atlas) -> None:
    assert set(features) == {index for index in range(len(atlas)) if atlas[index].stats["n_active"]}
    assert DEAD not in features
    for index, row in features.items():
        stats = atlas[index].stats
        assert row["maxActApprox"] == pytest.approx(stats["max"], rel=1e-5)
        assert row["frac_nonzero"] == pytest.approx(stats["density"], rel=1e-5)
        assert sum(row["freq_hist_data_bar_heights"]) == stats["n_active"]
        assert index not in row["topkCosSimIndices"]
    assert features[M]["pos_str"][0] == "m"
    assert features[MORNING]["pos_str"][0] == "morning"


def test_a_token_is_a_phone_and_its_value_the_largest_of_its_frames(
    moments: list[dict[str, Any]], world: World
) -> None:
    spoken = [row for row in moments if row["index"] == str(M) and row["dataIndex"].startswith("speech")]
    assert spoken
    for row in spoken:
        clip_id, span = row["dataIndex"].split("@")
        clip = world.corpus.get(clip_id)
        begin_s, end_s = map(float, span.split("-"))
        assert 0 <= begin_s < end_s <= len(world.model.frames[clip_id]) * 0.02 + 1e-9
        said = [token for token in row["tokens"] if token != PAUSE]
        assert said == [phone.label for phone in clip.tier("phones")][: len(said)]
        frames = world.model.frames[clip_id][:, M]
        assert row["maxValue"] == pytest.approx(frames.max(), rel=1e-5)
    strongest = [row["tokens"][row["maxValueTokenIndex"]] for row in spoken if row["binMin"] == -1]
    assert set(strongest) == {"m"}
    other = [row for row in moments if row["index"] == "1" and row["dataIndex"].startswith("speech")]
    assert {row["tokens"][row["maxValueTokenIndex"]] for row in other} != {"m"}, "the control finds other phones"


def test_clips_without_phones_have_a_token_for_each_frame(moments: list[dict[str, Any]], world: World) -> None:
    sounds = [row for row in moments if row["index"] == str(SIREN) and row["dataIndex"].startswith("sound")]
    assert sounds
    for row in sounds:
        clip_id, span = row["dataIndex"].split("@")
        first = round(float(span.split("-")[0]) / 0.02)
        frames = world.model.frames[clip_id][first : first + len(row["tokens"]), SIREN]
        kept = np.array(row["values"]) > 0  # of dense features, the strongest frames
        assert kept.any()
        assert np.allclose(np.array(row["values"])[kept], frames[kept], rtol=1e-5)
        assert row["tokens"][0] == f"{first * 0.02:.2f}s"


def test_deciles_say_their_bounds_and_how_much_lies_between(
    features: dict[int, Any], moments: list[dict[str, Any]], atlas: Atlas
) -> None:
    shares: dict[tuple[str, float], float] = {}
    for row in moments:
        if row["binMin"] >= 0:
            assert row["binMin"] - 1e-4 <= row["values"][row["qualifyingTokenIndex"]]
            shares[row["index"], row["binMin"]] = row["binContains"]
    for index in features:
        kept = len(atlas[index].entries.frames) / atlas[index].stats["n_active"]  # of dense features, the strongest
        assert kept / 2 < sum(share for (of, _), share in shares.items() if of == str(index)) <= 1 + 1e-6


def test_vectors_come_with_it_where_they_are_asked_for(atlas: Atlas, world: World, tmp_path: Path) -> None:
    place = export_neuronpedia(atlas, world.dictionary, world.corpus, tmp_path, WHEN, vectors=True, examples=1)
    for row in lines(place / "features" / "batch-0.jsonl.gz"):
        expected = world.dictionary.directions([int(row["index"])])[0]
        assert torch.allclose(torch.tensor(row["vector"]), expected, atol=1e-5)


def test_the_same_atlas_gives_the_same_bytes(written: Path, atlas: Atlas, world: World, tmp_path: Path) -> None:
    again = export_neuronpedia(atlas, world.dictionary, world.corpus, tmp_path, WHEN)
    for path in written.rglob("*.gz"):
        assert path.read_bytes() == (again / path.relative_to(written)).read_bytes()


def test_what_does_not_belong_together_is_refused(atlas: Atlas, world: World, tmp_path: Path) -> None:
    other = RandomBasis(world.dictionary.site, 8, len(atlas), k=2)
    with pytest.raises(InputError, match="describes the dictionary 'units', not"):
        export_neuronpedia(atlas, other, world.corpus, tmp_path, WHEN)
    with pytest.raises(InputError, match="built over another corpus: 'half' lacks"):
        export_neuronpedia(atlas, world.dictionary, Corpus("half", list(world.corpus)[:5]), tmp_path, WHEN)
    with pytest.raises(InputError, match="set_name must be letters, digits and dashes"):
        Publication("a/../b")


def test_what_the_atlas_says_in_a_sentence_becomes_an_explanation(
    atlas: Atlas, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {M: "/m/; F1 .99 [.98–1.00], chance .20", SIREN: "unlabelled: nothing passes"}
    sentence = property(lambda entry: said.get(entry.feature, ""))
    monkeypatch.setattr("otoscope.atlas.entry.FeatureEntry.sentence", sentence, raising=False)
    place = export_neuronpedia(atlas, world.dictionary, world.corpus, tmp_path, WHEN, examples=1, per_decile=1)
    (row,) = lines(place / "explanations" / "batch-0.jsonl.gz")
    assert (row["index"], row["description"]) == (str(M), said[M])
    assert (row["modelId"], row["layer"], row["authorId"]) == ("planted", "1-units", WHEN.creator_id)
    assert row["explanationModelName"] is None, "no language model wrote it"
