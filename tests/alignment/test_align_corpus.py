"""A corpus is aligned clip by clip: resumable, with margins, and with every failure named."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from conftest import Voices

import otoscope as oto
from otoscope.alignment import Lexicon, PhoneModel, align_corpus, align_words
from otoscope.audio.labels import read_labels
from otoscope.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from command_line import otoscope, refused


@pytest.fixture
def bare(voices: Voices) -> oto.Corpus:
    """Six clips with texts and no times: one with an unknown word, one without text."""
    clips = [replace(clip, tiers={}) for clip in voices.test[:6]]
    clips[2] = replace(clips[2], text=f"{clips[2].text} xyzzy")
    clips[4] = replace(clips[4], text=None)
    return oto.Corpus("bare", clips)


def test_every_clip_gets_its_tiers_and_margin_or_is_named(
    bare: oto.Corpus, phone_model: PhoneModel, lexicon: Lexicon
) -> None:
    aligned = align_corpus(bare, phone_model=phone_model, lexicon=lexicon)
    assert [clip.clip_id for clip in aligned] == [clip.clip_id for clip in bare]
    done = [clip for clip in aligned if clip.tier("words")]
    assert len(done) == 4
    assert all(len(clip.tier("phones")) > len(clip.tier("words")) for clip in done)
    assert all(float(clip.attributes["alignment_margin"]) <= 0 for clip in done)
    assert [problem.clip_id for problem in aligned.problems] == [bare[2].clip_id]
    assert "xyzzy" in aligned.problems[0].reason
    assert "alignment_margin" not in aligned[4].attributes


def test_unknown_words_can_be_aligned_as_speech_and_are_noted(
    bare: oto.Corpus, phone_model: PhoneModel, lexicon: Lexicon
) -> None:
    aligned = align_corpus(bare, phone_model=phone_model, lexicon=lexicon, unknown="any", tiers=["words"])
    assert aligned[2].attributes["alignment_unknown"] == "xyzzy"
    assert not aligned.problems
    assert aligned.tier_names == ["words"]


def test_a_clip_whose_sound_does_not_fit_its_text_can_be_left_out(
    bare: oto.Corpus, phone_model: PhoneModel, lexicon: Lexicon
) -> None:
    wrong = oto.Corpus("wrong", [replace(bare[0], text=bare[1].text), bare[3]])
    every = align_corpus(wrong, phone_model=phone_model, lexicon=lexicon)
    margins = [float(clip.attributes["alignment_margin"]) for clip in every]
    assert margins[0] < margins[1]
    kept = align_corpus(wrong, phone_model=phone_model, lexicon=lexicon, least_margin=sum(margins) / 2)
    assert [bool(clip.tier("words")) for clip in kept] == [False, True]
    assert "does not fit" in kept.problems[0].reason


def test_an_alignment_that_was_stopped_goes_on_where_it_ended(
    bare: oto.Corpus, phone_model: PhoneModel, lexicon: Lexicon, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop_after_three(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise StoppedError

    counts: list[int] = []

    def watch(stage: str, done: int, total: int) -> None:
        counts.append(done)

    with pytest.raises(StoppedError):
        align_corpus(bare, phone_model=phone_model, lexicon=lexicon, to=tmp_path / "out", progress=stop_after_three)
    assert not (tmp_path / "out").exists()
    journal = tmp_path / ".out.aligning.jsonl"
    journal.write_text(journal.read_text()[:-20])  # the machine went down in the middle of a line
    aligned = align_corpus(bare, phone_model=phone_model, lexicon=lexicon, to=tmp_path / "out", progress=watch)
    assert counts == [2, 3, 4, 5]
    whole = align_corpus(bare, phone_model=phone_model, lexicon=lexicon)
    assert aligned.fingerprint == whole.fingerprint
    assert aligned.problems == whole.problems
    assert oto.Corpus.load(tmp_path / "out").fingerprint == whole.fingerprint
    assert not journal.exists()


def test_what_another_alignment_left_is_not_mixed_in(
    bare: oto.Corpus, phone_model: PhoneModel, lexicon: Lexicon, tmp_path: Path
) -> None:
    head = {"format": "otoscope-alignment-journal", "version": 1, "fingerprint": "of other work"}
    row = {"clip_id": bare[0].clip_id, "margin": 0.0, "unknown": [], "words": [[0.0, 1.0, "other"]]}
    (tmp_path / ".out.aligning.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(row)}\n")
    aligned = align_corpus(bare, phone_model=phone_model, lexicon=lexicon, to=tmp_path / "out")
    assert [word.label for word in aligned[0].tier("words")] == (bare[0].text or "").split()


def test_words_by_attention_need_neither_lexicon_nor_phone_model(bare: oto.Corpus, pocket: oto.SpeechModel) -> None:
    aligned = align_corpus(bare, pocket, tiers=["words"])
    assert aligned[0].tier("words") == align_words(pocket, bare[0]).words


def test_what_cannot_be_made_is_refused_before_any_work(
    bare: oto.Corpus, pocket: oto.SpeechModel, phone_model: PhoneModel, lexicon: Lexicon
) -> None:
    with pytest.raises(InputError, match="tells words, not phones"):
        align_corpus(bare, pocket)
    with pytest.raises(InputError, match="needs a lexicon"):
        align_corpus(bare, phone_model=phone_model)
    with pytest.raises(InputError, match="Give a phone model and a lexicon, a CTC model, or a Whisper model"):
        align_corpus(bare)
    with pytest.raises(InputError, match="'syllables'"):
        align_corpus(bare, phone_model=phone_model, lexicon=lexicon, tiers=["syllables"])
    with pytest.raises(InputError, match="which tiers"):
        align_corpus(bare, phone_model=phone_model, lexicon=lexicon, tiers=[])
    with pytest.raises(InputError, match="nothing to align"):
        align_corpus(oto.Corpus("mute", [replace(bare[0], text="")]), phone_model=phone_model, lexicon=lexicon)


@pytest.fixture
def recordings(bare: oto.Corpus, tmp_path: Path) -> Path:
    """A manifest of three recordings with texts."""
    rows = ["path,text"]
    for clip in bare[:3]:
        soundfile.write(tmp_path / f"{clip.clip_id}.wav", clip.samples(), 16000)
        rows.append(f"{clip.clip_id}.wav,{clip.text}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "manifest.csv"


def test_the_verb_writes_a_corpus_and_label_files_and_names_what_failed(
    recordings: Path, phone_model: PhoneModel, lexicon: Lexicon, tmp_path: Path
) -> None:
    lines = [f"{word} {' '.join(way.phones)}" for word in lexicon for way in lexicon[word]]
    (tmp_path / "lexicon.txt").write_text("\n".join(lines), encoding="utf-8")
    phone_model.save(tmp_path / "phones")
    command = ["align", recordings, "--lexicon", tmp_path / "lexicon.txt", "--phone-model", tmp_path / "phones"]
    done = otoscope(*command, "--rounds", 0, "--to", tmp_path / "out", "--export", "TextGrid", "--json")
    assert done.code == 0, done.err
    assert "too little" not in done.err
    assert (done.json["aligned"], done.json["clips"], done.json["exported"]) == (2, 3, 2)
    assert "xyzzy" in done.json["problems"][0]["reason"]
    saved = oto.corpus(tmp_path / "out")
    grid = read_labels(tmp_path / "out" / "TextGrid" / f"{saved[0].clip_id}.TextGrid")
    assert [each.label for each in grid["words"]] == [each.label for each in saved[0].tier("words")]
    recordings.write_text("\n".join(recordings.read_text(encoding="utf-8").splitlines()[:2]), encoding="utf-8")
    alone = otoscope(*command, "--to", tmp_path / "alone")
    assert "too little to refit" in alone.err


def test_the_verb_aligns_words_by_attention_without_a_lexicon(recordings: Path, tmp_path: Path) -> None:
    done = otoscope("align", recordings, "--to", tmp_path / "out", "--heads", "2.2,3.1")
    assert done.code == 0, done.err
    assert "3 of 3 clips aligned" in done.out
    assert oto.corpus(tmp_path / "out").tier_names == ["words"]


def test_the_verb_refuses_in_one_sentence(recordings: Path, tmp_path: Path) -> None:
    to = ("--to", tmp_path / "out")
    assert "--lexicon FILE" in refused("align", recordings, "--phones", *to)
    assert "--heads '2-1'" in refused("align", recordings, "--heads", "2-1", *to)
    assert "no decoder head (9, 9)" in refused("align", recordings, "--heads", "9.9", *to)
    assert "cannot be read" in refused("align", recordings, "--lexicon", tmp_path / "none", *to)
    assert "--to" in refused("align", recordings)
