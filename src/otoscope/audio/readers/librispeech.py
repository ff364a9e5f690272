"""LibriSpeech and LibriTTS: `split/speaker/chapter/` with recordings and their texts.

Source: README.TXT of LibriSpeech (openslr.org/12) and of LibriTTS (openslr.org/60).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from otoscope.audio.clip import Clip
from otoscope.audio.labels.formats import read_text
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits, gender
from otoscope.audio.readers.rows import lines
from otoscope.audio.readers.tree import Listing, Tree, inside, is_sound, stem

_SPEAKERS = ("SPEAKERS.TXT", "SPEAKERS.txt", "speakers.tsv")
_TEXTS = (".trans.txt", ".trans.tsv", ".normalized.txt")


def _is_split(tree: Tree, folder: str) -> bool:
    """Whether a folder holds speakers with chapters with texts; the first of each is looked at."""
    speaker = next((name for name in tree.list(folder).folders if name.isdigit()), None)
    if speaker is None:
        return False
    speaker = inside(folder, speaker)
    chapter = next((name for name in tree.list(speaker).folders if name.isdigit()), None)
    return chapter is not None and any(name.endswith(_TEXTS) for name in tree.list(inside(speaker, chapter)).files)


def _splits(tree: Tree) -> list[str]:
    return [name for name in tree.list().folders if not name.startswith(".") and _is_split(tree, name)]


def _recognise(tree: Tree) -> bool:
    return not tree.is_file and (_is_split(tree, "") or bool(_splits(tree)))


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    speakers = _speakers(tree, problems)
    whole = _is_split(tree, "")
    if whole and split == tree.path.resolve().name:
        split = None
    for name in chosen_splits(split, [] if whole else _splits(tree), tree.path) or [""]:
        for speaker in tree.list(name).folders:
            for chapter in tree.list(inside(name, speaker)).folders:
                folder = f"{inside(name, speaker)}/{chapter}"
                attributes = {
                    "split": name or tree.path.resolve().name,
                    "chapter": chapter,
                    **speakers.get(speaker, {}),
                }
                yield from _chapter(tree, folder, speaker, attributes, problems)


def _chapter(tree: Tree, folder: str, speaker: str, attributes: dict[str, str], problems: Problems) -> Iterator[Clip]:
    names = tree.list(folder)
    texts = _texts(tree.path / folder, names, problems)
    for name in names.files:
        if is_sound(name):
            clip_id = stem(name)
            path = inside(folder, name)
            text = texts.pop(clip_id, (None, ""))[0]
            yield Clip(
                clip_id,
                path,
                text=text,
                speaker=speaker,
                language="en",
                attributes=attributes,
                source=tree.path / path,
            )
    for clip_id, (_, place) in texts.items():
        problems.add(place, f"the recording of {clip_id!r} is missing", clip_id)


def _texts(folder: Path, names: Listing, problems: Problems) -> dict[str, tuple[str, str]]:
    """Return the text of each utterance of a chapter and where it stands."""
    found: dict[str, tuple[str, str]] = {}
    listed = [name for name in names.files if name.endswith((".trans.txt", ".trans.tsv"))]
    for name in listed:
        path = folder / name
        for number, line in lines(path, problems):
            cells = line.split("\t") if name.endswith(".tsv") else line.split(" ", 1)
            if len(cells) < 2 or not cells[-1].strip():
                problems.add(f"{path}, line {number}", f"it is not an utterance and its text: {line[:60]!r}")
                continue
            found[cells[0]] = (cells[-1].strip(), f"{path}, line {number}")
    if not listed:
        for name in names.files:
            if name.endswith(".normalized.txt"):
                with problems.item(folder / name):
                    text = read_text(folder / name).strip()
                    found[name.removesuffix(".normalized.txt")] = (text, str(folder / name))
    return found


def _speakers(tree: Tree, problems: Problems) -> dict[str, dict[str, str]]:
    """Read who is a woman and who a man from the table of speakers, in the folder or the one above."""
    for home in (tree.path, tree.path.resolve().parent):
        for name in _SPEAKERS:
            if not (home / name).is_file():
                continue
            found = {}
            for number, line in lines(home / name, problems):
                if line.startswith(";") or line.upper().startswith("READER"):
                    continue
                cells = [cell.strip() for cell in line.split("\t" if name.endswith(".tsv") else "|")]
                if len(cells) < 2 or not cells[0].isdigit():
                    problems.add(f"{home / name}, line {number}", f"it is not a speaker: {line[:60]!r}")
                    continue
                found[cells[0]] = gender(cells[1])
            return found
    return {}


READER = Reader(
    "librispeech",
    "LibriSpeech or LibriTTS",
    "split/speaker/chapter/ with .trans.txt, .trans.tsv or .normalized.txt",
    recognise=_recognise,
    read=_read,
)
