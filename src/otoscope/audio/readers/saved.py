"""A corpus on disk: `meta.json`, `corpus.parquet` (a row per clip), `tiers.parquet` (a row per interval)."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soundfile

from otoscope.audio.attributes import SharedAttributes
from otoscope.audio.clip import Clip
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.tree import Tree
from otoscope.audio.tiers import NO_TIERS, TierTable, run_starts
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder, read_json, write_json
from otoscope.storage.memory import give_back

if TYPE_CHECKING:
    from otoscope.audio.corpus import Corpus

FORMAT, VERSION = "otoscope-corpus", 1
TABLES = ("meta.json", "corpus.parquet", "tiers.parquet")
_ROWS, _INTERVALS = 1024, 1 << 14
"""Rows of the two tables that are read at a time."""


@functools.cache
def _schemas() -> tuple[Any, Any]:
    """Return the columns of the two tables; pyarrow is imported when they are needed."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    clips = [("clip_id", text), ("uri", text), ("start_s", number), ("end_s", number)]
    clips += [("text", text), ("speaker", text), ("language", text)]
    clips += [("attributes", pa.map_(text, text)), ("sha256", text)]
    tiers = [("clip_id", text), ("tier", text), ("start_s", number), ("end_s", number), ("label", text)]
    return pa.schema(clips), pa.schema(tiers)


def load_corpus(folder: Path) -> tuple[str, list[Clip], str]:
    """Return the name, the clips and the licence of a saved corpus.

    Raises:
        OtoscopeError: missing, damaged, or of another format.
    """
    meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
    clips = _clips(folder)
    _release()  # what reading took, which is more than the clips themselves
    return str(meta["name"]), clips, str(meta.get("licence", ""))


def _release() -> None:
    """Return the memory that Arrow and the C library keep to the system; done while no column is held any more."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    give_back()


def _clips(folder: Path) -> list[Clip]:
    """Read the tables by column: of rows as objects, holes would be left all over what stays in memory."""
    clips_schema, tiers_schema = _schemas()
    columns: dict[str, list[Any]] = {name: [] for name in clips_schema.names}
    texts: dict[str, str] = {}
    attributes = SharedAttributes()
    for rows in _batches(folder / "corpus.parquet", clips_schema, _ROWS):
        for name, column in zip(clips_schema.names, rows.columns, strict=True):
            if name == "attributes":
                columns[name] += map(attributes.of, _pairs(column.combine_chunks(), texts))
            elif name in ("start_s", "end_s"):
                columns[name] += column.to_pylist()
            else:
                columns[name] += _texts(column.combine_chunks(), texts)
    table = None
    if (folder / "tiers.parquet").exists():
        position: dict[str, int] = {}
        for row, clip_id in enumerate(columns["clip_id"]):
            position.setdefault(clip_id, row)
        table = _tiers(folder / "tiers.parquet", tiers_schema, position, len(columns["clip_id"]))
    places: dict[str, Path] = {}
    clips = []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        said = dict(zip(columns, values, strict=True))
        said["start_s"] = said["start_s"] or 0.0
        place = places.get(said["uri"])
        if place is None:
            place = places[said["uri"]] = folder / said["uri"]
        clips.append(Clip(**said, tiers=NO_TIERS if table is None else table.of_clip(row), source=place))
    return clips


def _texts(column: Any, known: dict[str, str]) -> list[str | None]:
    """Return a column of texts, of each of which there is one copy, held in `known`."""
    coded = column.dictionary_encode("encode")  # so that a missing text has a place, too
    here = [None if text is None else known.setdefault(text, text) for text in coded.dictionary.to_pylist()]
    return [here[place] for place in _array(coded.indices).tolist()]


def _pairs(column: Any, known: dict[str, str]) -> Iterator[Any]:
    """Return the names and values of each row of a column of maps."""
    ends = _array(column.offsets).tolist()
    pairs = list(zip(_texts(column.keys, known), _texts(column.items, known), strict=True))
    return (pairs[first:stop] for first, stop in itertools.pairwise(ends))


def saved_facts(folder: Path) -> dict[str, str]:
    """Return the name of a saved corpus, and its licence if it has one."""
    meta = read_json(folder / TABLES[0], format=FORMAT, version=VERSION)
    return {name: str(meta[name]) for name in ("name", "licence") if name in meta}


def _tiers(path: Path, schema: Any, position: dict[str, int], n_clips: int) -> TierTable | None:
    """Return the tiers of the clips at their `position`; rows of a clip or a tier need not follow one another."""
    known: dict[str, dict[str, int]] = {"tier": {}, "label": {}}
    parts: dict[str, list[npt.NDArray[Any]]] = {"clip": [], "tier": [], "times": [], "label": []}
    for rows in _batches(path, schema, _INTERVALS):
        for name, column in zip(schema.names, rows.columns, strict=True):
            if column.null_count:
                raise OtoscopeError(f"{path} is damaged: {name} is missing in {column.null_count:,} rows.")
        coded = {name: rows[name].combine_chunks().dictionary_encode() for name in ("clip_id", *known)}
        places = [position.get(clip_id, -1) for clip_id in coded["clip_id"].dictionary.to_pylist()]
        parts["clip"].append(_numbers(coded["clip_id"], places))
        for name, held in known.items():
            numbers = [held.setdefault(text, len(held)) for text in coded[name].dictionary.to_pylist()]
            parts[name].append(_numbers(coded[name], numbers))
        span = [_array(rows[name].combine_chunks()) for name in ("start_s", "end_s")]
        parts["times"].append(np.stack(span, axis=1))
    if not parts["clip"]:
        return None
    given = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    order = _order(given["clip"], given["tier"], len(known["tier"]))
    if order is not None:
        given = {name: column[order] for name, column in given.items()}
    return TierTable(list(known["tier"]), list(known["label"]), n_clips=n_clips, **given)


def _numbers(coded: Any, numbers: list[int]) -> npt.NDArray[np.int32]:
    """Return the number of each row of an encoded column, given those of what its dictionary lists."""
    own: npt.NDArray[np.int32] = np.array(numbers, dtype=np.int32)[_array(coded.indices)]
    return own


def _array(column: Any) -> npt.NDArray[Any]:
    """Return a column of numbers without gaps as an array; Arrow's `to_numpy` would import pandas, which takes longer
    than reading a thousand clips."""
    return np.from_dlpack(column)


def _order(clip: npt.NDArray[np.int32], tier: npt.NDArray[np.int32], n_tiers: int) -> npt.NDArray[np.intp] | None:
    """Return the order that brings the intervals of a clip and of its tiers together, tiers as they are first met, and
    leaves out those of no clip; None where that is so already, as in what `save_corpus` wrote."""
    starts = run_starts(clip, tier)
    runs = clip[starts].astype(np.int64) * n_tiers + tier[starts]
    if (clip >= 0).all() and (clip[1:] >= clip[:-1]).all() and len(np.unique(runs)) == len(runs):
        return None
    _, first, which = np.unique(clip.astype(np.int64) * n_tiers + tier, return_index=True, return_inverse=True)
    order = np.lexsort((first[which], clip))
    return order[clip[order] >= 0]


def _batches(path: Path, schema: Any, size: int) -> Iterator[Any]:
    """Yield the rows of a table, `size` at a time: a whole table takes several times as much as what is made of it.

    Raises:
        OtoscopeError: it cannot be read, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(size, columns=schema.names, use_threads=False):
                table = pa.Table.from_batches([batch]).select(schema.names)
                yield table if table.schema.equals(schema) else table.cast(schema)
                del batch, table
                pa.default_memory_pool().release_unused()  # Arrow would take new room for each
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged or not part of a saved corpus ({error}).") from error


