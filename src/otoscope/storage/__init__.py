"""Storage: files that are whole or absent, arrays that are mapped into memory, folders whose every byte is checked."""

from __future__ import annotations

from otoscope.storage.files import (
    atomic_folder,
    atomic_path,
    link_or_copy,
    plain_os_errors,
    read_json,
    sha256_file,
    write_json,
)

__all__ = ["atomic_folder", "atomic_path", "link_or_copy", "plain_os_errors", "read_json", "sha256_file", "write_json"]
