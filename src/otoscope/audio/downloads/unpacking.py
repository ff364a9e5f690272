"""Archives from the net, unpacked as a stranger's: nothing outside, no links, no bombs, nothing overwritten."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from otoscope.errors import OtoscopeError

MAX_FILES = 2_000_000
MAX_BYTES = 1 << 40
MAX_RATIO = 200
"""Bytes out per byte in: speech and tables stay far below it, bombs far above."""
_RATIO_COUNTS_FROM = 1 << 26  # bytes: silence may compress well
_LARGEST_READ = 1 << 26  # a header of a tar file that asks for more at once is an attack
_CHUNK = 1 << 20
_MAX_NAME = 1000


def unpack(
    archive: Path,
    to: Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
    advance: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """Unpack a .zip, .tar, .tar.gz or .tar.bz2 into the folder `to` and return the names of its files.

    All is unpacked beside `to` first and moved into place when the whole archive has proved sound. Files that exist
    stay as they are: identical ones count as unpacked, any other stops the unpacking before anything is moved.

    Raises:
        OtoscopeError: damaged or too large; has absolute or climbing names, links to outside, devices; or would
            overwrite a file. What was there is untouched.
    """
    to.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=to, prefix=".otoscope-unpacking-"))
    limit = min(max_bytes, max(_RATIO_COUNTS_FROM, int(archive.stat().st_size * max_ratio)))
    try:
        names = _unpack_to(archive, staging, max_files, limit, advance)
        _refuse_overwriting(names, staging, to)
        _move(staging, to)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise OtoscopeError(f"{archive} is a damaged archive ({error}); download it again.") from error
    except (NotImplementedError, RuntimeError) as error:  # RecursionError too: links that point at each other
        raise OtoscopeError(f"{archive} cannot be unpacked ({error or type(error).__name__}).") from error
    except OSError as error:
        raise OtoscopeError(f"Could not unpack {archive}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return names


def _unpack_to(archive: Path, staging: Path, max_files: int, limit: int, advance: Callable[[int], None]) -> list[str]:
    names: list[str] = []
    left = limit
    entries = _zip_entries(archive) if zipfile.is_zipfile(archive) else _tar_entries(archive, staging, limit)
    for count, (name, content) in enumerate(entries, 1):
        if count > max_files:
            raise OtoscopeError(f"{archive} has more than {max_files:,} entries; it is not unpacked.")
        place = staging / _safe_name(archive, name)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(place):
            raise OtoscopeError(f"{archive} has {name!r} twice; it is not unpacked.")
        with open(place, "xb") as file, content:
            while chunk := content.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _too_large(archive, limit)
                file.write(chunk)
                advance(len(chunk))
        names.append(place.relative_to(staging).as_posix())
    return names


def _too_large(archive: Path, limit: int) -> OtoscopeError:
    return OtoscopeError(
        f"{archive} would unpack to more than {limit:,} bytes, far more than its size allows; it is not unpacked."
    )


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """Return the name as a path inside, or refuse it.

    Raises:
        OtoscopeError: absolute, with a drive, climbing, or not a name at all.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    is_odd = "\0" in name or len(name) > _MAX_NAME or any(":" in part for part in path.parts)
    if path.is_absolute() or ".." in path.parts or is_odd:
        raise OtoscopeError(f"{archive} has an entry named {name!r}, which would lie outside; it is not unpacked.")
    return path


def _zip_entries(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as container:
        for info in container.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise OtoscopeError(f"{archive} has {info.filename!r}, a link or device; it is not unpacked.")
            if info.flag_bits & 1:
                raise OtoscopeError(f"{archive} is encrypted ({info.filename!r}); it is not unpacked.")
            yield info.filename, None if info.is_dir() else container.open(info)


def _tar_entries(archive: Path, staging: Path, limit: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield folders and files; a link to a file inside the archive is given as a copy of that file."""
    with _decompressed(archive) as plain, _open_tar(careful := _Careful(plain, archive, limit)) as container:
        for member in container:
            _safe_name(archive, member.name)
            try:
                tarfile.data_filter(member, str(staging))
            except tarfile.FilterError as error:
                raise OtoscopeError(f"{archive} has {member.name!r} ({error}); it is not unpacked.") from error
            if member.isdir():
                yield member.name, None
                continue
            try:
                content = None if member.issparse() else container.extractfile(member)
            except KeyError:
                content = None
            if content is None:
                raise OtoscopeError(
                    f"{archive} has {member.name!r}, a link to nothing or a device; it is not unpacked."
                )
            yield member.name, content
        while careful.read(_CHUNK):  # the checksum of what was compressed stands at its end
            pass


def _open_tar(file: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r:")


def _decompressed(archive: Path) -> BinaryIO | Any:
    with open(archive, "rb") as file:
        head = file.read(3)
    if head[:2] == b"\x1f\x8b":
        return gzip.open(archive, "rb")
    return bz2.open(archive, "rb") if head == b"BZh" else open(archive, "rb")


class _Careful:
    """A file that refuses absurd reads and stops at a limit, since tarfile trusts the sizes in its headers."""

    def __init__(self, file: Any, archive: Path, limit: int) -> None:
        self._file, self._archive, self._limit = file, archive, limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise OtoscopeError(f"{self._archive} has a header of {size:,} bytes; it is not unpacked.")
        data: bytes = self._file.read(size)
        if self._file.tell() > 2 * self._limit:
            raise _too_large(self._archive, self._limit)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > 2 * self._limit:
            raise _too_large(self._archive, self._limit)
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _refuse_overwriting(names: list[str], staging: Path, to: Path) -> None:
    other = []
    for name in names:
        there = to / name
        is_in_the_way = any(os.path.lexists(place) and not place.is_dir() for place in _folders_between(there, to))
        if is_in_the_way or (os.path.lexists(there) and not _is_same(there, staging / name)):
            other.append(name)
    if other:
        more = f" and {len(other) - 1:,} more" if len(other) > 1 else ""
        raise OtoscopeError(
            f"{to / other[0]}{more} exist with other content; nothing was overwritten, move them away or give another "
            "folder."
        )


def _folders_between(path: Path, top: Path) -> Iterator[Path]:
    folder = path.parent
    while folder != top:
        yield folder
        folder = folder.parent


def _is_same(there: Path, new: Path) -> bool:
    if there.is_symlink() or not there.is_file() or there.stat().st_size != new.stat().st_size:
        return False
    with open(there, "rb") as a, open(new, "rb") as b:
        while chunk := a.read(_CHUNK):
            if chunk != b.read(len(chunk)):
                return False
    return True


def _move(staging: Path, to: Path) -> None:
    """Move everything that is not there yet; whole folders at once where they are new."""
    for entry in sorted(os.scandir(staging), key=lambda entry: entry.name):
        there = to / entry.name
        if not os.path.lexists(there):
            os.rename(entry.path, there)
        elif entry.is_dir():
            _move(Path(entry.path), there)
