"""A corpus on disk: `meta.json`, `corpus.parquet` (a row per clip), `tiers.parquet` (a row per interval)."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sys
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soundfile

from otoscope.audio.clip import Clip
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.tree import Tree
from otoscope.audio.tiers import NO_TIERS, PackedTiers, Tiers
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from otoscope.audio.corpus import Corpus

FORMAT, VERSION = "otoscope-corpus", 1
TABLES = ("meta.json", "corpus.parquet", "tiers.parquet")
_ROWS, _INTERVALS = 1024, 1 << 16
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
    clips_schema, tiers_schema = _schemas()
    known = _tiers(folder / "tiers.parquet", tiers_schema) if (folder / "tiers.parquet").exists() else {}
    clips = []
    for rows in _batches(folder / "corpus.parquet", clips_schema, _ROWS):
        for row in rows.to_pylist():
            row["attributes"] = {_shared(name): _shared(value) for name, value in row["attributes"] or ()}
            row["speaker"], row["language"] = _shared(row["speaker"]), _shared(row["language"])
            row["start_s"] = row["start_s"] or 0.0
            clips.append(Clip(**row, tiers=known.pop(row["clip_id"], NO_TIERS), source=folder / row["uri"]))
    return str(meta["name"]), clips, str(meta.get("licence", ""))


def saved_facts(folder: Path) -> dict[str, str]:
    """Return the name of a saved corpus, and its licence if it has one."""
    meta = read_json(folder / TABLES[0], format=FORMAT, version=VERSION)
    return {name: str(meta[name]) for name in ("name", "licence") if name in meta}


def _tiers(path: Path, schema: Any) -> dict[str, Tiers]:
    """Return the tiers of every clip, packed; rows of a clip or a tier need not follow one another."""
    numbers: dict[str, dict[str, int]] = {"clip_id": {}, "tier": {}, "label": {}}
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in schema.names}
    for rows in _batches(path, schema, _INTERVALS):
        for name, column in zip(schema.names, rows.columns, strict=True):
            if column.null_count:
                raise OtoscopeError(f"{path} is damaged: {name} is missing in {column.null_count:,} rows.")
            if name in numbers:
                coded, known = column.combine_chunks().dictionary_encode(), numbers[name]
                here = [known.setdefault(text, len(known)) for text in coded.dictionary.to_pylist()]
                columns[name].append(np.array(here, dtype=np.int32)[coded.indices.to_numpy()])
            else:
                columns[name].append(column.to_numpy())
    if not columns["clip_id"]:
        return {}
    clip = np.concatenate(columns.pop("clip_id"))
    order = np.argsort(clip, kind="stable")
    bounds = np.searchsorted(clip[order], np.arange(len(numbers["clip_id"]) + 1)).tolist()
    tier, start_s, end_s, label = (np.concatenate(columns.pop(name))[order] for name in schema.names[1:])
    names, labels = ([sys.intern(text) for text in numbers[name]] for name in ("tier", "label"))
    return {
        clip_id: _packed(names, tier[first:stop], start_s[first:stop], end_s[first:stop], labels, label[first:stop])
        for clip_id, (first, stop) in zip(numbers["clip_id"], itertools.pairwise(bounds), strict=True)
    }


def _packed(
    names: list[str],
    tier: npt.NDArray[np.int32],
    start_s: npt.NDArray[np.float64],
    end_s: npt.NDArray[np.float64],
    labels: list[str],
    label: npt.NDArray[np.int32],
) -> Tiers:
    """Return the tiers of one clip, in the order in which they are met."""
    own = tier.tolist()
    met = list(dict.fromkeys(own))
    ends = list(itertools.accumulate(map(own.count, met)))
    if own != [each for each in met for _ in range(own.count(each))]:  # not one after another
        order = np.argsort([met.index(each) for each in own], kind="stable")
        start_s, end_s, label = start_s[order], end_s[order], label[order]
    return PackedTiers(
        tuple(zip((names[each] for each in met), [0, *ends], ends, strict=False)),
        array("d", np.stack([start_s, end_s], axis=1).tobytes()),
        tuple(labels[each] for each in label.tolist()),
    )


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
                yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged or not part of a saved corpus ({error}).") from error
    finally:
        pa.default_memory_pool().release_unused()


def _shared(text: str | None) -> str | None:
    """The one copy of a text that many clips have."""
    return None if text is None else sys.intern(text)


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
