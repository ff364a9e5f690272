"""Labels beside recordings, in a tree of their own or in one file for all; a corpus's labels as files; the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from corpus_trees import TREES, tone, write

import otoscope as oto
from otoscope.audio import Corpus, Interval
from otoscope.audio.labels import read_labels, write_labels
from otoscope.errors import InputError

WORDS = {"words": (Interval(0.0, 0.1, "good"), Interval(0.1, 0.3, "day"))}
PHONES = {"phones": (Interval(0.0, 0.1, "g"),)}


def test_label_files_beside_recordings_become_their_tiers(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        tone(tmp_path / "sub" / f"{name}.wav")
    write_labels(WORDS | PHONES, tmp_path / "sub" / "a.TextGrid", 0.32)
    write_labels(WORDS, tmp_path / "sub" / "b.words.txt", 0.32)
    write(tmp_path / "sub" / "b.PHN", "0 1600 g\n")
    write(tmp_path / "sub" / "c.txt", "good   day\n")
    write(tmp_path / "sub" / "d.lab", "0 1000000 g\n")
    write(tmp_path / "sub" / "d.json", '{"uploader": "ann", "licence": "CC0"}')
    corpus = oto.corpus(tmp_path)
    assert dict(corpus["sub-a"].tiers) == WORDS | PHONES
    assert dict(corpus["sub-b"].tiers) == WORDS | PHONES
    assert (corpus["sub-c"].text, dict(corpus["sub-c"].tiers)) == ("good day", {})
    assert dict(corpus["sub-d"].tiers) == PHONES


def test_a_bad_label_file_is_skipped_and_its_recording_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tone(tmp_path / f"{name}.wav")
        write_labels(WORDS, tmp_path / f"{name}.TextGrid", 0.32)
    write(tmp_path / "b.TextGrid", (tmp_path / "b.TextGrid").read_text("utf-8").replace("good", "gööd"), "latin-1")
    with pytest.raises(InputError, match=r"b\.TextGrid: line 18: byte 0xf6 is not UTF-8"):
        oto.corpus(tmp_path)
    corpus = oto.corpus(tmp_path, on_error="skip")
    assert [bool(clip.tiers) for clip in corpus] == [True, False]
    assert [problem.place for problem in corpus.problems] == [str(tmp_path / "b.TextGrid")]


def test_labels_in_a_tree_of_their_own_as_an_aligner_writes_them(tmp_path: Path) -> None:
    root = TREES["librispeech"](tmp_path / "data")
    aligned = tmp_path / "aligned"
    write_labels(WORDS, aligned / "84" / "84-121123-0000.TextGrid", 0.32)
    corpus = oto.corpus(root, labels=aligned)
    assert dict(corpus["84-121123-0000"].tiers) == WORDS
    assert corpus["84-121123-0001"].tiers == {}
    write_labels(WORDS, tmp_path / "others" / "nobody.TextGrid", 0.32)
    with pytest.raises(InputError, match=r"has labels of no clip: they are found by the clip's path, id or name"):
        oto.corpus(root, labels=tmp_path / "others")
    with pytest.raises(InputError, match="does not exist; labels= takes a folder"):
        oto.corpus(root, labels=tmp_path / "nowhere")


def test_names_that_repeat_in_folders_get_the_labels_of_their_own_folder(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        tone(tmp_path / "data" / folder / "1.wav")
        write_labels({"words": (Interval(0, 0.1, folder),)}, tmp_path / "labels" / folder / "1.TextGrid", 0.32)
    corpus = Corpus.from_folder(tmp_path / "data", labels=tmp_path / "labels")
    assert [clip.tier("words")[0].label for clip in corpus] == ["x", "y"]
    (tmp_path / "labels" / "x").rename(tmp_path / "labels" / "z")
    corpus = Corpus.from_folder(tmp_path / "data", labels=tmp_path / "labels")
    assert [len(clip.tiers) for clip in corpus] == [0, 1]


def test_one_ctm_for_all_recordings(tmp_path: Path) -> None:
    root = TREES["librispeech"](tmp_path / "data")
    write(tmp_path / "all.ctm", "84-121123-0000 1 0.0 0.1 go\n1688-142285-0001 1 0.1 0.1 but\nother 1 0 1 x\n")
    corpus = oto.corpus(root, labels=tmp_path / "all.ctm")
    assert corpus["84-121123-0000"].tier("words")[0].label == "go"
    assert corpus["1688-142285-0001"].tier("words")[0].label == "but"


@pytest.mark.shared
def test_the_real_aligned_recordings_have_tiers_from_the_files_beside_them(shared: Path) -> None:
    corpus = oto.corpus(shared / "data" / "aligned")
    assert sum(bool(clip.tier("words")) for clip in corpus) == 46
    assert sum(len(clip.tier("phones")) for clip in corpus) > 3000
    assert corpus["emu_ae-msajc003"].tier("words")[-1].label == "beautiful"
    assert corpus.check() == ()


@pytest.fixture
def labelled(tmp_path: Path) -> Corpus:
    """Two clips with tiers, one of them overlapping, and one without."""
    for name in ("a", "b", "c"):
        tone(tmp_path / "data" / f"{name}.wav")
    write_labels(WORDS | PHONES, tmp_path / "data" / "a.TextGrid", 0.32)
    rain = {"events": (Interval(0.0, 0.3, "rain"), Interval(0.1, 0.2, "dog"))}
    write_labels({**PHONES, **rain}, tmp_path / "data" / "b.json", 0.32)
    return oto.corpus(tmp_path / "data")


@pytest.mark.parametrize("kind", ["TextGrid", "json"])
def test_exported_labels_are_the_labels(labelled: Corpus, tmp_path: Path, kind: str) -> None:
    files = labelled.export_labels(tmp_path / "out", kind)
    assert [path.stem for path in files] == ["a", "b"]
    bare = Corpus("bare", [oto.Clip(clip.clip_id, clip.uri, source=clip.source) for clip in labelled])
    again = Corpus.open(tmp_path / "data", labels=tmp_path / "out")
    assert again.fingerprint == labelled.fingerprint != bare.fingerprint


def test_exported_ctm_and_audacity(labelled: Corpus, tmp_path: Path) -> None:
    files = labelled.export_labels(tmp_path / "ctm", "ctm")
    assert [path.name for path in files] == ["words.ctm", "phones.ctm", "events.ctm"]
    assert (tmp_path / "ctm" / "phones.ctm").read_text() == "a 1 0.00 0.10 g\nb 1 0.00 0.10 g\n"
    assert dict(read_labels(tmp_path / "ctm" / "words.ctm")) == WORDS
    names = [path.name for path in labelled.export_labels(tmp_path / "audacity", "Audacity")]
    assert names == ["a.words.txt", "a.phones.txt", "b.phones.txt", "b.events.txt"]
    assert (tmp_path / "audacity" / "b.events.txt").read_text() == "0.00\t0.30\train\n0.10\t0.20\tdog\n"


def test_export_never_touches_what_is_there(labelled: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an empty folder; export to a new one"):
        labelled.export_labels(tmp_path / "data")
    with pytest.raises(InputError, match="Labels are written as TextGrid, JSON, CTM, Audacity, not as 'praat'"):
        labelled.export_labels(tmp_path / "out", "praat")
    with pytest.raises(InputError, match="no labels to export"):
        labelled.select(["c"]).export_labels(tmp_path / "out")
    (tmp_path / "data" / "b.wav").unlink()
    with pytest.raises(InputError, match=r"Clip 'b': .*does not exist"):
        labelled.export_labels(tmp_path / "out")
    assert not (tmp_path / "out").exists()


ROW_KINDS = {
    "bytes": lambda path: {"bytes": path.read_bytes(), "path": None},
    "path": lambda path: {"bytes": None, "path": str(path)},
    "array": lambda path: {"array": np.zeros(5120, np.float32) + 0.1, "sampling_rate": 16000, "path": "x.wav"},
    "decoder": lambda path: SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=np.zeros((2, 5120), np.float32) + 0.1, sample_rate=16000)
    ),
}


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_rows_of_a_data_set_become_clips(tmp_path: Path, kind: str) -> None:
    row = {
        "id": "utt 1",
        "audio": ROW_KINDS[kind](tone(tmp_path / "a.wav")),
        "sentence": "hi",
        "speaker_id": 7,
        "age": 30,
    }
    (clip,) = Corpus.from_dataset([row])
    assert (clip.clip_id, clip.text, clip.speaker, dict(clip.attributes)) == ("utt-1", "hi", "7", {"age": "30"})
    assert clip.samples().shape == (5120,)
    with pytest.raises(InputError, match="no column 'sond' for audio; it has id, audio"):
        Corpus.from_dataset([row], audio="sond")


def test_rows_without_a_recording_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"audio": ROW_KINDS["path"](tone(tmp_path / "a.wav"))}, {"audio": None}]
    rows.append({"audio": {"path": str(tmp_path / "gone.wav"), "bytes": None}})
    with pytest.raises(InputError, match=r"row 1: it has no recording \(and 1 more\)"):
        Corpus.from_dataset(rows)
    corpus = Corpus.from_dataset(rows, on_error="skip")
    assert [str(problem) for problem in corpus.problems][1].endswith("gone.wav is missing")
    assert len(corpus) == 1
    with pytest.raises(InputError, match=r"has the splits train, test; give one of them"):
        Corpus.from_dataset({"train": rows, "test": rows})
    with pytest.raises(InputError, match="streamed"):
        Corpus.from_dataset(iter(rows))


def test_a_loaded_data_set_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = [tone(tmp_path / f"{name}.wav") for name in "abc"]
    held = {"bytes": files[2].read_bytes(), "path": "c.wav"}
    features = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "year": datasets.Value("int32"),
        }
    )
    columns = {
        "audio": [{"bytes": None, "path": str(files[0])}, {"bytes": None, "path": str(files[1])}, held],
        "text": ["one", None, "three"],
        "label": [0, 1, 0],
        "year": [1, 2, 3],
    }
    whole = datasets.Dataset.from_dict(columns, features=features)
    whole = whole.cast_column("audio", datasets.Audio(sampling_rate=16000))
    for dataset, order in ((whole, "abc"), (whole.select([2, 0]), "ca"), (whole.shuffle(seed=1), None)):
        corpus = Corpus.from_dataset(dataset, name="hub")
        if order is not None:
            assert [clip.clip_id for clip in corpus] == list(order)
        assert {"a", "c"} <= {clip.clip_id for clip in corpus}
        assert corpus["c"].attributes == {"year": "3", "sound_class": "dog"}
        assert [clip.samples().shape for clip in corpus] == [(5120,)] * len(corpus)
        assert corpus["c"].duration_s == 0.32
    saved = corpus.save(tmp_path / "saved")
    assert saved.fingerprint == corpus.fingerprint
    np.testing.assert_array_equal(saved["c"].samples(), corpus["c"].samples())


def test_manifest_rows_keep_their_clip_where_only_labels_are_bad(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    rows = [
        {
            "path": "a.wav",
            "clip_id": "one",
            "tiers": {"words": [[0, 0.2, "a"], [0.05, 0.3, "b"]], "phones": [[0, 0.1, "a"]]},
        },
        {"path": "gone.wav", "clip_id": "two"},
    ]
    write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)))
    corpus = oto.corpus(tmp_path / "m.jsonl", on_error="skip")
    assert [(name, [i.label for i in tier]) for name, tier in corpus["one"].tiers.items()] == [
        ("words", ["a"]),
        ("phones", ["a"]),
    ]
    overlap, missing = corpus.problems
    assert overlap.place.endswith("m.jsonl, line 1")
    assert overlap.reason == "words 'b' (0.05 to 0.3 s) overlaps 'a' (0 to 0.2 s)"
    assert (missing.place[-6:], missing.reason[-10:]) == ("line 2", "is missing")


def test_bytes_that_are_not_text_cost_a_manifest_only_their_line(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "m.csv").write_bytes("path,text\na.wav,ja\na.wav,n\u00f6\na.wav,doch\nb.wav,\n".encode("latin-1"))
    corpus = oto.corpus(tmp_path / "m.csv", on_error="skip")
    assert [clip.text for clip in corpus] == ["ja", "doch"]
    encoding, missing = corpus.problems
    assert "line 3: byte 0xf6 is not UTF-8" in str(encoding)
    assert missing.place.endswith("line 5")
