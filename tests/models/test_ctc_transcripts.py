"""What CTC models write, when, and how likely it is; against Hugging Face's own reading of the same logits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from speech_checkpoints import KINDS, LETTERS, plain, save_checkpoint
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

import otoscope as oto
from otoscope.models import Edit
from otoscope.models.ctc import ctc_align
from otoscope.models.text.letters import LetterTokenizer

PHONES = ["<s>", "<pad>", "</s>", "<unk>", "n", "s", "tʃ", "aɪ", "ɑː", "ə"]


def liven(folder: Path, bias: dict[str, float]) -> Path:
    """Give every letter of the head its turn (mean 0, deviation 2 over noise), then favour some by `bias`."""
    logits = oto.load_model(folder).run(clip_of(40_000), ["logits"])["logits"]
    factor = 2.0 / logits.std(0)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= factor[:, None]
    weights["lm_head.bias"] = (weights["lm_head.bias"] - logits.mean(0)) * factor
    for letter, amount in bias.items():
        weights["lm_head.bias"][LETTERS.index(letter)] += amount
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module", params=["wav2vec2-base", "hubert-large", "wavlm-large", "data2vec-audio"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes letters, words and blanks, but no special tokens."""
    made = save_checkpoint(tmp_path_factory.mktemp(request.param), KINDS[request.param])
    return liven(made, {"<s>": -50.0, "</s>": -50.0, "<unk>": -50.0, "<pad>": 1.0})


@pytest.fixture(scope="module")
def model(folder: Path) -> oto.SpeechModel:
    return oto.load_model(folder)


def clip_of(n_samples: int, seed: int = 0) -> oto.Clip:
    samples = np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32) / 10
    return oto.Clip.from_samples(samples, 16000, clip_id=f"noise-{seed}")


def test_texts_and_times_are_those_of_hugging_face(folder: Path, model: oto.SpeechModel) -> None:
    clip = clip_of(40_000)
    transcript = model.transcribe(clip)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder)
    with torch.no_grad():
        ids = plain(folder)(model.windows(clip)[0].input[None]).logits[0].argmax(-1)
    theirs = tokenizer.decode(ids, output_char_offsets=True)
    assert transcript.text == theirs.text
    assert len(transcript.tokens) > 5
    assert [token.text for token in transcript.tokens] == [one["char"] for one in theirs.char_offsets]
    for token, one in zip(transcript.tokens, theirs.char_offsets, strict=True):
        assert token.start_s == pytest.approx(0.02 * one["start_offset"] + 0.0025)
        assert token.end_s == pytest.approx(0.02 * one["end_offset"] + 0.0025)


def test_a_transcript_scored_gives_its_own_log_probabilities(model: oto.SpeechModel) -> None:
    clip = clip_of(40_000)
    transcript = model.transcribe(clip)
    assert model.score(clip, transcript) == pytest.approx([token.log_prob for token in transcript.tokens])
    rows = model.run(clip, ["logits"])["logits"].log_softmax(-1)
    assert transcript.avg_log_prob == pytest.approx(float(rows.max(-1).values.mean()), abs=1e-5)
    assert transcript.language is None


def test_words_last_from_their_first_letter_to_their_last(model: oto.SpeechModel) -> None:
    transcript = model.transcribe(clip_of(40_000))
    assert "".join(word.word for word in transcript.words).split() == transcript.text.split()
    assert len(transcript.words) > 3
    spoken = [token for token in transcript.tokens if token.text != " "]
    for word in transcript.words:
        letters, spoken = spoken[: len(word.tokens)], spoken[len(word.tokens) :]
        assert word.tokens == tuple(letter.id for letter in letters)
        assert (word.start_s, word.end_s) == (letters[0].start_s, letters[-1].end_s)
        frames = [((letter.end_s or 0.0) - (letter.start_s or 0.0)) / 0.02 for letter in letters]
        mean = sum(letter.log_prob for letter in letters) / sum(frames)
        assert word.probability == pytest.approx(math.exp(mean))
    assert not spoken


def test_doubt_is_the_entropy_of_the_frames_that_a_letter_holds(model: oto.SpeechModel) -> None:
    clip = clip_of(40_000)
    rows = torch.distributions.Categorical(logits=model.run(clip, ["logits"])["logits"]).entropy()
    for token in model.transcribe(clip).tokens:
        frames = slice(*(round(((at or 0.0) - 0.0025) / 0.02) for at in (token.start_s, token.end_s)))
        assert token.entropy == pytest.approx(float(rows[frames].mean()), abs=1e-4)


