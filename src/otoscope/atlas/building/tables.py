"""The tables of an atlas, put together from what its blocks of features gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.building.indexing import clip_bounds
from otoscope.atlas.building.neighbours import decoder_neighbours, has_neighbours
from otoscope.atlas.building.statistics import Columns
from otoscope.atlas.format import ACOUSTICS, BANDS, CLASSES, CLIPS, FEATURES, LABELS
from otoscope.atlas.labels.judging import Judged
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.evaluation.naming.labelling import Labelling
from otoscope.evaluation.naming.targets import Rows
from otoscope.storage.arrays import pack_strings, write_arrays

BAND_FIGURES = ("skill", "f1", "f1_low", "f1_high", "precision", "recall", "chance", "p_value", "q_value")
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
    statistics: Columns,
    purities: Rows,
    judged: Judged,
    label_share: npt.NDArray[np.float32],
    floors: npt.NDArray[np.float32] | None = None,
) -> None:
    """Write `features.safetensors`, `statistics` being of all features; `label` and `purity_label` are numbers of
    classes, −1 for none."""
    columns: Arrays = {**statistics, **label_columns(judged), "label_share": label_share}
    if floors is not None:
        columns["threshold"] = np.maximum(columns["threshold"], floors)
    columns["postings_from"] = np.zeros(dictionary.n_features, dtype=np.float32) if floors is None else floors
    columns["purity"] = purities["purity"]
    columns["purity_label"] = purities["purity_class"].astype(np.int32)
    if has_neighbours(dictionary):
        columns |= decoder_neighbours(dictionary)
    units = [dictionary.unit_label(i) for i in range(dictionary.n_features)] if dictionary.kind == "neurons" else []
    if units:
        columns |= texts("unit", units)
    write_arrays(folder / FEATURES, columns)


def write_labels(folder: Path, labels: Rows, n_features: int, floors: npt.NDArray[np.float32] | None = None) -> None:
    """Write `labels.safetensors`: rows sorted by feature and rank; no threshold lies below its feature's floor."""
    if floors is not None:
        labels = {**labels, "threshold": np.maximum(labels["threshold"], floors[labels["feature"]])}
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


def write_classes(folder: Path, labelling: Labelling, labels: Rows) -> None:
    """Write `classes.safetensors`: how often each class occurs, and its best feature, chosen on one half of the voices
    and measured on the other."""
    kinds = labelling.kinds
    counts = [each.sum(axis=0) for each in labelling.n_positive]
    n_classes = sum(len(each.classes) for each in kinds)
    best = labels["class_rank"] == 0
    at = labels["class"][best]
    feature = np.full(n_classes, -1, dtype=np.int64)
    feature[at] = labels["feature"][best]
    columns: Arrays = {
        **texts("label", [name for each in kinds for name in each.classes]),
        **texts("kind", [each.name for each in kinds for _ in each.classes]),
        "n_intervals": np.concatenate([np.zeros(0, dtype=np.int64), *(each.n_intervals for each in kinds)]),
        "n_frames": np.concatenate([np.zeros(0, dtype=np.int64), *(each[:-1] for each in counts)]),
        "prevalence": np.concatenate([np.zeros(0), *(each[:-1] / max(each.sum(), 1) for each in counts)]),
        "best_feature": feature,
    }
    for name in ("f1", "f1_low", "f1_high", "ap", "auroc"):
        column = np.full(n_classes, np.nan, dtype=np.float32)
        column[at] = labels[name][best]
        columns[f"best_{name}"] = column
    write_arrays(folder / CLASSES, columns)


def write_acoustics(folder: Path, columns: dict[str, npt.NDArray[np.float32]]) -> None:
    """Write `acoustics.safetensors`."""
    write_arrays(folder / ACOUSTICS, dict(columns))


def write_bands(folder: Path, bands: Rows, n_features: int) -> None:
    """Write `bands.safetensors`: rows sorted by feature."""
    counts = np.bincount(bands["feature"].astype(np.int64), minlength=n_features)
    columns: Arrays = {"indptr": np.concatenate(([0], np.cumsum(counts))).astype(np.int64)}
    for name in ("role", "step", "members", "passes", "band_low", "band_high"):
        columns[name] = bands[name]
    for name in BAND_FIGURES:
        columns[name] = bands[name].astype(np.float32)
    write_arrays(folder / BANDS, columns)


def label_columns(judged: Judged) -> Arrays:
    """Columns that give each feature its label, measured; no name (but the figures of its first class) where that may
    be chance."""
    n = len(judged.first)
    at = np.flatnonzero(judged.first >= 0)
    rows = judged.first[at]
    name = np.full(n, -1, dtype=np.int32)
    named = judged.label >= 0
    name[named] = judged.pairs["class"][judged.label[named]]
    columns: Arrays = {"label": name, "n_labels": judged.n_labels, "nature": judged.nature}
    for figure in LABEL_FIGURES:
        column = np.full(n, np.nan, dtype=np.float64 if figure == "threshold" else np.float32)
        column[at] = judged.pairs[figure][rows]
        columns[figure] = column
    return columns


def texts(name: str, values: list[str]) -> Arrays:
    """Columns of one text per row, as `otoscope.storage.arrays.Strings` reads them."""
    return {f"{name}.{part}": array for part, array in pack_strings(values).items()}
