"""Corpora from folders, manifests and known data sets, labels included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import otoscope as oto
from otoscope.audio import SAMPLE_RATE_HZ, Corpus, Interval
from otoscope.errors import InputError


def beep(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * SAMPLE_RATE_HZ)) / 3), SAMPLE_RATE_HZ)
    return path


def test_a_folder_with_subfolders(tmp_path: Path) -> None:
    for name in ("b.wav", "a.flac", "dog bark/1.wav", "dog bark/2.ogg", ".hidden/x.wav", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("not sound")
        else:
            beep(tmp_path / name)
    corpus = Corpus.from_folder(tmp_path, name="mine")
    assert [clip.clip_id for clip in corpus] == ["a", "b", "dog-bark-1", "dog-bark-2"]
    assert corpus["dog-bark-1"].attributes == {"folder": "dog bark"}
    assert corpus["b"].duration_s == 0.5
    assert not corpus.has_labels
    assert oto.corpus(tmp_path).fingerprint == corpus.fingerprint


def test_recordings_of_one_name_keep_apart(tmp_path: Path) -> None:
    for name in ("a/x.wav", "a-x.wav", "a x.wav", "x.wav"):
        beep(tmp_path / name)
    ids = [clip.clip_id for clip in Corpus.from_folder(tmp_path)]
    assert len(set(ids)) == 4
    beep(tmp_path / "later.wav")
    assert set(ids) < {clip.clip_id for clip in Corpus.from_folder(tmp_path)}


def test_opening_a_folder_reads_no_sound(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"\x00" * 10)
    corpus = Corpus.from_folder(tmp_path)
    with pytest.raises(InputError, match=r"broken\.wav"):
        corpus[0].samples()


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no recordings"):
        Corpus.from_folder(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        Corpus.from_folder(tmp_path / "gone")


def test_spoken_digits_get_word_and_speaker_from_their_name(tmp_path: Path) -> None:
    beep(tmp_path / "7_jackson_32.wav", 0.4)
    clip = Corpus.from_folder(tmp_path)["7_jackson_32"]
    assert (clip.text, clip.speaker) == ("seven", "jackson")
    assert clip.tier("words") == (Interval(0.0, 0.4, "seven"),)


@pytest.mark.shared
def test_the_real_digits(shared: Path) -> None:
    digits = oto.corpus(shared / "data" / "digits")
    assert len(digits) == 2500
    assert len(digits.speakers) == 5
    assert len({clip.text for clip in digits}) == 10
    for clip in digits[::100]:
        assert clip.text is not None
        assert clip.tier("words") == (Interval(0.0, clip.duration_s, clip.text),)


@pytest.mark.shared
def test_the_real_manifest_with_alignments(shared: Path) -> None:
    corpus = Corpus.from_manifest(
        shared / "data" / "manifest.csv", tiers=shared / "data" / "aligned" / "alignments.csv"
    )
    assert {"words", "phones"} <= set(corpus.tier_names)
    aligned = corpus.select(lambda clip: bool(clip.tier("words")))
    assert len(aligned) >= 10
    for clip in aligned:
        assert clip.tier("words")[-1].end_s <= clip.duration_s + 0.1
    folder = oto.corpus(shared / "data")
    assert len(folder) == len(corpus)


ROWS = [
    {"path": "a.wav", "transcript": "good morning", "speaker": "ann", "label": "speech", "room": "kitchen"},
    {"path": "b.wav", "start_s": "0.1", "end_s": "0.4", "transcript": "", "speaker": "", "label": "", "room": ""},
    {"path": "b.wav", "start_s": "0.2", "end_s": "", "transcript": "hello", "speaker": "", "label": "", "room": ""},
]


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same three rows in every kind of manifest."""
    for name in ("a.wav", "b.wav"):
        beep(tmp_path / name)
    path = tmp_path / f"list.{request.param}"
    columns = ["path", "start_s", "end_s", "transcript", "speaker", "label", "room"]
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in [dict.fromkeys(columns, None) | r for r in ROWS]))
    elif request.param == "parquet":
        table = {column: [row.get(column) or None for row in ROWS] for column in columns}
        pq.write_table(pa.table(table), path)
    else:
        mark = "," if request.param == "csv" else "\t"
        lines = [mark.join(columns)] + [mark.join(row.get(column, "") for column in columns) for row in ROWS]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def test_manifests_of_every_kind_say_the_same(manifest: Path) -> None:
    corpus = oto.corpus(manifest)
    first, second, third = corpus
    assert (first.clip_id, first.text, first.speaker) == ("a", "good morning", "ann")
    assert first.attributes == {"room": "kitchen", "sound_class": "speech"}
    assert (second.start_s, second.end_s, second.text, second.attributes) == (0.1, 0.4, None, {})
    assert second.clip_id != third.clip_id
    assert third.duration_s == pytest.approx(0.3)
    assert [len(clip.samples()) for clip in corpus] == [8000, 4800, 4800]


