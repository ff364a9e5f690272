"""The tiers of a corpus as files other programs open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from otoscope.audio.clip import Clip, url_safe
from otoscope.audio.labels.formats import LabelFormat, content, writable
from otoscope.errors import InputError
from otoscope.storage import atomic_folder


def export_labels(clips: Iterable[Clip], folder: Path, kind: str) -> list[Path]:
    """Write the tiers of `clips` to a new folder; see `Corpus.export_labels`.

    Raises:
        InputError: no tiers, an unknown kind, a folder that holds something, or a label the format cannot hold.
    """
    format = writable(kind)
    labelled = [clip for clip in clips if any(clip.tiers.values())]
    if not labelled:
        raise InputError("There are no labels to export: no clip has a tier.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; export to a new one.")
    names = []
    with atomic_folder(folder) as temporary:
        for name, text in _files(labelled, format):
            names.append(name)
            with open(temporary / name, "a", encoding="utf-8", newline="\n") as file:
                file.write(text)
    return [folder / name for name in dict.fromkeys(names)]


def _files(clips: list[Clip], format: LabelFormat) -> Iterator[tuple[str, str]]:
    """Yield the names of files and what to append to them."""
    suffix = ".TextGrid" if format.name == "TextGrid" else format.suffixes[-1]
    for clip in clips:
        tiers = {name: tier for name, tier in clip.tiers.items() if tier}
        try:
            if format.write is not None:
                yield f"{clip.clip_id}{suffix}", format.write(tiers, clip.duration_s)
                continue
            for tier in tiers:
                stem = url_safe(tier) if format.shared else f"{clip.clip_id}.{url_safe(tier)}"
                yield f"{stem}{suffix}", content(tiers, format, 0.0, tier=tier, recording=clip.clip_id)
        except InputError as error:
            raise InputError(f"Clip {clip.clip_id!r}: {error}") from None
