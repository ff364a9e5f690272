"""Formats of alignments by the ends of their file names: one row each."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from otoscope.audio.clip import Tiers
from otoscope.audio.labels import audacity, ctm, json_times, textgrid, timit
from otoscope.audio.labels.tiers import Mark, our_name, tiers_from_marks
from otoscope.audio.problems import OnError, Problems
from otoscope.errors import InputError, nearest
from otoscope.storage import atomic_path

Marks = Mapping[str | None, list[Mark]]
"""Marks by recording; None where the file is about one recording and does not name it."""


@dataclass(frozen=True)
class LabelFormat:
    """How one kind of file is read and written.

    Attributes:
        name: what people call it, and the `kind` of an export.
        suffixes: the ends of file names by which it is known, in lower case; the first is written.
        tier: the tier of a file that does not name it.
        read: `(content, place, problems, tier) -> marks by recording`.
        write: `(tiers, duration_s) -> content` for formats of several tiers; None if there is no writer.
        lines: `(tiers, tier, recording) -> lines` for formats of one tier.
        shared: whether one file holds many recordings.
    """

    name: str
    suffixes: tuple[str, ...]
    tier: str
    read: Callable[[str, str, Problems, str], Marks]
    write: Callable[[Tiers, float], str] | None = None
    lines: Callable[[Tiers, str, str], list[str]] | None = None
    shared: bool = False


FORMATS = (
    LabelFormat(
        "TextGrid",
        (".textgrid",),
        "",
        lambda text, place, problems, _: {None: list(textgrid.parse(text, place, problems))},
        write=textgrid.write,
    ),
    LabelFormat(
        "JSON",
        ("_annot.json", ".phone.json", ".json"),
        "",
        lambda text, *_: {None: list(json_times.parse(text))},
        write=json_times.write,
    ),
    LabelFormat("CTM", (".ctm",), "words", lambda *a: {**ctm.parse(*a)}, lines=ctm.lines, shared=True),
    LabelFormat("Audacity", (".txt",), "events", lambda *a: {None: list(audacity.parse(*a))}, lines=audacity.lines),
    LabelFormat("TIMIT phones", (".phn",), "phones", lambda *a: {None: list(timit.parse(*a))}),
    LabelFormat("TIMIT words", (".wrd",), "words", lambda *a: {None: list(timit.parse(*a))}),
    LabelFormat("HTK", (".lab",), "phones", lambda *a: {None: list(timit.parse_htk(*a))}),
)


def label_format(name: str) -> tuple[LabelFormat, str] | None:
    """Return the format of a file name and the stem before its suffix, or None if it is not one of labels."""
    lower = name.lower()
    for format in FORMATS:
        for suffix in format.suffixes:
            if lower.endswith(suffix) and len(name) > len(suffix):
                return format, name[: -len(suffix)]
    return None


def writable(kind: str) -> LabelFormat:
    """Return the format called `kind`, whatever the case.

    Raises:
        InputError: there is none, or it is only read; names those that are written.
    """
    names = {each.name.lower(): each for each in FORMATS if each.write or each.lines}
    found = names.get(kind.lower())
    if found is None:
        known = ", ".join(each.name for each in names.values())
        raise InputError(f"Labels are written as {known}, not as {kind!r}{nearest(kind.lower(), names) or '.'}")
    return found


def read_labels(
    path: str | os.PathLike[str],
    *,
    recording: str | None = None,
    on_error: OnError = "raise",
) -> Tiers:
    """Return the tiers of a file of times: .TextGrid, .ctm, .json, Audacity .txt, TIMIT's .PHN and .WRD, HTK's .lab.

    Times are seconds from the start of the recording. Blank labels are left out; tiers called `Word`, `ORT`, `phone`,
    `MAU`… become `words` and `phones` (`otoscope.audio.labels.tiers.NAMES`). A file of one tier takes its name from
    `clip.words.ctm`. `recording` chooses one of those in a CTM.

    Raises:
        InputError: missing, of another kind, in another encoding or damaged; or, unless `on_error` is "skip", an
            interval that overlaps another of its tier, ends before it starts, or has a negative time (with its line).
    """
    path = Path(path)
    problems = Problems()
    by_recording = read_label_file(path, problems)
    problems.settle(on_error)
    names = list(by_recording)
    if recording is None:
        if len(names) > 1 and path.name.split(".")[0] in names:
            recording = path.name.split(".")[0]
        elif len(names) > 1:
            raise InputError(
                f"{path} is about {len(names):,} recordings ({', '.join(map(str, names[:3]))}, …); "
                "choose one with recording=."
            )
        else:
            return by_recording[names[0]] if names else {}
    if recording not in names:
        hint = nearest(recording, [name for name in names if name])
        raise InputError(f"{path} says nothing about the recording {recording!r}{hint or '.'}")
    return by_recording[recording]


def read_label_file(path: Path, problems: Problems) -> dict[str | None, Tiers]:
    """Return the tiers of each recording in a file; what cannot be used is noted and left out.

    Raises:
        InputError: missing, of another kind, in another encoding or damaged.
    """
    found = label_format(path.name)
    if found is None:
        known = ", ".join(suffix for format in FORMATS for suffix in format.suffixes)
        raise InputError(f"{path} is not a file of times ({known}).")
    format, stem = found
    tier = our_name(Path(stem).suffix[1:]) if format.tier and Path(stem).suffix else format.tier
    try:
        by_recording = format.read(read_text(path), str(path), problems, tier)
    except InputError as error:
        message = str(error)
        raise type(error)(message if message.startswith(str(path)) else f"{path}: {message}") from None
    return {name: tiers_from_marks(marks, str(path), problems) for name, marks in by_recording.items()}


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte-order mark.

    Raises:
        InputError: missing, or in another encoding (with the byte and its line).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    wide = content.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not "
            f"{'UTF-16' if wide else 'UTF-8'}; save the file as UTF-8."
        ) from None


def write_labels(
    tiers: Tiers,
    path: str | os.PathLike[str],
    duration_s: float = 0.0,
    *,
    tier: str | None = None,
    recording: str | None = None,
) -> None:
    """Write tiers to a file by its suffix: .TextGrid and .json hold all tiers; .ctm and .txt (Audacity) hold one.

    The file appears when it is complete. `duration_s` is the length of the recording; `tier` chooses the tier of
    formats that hold one; `recording` is the name in a CTM (the file's own by default).

    Raises:
        InputError: no such format, several tiers where one can be written, or a label the format cannot hold.
    """
    path = Path(path)
    found = label_format(path.name)
    if found is None or not (found[0].write or found[0].lines):
        raise InputError(f"{path} has no suffix of labels that can be written: .TextGrid, .json, .ctm or .txt.")
    format, stem = found
    try:
        text = content(tiers, format, duration_s, tier=tier, recording=recording or stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def content(tiers: Tiers, format: LabelFormat, duration_s: float, *, tier: str | None, recording: str) -> str:
    """Return what a file of `format` about one recording holds."""
    if format.write is not None:
        return format.write(tiers if tier is None else {tier: tiers.get(tier, ())}, duration_s)
    assert format.lines is not None
    if tier is None and len(tiers) > 1:
        raise InputError(f"{format.name} holds one tier, and there are {', '.join(tiers)}; choose one with tier=.")
    chosen = tier or next(iter(tiers), format.tier)
    return "".join(f"{line}\n" for line in format.lines(tiers, chosen, recording))
