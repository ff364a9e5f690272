"""Speech Commands: a folder per word, `{speaker}_nohash_{take}.wav`, and two lists of held-out files.

Source: README.md of Speech Commands v0.02 (arXiv:1804.03209).
"""

from __future__ import annotations

from collections.abc import Iterator

from otoscope.audio.clip import Clip
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.rows import lines
from otoscope.audio.readers.tree import Tree, is_sound, stem

_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_NOISE = "_background_noise_"
_SPLITS = ("train", "validation", "test", "background")


def _recognise(tree: Tree) -> bool:
    names = tree.list()
    return any(name in names.files for name in _LISTS.values()) or (
        _NOISE in names.folders and not tree.is_file and len(names.folders) > 1
    )


def _read(tree: Tree, split: str | None, problems: Problems) -> Iterator[Clip]:
    """Read the words and the background noise, or one of train, validation, test and background.

    A word is somewhere in its second of sound: it is the text of the clip, without a time.
    """
    wanted = set(chosen_splits(split, _SPLITS, tree.path))
    held_out = _held_out(tree, problems)
    for word in tree.list().folders:
        if word.startswith("."):
            continue
        for name in tree.list(word).files:
            path = f"{word}/{name}"
            part = "background" if word == _NOISE else held_out.get(path, "train")
            if not is_sound(name) or part not in wanted:
                continue
            if part == "background":
                attributes = {"split": part, "sound_class": stem(name)}
                yield Clip(f"background-{stem(name)}", path, attributes=attributes, source=tree.path / path)
                continue
            speaker, _, take = stem(name).partition("_nohash_")
            attributes = {"split": part} | ({"take": take} if take else {})
            yield Clip(
                f"{word}-{stem(name)}",
                path,
                text=word,
                speaker=speaker,
                language="en",
                attributes=attributes,
                source=tree.path / path,
            )


def _held_out(tree: Tree, problems: Problems) -> dict[str, str]:
    found = {}
    for split, name in _LISTS.items():
        if not tree.has(name):
            continue
        for number, line in lines(tree.path / name, problems):
            if tree.has(line.strip()):
                found[line.strip()] = split
            else:
                problems.add(f"{tree.path / name}, line {number}", f"the recording {line.strip()!r} is missing")
    return found


READER = Reader(
    "speech-commands",
    "Speech Commands",
    "a folder per word, with testing_list.txt, validation_list.txt or _background_noise_/",
    recognise=_recognise,
    read=_read,
)
