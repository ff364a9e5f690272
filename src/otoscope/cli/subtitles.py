"""Transcripts as files that players and spreadsheets read: SubRip, WebVTT, tab-separated times, plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otoscope.models import Transcript

Line = tuple[float, float, str]
"""Start and end in seconds, and what is said."""


def subrip(transcript: Transcript) -> str:
    """Return a transcript as `.srt`."""
    blocks = [
        f"{number}\n{_moment(start_s, ',')} --> {_moment(end_s, ',')}\n{text}\n"
        for number, (start_s, end_s, text) in enumerate(_cues(transcript), start=1)
    ]
    return "\n".join(blocks)


def web_vtt(transcript: Transcript) -> str:
    """Return a transcript as `.vtt`."""
    blocks = [
        f"{_moment(start_s, '.')} --> {_moment(end_s, '.')}\n{text}\n" for start_s, end_s, text in _cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def tab_separated(transcript: Transcript) -> str:
    """Return a transcript as a table of whole milliseconds and text, as openai-whisper writes it."""
    rows = [
        f"{round(1000 * start_s)}\t{round(1000 * end_s)}\t{text.replace(chr(9), ' ')}"
        for start_s, end_s, text in lines(transcript)
    ]
    return "\n".join(["start\tend\ttext", *rows]) + "\n"


def plain_text(transcript: Transcript) -> str:
    """Return one line for each segment."""
    return "".join(f"{text}\n" for _, _, text in lines(transcript))


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": plain_text,
    "srt": subrip,
    "vtt": web_vtt,
    "tsv": tab_separated,
}
"""By the name of the format, which is also the end of the file's name."""


def lines(transcript: Transcript) -> Iterator[Line]:
    """Yield the words and their times where they were asked for, else the segments."""
    if transcript.words:
        for word in transcript.words:
            yield word.start_s, word.end_s, word.word.strip()
        return
    for segment in transcript.segments:
        yield segment.start_s, segment.end_s, segment.text.strip()


def _cues(transcript: Transcript) -> Iterator[Line]:
    for start_s, end_s, text in lines(transcript):
        yield start_s, end_s, text.replace("-->", "->")  # the arrow separates times


def _moment(seconds: float, mark: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{mark}{milliseconds:03d}"
