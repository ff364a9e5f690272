"""A corpus on disk: `meta.json`, `corpus.parquet` (a row per clip), `tiers.parquet` (a row per interval)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soundfile

from otoscope.audio.clip import Clip
from otoscope.audio.clip_table import ClipTable, TableClips
from otoscope.audio.columns import Texts, Times, alternating, joined_times, packed_times, small
from otoscope.audio.decoding import SAMPLE_RATE_HZ
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.tree import Tree
from otoscope.audio.tiers import TierTable, run_starts
from otoscope.errors import InputError, OtoscopeError
from otoscope.storage import atomic_folder, read_json, write_json
from otoscope.storage.memory import give_back

if TYPE_CHECKING:
    from otoscope.audio.corpus import Corpus

FORMAT, VERSION = "otoscope-corpus", 1
TABLES = ("meta.json", "corpus.parquet", "tiers.parquet")
_ROWS = 1 << 14
"""Rows of a column that are read at a time."""


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


def load_corpus(folder: Path) -> tuple[str, TableClips, str]:
    """Return the name, the clips and the licence of a saved corpus.

    Raises:
        OtoscopeError: missing, damaged, or of another format.
    """
    meta = read_json(folder / "meta.json", format=FORMAT, version=VERSION)
    table = _clips(folder)
    _release()  # what reading took, which is more than the clips themselves
    if (folder / TABLES[2]).exists():
        tiers = _tiers(folder / TABLES[2], _schemas()[1], table)
        if tiers is not None:
            table.put_tiers(tiers)
    _release()
    return str(meta["name"]), TableClips(table), str(meta.get("licence", ""))


def _release() -> None:
    """Return the memory that Arrow and the C library keep to the system; done while no column is held any more."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    give_back()


def _clips(folder: Path) -> ClipTable:
    """Read the table of clips column by column."""
    import pyarrow as pa

    path, schema = folder / TABLES[1], _schemas()[0]
    texts: dict[str, Texts] = {}
    times: dict[str, Times] = {}
    for name, pieces in _columns(path, schema):
        column = pa.chunked_array(pieces, schema.field(name).type).combine_chunks()
        if name == "attributes":
            pairs = small(_array(column.offsets))
            names, values = _texts(column.keys), _texts(column.items)
        elif name in ("start_s", "end_s"):
            seconds = np.array(column.to_pylist(), dtype=np.float64) if column.null_count else _array(column)
            times[name] = packed_times(seconds)
        else:
            texts[name] = _texts(column)
    for name in ("clip_id", "uri"):
        if not texts[name].full:
            raise OtoscopeError(f"{path} is damaged: {name} is missing in some rows.")
    return ClipTable(texts, **times, pairs=pairs, names=names, values=values, folder=folder)


def _texts(column: Any) -> Texts:
    """Return a column of texts as bytes of our own."""
    import pyarrow as pa

    coded = column.dictionary_encode("encode")  # so that a missing text has a place, too
    codes, known = _array(coded.indices), coded.dictionary
    if known.null_count:
        missing = known.to_pylist().index(None)
        codes = np.where(codes == missing, len(known), codes)
    _, ends, utf8 = known.cast(pa.large_string()).buffers()
    offsets = np.frombuffer(ends, dtype=np.int64, count=len(known) + 1) if len(known) else np.zeros(1, dtype=np.int64)
    return Texts(codes, offsets, b"" if utf8 is None else utf8.to_pybytes()[: offsets[-1]])


def saved_facts(folder: Path) -> dict[str, str]:
    """Return the name of a saved corpus, and its licence if it has one."""
    meta = read_json(folder / TABLES[0], format=FORMAT, version=VERSION)
    return {name: str(meta[name]) for name in ("name", "licence") if name in meta}


def _tiers(path: Path, schema: Any, clips: ClipTable) -> TierTable | None:
    """Return the tiers of the clips; rows of a clip or a tier need not follow one another."""
    known: dict[str, dict[str, int]] = {"tier": {}, "label": {}}
    given: dict[str, npt.NDArray[Any]] = {}
    times: dict[str, Times] = {}
    for name, column in _columns(path, schema):
        pieces = (_without_gaps(path, name, piece) for piece in column)
        if name in ("start_s", "end_s"):
            seconds = [packed_times(_array(piece)) for piece in pieces]
            if not seconds:
                return None
            times[name] = joined_times(seconds)
        else:
            number_of = clips.find if name == "clip_id" else _numbering(known[name])
            parts = [_numbers(piece.dictionary_encode(), number_of) for piece in pieces]
            given["clip" if name == "clip_id" else name] = np.concatenate([np.zeros(0, dtype=np.uint8), *parts])
    spans = alternating(times.pop("start_s"), times.pop("end_s"))
    order = _order(given["clip"], given["tier"], len(known["tier"]))
    if order is not None:
        given = {name: column[order] for name, column in given.items()}
        spans = spans.take(np.stack([2 * order, 2 * order + 1], axis=1).reshape(-1))
    return TierTable(list(known["tier"]), list(known["label"]), n_clips=len(clips), times=spans, **given)


def _without_gaps(path: Path, name: str, piece: Any) -> Any:
    """Return a piece of a column in which no value may be missing."""
    if piece.null_count:
        raise OtoscopeError(f"{path} is damaged: {name} is missing in {piece.null_count:,} rows.")
    return piece


def _numbering(known: dict[str, int]) -> Callable[[str], int]:
    """Return what gives each text the number it has in `known`, or the next."""
    return lambda text: known.setdefault(text, len(known))


def _numbers(coded: Any, number_of: Callable[[str], int | None]) -> npt.NDArray[Any]:
    """Return the number of each row of an encoded column; −1 where its text has none."""
    numbers = [number_of(text) for text in coded.dictionary.to_pylist()]
    own = np.array([-1 if each is None else each for each in numbers], dtype=np.int32)
    fewer = own if (own < 0).any() else small(own)
    found: npt.NDArray[Any] = fewer[_array(coded.indices)]
    return found


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


def _columns(path: Path, schema: Any) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield the name and the values of each column of a table, one after the other, and a piece of each at a time: of
    several columns, or of one at once, more would be held than what is made of them.

    Raises:
        OtoscopeError: it cannot be read, or lacks a column.
    """
    import pyarrow.parquet as pq

    with _damage_named(path), pq.ParquetFile(path) as file:
        for field in schema:
            yield field.name, _pieces(path, file, field)


def _pieces(path: Path, file: Any, field: Any) -> Iterator[Any]:
    """Yield the values of a column, some rows at a time."""
    import pyarrow as pa

    with _damage_named(path):
        for batch in file.iter_batches(_ROWS, columns=[field.name], use_threads=False):
            piece = batch.column(field.name)
            yield piece if piece.type == field.type else piece.cast(field.type)
            del batch, piece
            pa.default_memory_pool().release_unused()  # Arrow would take new room for each


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
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


def _read(tree: Tree, split: str | None, problems: Problems) -> Sequence[Clip]:
    """Open a saved corpus; its recordings were there when it was saved, and `Corpus.check` looks again."""
    clips = load_corpus(tree.path)[1]
    if split is None:
        return clips
    chosen_splits(split, dict.fromkeys(c.attributes["split"] for c in clips if "split" in c.attributes), tree.path)
    return clips.take([row for row, clip in enumerate(clips) if clip.attributes.get("split") == split])


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