def test_another_text_is_scored_by_its_best_path(model: oto.SpeechModel) -> None:
    clip, other = clip_of(40_000), clip_of(40_000, seed=1)
    foreign = model.transcribe(other)
    rows = model.run(clip, ["logits"])["logits"].log_softmax(-1)
    expected = [one.log_prob for one in ctc_align(rows, [token.id for token in foreign.tokens], blank=0)]
    assert model.score(clip, foreign) == pytest.approx(expected, abs=1e-5)
    assert model.score(clip, foreign) != pytest.approx([token.log_prob for token in foreign.tokens])


def test_an_edit_changes_what_is_written_and_how_likely_it_is(model: oto.SpeechModel) -> None:
    clip = clip_of(40_000)
    transcript = model.transcribe(clip)
    silenced = model.transcribe(clip, edits=[Edit("logits", "add", 100.0, units=(0,))])
    assert (silenced.text, silenced.tokens) == ("", [])
    assert silenced.avg_log_prob == pytest.approx(0.0, abs=1e-6)
    edit = Edit("encoder.0.mlp.out", "scale", 0.0)
    assert model.transcribe(clip, edits=[edit]).tokens != transcript.tokens
    assert model.score(clip, transcript, edits=[edit]) != model.score(clip, transcript)


def test_an_edit_in_a_time_range_changes_the_letters_there_alone(model: oto.SpeechModel) -> None:
    clip = clip_of(40_000)
    plainly = model.transcribe(clip)
    muted = model.transcribe(clip, edits=[Edit("logits", "add", 100.0, units=(0,), time_s=(1.0, 9.0))])
    early = [token for token in plainly.tokens if (token.end_s or 9.0) <= 1.0]
    assert early
    assert muted.tokens[: len(early)] == early
    assert all((token.end_s or 9.0) < 1.02 for token in muted.tokens)


def test_windows_of_a_long_clip_are_written_one_after_another(model: oto.SpeechModel) -> None:
    samples = clip_of(480_000 + 32_000).samples()
    long = oto.Clip.from_samples(samples, 16000)
    parts = [oto.Clip.from_samples(part, 16000) for part in (samples[:480_000], samples[479_680:])]
    first, second = (model.transcribe(part) for part in parts)
    whole = model.transcribe(long)
    assert whole.text == f"{first.text} {second.text}"
    assert [token.window for token in whole.tokens] == [0] * len(first.tokens) + [1] * len(second.tokens)
    late = whole.tokens[len(first.tokens)]
    assert late.start_s == pytest.approx(29.98 + (second.tokens[0].start_s or 0.0))
    assert model.score(long, whole) == pytest.approx([token.log_prob for token in whole.tokens])
    with pytest.raises(oto.InputError, match="more windows"):
        model.score(parts[0], whole)


def test_several_clips_are_written_as_each_alone(model: oto.SpeechModel) -> None:
    clips = [clip_of(20_000, seed) for seed in (2, 3)] + [clip_of(12_345, 4)]
    assert model.transcribe(clips) == [model.transcribe(clip) for clip in clips]


def test_special_tokens_are_left_out_of_the_text(tmp_path: Path) -> None:
    folder = liven(save_checkpoint(tmp_path, KINDS["hubert-base"]), {"<unk>": 100.0})
    transcript = oto.load_model(folder).transcribe(clip_of(8000))
    assert (transcript.text, transcript.tokens) == ("", [])


@pytest.mark.parametrize("choice", [{"language": "en"}, {"beam_size": 5}, {"task": "translate"}, {"temperature": 0.5}])
def test_what_only_decoders_understand_is_refused(model: oto.SpeechModel, choice: dict[str, object]) -> None:
    with pytest.raises(oto.InputError, match=f"knows no {next(iter(choice))}"):
        model.transcribe(clip_of(8000), **choice)
    with pytest.raises(oto.InputError, match="no decoding option"):
        model.transcribe(clip_of(8000), beams=5)


def test_times_come_anyway_and_may_be_asked_for(model: oto.SpeechModel) -> None:
    clip = clip_of(8000)
    asked = model.transcribe(clip, word_times=True, timestamps=True, task="transcribe")
    assert (asked.tokens, asked.words) == (model.transcribe(clip).tokens, model.transcribe(clip).words)


def test_models_that_cannot_write_say_why(tmp_path: Path) -> None:
    headless = oto.load_model(save_checkpoint(tmp_path / "headless", KINDS["wavlm-base"], head=False))
    with pytest.raises(oto.InputError, match="writes no text"):
        headless.transcribe(clip_of(8000))
    mute = save_checkpoint(tmp_path / "mute", KINDS["wavlm-base"])
    (mute / "vocab.json").unlink()
    with pytest.raises(oto.InputError, match="no tokenizer"):
        oto.load_model(mute).transcribe(clip_of(8000))


