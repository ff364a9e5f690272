"""A corpus on disk: `meta.json`, `corpus.parquet` (a row per clip), `tiers.parquet` (a row per interval)."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile

from otoscope.audio.clip import Clip, Interval
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.tree import Tree
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from otoscope.audio.corpus import Corpus

FORMAT, VERSION = "otoscope-corpus", 1
TABLES = ("meta.json", "corpus.parquet", "tiers.parquet")


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


def load_corpus(folder: Path) -> tuple[str, list[Clip]]:
    """Return the name and the clips of a saved corpus.

    Raises:
        OtoscopeError: missing, damaged, or of another format.
    """
    meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
    clips_schema, tiers_schema = _schemas()
    rows = _table(folder / "corpus.parquet", clips_schema)
    tiers: dict[str, dict[str, list[Interval]]] = {}
    if (folder / "tiers.parquet").exists():
        table = _table(folder / "tiers.parquet", tiers_schema)
        for clip_id, tier, start_s, end_s, label in zip(*(c.to_pylist() for c in table.columns), strict=True):
            tiers.setdefault(clip_id, {}).setdefault(tier, []).append(Interval(start_s, end_s, label))
    clips = []
    for row in rows.to_pylist():
        row["attributes"] = dict(row["attributes"] or ())
        row["start_s"] = row["start_s"] or 0.0
        row["tiers"] = {name: tuple(tier) for name, tier in tiers.get(row["clip_id"], {}).items()}
        clips.append(Clip(**row, source=folder / row["uri"]))
    return str(meta["name"]), clips


def load_corpus_name(folder: Path) -> str:
    """Return the name of a saved corpus."""
    return str(read_json(folder / TABLES[0], format=FORMAT, version=VERSION)["name"])


def _table(path: Path, schema: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=schema.names).select(schema.names).cast(schema)
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
        write_json(temporary / "meta.json", {"format": FORMAT, "version": VERSION, "name": corpus.name})


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
    name=lambda tree: load_corpus_name(tree.path),
)
