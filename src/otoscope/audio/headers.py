"""What the first bytes and the tables of a recording give away: text, cuts, and numbers too large to be true."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from otoscope.errors import InputError

_MAX_OGG_PAGE = 65307  # bytes
_MAX_MP4_PACKETS = 1 << 24  # 99 hours of AAC; FFmpeg keeps 24 bytes for each before it reads any sound
_MAX_MP4_BOXES = 1_000_000
_MAX_MP4_DEPTH = 16
_MP4_FOLDERS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"dinf", b"udta", b"wave")
)
_MP4_TABLES = {b"stsz": 3, b"stz2": 3, b"stco": 2, b"co64": 2, b"stts": 4, b"stsc": 1 << 20}  # numbers looked at


def refuse_bad_header(file: BinaryIO, head: bytes, name: str) -> None:
    """Refuse what decoders would read wrongly, or at a price beyond all measure.

    Raises:
        InputError: text, a cut WAV or Ogg, or an MP4 that announces more packets than it can hold.
    """
    _refuse_text(head, name)
    _refuse_cut_wav(file, head, name)
    _refuse_cut_ogg(file, head, name)
    _refuse_absurd_mp4(file, head, name)


def _refuse_text(head: bytes, name: str) -> None:
    """Refuse text: nothing that reads as plain text is sound, whatever its name says."""
    printable = set(range(0x20, 0x7F)) | set(b"\t\n\r\f\x1b")
    if not all(byte in printable or byte >= 0x80 for byte in head):
        return
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return
    raise InputError(f"{name} is a text file, not audio.")


def _refuse_cut_wav(file: BinaryIO, head: bytes, name: str) -> None:
    """Refuse a WAV that is shorter than its header says; libsndfile would read it as if it were whole."""
    if head[:4] != b"RIFF" or len(head) < 12:
        return
    declared = int.from_bytes(head[4:8], "little") + 8
    actual = file.seek(0, io.SEEK_END)
    is_streamed = declared == 8 or declared >= 0x7FFF0000  # the writer could not go back to fill it in
    if not is_streamed and declared - actual > 16:
        raise InputError(
            f"{name} is truncated: its header announces {declared:,} bytes and {actual:,} are there; copy it again."
        )


def _refuse_cut_ogg(file: BinaryIO, head: bytes, name: str) -> None:
    """Refuse an Ogg whose last page is cut; decoders would leave it out without a word."""
    if head[:4] != b"OggS":
        return
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _MAX_OGG_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        raise InputError(f"{name} is truncated: its last page is incomplete; copy it again.")


def _refuse_absurd_mp4(file: BinaryIO, head: bytes, name: str) -> None:
    """Refuse an MP4 of a few bytes whose tables announce millions of packets: FFmpeg would make room for them all."""
    if len(head) < 8 or not all(0x20 <= byte < 0x7F for byte in head[4:8]):
        return
    size = file.seek(0, io.SEEK_END)
    finished = track = 0
    tables: dict[bytes, np.ndarray] = {}
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"cmov":
            raise InputError(f"{name} has a compressed header (old QuickTime), which is not read; save it anew as m4a.")
        if kind == b"trak":
            finished, track, tables = finished + track, 0, {}
        elif kind == b"trun":
            finished += int(_numbers(file, start + 4, end, 1)[0])
        elif kind in _MP4_TABLES:
            tables[kind] = _numbers(file, start, end, _MP4_TABLES[kind])
            track = _announced_packets(tables)
        if finished + track > min(size, _MAX_MP4_PACKETS):
            raise InputError(
                f"{name} is damaged: its tables announce {finished + track:,} packets of sound in {size:,} bytes."
            )


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of the content of every box, folders before what is in them."""
    n_boxes = 0
    while start + 8 <= end and n_boxes < _MAX_MP4_BOXES:
        n_boxes += 1
        file.seek(start)
        head = file.read(16)
        length, kind, content = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), start + 16
        stop = end if length == 0 else min(end, start + length)
        if stop < content:
            return
        yield kind, content, stop
        if kind in _MP4_FOLDERS and depth < _MAX_MP4_DEPTH:
            yield from _boxes(file, content, stop, depth + 1)
        start = stop


def _numbers(file: BinaryIO, start: int, end: int, count: int) -> np.ndarray:
    """Read up to `count` big-endian 32-bit numbers; at least one, 0 where the box is empty."""
    file.seek(start)
    data = file.read(max(0, min(end - start, 4 * count)))
    numbers = np.frombuffer(data[: len(data) // 4 * 4], ">u4").astype(np.int64)
    return numbers if len(numbers) else np.zeros(1, np.int64)


def _announced_packets(tables: dict[bytes, np.ndarray]) -> int:
    """Return how many packets the tables of one track make FFmpeg keep in mind."""
    durations = _entry(tables, b"stts", 1), _entry(tables, b"stts", 3)
    if durations != (1, 1):
        return max(_entry(tables, b"stsz", 2), _entry(tables, b"stz2", 2))
    n_chunks = max(_entry(tables, b"stco", 1), _entry(tables, b"co64", 1))
    rows = tables.get(b"stsc", np.zeros(2, np.int64))[2:]
    rows = rows[: len(rows) // 3 * 3].reshape(-1, 3)  # first chunk, samples per chunk, kind
    per_chunk = -(-rows[:, 1] // 1024)  # uncompressed samples are kept by the thousand
    lengths = np.clip(np.append(rows[1:, 0], n_chunks + 1) - rows[:, 0], 0, n_chunks) if len(rows) else rows[:, 0]
    return max(n_chunks, int(min((lengths.astype(np.float64) * per_chunk).sum(), 2.0**53)))


def _entry(tables: dict[bytes, np.ndarray], kind: bytes, at: int) -> int:
    numbers = tables.get(kind)
    return int(numbers[at]) if numbers is not None and len(numbers) > at else 0
