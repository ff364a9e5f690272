"""The Free Spoken Digit Dataset: everything is in the name of a recording, `{digit}_{speaker}_{take}`."""

from __future__ import annotations

import dataclasses
import re

from otoscope.audio.clip import Clip, Interval

_NAME = re.compile(r"(\d)_([a-zA-Z]+)_(\d+)")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def is_fsdd(stem: str) -> bool:
    """Whether a file name without extension follows the naming of the data set."""
    return _NAME.fullmatch(stem) is not None


def label_fsdd(clip: Clip, stem: str) -> Clip:
    """Return `clip` with the text, speaker and word of its name; the recordings are cut to the word."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return clip
    word = _WORDS[int(match[1])]
    return dataclasses.replace(
        clip,
        text=word,
        speaker=match[2],
        language="en",
        attributes={**clip.attributes, "take": str(int(match[3]))},
        tiers={"words": (Interval(0.0, clip.duration_s, word),)},
    )
