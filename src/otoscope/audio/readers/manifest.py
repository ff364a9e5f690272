"""A table with a row per clip: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otoscope.audio.clip import Clip, Tiers, unique_ids
from otoscope.audio.labels.tiers import Mark, tiers_from_marks
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader
from otoscope.audio.readers.rows import lines, rows
from otoscope.audio.readers.tree import Tree, stem
from otoscope.errors import InputError, nearest

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_COLUMNS = {
    "path": ("path", "uri", "file", "audio"),
    "clip_id": ("clip_id",),
    "start_s": ("start_s",),
    "end_s": ("end_s",),
    "text": ("text", "transcript", "sentence", "transcription"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "locale"),
    "sound_class": ("sound_class", "label"),
    "tiers": ("tiers",),
}
"""What a column means; the first name present wins, and every column not listed is an attribute."""

Row = Mapping[str, Any]


def read_manifest(path: Path, split: str | None, problems: Problems, tiers: Path | None = None) -> list[Clip]:
    """Return the clips of a manifest; see `Corpus.from_manifest` for the columns.

    Rows that cannot be understood, or whose recording is missing, are noted with their place and left out; of a row
    with tiers that cannot be used the rest is kept.

    Raises:
        InputError: missing, of another kind, or without a column of recordings.
    """
    listed = list(_rows(path, problems))
    if not listed:
        raise InputError(f"{path} lists no clips{_because(problems)}.")
    columns = listed[0][1]
    known = {meaning: next((n for n in names if n in columns), None) for meaning, names in _COLUMNS.items()}
    if known["path"] is None:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, _COLUMNS['path']))}; its columns are {', '.join(columns)}."
        )
    if split is not None:
        listed = _of_split(path, listed, split)
    home = Tree(path.parent)
    drafts = []
    for where, row in listed:
        with problems.item(where):
            drafts.append(_draft(where, row, known, home, problems))
    ids = unique_ids([draft["clip_id"] for draft in drafts])
    extra = {} if tiers is None else _tiers_by_clip(tiers, problems)
    used = 0
    for clip_id, draft in zip(ids, drafts, strict=True):
        given, draft["clip_id"] = draft["clip_id"], clip_id
        own = {**extra.get(draft["uri"], {}), **extra.get(given, {})}
        used += bool(own)
        draft["tiers"] = {**draft["tiers"], **own}
    if extra and drafts and not used:
        raise InputError(f"{tiers} has intervals of no clip of {path}, as {next(iter(extra))!r}.")
    return [Clip(**draft) for draft in drafts]


def _because(problems: Problems) -> str:
    return f" ({problems.found[0]})" if problems.found else ""


def _of_split(path: Path, listed: list[tuple[str, Row]], split: str) -> list[tuple[str, Row]]:
    """Return the rows whose column `split` says so."""
    splits = dict.fromkeys(text for _, row in listed if (text := _text(row.get("split"))) is not None)
    if split not in splits:
        has = f"its column 'split' has {', '.join(splits)}" if splits else "it has no column 'split'"
        raise InputError(f"{path} has no split {split!r}; {has}{nearest(split, splits) or '.'}")
    return [(where, row) for where, row in listed if _text(row.get("split")) == split]


def _rows(path: Path, problems: Problems) -> Iterator[tuple[str, Row]]:
    """Yield each row with its place for errors."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file.")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"{path} is not a manifest; give one of {', '.join(KINDS)}.")
    if kind == ".parquet":
        yield from _parquet_rows(path)
    elif kind == ".jsonl":
        for number, line in lines(path, problems):
            where = f"{path}, line {number}"
            with problems.item(where):
                yield where, _json_row(line)
    else:
        yield from rows(path, problems, delimiter="\t" if kind == ".tsv" else ",", quoted=not _has_bare_quotes(path))


def _has_bare_quotes(path: Path) -> bool:
    """Whether quotes are part of the text, as in the tables of Common Voice."""
    return path.suffix.lower() == ".tsv" and path.parent.joinpath("clips").is_dir()


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, not {line[:40]!r}")
    return row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as parquet ({error}).") from error
    for i, row in enumerate(table.to_pylist()):
        yield f"{path}, row {i + 1}", row


