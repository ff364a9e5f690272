"""`otoscope transcribe` writes text, subtitles, tables and JSON, and passes on what users ask of decoding."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import otoscope, refused

import otoscope as oto


@pytest.fixture(scope="module")
def spoken_ids(mini: oto.Corpus) -> list[str]:
    return [clip.clip_id for clip in mini if clip.text][:2]


def test_subtitles_hold_the_segments_in_order(spoken_ids: list[str]) -> None:
    plain = otoscope("transcribe", spoken_ids[0])
    srt = otoscope("transcribe", spoken_ids[0], "--timestamps", "--format", "srt")
    assert srt.code == 0, srt
    number, times, text = srt.out.splitlines()[:3]
    assert number == "1"
    assert re.fullmatch(r"00:00:0\d,\d{3} --> 00:00:0\d,\d{3}", times)
    assert text == plain.out.strip()


def test_word_times_make_a_cue_for_each_word(spoken_ids: list[str]) -> None:
    vtt = otoscope("transcribe", spoken_ids[0], "--word-times", "--format", "vtt").out
    assert vtt.startswith("WEBVTT\n\n00:00:")
    cues = re.findall(r"(00:00:\S+) --> (00:00:\S+)\n(\S+)\n", vtt)
    assert " ".join(word for _, _, word in cues) == otoscope("transcribe", spoken_ids[0]).out.strip()
    assert all(start <= end for start, end, _ in cues)
    assert [start for start, _, _ in cues] == sorted(start for start, _, _ in cues)


def test_a_table_has_whole_milliseconds_between_tabs(spoken_ids: list[str]) -> None:
    rows = otoscope("transcribe", spoken_ids[0], "--timestamps", "--format", "tsv").out.splitlines()
    assert rows[0] == "start\tend\ttext"
    start, end, _ = rows[1].split("\t")
    assert 0 <= int(start) < int(end) <= 6000


def test_files_are_written_one_for_each_recording(spoken_ids: list[str], tmp_path: Path) -> None:
    done = otoscope("transcribe", *spoken_ids, "--format", "json", "--to", tmp_path / "texts")
    assert done.code == 0, done
    written = [json.loads((tmp_path / "texts" / f"{each}.json").read_text(encoding="utf-8")) for each in spoken_ids]
    texts = [row["text"] for row in otoscope("transcribe", *spoken_ids, "--json").json]
    assert [row["text"] for row in written] == texts
    assert {"segments", "tokens", "words", "compression_ratio", "no_speech_prob"} <= set(written[0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--format", "sr"), "did you mean srt"),
        (("--to", "texts"), "needs a --format"),
        (("--temperature", "0,warm"), "takes numbers"),
        (("--beam-size", "0"), "beam_size must be at least 1, not 0"),
        (("--best-of", "3"), "give a temperature above 0"),
        (("--task", "sing"), "the tasks are transcribe and translate"),
    ],
)
def test_what_cannot_be_done_is_refused(spoken_ids: list[str], words: tuple[str, ...], reason: str) -> None:
    assert reason in refused("transcribe", spoken_ids[0], *words)


def test_two_recordings_of_one_name_are_not_written_over_each_other(spoken_ids: list[str], tmp_path: Path) -> None:
    reason = refused("transcribe", spoken_ids[0], spoken_ids[0], "--format", "txt", "--to", tmp_path)
    assert "have the same name" in reason
    assert not list(tmp_path.iterdir())
