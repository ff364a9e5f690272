"""The Parquet tables of an atlas hold what its arrays hold, and so do the exported postings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted_world import DEAD

from otoscope.atlas import Atlas
from otoscope.atlas.exports import parquet
from otoscope.atlas.exports.parquet import TABLES, export_parquet, table_path, write_tables
from otoscope.errors import OtoscopeError


@pytest.fixture(scope="module")
def written(atlas: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_parquet(atlas, tmp_path_factory.mktemp("parquet") / "units")


def test_features_and_labels_are_those_of_the_atlas(atlas: Atlas, written: Path) -> None:
    features = pd.read_parquet(written / "features.parquet").set_index("feature")
    assert features.index.tolist() == list(range(len(atlas)))
    for name in atlas.features.columns:
        theirs, ours = features[name], atlas.features[name]
        if not pd.api.types.is_numeric_dtype(ours) and not pd.api.types.is_bool_dtype(ours):
            assert theirs.fillna("none").tolist() == ours.fillna("none").tolist(), name
        else:
            assert np.allclose(theirs.to_numpy(float), ours.to_numpy(float), equal_nan=True), name
    assert np.array_equal(np.stack(features["histogram"]), atlas.histograms)
    labels = pd.read_parquet(written / "labels.parquet")
    for name in ("feature", "label", "kind"):
        assert labels[name].tolist() == atlas.label_rows[name].tolist()
    assert np.allclose(labels["f1"], atlas.label_rows["f1"])


def test_classes_say_nothing_where_no_feature_is_best(atlas: Atlas, written: Path) -> None:
    classes = pq.read_table(written / "classes.parquet")
    best = atlas.labels["best_feature"].to_numpy()
    found = classes["best_feature"].to_pylist()
    assert [-1 if feature is None else feature for feature in found] == best.tolist()
    assert classes["label"].to_pylist() == list(atlas.labels["label"])


def test_exported_postings_are_the_entries(atlas: Atlas, written: Path) -> None:
    rows = pd.read_parquet(written / "postings")
    assert len(rows) == len(atlas.postings)
    assert DEAD not in set(rows["feature"])
    ids = np.array(atlas.clip_ids)
    for feature, group in rows.groupby("feature"):
        frames, values = atlas.postings[int(feature)]
        clip = atlas.clips.of(frames)
        assert np.array_equal(group["clip_id"], ids[clip])
        assert np.array_equal(group["frame"], frames - atlas.clips.starts[clip])
        assert np.array_equal(group["value"], values)


def test_row_groups_are_bounded_and_the_same_arrays_give_the_same_bytes(
    atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("features", "labels", "classes", "clips"):
        (tmp_path / f"{name}.safetensors").write_bytes((atlas.folder / f"{name}.safetensors").read_bytes())
    write_tables(tmp_path)
    for name in TABLES:
        assert (tmp_path / table_path(name)).read_bytes() == (atlas.folder / table_path(name)).read_bytes()
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 5)
    write_tables(tmp_path)
    file = pq.ParquetFile(tmp_path / table_path("features"))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [5, 5, 5, 1]
    assert file.read().equals(pq.read_table(atlas.folder / table_path("features")))
    monkeypatch.setattr(parquet, "ENTRIES_AT_ONCE", 100)
    again = pd.read_parquet(export_parquet(atlas, tmp_path / "small") / "postings")
    assert len(again) == len(atlas.postings)


def test_a_damaged_table_is_not_handed_on(atlas: Atlas, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(atlas.folder, copied)
    path = copied / table_path("labels")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    opened = Atlas.open(copied)
    with pytest.raises(OtoscopeError, match=r"labels\.parquet is damaged"):
        export_parquet(opened, tmp_path / "out")
    with pytest.raises(OtoscopeError, match=r"labels\.parquet is damaged"):
        opened.sql("SELECT 1")
    assert not (tmp_path / "out").exists()