def save_corpus(corpus: Corpus, folder: Path) -> None:
    """Write `corpus` to `folder`, which appears when it is complete; recordings that lie in it stay in it.

    Raises:
        InputError: the folder holds something else, or a recording is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    clips_schema, tiers_schema = _schemas()
    if folder.exists() and not _may_replace(folder):
        raise InputError(f"{folder} exists and is not a saved corpus; save to a new folder.")
    hashes = corpus.content_hashes
    with atomic_folder(folder) as temporary:
        _keep_recordings(folder, temporary)
        rows = [_row(clip, sha256, folder, temporary) for clip, sha256 in zip(corpus, hashes, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows, schema=clips_schema), temporary / "corpus.parquet")
        intervals = [
            {"clip_id": clip.clip_id, "tier": tier, "start_s": i.start_s, "end_s": i.end_s, "label": i.label}
            for clip in corpus
            for tier, intervals in clip.tiers.items()
            for i in intervals
        ]
        pq.write_table(pa.Table.from_pylist(intervals, schema=tiers_schema), temporary / "tiers.parquet")
        said = {"licence": corpus.licence} if corpus.licence else {}
        write_json(temporary / "meta.json", {"format": FORMAT, "version": VERSION, "name": corpus.name, **said})


def _may_replace(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return ((folder / TABLES[0]).is_file() and (folder / TABLES[1]).is_file()) or not any(folder.iterdir())


def _keep_recordings(folder: Path, temporary: Path) -> None:
    """Link everything but the tables into the folder that will replace `folder`."""
    for path in sorted(folder.rglob("*")):
        target = temporary / path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(exist_ok=True)
        elif path.parent != folder or path.name not in TABLES:
            try:
                os.link(path, target, follow_symlinks=False)
            except OSError:
                shutil.copy2(path, target, follow_symlinks=False)


def _row(clip: Clip, sha256: str, folder: Path, temporary: Path) -> Mapping[str, Any]:
    row = {name: getattr(clip, name) for name in _schemas()[0].names}
    return {
        **row,
        "sha256": sha256,
        "attributes": list(clip.attributes.items()),
        "uri": _place(clip, folder, temporary),
    }


def _place(clip: Clip, folder: Path, temporary: Path) -> str:
    """Return the uri to save; a clip held in memory is written below `temporary` first."""
    source = clip.recording
    if isinstance(source, Path):
        path = Path(os.path.abspath(source))
        home = Path(os.path.abspath(folder))
        return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
    uri = f"audio/{clip.clip_id}" + ("" if isinstance(source, bytes) else ".wav")
    (temporary / "audio").mkdir(exist_ok=True)
    (temporary / uri).unlink(missing_ok=True)  # it may be a link to the recording of an earlier save
    if isinstance(source, bytes):
        (temporary / uri).write_bytes(source)
    else:
        soundfile.write(temporary / uri, source, SAMPLE_RATE_HZ, subtype="FLOAT")
    return uri


def _read(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    """Open a saved corpus; its recordings were there when it was saved, and `Corpus.check` looks again."""
    clips = load_corpus(tree.path)[1]
    if split is not None:
        chosen_splits(split, dict.fromkeys(c.attributes["split"] for c in clips if "split" in c.attributes), tree.path)
        clips = [clip for clip in clips if clip.attributes.get("split") == split]
    return clips


READER = Reader(
    "saved",
    "a saved corpus",
    "meta.json and corpus.parquet, as Corpus.save writes them",
    recognise=lambda tree: tree.has(TABLES[0]) and tree.has(TABLES[1]),
    read=_read,
    rank=0,
    name=lambda tree: saved_facts(tree.path)["name"],
    licence=lambda tree: saved_facts(tree.path).get("licence", ""),
)
