"""Each known data set opens as it lies on disk, is recognised by what is in it, and survives broken members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_trees import SECONDS, TREES, tone, write

import otoscope as oto
from otoscope.audio import Corpus, Interval
from otoscope.audio import decoding as decoding_room
from otoscope.audio.readers.registry import readers
from otoscope.errors import InputError

KINDS = {"libritts": "librispeech"}
SIZES = {
    "librispeech": 4,
    "libritts": 2,
    "common-voice": 6,
    "audioset": 3,
    "esc50": 2,
    "speech-commands": 5,
    "timit": 2,
    "ljspeech": 2,
    "cmu-arctic": 1,
}


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Each data set in turn."""
    return request.param, TREES[request.param](tmp_path / "data")


def test_every_data_set_is_recognised_and_every_clip_sounds(tree: tuple[str, Path]) -> None:
    name, root = tree
    corpus = oto.corpus(root)
    assert len(corpus) == SIZES[name]
    assert corpus.problems == ()
    assert all(abs(len(clip.samples()) / 16000 - SECONDS) < 0.08 for clip in corpus)
    assert oto.corpus(root, kind=KINDS.get(name, name)).fingerprint == corpus.fingerprint
    assert corpus.save(root.parent / "saved").fingerprint == corpus.fingerprint


def test_opening_a_data_set_opens_no_recording(tree: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a recording was opened")

    name, root = tree
    monkeypatch.setattr(decoding_room, "open_container", refuse)
    assert len(oto.corpus(root)) == SIZES[name]
    with pytest.raises(AssertionError, match="was opened"):
        _ = oto.corpus(root)[0].duration_s


def test_a_data_set_is_only_recognised_as_itself(tree: tuple[str, Path]) -> None:
    from otoscope.audio.readers.tree import Tree

    name, root = tree
    inner = [root, *(path for path in root.iterdir() if path.is_dir())]
    found = {kind for path in inner for kind, reader in readers().items() if reader.recognise(Tree(path))}
    assert found - {"folder"} == {KINDS.get(name, name)}


def test_a_data_set_is_found_in_the_folder_it_was_unpacked_in(tree: tuple[str, Path]) -> None:
    name, root = tree
    write(root.parent / f"{name}.tar.gz", "the archive")
    (root.parent / ".cache").mkdir()
    assert oto.corpus(root.parent).fingerprint == oto.corpus(root).fingerprint


def test_librispeech_has_texts_speakers_and_splits(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["librispeech"](tmp_path))
    clip = corpus["84-121123-0001"]
    assert (clip.text, clip.speaker, clip.language) == ("BUT IN LESS THAN FIVE MINUTES", "84", "en")
    assert clip.attributes == {"split": "dev-clean", "chapter": "121123", "gender": "female"}
    assert corpus["1688-142285-0000"].attributes["gender"] == "male"
    only = oto.corpus(tmp_path, split="dev-clean")
    assert {each.speaker for each in only} == {"84"}
    inside = oto.corpus(tmp_path / "LibriSpeech" / "dev-clean")
    assert [each.clip_id for each in inside] == [each.clip_id for each in only]
    assert inside[0].attributes == only[0].attributes
    with pytest.raises(InputError, match="no split 'dev-clear'; it has dev-clean, test-other; did you mean dev-clean"):
        oto.corpus(tmp_path, split="dev-clear")


def test_libritts_takes_the_normalized_text_quotes_and_all(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["libritts"](tmp_path))
    assert corpus["84_121123_000007_000001"].text == '"Go, do you hear?'
    assert corpus["174_50561_000000_000000"].text == "Mister Knight"
    assert corpus["174_50561_000000_000000"].attributes["gender"] == "male"


def test_common_voice_reads_old_and_new_columns_and_counts_no_clip_twice(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["common-voice"](tmp_path))
    assert [clip.clip_id for clip in corpus if clip.language == "en"] == [f"common_voice_en_{n}" for n in (1, 2, 3)]
    clip = corpus["common_voice_en_2"]
    assert (clip.text, clip.speaker) == ('"Yes, she 2', "ab" * 64)
    assert clip.attributes == {"split": "train", "age": "twenties", "gender": "female", "accent": "Welsh"}
    assert corpus["common_voice_cy_1"].attributes["accent"] == "Welsh"
    assert corpus["common_voice_cy_1"].attributes["gender"] == "male"
    assert len(oto.corpus(tmp_path / "en", split="validated")) == 4
    with pytest.raises(InputError, match="no split 'reported'"):
        oto.corpus(tmp_path, split="reported")


def test_one_table_of_common_voice_opens_as_a_manifest(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["common-voice"](tmp_path) / "en" / "validated.tsv")
    assert len(corpus) == 4
    assert (corpus[0].text, corpus[0].language, corpus[0].duration_s > 0.3) == ('"Yes, she 1', "en", True)


def test_audioset_names_its_labels_and_knows_what_is_speech(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["audioset"](tmp_path))
    dog, man, other = corpus
    assert dog.tier("events") == (Interval(0.0, 10.0, "Dog"), Interval(0.0, 10.0, "Music"))
    assert (dog.attributes["sound_class"], dog.attributes["labels"]) == ("Dog", "Dog; Music")
    assert man.attributes["sound_class"] == "speech"
    assert other.attributes["split"] == "eval"
    assert len(oto.corpus(tmp_path, split="balanced_train")) == 2


def test_audioset_takes_the_times_of_events_where_they_are_known(tmp_path: Path) -> None:
    root = TREES["audioset"](tmp_path)
    head = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    rows = "-0DLPzsiXXE_30000\t0.5\t2.25\t/m/05zppz\n-0DLPzsiXXE_30000\t1.0\t9.0\t/m/04rlf\n"
    write(root / "audioset_train_strong.tsv", head + rows)
    events = oto.corpus(root)[1].tier("events")
    assert events == (Interval(0.5, 2.25, "Male speech, man speaking"), Interval(1.0, 9.0, "Music"))


@pytest.mark.parametrize(
    "name", ["{ytid}", "Y{ytid}", "{ytid}_30000", "Y{ytid}_30000_40000", "{ytid}_30", "{ytid}_30_40"]
)
def test_audioset_finds_recordings_under_their_usual_names(tmp_path: Path, name: str) -> None:
    root = TREES["audioset"](tmp_path)
    (root / "audio" / "-0DLPzsiXXE_30000_40000.flac").unlink()
    tone(root / "elsewhere" / (name.format(ytid="-0DLPzsiXXE") + ".wav"))
    assert Path(oto.corpus(root)[1].uri).stem == name.format(ytid="-0DLPzsiXXE")


def test_esc_has_classes_from_its_table_or_from_its_folders(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["esc50"](tmp_path / "esc50"))
    assert corpus["1-100032-A-0"].attributes == {"sound_class": "dog", "fold": "1", "esc10": "true"}
    assert len(oto.corpus(tmp_path / "esc50", split="2")) == 1
    for path in ("001 - Dog bark/1-30226-A.ogg", "002 - Rain/5-181766-A.ogg"):
        tone(tmp_path / "ESC-10" / path)
    assert [clip.attributes["sound_class"] for clip in oto.corpus(tmp_path / "ESC-10")] == ["dog_bark", "rain"]


@pytest.mark.shared
def test_the_real_esc10(shared: Path) -> None:
    corpus = oto.corpus(shared / "data" / "sounds" / "esc10")
    assert len(corpus) == 120
    assert len({clip.attributes["sound_class"] for clip in corpus}) == 10
    assert {clip.attributes["fold"] for clip in corpus} <= set("12345")


def test_speech_commands_has_words_speakers_and_splits(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["speech-commands"](tmp_path))
    clip = corpus["yes-0a7c2a8d_nohash_1"]
    assert (clip.text, clip.speaker) == ("yes", "0a7c2a8d")
    assert clip.attributes == {"split": "train", "take": "1"}
    assert corpus["background-white_noise"].attributes["sound_class"] == "white_noise"
    sizes = {split: len(oto.corpus(tmp_path, split=split)) for split in ("train", "validation", "test", "background")}
    assert sizes == {"train": 2, "validation": 1, "test": 1, "background": 1}


def test_timit_reads_sphere_and_times_in_either_case(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["timit"](tmp_path))
    clip = corpus["train-dr1-fcjf0-sa1"]
    assert (clip.text, clip.speaker) == ("She.", "fcjf0")
    assert clip.tier("phones") == (Interval(0, 0.1, "h#"), Interval(0.1, 0.2, "sh"), Interval(0.2, 0.32, "iy"))
    assert clip.tier("words") == (Interval(0.1, 0.32, "she"),)
    assert clip.attributes == {"split": "train", "dialect": "New England", "gender": "female", "sentence": "sa1"}
    assert oto.corpus(tmp_path, split="test")[0].tier("phones")[0].label == "ih"


def test_ljspeech_takes_the_normalized_text(tmp_path: Path) -> None:
    corpus = oto.corpus(TREES["ljspeech"](tmp_path))
    assert [clip.text for clip in corpus] == ['Printing, in "the only sense', "in fourteen fifty-five."]
    with pytest.raises(InputError, match="no split 'train'; it has none"):
        oto.corpus(tmp_path, split="train")


def test_cmu_arctic_has_phones_by_their_ends(tmp_path: Path) -> None:
    clip = oto.corpus(TREES["cmu-arctic"](tmp_path))[0]
    assert (clip.text, clip.speaker) == ('Author of the danger trail, "Philip".', "slt")
    assert clip.tier("phones")[1] == Interval(0.1, 0.2, "ao")


def damage(path: str, old: str, new: str | bytes) -> Callable[[Path], None]:
    """Replace a piece of a file."""

    def change(root: Path) -> None:
        content = (root / path).read_bytes()
        assert old.encode() in content
        (root / path).write_bytes(content.replace(old.encode(), new if isinstance(new, bytes) else new.encode(), 1))

    return change


def gone(path: str) -> Callable[[Path], None]:
    """Delete a file."""
    return lambda root: (root / path).unlink()


CHAPTER = "LibriSpeech/dev-clean/84/121123/84-121123"
SPEAKER = "TIMIT/TRAIN/DR1/FCJF0"
BROKEN: list[tuple[str, Callable[[Path], None], str, int]] = [
    (
        "librispeech",
        gone(f"{CHAPTER}-0001.flac"),
        r"trans\.txt, line 2: the recording of '84-121123-0001' is missing",
        3,
    ),
    ("librispeech", damage(f"{CHAPTER}.trans.txt", " GO DO YOU HEAR", ""), "line 1: it is not an utterance", 4),
    ("librispeech", damage(f"{CHAPTER}.trans.txt", "HEAR", b"HE\xe9R"), "line 1: byte 0xe9 is not UTF-8", 4),
    (
        "librispeech",
        damage("LibriSpeech/SPEAKERS.TXT", "84   |", "Ann  |"),
        r"SPEAKERS\.TXT, line 3: it is not a spe",
        4,
    ),
    ("libritts", gone("dev-clean/84/121123/84_121123_000007_000001.wav"), r"trans\.tsv, line 1: the recording of", 1),
    ("common-voice", gone("en/clips/common_voice_en_2.mp3"), r"train\.tsv, line 3: the recording .* is missing", 5),
    ("common-voice", damage("en/train.tsv", "en\t\n", "en\t\t\t\t\n"), "line 2: more cells than columns", 5),
    ("common-voice", damage("cy/test.tsv", "Yes", b"\xff\xfe"), r"cy/test\.tsv, line 2: byte 0xff is not UTF-8", 5),
    ("audioset", gone("audio/Y--4gqARaEJE.wav"), r"segments\.csv, line 4: no recording of '--4gqARaEJE'", 2),
    (
        "audioset",
        damage("eval_segments.csv", "30.000, 40.000", "40.000, 30.000"),
        "line 4: a segment must end after",
        2,
    ),
    ("audioset", damage("eval_segments.csv", "30.000", "soon"), "line 4: it is not YTID, start, end", 2),
    ("audioset", damage("ontology.json", "[", "{"), r"ontology\.json: it is not the ontology", 3),
    ("esc50", gone("audio/1-100032-A-0.wav"), r"esc50\.csv, line 2: the recording .* is missing", 1),
    ("esc50", damage("meta/esc50.csv", ",dog,", ",,"), "line 2: it lacks a filename, a fold or a category", 1),
    ("speech-commands", gone("no/5fadb538_nohash_4.wav"), r"testing_list\.txt, line 1: the recording .* is missing", 4),
    ("timit", gone(f"{SPEAKER}/SA1.WAV"), "FCJF0: the recording of sentence 'sa1' is missing", 1),
    (
        "timit",
        damage(f"{SPEAKER}/SA1.PHN", "1600 3200", "800 3200"),
        r"SA1\.PHN, line 2: phones 'sh' .* overlaps 'h#'",
        2,
    ),
    ("timit", damage(f"{SPEAKER}/SA1.PHN", "1600 3200", "x 3200"), r"SA1\.PHN, line 2: it is not begin and end", 2),
    ("timit", damage(f"{SPEAKER}/SA1.WRD", "1600 5120", "5120 1600"), r"SA1\.WRD, line 1: words 'she' ends before", 2),
    ("timit", damage(f"{SPEAKER}/SA1.TXT", "0 5120 ", ""), r"SA1\.TXT: it is not begin, end and text", 2),
    ("ljspeech", gone("wavs/LJ001-0001.wav"), r"metadata\.csv, line 1: the recording .* is missing", 1),
    ("ljspeech", damage("metadata.csv", "LJ001-0002|in 1455.|", "LJ001-0002 "), "line 2: it is not id|text", 1),
    (
        "cmu-arctic",
        damage("cmu_us_slt_arctic/lab/arctic_a0001.lab", "0.20", "0.05"),
        "line 5: phones 'ao' ends before",
        1,
    ),
]


@pytest.mark.parametrize(("kind", "harm", "saying", "left"), BROKEN, ids=[f"{row[0]}: {row[2]}" for row in BROKEN])
def test_a_broken_member_is_named_and_refused_or_skipped(
    tmp_path: Path, kind: str, harm: Callable[[Path], None], saying: str, left: int
) -> None:
    root = TREES[kind](tmp_path)
    whole = oto.corpus(root)
    harm(root)
    with pytest.raises(InputError, match=saying):
        oto.corpus(root)
    corpus = oto.corpus(root, on_error="skip")
    assert len(corpus) == left
    assert {clip.clip_id for clip in corpus} <= {clip.clip_id for clip in whole}
    (problem,) = corpus.problems
    assert not problem.reason.endswith(".")
    assert "left out" in repr(corpus)


def test_a_refusal_counts_all_that_is_wrong(tmp_path: Path) -> None:
    root = TREES["librispeech"](tmp_path)
    for path in root.rglob("*-0000.flac"):
        path.unlink()
    with pytest.raises(InputError, match=r"line 1: .*84-121123-0000.*\(and 1 more\); mend them, or .*skip"):
        oto.corpus(root)


def test_choices_that_are_none_are_refused(tmp_path: Path) -> None:
    root = TREES["ljspeech"](tmp_path)
    with pytest.raises(InputError, match="on_error must be raise or skip, not 'ignore'"):
        oto.corpus(root, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no kind of corpus 'ljspech'.*did you mean ljspeech"):
        oto.corpus(root, kind="ljspech")


@pytest.mark.parametrize("kind", sorted({KINDS.get(name, name) for name in TREES}))
def test_a_kind_forced_on_another_folder_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    tone(tmp_path / "a.wav")
    with pytest.raises(InputError):
        oto.corpus(tmp_path, kind=kind)


def test_check_names_what_cannot_be_decoded_and_labels_past_the_end(tmp_path: Path) -> None:
    root = TREES["timit"](tmp_path)
    assert oto.corpus(root).check() == ()
    (root / "TIMIT/TRAIN/DR1/FCJF0/SA1.WAV").write_bytes(b"NIST_1A\n   1024\n" + b"\x00" * 3000)
    write(root / "TIMIT/TEST/DR8/MRES0/sx217.phn", "0 51200 ih\n")
    corpus = oto.corpus(root)
    late, damaged = corpus.check()
    assert (damaged.clip_id, late.clip_id) == ("train-dr1-fcjf0-sa1", "test-dr8-mres0-sx217")
    assert "ends at 3.2 s, after the sound (0.32 s)" in late.reason
    with pytest.raises(InputError):
        corpus["train-dr1-fcjf0-sa1"].samples()


def test_a_folder_of_links_is_followed_and_a_circle_is_not(tmp_path: Path) -> None:
    tone(tmp_path / "disk" / "a.wav")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "part").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "disk")
    assert [clip.clip_id for clip in Corpus.from_folder(tmp_path / "set")] == ["part-a"]
