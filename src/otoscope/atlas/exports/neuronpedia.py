"""An atlas as Neuronpedia's dashboards take it: `<model>/<layer>-<set>/` with features and the moments they are active.

Neuronpedia shows text. A token is one aligned phone here (its value is the largest of the frames it spans), what lies
between phones is a pause; clips without phones have a token for each frame, named by its time.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from otoscope.atlas.building.neighbours import WITHOUT_DIRECTIONS
from otoscope.atlas.exports.belonging import check_belong, sentence_of
from otoscope.atlas.exports.frame_labels import frame_tokens
from otoscope.atlas.exports.neuronpedia_records import (
    ActivationRecord,
    ExplanationRecord,
    FeatureRecord,
    Publication,
    rounded,
)
from otoscope.atlas.format import FEATURES
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_folder

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.entry import FeatureEntry
    from otoscope.atlas.examples import Example
    from otoscope.audio import Clip, Corpus
    from otoscope.dictionaries import Dictionary

BATCH = 256
"""Features in one file."""
LONGEST = 128
"""Tokens of one activation; of longer clips, those around the moment."""
MOST_COMPARED = 1 << 16
"""Features among which neighbours are looked for here, where the atlas keeps none."""
NEIGHBOURS = 10
"""Features whose directions are the nearest, by cosine."""
_NO_BIN = -1.0
"""Neuronpedia's mark of activations that were chosen for being the strongest."""


def export_neuronpedia(
    atlas: Atlas,
    dictionary: Dictionary,
    corpus: Corpus,
    folder: str | os.PathLike[str],
    publication: Publication | None = None,
    *,
    examples: int = 20,
    per_decile: int = 2,
    vectors: bool = False,
    progress: bool | ProgressReport = False,
) -> Path:
    """Write the dashboards of all features that are ever active; return their folder, `<folder>/<model>/<source>`.

    Args:
        atlas: what the features do.
        dictionary: the one that the atlas describes.
        corpus: the one that it was built over, for its phones.
        folder: where to; the source's folder in it is replaced as a whole.
        publication: who publishes it and under which names; None: named after the dictionary.
        examples: strongest moments of each feature, of different clips.
        per_decile: moments from each tenth of the feature's range.
        vectors: include the decoder's rows, with which Neuronpedia can steer.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: the atlas describes another dictionary or corpus.
    """
    check_belong(atlas, corpus, dictionary)
    publication = publication or Publication(re.sub(r"[^A-Za-z0-9.-]+", "-", dictionary.name).strip("-") or "set")
    model = str(atlas.meta["model"].get("model") or "model").rpartition("/")[2]
    layer = next((part for part in dictionary.site.split(".") if part.isdecimal()), "0")
    source = f"{layer}-{publication.set_name}"
    shared = {
        "modelId": model,
        "layer": source,
        "creatorId": publication.creator_id,
        "createdAt": publication.created_at.isoformat(),
    }
    tokens = _Tokens(atlas, corpus)
    alive = np.flatnonzero(~atlas.column("dead"))
    place = Path(folder) / model / source
    directions = _Directions(atlas, dictionary)
    with atomic_folder(place) as temporary, track("export", len(alive), progress, unit="features") as advance:
        for name, record in _heads(atlas, dictionary, corpus, publication, model, source, len(alive)).items():
            _write_lines(temporary / f"{name}.jsonl", [record])
        for number, start in enumerate(range(0, len(alive), BATCH)):
            batch = [int(feature) for feature in alive[start : start + BATCH]]
            near, cosines = directions.nearest(batch)
            features = (
                _feature(atlas[feature], dictionary, shared, near[row], cosines[row], vectors)
                for row, feature in enumerate(batch)
            )
            moments = (
                record
                for feature in batch
                for record in _activations(atlas[feature], tokens, shared, corpus.name, examples, per_decile)
            )
            explanations = list(_explanations(atlas, batch, shared))
            _write_lines(temporary / "features" / f"batch-{number}.jsonl.gz", map(_plain, features))
            _write_lines(temporary / "activations" / f"batch-{number}.jsonl.gz", map(_plain, moments))
            if explanations:
                _write_lines(temporary / "explanations" / f"batch-{number}.jsonl.gz", map(_plain, explanations))
            advance(len(batch))
    return place


