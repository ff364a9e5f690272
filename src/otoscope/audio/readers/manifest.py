"""A table with a row per clip: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from otoscope.audio.clip import Clip, Interval, Tiers, unique_ids
from otoscope.errors import InputError

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_COLUMNS = {
    "path": ("path", "uri", "file", "audio"),
    "clip_id": ("clip_id",),
    "start_s": ("start_s",),
    "end_s": ("end_s",),
    "text": ("text", "transcript"),
    "speaker": ("speaker",),
    "language": ("language",),
    "sound_class": ("sound_class", "label"),
    "tiers": ("tiers",),
}
"""What a column means; the first name present wins, and every column not listed is an attribute."""
_TIER_NAMES = {"word": "words", "phone": "phones", "event": "events"}

Row = Mapping[str, Any]


def read_manifest(path: Path, tiers: Path | None) -> list[Clip]:
    """Return the clips of a manifest; see `Corpus.from_manifest` for the columns.

    Raises:
        InputError: missing, of another kind, or a row that cannot be understood (with its place).
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path} lists no clips.")
    known = {meaning: next((n for n in names if n in rows[0][1]), None) for meaning, names in _COLUMNS.items()}
    if known["path"] is None:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, _COLUMNS['path']))}; its columns are {', '.join(rows[0][1])}."
        )
    drafts = [_draft(where, row, known, path.parent) for where, row in rows]
    ids = unique_ids([draft["clip_id"] for draft in drafts])
    extra = {} if tiers is None else _tiers_by_clip(tiers)
    for clip_id, draft in zip(ids, drafts, strict=True):
        given, draft["clip_id"] = draft["clip_id"], clip_id
        draft["tiers"] = {**draft["tiers"], **extra.get(draft["uri"], {}), **extra.get(given, {})}
    return [Clip(**draft) for draft in drafts]


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield each row with its place for errors."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file.")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"{path} is not a manifest; give one of {', '.join(KINDS)}.")
    try:
        if kind == ".parquet":
            for i, row in enumerate(pq.read_table(path).to_pylist()):
                yield f"{path}, row {i + 1}", row
            return
        with open(path, encoding="utf-8-sig", newline="") as file:
            if kind == ".jsonl":
                for i, line in enumerate(file):
                    if line.strip():
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise InputError(f"{path}, line {i + 1}: expected a JSON object.")
                        yield f"{path}, line {i + 1}", row
                return
            reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",")
            for row in reader:
                if None in row:
                    raise InputError(f"{path}, line {reader.line_num}: more cells than columns.")
                yield f"{path}, line {reader.line_num}", row
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error, pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as {kind[1:]} ({error}).") from error


def _draft(where: str, row: Row, known: Mapping[str, str | None], home: Path) -> dict[str, Any]:
    """Return the fields of a clip, its id not yet made unique."""

    def text(meaning: str) -> str | None:
        return _text(row.get(known[meaning] or ""))

    uri = text("path")
    if uri is None:
        raise InputError(f"{where}: no recording is named in column {known['path']!r}.")
    start_s, end_s = (
        _seconds(where, "start_s", text("start_s")) or 0.0,
        _seconds(where, "end_s", text("end_s")),
    )
    if end_s is not None and end_s <= start_s:
        raise InputError(f"{where}: end_s ({end_s:g}) must be after start_s ({start_s:g}).")
    attributes = {name: value for name in row if name not in known.values() and (value := _text(row[name]))}
    if sound_class := text("sound_class"):
        attributes["sound_class"] = sound_class
    span = f"-{start_s:g}" if start_s or end_s is not None else ""
    return {
        "clip_id": text("clip_id") or Path(uri).with_suffix("").as_posix().lstrip("./") + span,
        "uri": uri,
        "start_s": start_s,
        "end_s": end_s,
        "text": text("text"),
        "speaker": text("speaker"),
        "language": text("language"),
        "attributes": attributes,
        "tiers": _tiers(where, row.get(known["tiers"] or "")),
        "source": home / uri,
    }


def _text(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dict):  # the audio column of a Hugging Face data set
        return _text(value.get("path"))
    return str(value)


def _seconds(where: str, name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{where}: {name} must be seconds from 0, not {text!r}.")
    return value


def _interval(where: str, start_s: Any, end_s: Any, label: Any) -> Interval:
    start, end = _seconds(where, "start_s", _text(start_s)), _seconds(where, "end_s", _text(end_s))
    if start is None or end is None or end < start:
        raise InputError(f"{where}: an interval must end after it starts, not {start_s!r} to {end_s!r}.")
    return Interval(start, end, _text(label) or "")


def _tiers(where: str, value: Any) -> Tiers:
    """Read `{"words": [[start_s, end_s, label], …]}`, as JSON text or parsed; objects serve as triples."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InputError(f"{where}: tiers are not JSON ({error}).") from error
    if not value:
        return {}
    try:
        return {
            _TIER_NAMES.get(str(name), str(name)): tuple(_interval(where, *_triple(item)) for item in items)
            for name, items in dict(value).items()
        }
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{where}: tiers must look like {{"words": [[start_s, end_s, label]]}}.') from error


def _triple(item: Any) -> tuple[Any, Any, Any]:
    if isinstance(item, Mapping):
        return item["start_s"], item["end_s"], item["label"]
    start_s, end_s, label = item
    return start_s, end_s, label


def _tiers_by_clip(path: Path) -> dict[str, dict[str, tuple[Interval, ...]]]:
    """Read a table of intervals; empty labels are silence and left out."""
    found: dict[str, dict[str, list[Interval]]] = {}
    for where, row in _rows(path):
        clip = _text(row.get("clip_id")) or _text(row.get("path"))
        tier = _text(row.get("tier"))
        if clip is None or tier is None:
            raise InputError(f"{where}: a row of intervals needs clip_id (or path) and tier.")
        interval = _interval(where, row.get("start_s"), row.get("end_s"), row.get("label"))
        if interval.label:
            found.setdefault(clip, {}).setdefault(_TIER_NAMES.get(tier, tier), []).append(interval)
    return {clip: {name: tuple(items) for name, items in tiers.items()} for clip, tiers in found.items()}
