"""CMU ARCTIC: `wav/`, texts in `etc/txt.done.data`, phones in `lab/` by their ends.

Source: festvox.org/cmu_arctic; a label file has a head that ends with `#`, then `end colour phone` per line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otoscope.audio.clip import Clip
from otoscope.audio.labels.formats import read_text
from otoscope.audio.labels.tiers import Mark, tiers_from_marks
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.rows import lines
from otoscope.audio.readers.tree import Tree, stem
from otoscope.errors import InputError

_TABLE = "etc/txt.done.data"
_LINE = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')
_VOICE = re.compile(r"cmu_us_(\w+?)_arctic")


def _recognise(tree: Tree) -> bool:
    return tree.has(_TABLE) and "wav" in tree.list().folders


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    chosen_splits(split, (), tree.path)
    recordings = {stem(name): name for name in tree.list("wav").files}
    voice = _VOICE.search(tree.path.resolve().name)
    for number, line in lines(tree.path / _TABLE, problems):
        where = f"{tree.path / _TABLE}, line {number}"
        match = _LINE.search(line)
        if match is None:
            problems.add(where, f'it is not ( id "text" ): {line[:60]!r}')
            continue
        clip_id, text = match[1], match[2].replace('\\"', '"')
        if clip_id not in recordings:
            problems.add(where, f"the recording {tree.path / 'wav' / clip_id}.wav is missing", clip_id)
            continue
        path, labels = f"wav/{recordings[clip_id]}", f"lab/{clip_id}.lab"
        tiers = {}
        if tree.has(labels):
            with problems.item(tree.path / labels):
                marks = list(_phones(read_text(tree.path / labels)))
                tiers = dict(tiers_from_marks(marks, str(tree.path / labels), problems))
        yield Clip(
            clip_id,
            path,
            text=text,
            speaker=voice[1] if voice else None,
            language="en",
            tiers=tiers,
            source=tree.path / path,
        )


def _phones(content: str) -> Iterator[Mark]:
    at_s, is_head = 0.0, True
    for number, line in enumerate(content.split("\n"), 1):
        cells = line.split()
        if is_head:
            is_head = cells != ["#"]
        elif cells:
            try:
                end_s, label = float(cells[0]), cells[2]
            except (ValueError, IndexError):
                raise InputError(f"line {number} is not end, colour and phone: {line[:60]!r}") from None
            yield Mark("phones", at_s, end_s, label, number)
            at_s = max(at_s, end_s)


READER = Reader(
    "cmu-arctic",
    "CMU ARCTIC",
    "wav/, lab/ and etc/txt.done.data",
    recognise=_recognise,
    read=_read,
)
