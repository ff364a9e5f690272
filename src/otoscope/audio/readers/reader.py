"""What a reader is, and the words all readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otoscope.audio.clip import Clip
from otoscope.audio.problems import Problems
from otoscope.audio.readers.tree import Tree
from otoscope.errors import InputError, nearest


@dataclass(frozen=True)
class Reader:
    """One layout of recordings on disk: how it is recognised, and how it becomes clips.

    Attributes:
        kind: its name in `kind=` and `--kind`.
        title: its name for people.
        layout: by what it is recognised, in one line.
        recognise: whether a folder (or file) has this layout; looks at names only.
        read: `(tree, split, problems) -> clips`; opens no sound, notes what cannot be used. A split is refused by
            readers that have none.
        rank: readers of a lower rank are asked first.
        name: the name of the corpus, where the folder's will not do.
        licence: who made the sound and what it may be used for, where no `LICENSE.txt` or its like says so.
    """

    kind: str
    title: str
    layout: str
    recognise: Callable[[Tree], bool]
    read: Callable[[Tree, str | None, Problems], Iterable[Clip]]
    rank: int = 50
    name: Callable[[Tree], str] | None = None
    licence: Callable[[Tree], str] | None = None


def chosen_splits(split: str | None, available: Iterable[str], where: object) -> list[str]:
    """Return the split asked for, or all of them.

    Raises:
        InputError: there is no such split, or the data set has none; names those there are.
    """
    names = list(available)
    if split is None:
        return names
    if split not in names:
        has = f"it has {', '.join(names)}" if names else "it has none"
        raise InputError(f"{where} has no split {split!r}; {has}{nearest(split, names) or '.'}")
    return [split]


_GENDERS = {
    "f": "female",
    "female": "female",
    "female_feminine": "female",
    "woman": "female",
    "m": "male",
    "male": "male",
    "male_masculine": "male",
    "man": "male",
}


def gender(text: str | None) -> dict[str, str]:
    """Return the attribute `gender` in one vocabulary for all data sets: female, male, or what else it says."""
    text = (text or "").strip().lower()
    return {"gender": _GENDERS.get(text, text)} if text else {}
