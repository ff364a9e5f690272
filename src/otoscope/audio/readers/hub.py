"""Hugging Face `datasets`: a loaded data set with an audio column, read row by row when a clip is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.audio.clip import Clip, unique_ids
from otoscope.audio.problems import Problems
from otoscope.errors import InputError, nearest

_COLUMNS = {
    "audio": ("audio", "speech", "file", "path"),
    "clip_id": ("clip_id", "id", "utterance_id", "segment_id"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "locale"),
    "sound_class": ("sound_class", "label", "category"),
}
"""What a column means, as in a manifest; the first name present wins."""
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class DatasetRow:
    """The recording of one row, read from the data set's files when it is asked for."""

    dataset: Any
    row: int
    column: str

    def read(self) -> bytes:
        """Return the bytes of the recording."""
        value = self.dataset[self.row][self.column]
        return bytes(value["bytes"])


def read_dataset(dataset: Any, columns: Mapping[str, str | None], problems: Problems) -> list[Clip]:
    """Return a clip per row of a `datasets.Dataset`, or of a sequence of rows like its own.

    The audio column holds recordings (`{"bytes", "path"}`, read when needed), samples (`{"array", "sampling_rate"}`)
    or decoders (`get_all_samples`). Other columns of texts and numbers become attributes.

    Raises:
        InputError: streamed, of several splits, or without an audio column.
    """
    if isinstance(dataset, Mapping):
        raise InputError(f"The data set has the splits {', '.join(map(str, dataset))}; give one of them: ds[…].")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError("The data set is streamed and has no rows to go back to; load it without streaming=True.")
    names = list(getattr(dataset, "column_names", None) or (dict(dataset[0]) if len(dataset) else ()))
    known = _known(dataset, names, columns)
    hub = hasattr(dataset, "cast_column") and hasattr(dataset, "features")
    found = list(_hub_rows(dataset, known) if hub else _plain_rows(dataset, known))
    drafts = [_draft(i, row, known, problems) for i, row in enumerate(found)]
    kept = [(row, draft) for row, draft in zip(found, drafts, strict=True) if draft is not None]
    ids = unique_ids([str(draft["clip_id"]) for _, draft in kept])
    return [_clip(row, {**draft, "clip_id": clip_id}, known) for clip_id, (row, draft) in zip(ids, kept, strict=True)]


def _known(dataset: Any, names: Sequence[str], columns: Mapping[str, str | None]) -> dict[str, str]:
    for meaning, name in columns.items():
        if name is not None and name not in names:
            raise InputError(
                f"The data set has no column {name!r} for {meaning}; "
                f"it has {', '.join(names)}{nearest(name, names) or '.'}"
            )
    features = getattr(dataset, "features", None) or {}
    audio = [name for name, feature in features.items() if type(feature).__name__ == "Audio"]
    known = {}
    for meaning, usual in _COLUMNS.items():
        candidates = (*audio, *usual) if meaning == "audio" else usual
        name = columns.get(meaning) or next((each for each in candidates if each in names), None)
        if name is not None:
            known[meaning] = name
    if "audio" not in known:
        raise InputError(
            f"The data set has no audio column; it has {', '.join(names) or 'no rows'} (audio= names one)."
        )
    return known


def _hub_rows(dataset: Any, known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `datasets.Dataset` without the bytes of their recordings, batch by batch."""
    column, features = known["audio"], dataset.features
    if type(features[column]).__name__ == "Audio":
        from datasets import Audio  # type: ignore[import-untyped,import-not-found,unused-ignore]

        dataset = dataset.cast_column(column, Audio(decode=False))
    lists = {name: feature for name, feature in features.items() if name != column and _is_plain(feature)}
    columns = dataset.select_columns([column, *lists]).with_format("arrow")
    sound_only = dataset.select_columns([column])
    is_recording = type(features[column]).__name__ == "Audio"
    for start in range(0, len(dataset), _BATCH):
        table = columns[start : start + _BATCH]
        others = {name: _values(table.column(name), feature) for name, feature in lists.items()}
        sounds = table.column(column).combine_chunks()
        for i in range(table.num_rows):
            row = {name: values[i] for name, values in others.items()}
            if is_recording:
                row[column] = _lazily(sounds, i, sound_only, start + i, column)
            else:
                row[column] = sound_only[start + i][column]
            yield row


def _is_plain(feature: Any) -> bool:
    return type(feature).__name__ in ("Value", "ClassLabel")


def _values(column: Any, feature: Any) -> list[Any]:
    values = column.to_pylist()
    if type(feature).__name__ != "ClassLabel":
        return [str(value) if value is not None else None for value in values]
    return [feature.int2str(value) if value is not None and value >= 0 else None for value in values]


def _lazily(sounds: Any, i: int, dataset: Any, row: int, column: str) -> Any:
    """Return where a recording is without copying it: a file, or the row that holds its bytes."""
    if not sounds[i].is_valid:
        return None
    path = sounds.field("path")[i].as_py()
    if sounds.field("bytes")[i].is_valid:
        return {"source": DatasetRow(dataset, row, column), "path": path}
    return {"path": path, "bytes": None}


def _plain_rows(dataset: Any, known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for i in range(len(dataset)):
        yield dict(dataset[i])


def _draft(i: int, row: Mapping[str, Any], known: Mapping[str, str], problems: Problems) -> dict[str, Any] | None:
    """Return the id and the sound of a row, or None (noted) where it has no sound."""
    place, value = f"row {i}", row.get(known["audio"])
    path = value.get("path") if isinstance(value, Mapping) else value if isinstance(value, str) else None
    name = row.get(known.get("clip_id", "")) or (Path(path).stem if path else None) or f"row-{i:06d}"
    with problems.item(place):
        return {"clip_id": name, **_sound(value, path, i)}
    return None


def _sound(value: Any, path: str | None, i: int) -> dict[str, Any]:
    uri = path or f"row {i}"
    if isinstance(value, Mapping):
        if value.get("source") is not None:
            return {"uri": uri, "source": value["source"]}
        if value.get("bytes") is not None:
            return {"uri": uri, "source": bytes(value["bytes"])}
        if value.get("array") is not None:
            return {"uri": uri, "samples": np.asarray(value["array"]).T, "rate_hz": value["sampling_rate"]}
    if hasattr(value, "get_all_samples"):
        samples = value.get_all_samples()
        return {"uri": uri, "samples": np.asarray(samples.data).T, "rate_hz": samples.sample_rate}
    if path is None:
        raise InputError("it has no recording")
    if not os.path.isfile(path):
        raise InputError(f"the recording {path} is missing")
    return {"uri": path, "source": Path(path)}


def _clip(row: Mapping[str, Any], draft: dict[str, Any], known: Mapping[str, str]) -> Clip:
    def text(meaning: str) -> str | None:
        value = row.get(known.get(meaning, ""))
        return None if value in (None, "") else str(value)

    attributes = {
        name: str(value)
        for name, value in row.items()
        if name not in known.values() and isinstance(value, str | int | float) and value != ""
    }
    if sound_class := text("sound_class"):
        attributes["sound_class"] = sound_class
    about: dict[str, Any] = {meaning: text(meaning) for meaning in ("text", "speaker", "language")}
    if "samples" in draft:
        return Clip.from_samples(
            draft["samples"], draft["rate_hz"], clip_id=draft["clip_id"], attributes=attributes, **about
        )
    return Clip(draft["clip_id"], draft["uri"], attributes=attributes, source=draft["source"], **about)