class _Tokens:
    """The clips of an atlas as tokens."""

    def __init__(self, atlas: Atlas, corpus: Corpus) -> None:
        self.atlas = atlas
        self.clips: dict[str, Clip] = {clip.clip_id: clip for clip in corpus}

    def of(self, clip_id: str, n_frames: int) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the tokens of a clip and the first frame of each, `[tokens + 1]`, its end included."""
        return frame_tokens(self.clips[clip_id], self.atlas.clock, n_frames)


def _activations(
    entry: FeatureEntry, tokens: _Tokens, shared: dict[str, Any], corpus: str, top: int, per_decile: int
) -> Iterator[ActivationRecord]:
    """One record for each of a feature's moments: the strongest, and some from every tenth of its range."""
    frames, values = entry.entries
    clips = tokens.atlas.clips
    _, counts = entry.histogram
    peak, active = float(entry.stats["max"]), max(int(counts.sum()), 1)
    by_decile: dict[int, int] = {}
    for example in [*entry.examples("top", top), *entry.examples("decile", 10 * per_decile)]:
        first, last = clips.span(clips.index(example.clip_id))
        bins = (_NO_BIN, _NO_BIN, _NO_BIN)
        if example.decile is not None:
            by_decile[example.decile] = by_decile.get(example.decile, 0) + 1
            if by_decile[example.decile] > per_decile:
                continue
            tenth = slice(example.decile * len(counts) // 10, (example.decile + 1) * len(counts) // 10)
            bins = (example.decile * peak / 10, (example.decile + 1) * peak / 10, int(counts[tenth].sum()) / active)
        here = slice(*np.searchsorted(frames, (first, last)))
        row = np.zeros(last - first, dtype=np.float32)
        row[frames[here] - first] = values[here]
        row[example.frame] = example.value  # of dense features, weaker moments are not among the postings
        yield _moment(example, row, tokens, shared, entry.feature, corpus, bins)


def _moment(
    example: Example,
    row: npt.NDArray[np.float32],
    tokens: _Tokens,
    shared: dict[str, Any],
    feature: int,
    corpus: str,
    bins: tuple[float, float, float],
) -> ActivationRecord:
    texts, starts = tokens.of(example.clip_id, len(row))
    values = np.maximum.reduceat(row, starts[:-1])
    at = int(np.searchsorted(starts, example.frame, side="right")) - 1
    first = max(0, min(at - LONGEST // 2, len(texts) - LONGEST))
    shown = slice(first, min(first + LONGEST, len(texts)))
    values, texts = values[shown], texts[shown]
    frame_s = tokens.atlas.clock.frame_s
    begin_s, end_s = starts[shown.start] * frame_s, starts[shown.stop] * frame_s
    name = f"{shared['modelId']}/{shared['layer']}/{feature}/{example.kind}/{example.clip_id}/{example.frame}"
    return ActivationRecord(
        id=_id(name),
        index=str(feature),
        tokens=texts,
        values=[rounded(value) for value in values],
        maxValue=rounded(values.max()),
        maxValueTokenIndex=int(values.argmax()),
        minValue=rounded(values.min()),
        dataSource=corpus,
        dataIndex=f"{example.clip_id}@{begin_s:.2f}-{end_s:.2f}",
        binMin=rounded(bins[0]),
        binMax=rounded(bins[1]),
        binContains=rounded(bins[2]),
        qualifyingTokenIndex=at - first,
        **shared,
    )


def _feature(
    entry: FeatureEntry,
    dictionary: Dictionary,
    shared: dict[str, Any],
    near: Sequence[int],
    cosines: Sequence[float],
    vectors: bool,
) -> FeatureRecord:
    stats = entry.stats
    edges, counts = entry.histogram
    labels = entry.label_rows[:NEIGHBOURS]
    return FeatureRecord(
        index=str(entry.feature),
        maxActApprox=rounded(stats["max"]),
        hookName=dictionary.target_site,
        hasVector=vectors,
        vector=[rounded(value) for value in dictionary.directions([entry.feature])[0]] if vectors else [],
        vectorDefaultSteerStrength=rounded(stats["max"]),
        topkCosSimIndices=list(near),
        topkCosSimValues=[rounded(value) for value in cosines],
        pos_str=[str(each["label"]) for each in labels],
        pos_values=[rounded(each["f1"]) for each in labels],
        frac_nonzero=rounded(stats["density"]),
        freq_hist_data_bar_heights=[float(count) for count in counts],
        freq_hist_data_bar_values=[rounded(edge) for edge in edges[:-1]],
        **shared,
    )


def _explanations(atlas: Atlas, batch: Sequence[int], shared: dict[str, Any]) -> Iterator[ExplanationRecord]:
    """What the atlas says in a sentence about each feature that it says something about."""
    for feature in batch:
        sentence = sentence_of(atlas[feature])
        if sentence:
            name = f"{shared['modelId']}/{shared['layer']}/{feature}/explanation"
            yield ExplanationRecord(
                id=_id(name),
                index=str(feature),
                description=sentence,
                authorId=shared["creatorId"],
                modelId=shared["modelId"],
                layer=shared["layer"],
                createdAt=shared["createdAt"],
            )


class _Directions:
    """The features whose directions are the nearest: those that the atlas keeps, else found among all directions."""

    def __init__(self, atlas: Atlas, dictionary: Dictionary) -> None:
        n = dictionary.n_features
        self.atlas = atlas
        self.kept = dictionary.kind not in WITHOUT_DIRECTIONS and "neighbours" in atlas.sealed.arrays(FEATURES)
        self.unit = torch.zeros(n, 0)
        if not self.kept and n <= MOST_COMPARED:
            self.unit = torch.nn.functional.normalize(dictionary.directions(range(n)).float(), dim=1)

    def nearest(self, features: Sequence[int]) -> tuple[list[list[int]], list[list[float]]]:
        """The features nearest to each of `features`, without itself, and their cosines; none if there are too many."""
        if self.kept:
            found = [self.atlas[feature].neighbours(NEIGHBOURS) for feature in features]
            return [[each.feature for each in row] for row in found], [[each.cosine for each in row] for row in found]
        if not self.unit.shape[1]:
            return [[] for _ in features], [[] for _ in features]
        cosines = self.unit[list(features)] @ self.unit.T
        cosines[torch.arange(len(features)), torch.tensor(features)] = -torch.inf
        values, indices = cosines.topk(min(NEIGHBOURS, len(self.unit) - 1), dim=1)
        return indices.tolist(), values.tolist()


def _heads(
    atlas: Atlas,
    dictionary: Dictionary,
    corpus: Corpus,
    publication: Publication,
    model: str,
    source: str,
    n_alive: int,
) -> dict[str, dict[str, Any]]:
    """The records of release, model, source set and source."""
    times = {"creatorId": publication.creator_id, "createdAt": publication.created_at.isoformat()}
    notes = (
        f"{n_alive} of {len(atlas)} features are ever active on corpus {corpus.name} ({atlas.meta['n_frames']} frames "
        f"of {atlas.meta['frame_s']:g} s). A token is one aligned phone, or one frame where there are none. "
        "pos_str are the sounds and words that a feature detects, pos_values their F1 on held-out voices."
    )
    if dictionary.dense:
        notes += " Of dense features only the strongest frames are kept; the others are shown as 0."
    return {
        "release": {
            "name": publication.release,
            "description": publication.title,
            "descriptionShort": publication.title,
            "creatorName": publication.creator,
            "creatorNameShort": publication.creator,
            "urls": list(publication.urls),
            "visibility": "PUBLIC",
            **times,
        },
        "model": {
            "id": model,
            "instruct": False,
            "displayNameShort": model,
            "displayName": str(atlas.meta["model"].get("model") or model),
            "visibility": "PUBLIC",
            "inferenceEnabled": False,
            "updatedAt": times["createdAt"],
            **times,
        },
        "sourceset": {
            "modelId": model,
            "name": publication.set_name,
            "description": f"{dictionary.kind} features of {dictionary.site}",
            "releaseName": publication.release,
            "creatorName": publication.creator,
            "urls": list(publication.urls),
            "visibility": "PUBLIC",
            **times,
        },
        "source": {
            "id": source,
            "modelId": model,
            "setName": publication.set_name,
            "dataset": corpus.name,
            "num_prompts": atlas.meta["n_clips"],
            "num_tokens_in_prompt": LONGEST,
            "inferenceEnabled": False,
            "visibility": "PUBLIC",
            "notes": notes,
            **times,
        },
    }


def _id(name: str) -> str:
    """An id of Neuronpedia's kind; the same for the same name."""
    return "c" + hashlib.sha256(name.encode()).hexdigest()[:24]


def _plain(record: FeatureRecord | ActivationRecord | ExplanationRecord) -> dict[str, Any]:
    return dataclasses.asdict(record)


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines, compressed where the name says so, the same bytes for the same records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