def tokenizer_of(folder: Path, vocabulary: dict[str, object], **settings: object) -> LetterTokenizer:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    found = LetterTokenizer.from_folder(folder)
    assert found is not None
    return found


@given(st.lists(st.sampled_from([*range(4, 12)]), max_size=30))
def test_letters_are_joined_as_hugging_face_joins_them(ids: list[int]) -> None:
    numbered = {letter: number for number, letter in enumerate(LETTERS)}
    ours = LetterTokenizer(numbered, special=("<s>", "</s>", "<unk>"))
    theirs = "".join(LETTERS[index] for index in ids).replace("|", " ")
    assert ours.decode(ids) == theirs
    assert ours.decode(ours.encode(theirs)) == " ".join(theirs.split())


@pytest.mark.parametrize("low", [False, True])
def test_a_saved_vocabulary_of_letters_is_read_alike(tmp_path: Path, low: bool) -> None:
    numbered = {letter: number for number, letter in enumerate(LETTERS)}
    (tmp_path / "v.json").write_text(json.dumps(numbered))
    theirs = Wav2Vec2CTCTokenizer(str(tmp_path / "v.json"), do_lower_case=low)
    theirs.save_pretrained(tmp_path)
    ours = LetterTokenizer.from_folder(tmp_path)
    assert ours is not None
    text = "a note is sent" if low else "A NOTE IS SENT"
    text = text.replace("e is", "e  is")
    ids = theirs(" ".join(text.split())).input_ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids, group_tokens=False)
    assert ours.blank == theirs.pad_token_id
    assert ours.special_ids == {theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id}


def test_a_saved_vocabulary_of_phones_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps({phone: number for number, phone in enumerate(PHONES)}))
    theirs = Wav2Vec2PhonemeCTCTokenizer(str(tmp_path / "v.json"), do_phonemize=False)
    theirs.save_pretrained(tmp_path)
    ours = LetterTokenizer.from_folder(tmp_path)
    assert ours is not None
    ids = theirs("n aɪ s tʃ ɑː").input_ids
    assert ours.encode("n aɪ s tʃ ɑː") == ids
    assert ours.decode(ids) == theirs.decode(ids) == "n aɪ s tʃ ɑː"
    assert ours.blank == 1


def test_letters_of_several_characters_and_of_either_case_are_found(tmp_path: Path) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3, "c": 4, "h": 5, "ch": 6}
    ours = tokenizer_of(tmp_path, vocabulary, pad_token="[PAD]", unk_token={"content": "[UNK]"})
    assert ours.encode("Ach ac") == [3, 6, 2, 3, 4]
    assert ours.special_ids == {0, 1}


@pytest.mark.parametrize("name", ["Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer", None])
def test_tokens_that_a_fine_tune_added_are_known(tmp_path: Path, name: str | None) -> None:
    """Their vocabulary ends before the marks of a sentence; old ones name their tokenizer otherwise, or not at all."""
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<s>": 3, "</s>": 4}))
    ours = tokenizer_of(tmp_path, {"a": 0, "|": 1, "[PAD]": 2}, pad_token="[PAD]", tokenizer_class=name)
    assert (ours.blank, ours.special_ids) == (2, {2, 3, 4})
    assert ours.decode([0, 3, 1, 0], skip_special=True) == "a a"


def test_the_vocabulary_of_one_language_is_taken_when_it_is_named(tmp_path: Path) -> None:
    nested = {"eng": {"<pad>": 0, "|": 1, "e": 2}, "deu": {"<pad>": 0, "|": 1, "ß": 2}}
    assert tokenizer_of(tmp_path / "named", nested, target_lang="deu").encode("ß") == [2]
    with pytest.raises(oto.InputError, match="2 languages"):
        tokenizer_of(tmp_path / "open", nested)


@pytest.mark.parametrize(("text", "reason"), [("né", "'é'"), ("<pad>", "'<'")])
def test_letters_that_the_model_does_not_know_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    ours = tokenizer_of(tmp_path, {letter: number for number, letter in enumerate(LETTERS)})
    with pytest.raises(oto.InputError) as refusal:
        ours.encode(text)
    assert reason in str(refusal.value)


def test_a_vocabulary_of_another_kind_is_no_vocabulary_for_ctc(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"hello": 0}))
    assert LetterTokenizer.from_folder(tmp_path) is None