def _draft(where: str, row: Row, known: Mapping[str, str | None], home: Tree, problems: Problems) -> dict[str, Any]:
    """Return the fields of a clip, its id not yet made unique.

    Raises:
        InputError: the row cannot be a clip (without its place).
    """

    def text(meaning: str) -> str | None:
        return _text(row.get(known[meaning] or ""))

    uri = text("path")
    if uri is None:
        raise InputError(f"no recording is named in column {known['path']!r}")
    start_s, end_s = _seconds("start_s", text("start_s")) or 0.0, _seconds("end_s", text("end_s"))
    if end_s is not None and end_s <= start_s:
        raise InputError(f"end_s ({end_s:g}) must be after start_s ({start_s:g})")
    place = next((each for each in (uri, f"clips/{uri}") if home.has(each)), None)
    if place is None:
        raise InputError(f"the recording {home.path / uri} is missing")
    attributes = {name: value for name in row if name not in known.values() and (value := _text(row[name]))}
    if sound_class := text("sound_class"):
        attributes["sound_class"] = sound_class
    span = f"-{start_s:g}" if start_s or end_s is not None else ""
    return {
        "clip_id": text("clip_id") or stem(uri).lstrip("./") + span,
        "uri": uri,
        "start_s": start_s,
        "end_s": end_s,
        "text": text("text"),
        "speaker": text("speaker"),
        "language": text("language"),
        "attributes": attributes,
        "tiers": _tiers(where, row.get(known["tiers"] or ""), problems),
        "source": home.path / place,
    }


def _text(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dict):  # the audio column of a Hugging Face data set
        return _text(value.get("path"))
    return str(value)


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} must be seconds from 0, not {text!r}")
    return value


def _tiers(where: str, value: Any, problems: Problems) -> Tiers:
    """Read `{"words": [[start_s, end_s, label], …]}`, as JSON text or parsed; objects serve as triples."""
    with problems.item(where):
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except ValueError as error:
                raise InputError(f"tiers are not JSON ({error})") from error
        if not value:
            return {}
        try:
            marks = [
                _mark(str(name), *_triple(item), where="") for name, items in dict(value).items() for item in items
            ]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError('tiers must look like {"words": [[start_s, end_s, label]]}') from error
        return tiers_from_marks(marks, where, problems)
    return {}


def _mark(tier: str, start_s: Any, end_s: Any, label: Any, *, where: int | str) -> Mark:
    try:
        return Mark(tier, float(start_s), float(end_s), _text(label) or "", where)
    except (TypeError, ValueError):
        raise InputError(f"an interval must have its times in seconds, not {start_s!r} to {end_s!r}") from None


def _triple(item: Any) -> tuple[Any, Any, Any]:
    if isinstance(item, Mapping):
        return item["start_s"], item["end_s"], item["label"]
    start_s, end_s, label = item
    return start_s, end_s, label


def _tiers_by_clip(path: Path, problems: Problems) -> dict[str, Tiers]:
    """Read a table of intervals; empty labels are silence and left out."""
    found: dict[str, list[Mark]] = {}
    for where, row in _rows(path, problems):
        with problems.item(where):
            clip = _text(row.get("clip_id")) or _text(row.get("path"))
            tier = _text(row.get("tier"))
            if clip is None or tier is None:
                raise InputError("a row of intervals needs clip_id (or path) and tier")
            mark = _mark(tier, row.get("start_s"), row.get("end_s"), row.get("label"), where=where.split(", ")[-1])
            found.setdefault(clip, []).append(mark)
    return {clip: tiers_from_marks(marks, str(path), problems) for clip, marks in found.items()}


def manifest_in(tree: Tree) -> Path | None:
    """Return the manifest that `tree` is, or that lies in it."""
    if tree.is_file:
        return tree.path if tree.path.suffix.lower() in KINDS else None
    return next((tree.path / f"manifest{kind}" for kind in KINDS if tree.has(f"manifest{kind}")), None)


def _read(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    return read_manifest(manifest_in(tree) or tree.path, split, problems)


def _name(tree: Tree) -> str:
    return tree.path.stem if tree.is_file else tree.path.resolve().name


READER = Reader(
    "manifest",
    "a manifest",
    "a table (.csv, .tsv, .jsonl, .parquet) with a column path, or a folder with manifest.csv",
    recognise=lambda tree: manifest_in(tree) is not None,
    read=_read,
    rank=10,
    name=_name,
)
