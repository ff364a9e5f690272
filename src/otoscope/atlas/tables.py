"""The tables of an atlas, put together from what its blocks of features gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.examples import KINDS as EXAMPLE_KINDS
from otoscope.atlas.format import write_table
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.evaluation.label_sets import LabelSet
from otoscope.evaluation.labeller import N_BEST, N_RANKED, Rows
from otoscope.evaluation.selectivity import benjamini_hochberg

MAX_Q = 0.05
"""A feature carries its best class as its label only below this false-discovery rate."""
LABEL_COLUMNS = (
    "f1", "f1_low", "f1_high", "precision", "recall", "ap", "auroc", "chance", "p_value", "q_value", "threshold",
)  # fmt: skip


def write_tables(
    folder: Path,
    corpus: Corpus,
    clip_frames: list[int],
    half: npt.NDArray[np.uint8],
    sets: list[LabelSet],
    dictionary: Dictionary,
    blocks: dict[str, list[Rows]],
    peaks: Rows,
) -> None:
    """Write all tables; `blocks` holds the rows "stats", "examples", "labels" and "purities" of each block in turn."""
    names = [name for each in sets for name in each.classes]
    kinds = [each.kind for each in sets for _ in each.classes]
    starts = np.cumsum([0, *clip_frames])
    labels = _ranked_labels(_join(blocks["labels"]))
    features = {
        "feature": np.arange(dictionary.n_features),
        "unit": [dictionary.unit_label(i) for i in range(dictionary.n_features)],
        **_join(blocks["stats"]),
        **_feature_labels(labels, dictionary.n_features, names, kinds),
    }
    purities = _join(blocks["purities"])
    features["purity"] = purities["purity"]
    features["purity_label"] = [names[c] if c >= 0 else None for c in purities["purity_class"]]
    write_table(folder / "features.parquet", features)
    write_table(
        folder / "labels.parquet",
        {
            "feature": labels["feature"],
            "rank": labels["rank"],
            "label": [names[c] for c in labels["class"]],
            "kind": [kinds[c] for c in labels["class"]],
            **{name: labels[name].astype(np.float32) for name in LABEL_COLUMNS if name != "threshold"},
            "threshold": labels["threshold"],
            "skill": labels["skill"].astype(np.float32),
        },
    )
    write_table(folder / "classes.parquet", _classes(sets, labels))
    examples = _join(blocks["examples"])
    clip = np.searchsorted(starts, examples["frame"], side="right") - 1
    write_table(
        folder / "examples.parquet",
        {
            "feature": examples["feature"],
            "kind": [EXAMPLE_KINDS[kind] for kind in examples["kind"]],
            "decile": examples["decile"],
            "clip": clip.astype(np.int32),
            "frame": examples["frame"] - starts[clip],
            "value": examples["value"],
        },
    )
    write_table(
        folder / "clips.parquet",
        {
            "clip_id": [clip.clip_id for clip in corpus],
            "first_frame": starts[:-1].astype(np.int64),
            "n_frames": np.array(clip_frames, dtype=np.int64),
            "half": half,
        },
    )
    write_table(folder / "peaks.parquet", {**peaks, "frame": peaks["frame"] - starts[peaks["clip"]]})


def _join(rows: list[Rows]) -> Rows:
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}


def _ranked_labels(rows: Rows) -> Rows:
    """Sort pairs by feature and skill; drop those that are neither a feature's nor a class's best; adjust p-values."""
    order = np.lexsort((rows["class"], -rows["skill"], rows["feature"]))
    rows = {name: values[order] for name, values in rows.items()}
    rows["rank"] = _rank_within(rows["feature"])
    by_class = np.lexsort((rows["feature"], -rows["skill"], rows["class"]))
    class_rank = np.empty(len(by_class), dtype=np.int32)
    class_rank[by_class] = _rank_within(rows["class"][by_class])
    kept = (rows["rank"] < N_RANKED) | (class_rank < N_BEST)
    rows = {name: values[kept] for name, values in rows.items()}
    rows["class_rank"] = class_rank[kept]
    rows["q_value"] = benjamini_hochberg(rows["p_value"])
    return rows


def _rank_within(groups: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Position of each entry within its run of equal `groups`."""
    index = np.arange(len(groups))
    new = np.concatenate(([True], groups[1:] != groups[:-1]))[: len(groups)]
    return (index - np.maximum.accumulate(np.where(new, index, 0))).astype(np.int32)


def _feature_labels(labels: Rows, n_features: int, names: list[str], kinds: list[str]) -> dict[str, Any]:
    """Columns that give each feature its best class, measured; no name where that class may be chance."""
    best = labels["rank"] == 0
    at = labels["feature"][best].astype(np.int64)
    columns: dict[str, Any] = {"label": [None] * n_features, "label_kind": [None] * n_features}
    for feature, c, q in zip(at, labels["class"][best], labels["q_value"][best], strict=True):
        if q <= MAX_Q:
            columns["label"][feature] = names[c]
            columns["label_kind"][feature] = kinds[c]
    for name in LABEL_COLUMNS:
        column = np.full(n_features, np.nan, dtype=np.float64 if name == "threshold" else np.float32)
        column[at] = labels[name][best]
        columns[name] = column
    return columns


def _classes(sets: list[LabelSet], labels: Rows) -> dict[str, Any]:
    """One row per class: how often it occurs, and its best feature, chosen on one half and measured on the other."""
    n_frames = [np.bincount(each.frame_class[each.frame_class >= 0], minlength=len(each.classes) + 1) for each in sets]
    n_classes = sum(len(each.classes) for each in sets)
    best = labels["class_rank"] == 0
    at = labels["class"][best]
    feature = np.full(n_classes, -1, dtype=np.int64)
    feature[at] = labels["feature"][best]
    columns: dict[str, Any] = {
        "label": [name for each in sets for name in each.classes],
        "kind": [each.kind for each in sets for _ in each.classes],
        "n_intervals": np.concatenate([np.zeros(0, dtype=np.int64), *(each.n_intervals for each in sets)]),
        "n_frames": np.concatenate([np.zeros(0, dtype=np.int64), *(counts[:-1] for counts in n_frames)]),
        "prevalence": np.concatenate([np.zeros(0), *(counts[:-1] / counts.sum() for counts in n_frames)]),
        "best_feature": feature,
    }
    for name in ("f1", "f1_low", "f1_high", "ap", "auroc"):
        column = np.full(n_classes, np.nan, dtype=np.float32)
        column[at] = labels[name][best]
        columns[f"best_{name}"] = column
    return columns
