"""Whisper's tokens and rules without transformers: the same as openai-whisper's own, whichever files they come from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import whisper
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperTokenizer
from whisper.decoding import DecodingOptions, DecodingTask
from whisper.tokenizer import Tokenizer as WhisperTokens
from whisper.tokenizer import get_tokenizer

import otoscope as oto
from otoscope.models.loading.special_tokens import LANGUAGES, decoding_rules, special_tokens
from otoscope.models.loading.text import standard_tokenizer
from otoscope.models.text.tokenizer import BytePairTokenizer, find_tokenizer

VOCABULARIES = {51864: (False, 99), 51865: (True, 99), 51866: (True, 100)}
"""Tokens → whether multilingual, and how many languages, as openai-whisper counts."""


@cache
def ours_of(n_vocab: int) -> BytePairTokenizer:
    found = standard_tokenizer(n_vocab)
    assert isinstance(found, BytePairTokenizer)
    return found


def theirs_of(n_vocab: int) -> WhisperTokens:
    multilingual, n_languages = VOCABULARIES[n_vocab]
    return get_tokenizer(multilingual, num_languages=n_languages)


pieces = st.one_of(
    st.text(max_size=20),
    st.text("ab e'stllreve 09\n\t.", max_size=30),
    st.sampled_from([" the", "Ġ", "♪♪", "<|en", "你好", "नमस्ते", "👩‍👩‍👧", "\u0301e", " ' ", "\r\n", "ﬁ"]),
)


@settings(deadline=None)
@given(st.sampled_from(sorted(VOCABULARIES)), st.lists(pieces, max_size=6).map("".join))
def test_text_becomes_the_tokens_that_openai_whisper_makes_of_it(n_vocab: int, text: str) -> None:
    assert ours_of(n_vocab).encode(text) == theirs_of(n_vocab).encode(text, disallowed_special=())
    assert ours_of(n_vocab).decode(ours_of(n_vocab).encode(text)) == text


@settings(deadline=None)
@given(st.sampled_from(sorted(VOCABULARIES)), st.lists(st.integers(0, 51863), max_size=12))
def test_any_tokens_print_as_openai_whisper_prints_them(n_vocab: int, ids: list[int]) -> None:
    assert ours_of(n_vocab).decode(ids) == theirs_of(n_vocab).decode_with_timestamps(ids)
    spoken = [index for index in ids if index < theirs_of(n_vocab).eot]
    assert ours_of(n_vocab).decode(ids, skip_special=True) == theirs_of(n_vocab).decode(spoken)


@pytest.mark.parametrize("n_vocab", VOCABULARIES)
def test_special_tokens_and_rules_follow_from_the_size_of_the_vocabulary(n_vocab: int) -> None:
    theirs = theirs_of(n_vocab)
    multilingual, n_languages = VOCABULARIES[n_vocab]
    assert special_tokens(n_vocab) == theirs.special_tokens
    rules = decoding_rules(ours_of(n_vocab), n_vocab, openai=True)
    assert rules["decoder_start_token_id"] == theirs.sot
    assert rules["eos_token_id"] == theirs.eot
    assert rules["no_timestamps_token_id"] == theirs.no_timestamps
    assert rules["is_multilingual"] is multilingual
    if multilingual:
        assert list(rules["lang_to_id"]) == [f"<|{code}|>" for code in LANGUAGES[:n_languages]]
        assert sorted(rules["lang_to_id"].values()) == sorted(theirs.all_language_tokens)
        assert rules["task_to_id"] == {"transcribe": theirs.transcribe, "translate": theirs.translate}
    else:
        assert "lang_to_id" not in rules


@pytest.mark.parametrize("n_vocab", VOCABULARIES)
def test_the_tokens_never_written_are_those_that_openai_whisper_suppresses(n_vocab: int) -> None:
    sizes = whisper.model.ModelDimensions(80, 4, 8, 2, 1, n_vocab, 8, 8, 2, 1)
    task = DecodingTask(whisper.model.Whisper(sizes), DecodingOptions(fp16=False, language="en"))
    rules = decoding_rules(ours_of(n_vocab), n_vocab, openai=True)
    assert rules["suppress_tokens"] == list(task._get_suppress_tokens())
    blank = torch.zeros(1, n_vocab)
    task.logit_filters[0].apply(blank, torch.zeros(1, task.sample_begin))
    assert set(rules["begin_suppress_tokens"]) == set(blank.isinf().nonzero()[:, 1].tolist())


def test_a_vocabulary_of_another_size_is_given_no_tokens_by_guess() -> None:
    assert special_tokens(51867) == {}
    assert standard_tokenizer(1367) is None


@pytest.fixture
def vocabulary_and_merges(tmp_path: Path) -> Path:
    """The files of checkpoints from before `tokenizer.json`, without timestamps as they were at first."""
    backend = json.loads(ours_of(51865)._backend.to_str())
    special = {name: index for name, index in special_tokens(51865).items() if not name[2].isdigit()}
    plain = {token: index for token, index in backend["model"]["vocab"].items() if index <= 50257}
    merges = [" ".join(merge) for merge in backend["model"]["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(plain), "utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps(special), "utf-8")
    marks = {"additional_special_tokens": list(special), "eos_token": "<|endoftext|>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(marks), "utf-8")
    return tmp_path


def test_vocabulary_and_merges_read_like_hugging_face_reads_them(vocabulary_and_merges: Path) -> None:
    ours = find_tokenizer(vocabulary_and_merges)
    assert ours is not None
    theirs = WhisperTokenizer.from_pretrained(vocabulary_and_merges)
    text = " Über 3,000 naïve café-goers can't 你好 ♪"
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False) == theirs_of(51865).encode(text)
    assert ours.vocabulary["<|transcribe|>"] == 50359
    assert 50359 in ours.special_ids


def test_timestamps_that_old_files_leave_out_are_added(vocabulary_and_merges: Path) -> None:
    ours = find_tokenizer(vocabulary_and_merges)
    assert isinstance(ours, BytePairTokenizer)
    assert "<|0.00|>" not in ours.vocabulary
    complete = ours.with_special(special_tokens(51865))
    assert complete.vocabulary["<|30.00|>"] == 51864
    with pytest.raises(ValueError, match="other numbers"):
        ours.with_special(special_tokens(51866))


def test_words_added_by_a_fine_tune_are_text(vocabulary_and_merges: Path) -> None:
    added = json.loads((vocabulary_and_merges / "added_tokens.json").read_text("utf-8"))
    (vocabulary_and_merges / "added_tokens.json").write_text(json.dumps(added | {"otoscopy": 50364}), "utf-8")
    ours = find_tokenizer(vocabulary_and_merges)
    assert ours is not None
    ids = ours.encode(" an otoscopy<|en|>")
    assert 50364 in ids
    assert ours.decode(ids, skip_special=True) == " an otoscopy"


def test_a_damaged_tokenizer_is_named_when_it_is_needed(vocabulary_and_merges: Path) -> None:
    (vocabulary_and_merges / "vocab.json").write_text("{", "utf-8")
    with pytest.raises(oto.OtoscopeError, match=r"tokenizer in .* is damaged"):
        find_tokenizer(vocabulary_and_merges)
