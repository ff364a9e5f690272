"""An atlas as Parquet: the tables that lie in every atlas, and its postings for other programs.

`tables/{features,labels,classes,clips}.parquet` hold what the arrays beside them hold, under the same column names,
with classes by name and nothing (null) where there is no number. So DuckDB, pandas or R read an atlas as it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from otoscope.atlas.format import CLASSES, CLIPS, FEATURES, LABELS
from otoscope.atlas.labels.natures import NATURES
from otoscope.errors import InputError
from otoscope.storage import atomic_folder
from otoscope.storage.arrays import ArrayFile

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.postings import Entries

TABLES = ("features", "labels", "classes", "clips")
ROWS_AT_ONCE = 1 << 17
"""Rows of one row group of the tables."""
ENTRIES_AT_ONCE = 1 << 16
"""Entries of one batch of postings, at least one whole feature."""
POSTINGS = pa.schema(
    [
        ("feature", pa.int64()),
        ("clip_id", pa.string()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("value", pa.float32()),
    ]
)
"""One row per active frame of a feature; `frame` and `time_s` count from the start of the clip."""
_CLASS_COLUMNS = {"class": ("label", "kind"), "label": ("label", "label_kind"), "purity_label": ("purity_label", "")}
"""Columns that hold numbers of classes, and what their label and kind are called, if they are said."""
_NOTHING = -1


def table_path(name: str) -> str:
    """Where a table lies in an atlas."""
    return f"tables/{name}.parquet"


def write_tables(folder: Path) -> None:
    """Write `tables/` from the arrays in the folder of an atlas, whole row groups at a time; the same arrays give the
    same bytes.

    Raises:
        DamagedError: an array file is missing or cut short.
    """
    (folder / "tables").mkdir(exist_ok=True)
    classes = _Classes(ArrayFile(folder / CLASSES))
    for name, file in (("features", FEATURES), ("labels", LABELS), ("classes", CLASSES), ("clips", CLIPS)):
        arrays = ArrayFile(folder / file)
        _write(folder / table_path(name), (_rows(name, arrays, classes, start) for start in _starts(name, arrays)))
    pa.default_memory_pool().release_unused()


def export_parquet(atlas: Atlas, folder: str | os.PathLike[str], *, postings: bool = True) -> Path:
    """Write the tables of an atlas, and its postings as `postings/NNNNN.parquet`, cut by features as in the atlas.

    Args:
        atlas: what to write.
        folder: where to; it is replaced as a whole.
        postings: also which frames every feature is active in, as rows of `POSTINGS`.

    Raises:
        DamagedError: a file of the atlas changed since it was built.
    """
    place = Path(folder)
    with atomic_folder(place) as temporary:
        for name in TABLES:
            (temporary / f"{name}.parquet").write_bytes(atlas.sealed.path(table_path(name)).read_bytes())
        if postings:
            (temporary / "postings").mkdir()
            firsts = [int(part["first"]) for part in atlas.meta["postings"]["parts"]]
            for number, (first, last) in enumerate(zip(firsts, [*firsts[1:], len(atlas)], strict=True)):
                batches = posting_rows(atlas, np.arange(first, last))
                path = temporary / "postings" / f"{number:05d}.parquet"
                _write(path, (pa.Table.from_batches([batch]) for batch in batches), POSTINGS)
    return place


def posting_rows(
    atlas: Atlas, features: npt.NDArray[np.integer], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the entries of some features as rows of `POSTINGS`; only the parts that hold them are read.

    Args:
        atlas: whose entries.
        features: their numbers, ascending.
        columns: which columns; None for all.
    """
    schema = pa.schema([field for field in POSTINGS if columns is None or field.name in columns])
    ids = pa.array(atlas.clips.ids.all(), pa.string()) if "clip_id" in schema.names else None
    held: list[tuple[int, Entries]] = []
    n_held = 0
    for at, feature in enumerate(features.tolist()):
        entries = atlas.postings[feature]
        if len(entries.frames):
            held.append((feature, entries))
            n_held += len(entries.frames)
        if held and (n_held >= ENTRIES_AT_ONCE or at == len(features) - 1):
            yield _batch(atlas, held, schema, ids)
            held, n_held = [], 0


