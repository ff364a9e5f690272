"""Lexicons of every form say how words are pronounced, and name what they do not know."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from otoscope.alignment import Lexicon
from otoscope.alignment.lexicon import plain_word, words_of
from otoscope.audio import Clip, Corpus
from otoscope.errors import InputError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_cmudict_with_variants_and_comments(tmp_path: Path) -> None:
    text = ";;; a comment\nTHE  DH AH0\nTHE(1)  DH IY0\naalborg AO1 L B AO0 R G # place, danish\n\n"
    lexicon = Lexicon.from_file(written(tmp_path / "cmudict", text))
    assert [way.phones for way in lexicon["the"]] == [("ð", "ə"), ("ð", "i")]
    assert lexicon["Aalborg,"][0].phones == ("ɔ", "l", "b", "ɔ", "ɹ", "ɡ")


def test_montreal_dictionaries_with_probabilities_and_without(tmp_path: Path) -> None:
    text = "the\t0.99\t0.16\t1.0\t1.0\tð ə\nthe\t0.5\tð i\ncat\tkʰ æ t\n"
    lexicon = Lexicon.from_file(written(tmp_path / "english.dict", text))
    assert [way.log_prob for way in lexicon["the"]] == pytest.approx([math.log(0.99), math.log(0.5)])
    assert lexicon["cat"][0].phones == ("k", "æ", "t")
    assert lexicon["cat"][0].log_prob == 0.0


def test_symbols_may_be_kept_as_they_are(tmp_path: Path) -> None:
    lexicon = Lexicon.from_file(written(tmp_path / "own.dict", "foo p1 p2\n"), alphabet="own")
    assert lexicon["foo"][0].phones == ("p1", "p2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the DH AH0\nthey DH XX\n", r"line 2: the phone 'XX' is not arpabet"),
        ("the DH AH0\nthey\n", r"line 2: the word 'they' has no phones"),
        ("", "no words"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Lexicon.from_file(written(tmp_path / "lexicon", text))


def test_a_file_that_is_missing_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Lexicon.from_file(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes("niño N IY N Y OW\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        Lexicon.from_file(tmp_path / "latin")


def test_pronunciations_are_collected_from_clips_whose_phones_are_known(mini: Corpus) -> None:
    lexicon = Lexicon.from_clips([clip for clip in mini if clip.language != "es"])
    assert ("b", "eɪ", "k", "ɝ", "ɹ", "i") in [way.phones for way in lexicon["bakery"]]
    assert max(way.log_prob for way in lexicon["the"]) == 0.0
    with pytest.raises(InputError, match="No clip has both"):
        Lexicon.from_clips([Clip("a", "a.wav")])


def test_words_are_found_however_they_are_written() -> None:
    lexicon = Lexicon({"don't": [("d",)], "forty": [("f",)], "two": [("t",), ("t", "u")]})
    assert "“Don’t!”" in lexicon
    assert [way.phones for way in lexicon["Forty-two"]] == [("f", "t"), ("f", "t", "u")]
    assert lexicon.missing(["Two", "three", "-", "THREE,", "forty-six"]) == ["three", "forty-six"]
    with pytest.raises(InputError, match="does not know the word 'twoo'; did you mean two"):
        lexicon["twoo"]


def test_the_words_of_a_text_leave_out_lone_punctuation() -> None:
    assert words_of("“Well – he said …”") == ["“Well", "he", "said"]
    assert [plain_word(word) for word in words_of("Él dijo: ¡no!")] == ["él", "dijo", "no"]


def test_two_lexicons_join() -> None:
    both = Lexicon({"a": [("ə",)]}) | Lexicon({"a": [("eɪ",)], "b": [("b", "i")]})
    assert [way.phones for way in both["a"]] == [("ə",), ("eɪ",)]
    assert both.phones == ("b", "eɪ", "i", "ə")