def test_tiers_in_json_lines(tmp_path: Path) -> None:
    beep(tmp_path / "a.wav")
    rows = [
        {"audio": "a.wav", "clip_id": "one", "tiers": {"word": [[0, 0.2, "good"], [0.2, 0.5, "day"]]}},
        {"audio": "a.wav", "clip_id": "two", "tiers": {"phones": [{"start_s": 0, "end_s": 0.1, "label": "g"}]}},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = Corpus.from_manifest(tmp_path / "m.jsonl")
    assert corpus["one"].tier("words") == (Interval(0.0, 0.2, "good"), Interval(0.2, 0.5, "day"))
    assert corpus["two"].tier("phones") == (Interval(0.0, 0.1, "g"),)


def test_a_second_table_of_intervals(tmp_path: Path) -> None:
    beep(tmp_path / "sub" / "a.wav")
    (tmp_path / "m.csv").write_text("path\nsub/a.wav\n")
    (tmp_path / "t.csv").write_text(
        "path,tier,start_s,end_s,label\nsub/a.wav,word,0,0.2,good\nsub/a.wav,word,0.2,0.3,\nsub/a.wav,phone,0,0.1,g\n"
    )
    clip = Corpus.from_manifest(tmp_path / "m.csv", tiers=tmp_path / "t.csv")[0]
    assert clip.tier("words") == (Interval(0.0, 0.2, "good"),)
    assert clip.tier("phones") == (Interval(0.0, 0.1, "g"),)


@pytest.mark.parametrize(
    ("name", "text", "saying"),
    [
        ("m.csv", "", "lists no clips"),
        ("m.csv", "name,speaker\na,b\n", "no column 'path'"),
        ("m.csv", "path,start_s\na.wav,soon\n", "line 2: start_s must be seconds"),
        ("m.csv", "path,start_s\na.wav,nan\n", "line 2: start_s must be seconds"),
        ("m.csv", "path,start_s,end_s\na.wav,2,1\n", r"line 2: end_s \(1\) must be after start_s \(2\)"),
        ("m.csv", "path\na.wav,b\n", "line 2: more cells than columns"),
        ("m.csv", "path,speaker\n,b\n", "line 2: no recording is named"),
        ("m.jsonl", "{\n", "line 1: it is not JSON"),
        ("m.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("m.jsonl", '{"path": "a.wav", "tiers": {"words": [[0, 1]]}}\n', "line 1: tiers must look like"),
        (
            "m.jsonl",
            '{"path": "a.wav", "tiers": {"words": [[2, 1, "x"]]}}\n',
            "line 1: words .x. ends before it starts",
        ),
        ("m.jsonl", '{"path": "a.wav", "tiers": [3]}\n', "line 1: tiers must look like"),
        ("m.parquet", "no parquet", "cannot be read as parquet"),
        ("m.xlsx", "path\n", "is not a manifest"),
    ],
)
def test_rows_that_cannot_be_understood_are_named(tmp_path: Path, name: str, text: str, saying: str) -> None:
    beep(tmp_path / "a.wav")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=saying):
        Corpus.from_manifest(tmp_path / name)


def test_one_recording_is_a_corpus_of_one(tmp_path: Path) -> None:
    corpus = oto.corpus(beep(tmp_path / "hello.wav"))
    assert [clip.clip_id for clip in corpus] == ["hello"]