def _batch(atlas: Atlas, held: list[tuple[int, Entries]], schema: pa.Schema, ids: pa.Array | None) -> pa.RecordBatch:
    """The entries of some features, as rows."""
    clips, clock = atlas.clips, atlas.clock
    frames = np.concatenate([each.frames for _, each in held]).astype(np.int64)
    clip = np.searchsorted(clips.starts, frames, side="right") - 1
    within = frames - clips.starts[clip]
    columns = {
        "feature": np.repeat([feature for feature, _ in held], [len(each.frames) for _, each in held]),
        "frame": within,
        "time_s": clock.offset_s + clock.frame_s * within,
        "value": np.concatenate([each.values for _, each in held]),
    }
    if ids is not None:
        columns["clip_id"] = ids.take(pa.array(clip))
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


class _Classes:
    """Labels and kinds of the classes, by number."""

    def __init__(self, file: ArrayFile) -> None:
        self.labels = _texts(file, "label", 0, None)
        self.kinds = _texts(file, "kind", 0, None)

    def named(self, column: str, numbers: npt.NDArray[np.integer]) -> dict[str, pa.Array]:
        """Return the column of labels, and that of kinds if it has a name."""
        index = pa.array(numbers, pa.int64(), mask=numbers < 0)
        label, kind = _CLASS_COLUMNS[column]
        return {label: self.labels.take(index), **({kind: self.kinds.take(index)} if kind else {})}


def _starts(name: str, file: ArrayFile) -> range:
    return range(0, max(1, _n_rows(name, file)), ROWS_AT_ONCE)


def _n_rows(name: str, file: ArrayFile) -> int:
    key = next(each for each in file.names if each != "indptr" and not each.endswith(".utf8"))
    return file.shape(key)[0] - key.endswith(".offsets")


def _rows(name: str, file: ArrayFile, classes: _Classes, start: int) -> pa.Table:
    """Rows `start : start + ROWS_AT_ONCE` of a table."""
    stop = min(start + ROWS_AT_ONCE, _n_rows(name, file))
    columns: dict[str, Any] = {}
    if name == "features":
        columns["feature"] = pa.array(np.arange(start, stop), pa.int64())
        columns["unit"] = columns["feature"].cast(pa.large_string())
    if name == "labels":
        indptr = file.read("indptr")
        columns["feature"] = pa.array(np.searchsorted(indptr, np.arange(start, stop), side="right") - 1, pa.int64())
    for column in sorted(file.names):
        stem, _, part = column.rpartition(".")
        if column == "indptr" or part == "utf8":
            continue
        if part == "offsets" and stem:
            columns[stem] = _texts(file, stem, start, stop)
            continue
        values = file.read(column, start, stop)
        if column in _CLASS_COLUMNS and np.issubdtype(values.dtype, np.integer):
            columns |= classes.named(column, values)
        elif column == "nature":
            columns[column] = pa.array(NATURES, pa.large_string()).take(pa.array(values))
        else:
            columns[column] = _numbers(column, values)
    first = [each for each in ("feature", "unit", "rank", "label", "label_kind", "kind", "clip_id") if each in columns]
    return pa.table({each: columns[each] for each in [*first, *(c for c in columns if c not in first)]})


def _numbers(name: str, values: npt.NDArray[Any]) -> pa.Array:
    """A column; nothing where a figure is not a number, or says that there is none."""
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(values).ravel(), from_pandas=True), values.shape[1]
        )
    if name == "best_feature":
        return pa.array(values, mask=values == _NOTHING)
    return pa.array(values, from_pandas=True)  # NaN becomes null: in SQL it would be larger than any number


def _texts(file: ArrayFile, name: str, start: int, stop: int | None) -> pa.Array:
    """Texts `start:stop` of a file, without copying them."""
    n = file.shape(f"{name}.offsets")[0] - 1
    stop = n if stop is None else stop
    offsets = np.ascontiguousarray(file.read(f"{name}.offsets", start, stop + 1), dtype=np.int64)
    data = file.read(f"{name}.utf8")
    return pa.LargeStringArray.from_buffers(stop - start, pa.py_buffer(offsets), pa.py_buffer(data))


def _write(path: Path, tables: Iterator[pa.Table], schema: pa.Schema | None = None) -> None:
    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, schema or table.schema, compression="zstd")
            writer.write_table(table)
        if writer is None:
            if schema is None:
                raise InputError(f"There is nothing to write into {path}.")
            writer = pq.ParquetWriter(path, schema, compression="zstd")
    finally:
        if writer is not None:
            writer.close()
