"""Bad input: one clear sentence, exit code 2, nothing on standard output, nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import otoscope, refused

from otoscope.audio import Clip, Corpus


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused("transcribe", tmp_path / "no.wav") == f"{tmp_path / 'no.wav'} does not exist."


def test_a_text_file_named_wav(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("I am not a sound.")
    assert "is a text file, not audio" in refused("transcribe", tmp_path / "a.wav", "--json")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "is empty (0 bytes)" in refused("transcribe", tmp_path / "a.wav", "--json")


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    samples = np.zeros(16000, dtype=np.float32)
    samples[8000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert "NaN or infinite samples, the first at 0.500 s" in refused("transcribe", tmp_path / "a.wav", "--json")


def test_three_hours_in_one_file(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8000, 1) as file:
        for _ in range(180):
            file.write(np.zeros(8000 * 60, dtype=np.int16))
    sentence = refused("transcribe", tmp_path / "long.flac", "--json")
    assert "is 3 h long, over the limit of 2 h for one clip; cut it" in sentence


def test_six_channels_at_96_khz_are_no_problem(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (96000, 6))
    soundfile.write(tmp_path / "six.wav", noise, 96000)
    done = otoscope("transcribe", tmp_path / "six.wav", "--json")
    assert done.code == 0
    assert done.json[0]["duration_s"] == pytest.approx(1.0)


def test_an_unknown_site(few: Path, tmp_path: Path) -> None:
    words = ("harvest", "--corpus", few, "--workspace", tmp_path / "ws", "--site")
    assert "did you mean encoder.2.resid_post" in refused(*words, "encoder.2.resid_pos")
    assert "the layers are 0 to 3" in refused(*words, "encoder.4.resid_post")
    assert "a row per token and a store one per frame" in refused(*words, "decoder.0.mlp.post")
    assert "Say which sites to harvest" in refused(*words[:-1])
    assert not (tmp_path / "ws" / "stores").exists()


@pytest.mark.parametrize("verb", [("features",), ("edit", "clip.wav", "--zero", "--feature")])
def test_a_feature_out_of_range(ws: Path, verb: tuple[str, ...]) -> None:
    sentence = refused(*verb, "sae-2:64", "--workspace", ws)
    assert sentence == "There is no feature 64 in dictionary 'sae-2': features go from 0 to 63."


def test_an_unknown_dictionary_and_a_malformed_feature(ws: Path) -> None:
    assert "did you mean sae-2" in refused("features", "sae-3:1", "--workspace", ws)
    assert "write DICTIONARY:INDEX" in refused("features", "sae-2:x", "--workspace", ws)


def test_a_corpus_without_tiers(tmp_path: Path, few: Path) -> None:
    bare = [Clip.from_samples(c.samples(), 16000, clip_id=c.clip_id) for c in Corpus.load(few)[:3]]
    Corpus("bare", bare).save(tmp_path / "bare")
    assert "has no labels: no tiers and no sound classes" in refused("corpus", "labels", tmp_path / "bare")
    options = ("--workspace", tmp_path / "ws")
    assert otoscope("harvest", "-c", tmp_path / "bare", "-s", "encoder.0.mlp.out", *options).code == 0
    assert otoscope("train", "--kind", "neurons", *options).code == 0
    assert otoscope("atlas", "-d", "neurons-0", *options).code == 0
    assert "has no labels to search" in refused("search", "m", *options)


@pytest.mark.parametrize("words", [("serve",), ("demo",)])
def test_a_taken_port_is_refused_before_any_work(ws: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        where = ws if words == ("serve",) else tmp_path / "new"
        sentence = refused(*words, "--port", port, "--workspace", where, code=1)
    assert f"Port {port} is already taken" in sentence
    assert not (tmp_path / "new").exists()


def test_a_missing_workspace(tmp_path: Path) -> None:
    for words in (("search", "m"), ("serve",), ("features", "sae-2:1"), ("train",), ("atlas",)):
        assert "There is no workspace at" in refused(*words, "--workspace", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_unknown_corpus_makes_no_workspace(tmp_path: Path) -> None:
    sentence = refused("demo", "--corpus", "minni", "--no-serve", "--workspace", tmp_path / "ws")
    assert "did you mean mini" in sentence
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "There is nothing to edit"),
        (("--scale", "0"), "There is nothing to edit"),
        (("--feature", "sae-2:1"), "says what to edit but not how"),
        (("--feature", "sae-2:1", "--zero", "--scale", "2"), "has two operations"),
        (("--feature", "sae-2:1", "--zero", "--units", "1"), "a feature has no units"),
        (("--site", "encoder.2.mlp.post", "--zero", "--units", "a"), "is not a list of unit numbers"),
        (("--site", "encoder.2.mlp.post", "--zero", "--units", "99999"), "its units are 0 to"),
        (("--site", "encoder.2.mlp.post", "--zero", "--time", "2-1"), "is not a span of seconds"),
        (("--site", "encoder.2.mlp.post", "--zero", "--time", "-1"), "is not a span of seconds"),
    ],
)
def test_edits_that_make_no_sense(ws: Path, few: Path, words: tuple[str, ...], complaint: str) -> None:
    clip = Corpus.load(few)[0].clip_id
    assert complaint in refused("edit", clip, *words, "--workspace", ws)


def test_an_unknown_clip_is_refused_with_the_nearest(ws: Path, few: Path) -> None:
    clip = Corpus.load(few)[0].clip_id
    sentence = refused("edit", f"{clip}x", "--site", "encoder.2.mlp.post", "--zero", "--workspace", ws)
    assert f"did you mean {clip}" in sentence
