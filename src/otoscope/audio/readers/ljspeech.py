"""LJSpeech, and the many voices laid out like it: `metadata.csv` with `id|text|normalized text`, and `wavs/`.

Source: README of LJ Speech 1.1 (keithito.com/LJ-Speech-Dataset); nothing in the table is quoted.
"""

from __future__ import annotations

from collections.abc import Iterator

from otoscope.audio.clip import Clip
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.rows import lines
from otoscope.audio.readers.tree import Tree, stem

_TABLE = "metadata.csv"


def _recognise(tree: Tree) -> bool:
    if not ("wavs" in tree.list().folders and tree.has(_TABLE)):
        return False
    first = next(lines(tree.path / _TABLE, Problems()), (0, ""))[1]
    return "|" in first


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    chosen_splits(split, (), tree.path)
    recordings = {stem(name): name for name in tree.list("wavs").files}
    is_original = any(name.startswith("LJ001-") for name in recordings)
    for number, line in lines(tree.path / _TABLE, problems):
        where = f"{tree.path / _TABLE}, line {number}"
        clip_id, *texts = (cell.strip() for cell in line.split("|"))
        clip_id = clip_id.removesuffix(".wav")
        if not texts or not clip_id:
            problems.add(where, f"it is not id|text|normalized text: {line[:60]!r}")
        elif clip_id not in recordings:
            problems.add(where, f"the recording {tree.path / 'wavs' / clip_id}.wav is missing", clip_id)
        else:
            path = f"wavs/{recordings[clip_id]}"
            yield Clip(
                clip_id,
                path,
                text=(texts[1] if len(texts) > 1 and texts[1] else texts[0]) or None,
                speaker="LJ" if is_original else None,
                language="en" if is_original else None,
                source=tree.path / path,
            )


READER = Reader(
    "ljspeech",
    "LJSpeech",
    "metadata.csv with | between its columns, and wavs/",
    recognise=_recognise,
    read=_read,
)
