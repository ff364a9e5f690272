"""The tables of an atlas, put together from what its blocks of features gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.build.indexing import clip_bounds, joined, runs
from otoscope.atlas.build.neighbours import decoder_neighbours, has_neighbours
from otoscope.atlas.build.statistics import Columns
from otoscope.atlas.format import CLASSES, CLIPS, FEATURES, LABELS
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.evaluation.label_sets import LabelSet
from otoscope.evaluation.labeller import N_BEST, N_RANKED, Rows
from otoscope.evaluation.selectivity import benjamini_hochberg
from otoscope.storage.arrays import pack_strings, write_arrays

MAX_Q = 0.05
"""A feature carries its best class as its label only below this false-discovery rate."""
LABEL_FIGURES = (
    "f1", "f1_low", "f1_high", "precision", "recall", "ap", "auroc", "chance", "p_value", "q_value", "threshold",
)  # fmt: skip

Arrays = dict[str, npt.NDArray[Any]]


def write_clips(folder: Path, corpus: Corpus, clip_frames: list[int], half: npt.NDArray[np.uint8]) -> None:
    """Write `clips.safetensors`."""
    bounds = clip_bounds(clip_frames)
    write_arrays(
        folder / CLIPS,
        {
            **texts("clip_id", [clip.clip_id for clip in corpus]),
            **texts("speaker", [clip.speaker or "" for clip in corpus]),
            **texts("fingerprint", clip_fingerprints(corpus)),
            "first_frame": bounds[:-1],
            "n_frames": np.array(clip_frames, dtype=np.int64),
            "half": half,
        },
    )


def clip_fingerprints(corpus: Corpus) -> list[str]:
    """What each clip's code depends on besides model and dictionary: its recording and span."""
    return [
        f"{sha256} {clip.start_s!r} {clip.end_s!r}" for clip, sha256 in zip(corpus, corpus.content_hashes, strict=True)
    ]


def write_features(
    folder: Path,
    dictionary: Dictionary,
    statistics: list[Columns],
    purities: list[Rows],
    labels: Rows,
    floors: npt.NDArray[np.float32] | None = None,
) -> None:
    """Write `features.safetensors`; `label` and `purity_label` are numbers of classes, −1 for none."""
    columns: Arrays = {**joined(statistics), **best_labels(labels, dictionary.n_features)}
    found = joined(purities)
    columns["postings_from"] = np.zeros(dictionary.n_features, dtype=np.float32) if floors is None else floors
    columns["purity"] = found["purity"]
    columns["purity_label"] = found["purity_class"].astype(np.int32)
    if has_neighbours(dictionary):
        columns |= decoder_neighbours(dictionary)
    units = [dictionary.unit_label(i) for i in range(dictionary.n_features)] if dictionary.kind == "neurons" else []
    if units:
        columns |= texts("unit", units)
    write_arrays(folder / FEATURES, columns)


def write_labels(folder: Path, labels: Rows, n_features: int) -> None:
    """Write `labels.safetensors`: rows sorted by feature and rank."""
    counts = np.bincount(labels["feature"], minlength=n_features)
    columns: Arrays = {
        "indptr": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        "class": labels["class"].astype(np.int32),
        "rank": labels["rank"],
        "skill": labels["skill"].astype(np.float32),
    }
    for name in LABEL_FIGURES:
        columns[name] = labels[name].astype(np.float64 if name == "threshold" else np.float32)
    write_arrays(folder / LABELS, columns)


def write_classes(folder: Path, sets: list[LabelSet], labels: Rows) -> None:
    """Write `classes.safetensors`: how often each class occurs, and its best feature, chosen on one half of the voices
    and measured on the other."""
    n_frames = [np.bincount(each.frame_class[each.frame_class >= 0], minlength=len(each.classes) + 1) for each in sets]
    n_classes = sum(len(each.classes) for each in sets)
    best = labels["class_rank"] == 0
    at = labels["class"][best]
    feature = np.full(n_classes, -1, dtype=np.int64)
    feature[at] = labels["feature"][best]
    columns: Arrays = {
        **texts("label", [name for each in sets for name in each.classes]),
        **texts("kind", [each.kind for each in sets for _ in each.classes]),
        "n_intervals": np.concatenate([np.zeros(0, dtype=np.int64), *(each.n_intervals for each in sets)]),
        "n_frames": np.concatenate([np.zeros(0, dtype=np.int64), *(counts[:-1] for counts in n_frames)]),
        "prevalence": np.concatenate([np.zeros(0), *(counts[:-1] / counts.sum() for counts in n_frames)]),
        "best_feature": feature,
    }
    for name in ("f1", "f1_low", "f1_high", "ap", "auroc"):
        column = np.full(n_classes, np.nan, dtype=np.float32)
        column[at] = labels[name][best]
        columns[f"best_{name}"] = column
    write_arrays(folder / CLASSES, columns)


def ranked_labels(rows: Rows) -> Rows:
    """Sort pairs by feature and skill; drop those that are neither a feature's nor a class's best; adjust p-values."""
    order = np.lexsort((rows["class"], -rows["skill"], rows["feature"]))
    rows = {name: values[order] for name, values in rows.items()}
    rows["rank"] = runs(rows["feature"])
    by_class = np.lexsort((rows["feature"], -rows["skill"], rows["class"]))
    class_rank = np.empty(len(by_class), dtype=np.int32)
    class_rank[by_class] = runs(rows["class"][by_class])
    kept = (rows["rank"] < N_RANKED) | (class_rank < N_BEST)
    rows = {name: values[kept] for name, values in rows.items()}
    rows["class_rank"] = class_rank[kept]
    rows["q_value"] = benjamini_hochberg(rows["p_value"])
    return rows


def best_labels(labels: Rows, n_features: int) -> Arrays:
    """Columns that give each feature its best class, measured; no name where that class may be chance."""
    best = labels["rank"] == 0
    at = labels["feature"][best].astype(np.int64)
    name = np.full(n_features, -1, dtype=np.int32)
    name[at] = np.where(labels["q_value"][best] <= MAX_Q, labels["class"][best], -1)
    columns: Arrays = {"label": name}
    for figure in LABEL_FIGURES:
        column = np.full(n_features, np.nan, dtype=np.float64 if figure == "threshold" else np.float32)
        column[at] = labels[figure][best]
        columns[figure] = column
    return columns


def texts(name: str, values: list[str]) -> Arrays:
    """Columns of one text per row, as `otoscope.storage.arrays.Strings` reads them."""
    return {f"{name}.{part}": array for part, array in pack_strings(values).items()}
