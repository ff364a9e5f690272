"""The Free Spoken Digit Dataset: everything is in the name of a recording, `{digit}_{speaker}_{take}`."""

from __future__ import annotations

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor

from otoscope.audio.clip import Clip, Interval
from otoscope.audio.problems import Problems
from otoscope.audio.readers.folder import read_folder
from otoscope.audio.readers.reader import Reader
from otoscope.audio.readers.tree import Tree, stem
from otoscope.errors import InputError

_NAME = re.compile(r"(\d)_([a-zA-Z]+)_(\d+)")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _is_fsdd(tree: Tree) -> bool:
    return not tree.is_file and any(_NAME.fullmatch(stem(name)) for _, name in tree.sounds())


def _read(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    """Label the digits of a folder; recordings of other names stay as they are.

    A recording is cut to its word, so that the length of the word is that of the recording: headers are read.
    """

    def label(clip: Clip) -> Clip | InputError:
        match = _NAME.fullmatch(stem(clip.uri.rpartition("/")[2]))
        if match is None:
            return clip
        word = _WORDS[int(match[1])]
        try:
            tiers = {"words": (Interval(0.0, clip.duration_s, word),)}
        except InputError as error:
            return error
        attributes = {**clip.attributes, "take": str(int(match[3]))}
        return dataclasses.replace(clip, text=word, speaker=match[2], language="en", attributes=attributes, tiers=tiers)

    clips = read_folder(tree, split, problems)
    with ThreadPoolExecutor(4) as pool:
        labelled = list(pool.map(label, clips))
    kept = []
    for clip, result in zip(clips, labelled, strict=True):
        if isinstance(result, Clip):
            kept.append(result)
        else:
            problems.add(str(clip.source), str(result).removeprefix(clip.uri).strip(), clip.clip_id)
    return kept


READER = Reader(
    "fsdd",
    "Free Spoken Digit Dataset",
    "recordings named {digit}_{speaker}_{take}",
    recognise=_is_fsdd,
    read=_read,
    rank=90,
)
