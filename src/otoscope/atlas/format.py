"""The files of an atlas: format "otoscope-atlas", version 1.

- `meta.json`: model, dictionary, corpus, site, counts, label kinds, options, and size and SHA-256 of every other file.
- `features.parquet`: one row per feature, in order. `examples.parquet`, `labels.parquet`: rows sorted by feature, in
  row groups small enough that one feature is read without the rest.
- `classes.parquet`: the label classes. `clips.parquet`: clip_id, first frame, n_frames, half (0 chose, 1 scored).
- `peaks.parquet`: the strongest features of every clip, sorted by clip.
- `postings/`: see `otoscope.atlas.postings`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from otoscope.errors import OtoscopeError
from otoscope.storage import read_json, sha256_file, write_json

FORMAT, VERSION = "otoscope-atlas", 1
ROW_GROUP = 1 << 14


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write named columns as Parquet, the same bytes for the same columns."""
    arrays = {name: _column(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=ROW_GROUP, compression="zstd", write_statistics=True)


def _column(values: Any) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return pa.array(values, from_pandas=True)
    return pa.array(values)


def read_table(path: Path, columns: list[str] | None = None, **equal: int) -> pa.Table:
    """Read a table, or only the rows where a column equals a value (skipping row groups without it)."""
    filters = [(name, "==", value) for name, value in equal.items()] or None
    try:
        return pq.read_table(path, columns=columns, filters=filters, memory_map=True, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}); build the atlas again.") from error


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Seal a finished folder: `meta.json` lists every file with its size and checksum."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": os.path.getsize(path), "sha256": sha256_file(path)}
    write_json(folder / "meta.json", {"format": FORMAT, "version": VERSION, **meta, "files": files})


def read_meta(folder: Path) -> dict[str, Any]:
    """Read `meta.json` and check that every file is there at its full size.

    Raises:
        OtoscopeError: not an atlas, of another version, or a file is missing or cut short.
    """
    meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
    for name, file in meta["files"].items():
        path = folder / name
        size = os.path.getsize(path) if path.is_file() else -1
        if size != file["bytes"]:
            found = "is missing" if size < 0 else f"has {size} bytes instead of {file['bytes']}"
            raise OtoscopeError(f"The atlas {folder} is damaged: {name} {found}; build it again.")
    return meta


def verify_files(folder: Path, meta: dict[str, Any]) -> None:
    """Compare every file with its checksum.

    Raises:
        OtoscopeError: a file changed since the atlas was built.
    """
    for name, file in meta["files"].items():
        if sha256_file(folder / name) != file["sha256"]:
            raise OtoscopeError(f"The atlas {folder} is damaged: {name} changed since it was built; build it again.")
