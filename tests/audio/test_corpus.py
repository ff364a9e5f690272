"""A corpus keeps its order, finds clips by id, saves and loads without loss, and has an honest fingerprint."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otoscope as oto
from otoscope.audio import SAMPLE_RATE_HZ, Clip, Corpus, Interval
from otoscope.audio.clip import unique_ids
from otoscope.errors import InputError, OtoscopeError

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

labels = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
seconds = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 6))
intervals = st.builds(lambda a, b, label: Interval(min(a, b), max(a, b), label), seconds, seconds, labels)
clips = st.builds(
    Clip,
    clip_id=st.text("abcxyz019-_", min_size=1, max_size=8),
    uri=st.just("sound.wav"),
    start_s=seconds,
    end_s=st.none() | st.floats(101, 200),
    text=st.none() | labels,
    speaker=st.none() | labels,
    language=st.none() | st.sampled_from(["en", "es"]),
    attributes=st.dictionaries(labels, labels, max_size=3),
    tiers=st.dictionaries(
        st.sampled_from(["words", "phones", "events"]), st.lists(intervals, min_size=1, max_size=4).map(tuple)
    ),
    sha256=st.just("0" * 64),
)
corpora = st.lists(clips, min_size=1, max_size=5, unique_by=lambda clip: clip.clip_id).map(
    lambda chosen: Corpus("made", chosen)
)


@pytest.fixture
def three(tmp_path: Path, speechlike: Callable[..., np.ndarray]) -> Corpus:
    """Three clips of two recordings, with what a labelled corpus has."""
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", speechlike(SAMPLE_RATE_HZ, i), SAMPLE_RATE_HZ)
    words = {"words": (Interval(0.0, 0.2, "good"), Interval(0.2, 0.5, "morning"))}
    return Corpus(
        "three",
        [
            Clip.from_file(tmp_path / "0.wav", clip_id="a", end_s=0.5, text="good morning", speaker="ann", tiers=words),
            Clip.from_file(tmp_path / "0.wav", clip_id="b", start_s=0.5, speaker="bob"),
            Clip.from_file(tmp_path / "1.wav", clip_id="c", attributes={"sound_class": "rain"}),
        ],
    )


@SLOW
@given(corpora)
def test_saving_and_loading_loses_nothing(tmp_path: Path, corpus: Corpus) -> None:
    loaded = corpus.save(tmp_path / "saved")
    assert loaded.name == corpus.name
    assert loaded.fingerprint == corpus.fingerprint
    for before, after in zip(corpus, loaded, strict=True):
        assert dataclasses.replace(after, uri=before.uri) == before


def test_recordings_are_found_again_after_saving(three: Corpus, tmp_path: Path) -> None:
    loaded = three.save(tmp_path / "elsewhere" / "saved")
    for before, after in zip(three, loaded, strict=True):
        np.testing.assert_array_equal(after.samples(), before.samples())
        assert after.duration_s == pytest.approx(before.duration_s)


def test_a_folder_with_its_recordings_can_be_moved(three: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    Corpus("memory", [Clip.from_samples(clip.samples(), 16000, clip_id=clip.clip_id) for clip in three]).save(folder)
    moved = folder.rename(tmp_path / "moved")
    for before, after in zip(three, Corpus.load(moved), strict=True):
        np.testing.assert_array_equal(after.samples(), before.samples())


def test_whose_sound_it_is_goes_wherever_the_clips_go(three: Corpus, mini: Corpus, tmp_path: Path) -> None:
    assert Corpus.open(tmp_path).licence == ""
    assert mini.licence.endswith("CC0 1.0")
    (tmp_path / "LICENSE.md").write_text("CC BY 4.0\n", "utf-8")
    (tmp_path / "Attribution").write_text("Spoken by Ann and Bob.", "utf-8")
    (tmp_path / "license_plates.txt").write_text("not about the sound", "utf-8")
    found = Corpus.open(tmp_path)
    assert found.licence == "Spoken by Ann and Bob.\n\nCC BY 4.0"
    saved = found[:1].save(tmp_path / "elsewhere")
    assert saved.licence == Corpus.open(tmp_path / "elsewhere").licence == found.licence
    assert saved.select(["0"]).licence == found.licence
    assert saved.fingerprint == Corpus("other", saved).fingerprint, (
        "words about the sound change nothing that is computed"
    )


def test_saving_over_a_corpus_replaces_it_whole(three: Corpus, tmp_path: Path) -> None:
    saved = three.save(tmp_path / "saved")
    assert [clip.clip_id for clip in saved.select(["b"]).save(tmp_path / "saved")] == ["b"]


def test_clips_in_memory_survive_saving_over_their_own_folder(three: Corpus, tmp_path: Path) -> None:
    held = Corpus("held", [Clip.from_samples(three["a"].samples(), SAMPLE_RATE_HZ, clip_id="a")])
    once = held.save(tmp_path / "held")
    again = once.save(tmp_path / "held")
    np.testing.assert_array_equal(again["a"].samples(), three["a"].samples())


def test_saving_never_deletes_recordings(three: Corpus, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for name in ("0.wav", "1.wav"):
        (tmp_path / name).rename(recordings / name)
    corpus = Corpus.from_folder(recordings)
    with pytest.raises(InputError, match="is not a saved corpus"):
        corpus.save(recordings)
    assert (recordings / "0.wav").exists()

    home = tmp_path / "home"
    Corpus("held", [Clip.from_samples(clip.samples(), 16000, clip_id=clip.clip_id) for clip in corpus]).save(home)
    fewer = Corpus.load(home).select(["1"]).save(home)
    assert [clip.clip_id for clip in fewer] == ["1"]
    assert (home / "audio" / "0.wav").exists()


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "id": lambda clip: dataclasses.replace(clip, clip_id="other"),
    "start": lambda clip: dataclasses.replace(clip, start_s=0.1),
    "end": lambda clip: dataclasses.replace(clip, end_s=0.4),
    "text": lambda clip: dataclasses.replace(clip, text="good evening"),
    "speaker": lambda clip: dataclasses.replace(clip, speaker="eve"),
    "language": lambda clip: dataclasses.replace(clip, language="es"),
    "attribute": lambda clip: dataclasses.replace(clip, attributes={"sound_class": "dog"}),
    "label": lambda clip: dataclasses.replace(clip, tiers={"words": (Interval(0.0, 0.2, "god"),)}),
    "interval": lambda clip: dataclasses.replace(clip, tiers={"words": (Interval(0.0, 0.21, "good"),)}),
    "tier": lambda clip: dataclasses.replace(clip, tiers={"phones": clip.tier("words")}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_sees_every_change(three: Corpus, change: str) -> None:
    changed = Corpus("three", [CHANGES[change](three["a"]), *three.clips[1:]])
    assert changed.fingerprint != three.fingerprint
    sound_changed = change in ("id", "start", "end")
    assert (changed.audio_fingerprint != three.audio_fingerprint) is sound_changed


def test_the_fingerprint_sees_order_and_sound_but_not_names_or_places(three: Corpus, tmp_path: Path) -> None:
    assert Corpus("three", three.clips[::-1]).fingerprint != three.fingerprint
    assert Corpus("renamed", three.clips).fingerprint == three.fingerprint
    copied = tmp_path / "copy.wav"
    copied.write_bytes(Path(three["c"].uri).read_bytes())
    moved = Corpus("three", [*three.clips[:2], dataclasses.replace(three["c"], uri=str(copied), source=copied)])
    assert moved.fingerprint == three.fingerprint
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    moved = Corpus("three", [*three.clips[:2], dataclasses.replace(three["c"], uri=str(copied), source=copied)])
    assert moved.audio_fingerprint != three.audio_fingerprint


def test_clips_are_found_by_place_and_by_id(three: Corpus) -> None:
    assert three[0] is three["a"] is three.get("a")
    assert three[-1].clip_id == "c"
    assert [clip.clip_id for clip in three[1:]] == ["b", "c"]
    assert "a" in three
    assert "z" not in three
    assert three.speakers == ["ann", "bob"]
    assert three.tier_names == ["words"]
    assert three.has_labels
    assert three.duration_s == pytest.approx(2.0)
    assert three["a"].tier("words")[1].label == "morning"
    assert three["a"].tier("phones") == ()


def test_an_unknown_clip_is_refused_with_the_nearest(three: Corpus) -> None:
    corpus = Corpus("x", [dataclasses.replace(three["a"], clip_id="morning-1")])
    with pytest.raises(InputError, match="did you mean morning-1"):
        corpus["mornin-1"]
    with pytest.raises(IndexError, match="3 clips"):
        three[3]


def test_selections_keep_the_order_and_refuse_nothing_left(three: Corpus) -> None:
    assert [clip.clip_id for clip in three.select(["c", "a"])] == ["a", "c"]
    assert [clip.clip_id for clip in three.select(lambda clip: clip.speaker == "bob")] == ["b"]
    with pytest.raises(InputError, match="No clip"):
        three.select(lambda clip: False)
    with pytest.raises(InputError, match="no clip 'z'"):
        three.select(["z"])


def test_two_clips_of_one_id_are_refused(three: Corpus) -> None:
    with pytest.raises(InputError, match="two clips with the id 'a'"):
        Corpus("x", [three["a"], three["a"]])
    with pytest.raises(InputError, match="no clips"):
        Corpus("x", [])


@given(st.lists(st.text(max_size=12), max_size=12, unique=True))
def test_ids_are_unique_and_need_no_escaping(names: list[str]) -> None:
    ids = unique_ids(names)
    assert len(set(ids)) == len(names)
    assert all(made and urllib.parse.quote(made, safe="") == made for made in ids)


@pytest.mark.parametrize("damage", ["meta.json", "corpus.parquet", "tiers.parquet"])
def test_a_damaged_corpus_is_refused_and_named(three: Corpus, tmp_path: Path, damage: str) -> None:
    three.save(tmp_path / "saved")
    (tmp_path / "saved" / damage).write_bytes(b"\x00\x01damaged")
    with pytest.raises(OtoscopeError, match=rf"{damage} is damaged"):
        Corpus.load(tmp_path / "saved")


def test_a_recording_that_is_gone_is_named_when_it_is_needed(three: Corpus, tmp_path: Path) -> None:
    saved = three.save(tmp_path / "saved")
    (tmp_path / "1.wav").unlink()
    assert Corpus.load(tmp_path / "saved").fingerprint == saved.fingerprint
    with pytest.raises(InputError, match=r"1\.wav does not exist"):
        saved["c"].samples()


def test_the_bundled_corpus_has_speech_with_phones_and_sounds_with_classes(mini: Corpus) -> None:
    assert {"words", "phones"} <= set(mini.tier_names)
    assert len(mini.speakers) > 3
    classes = {clip.attributes.get("sound_class") for clip in mini} - {None}
    assert len(classes) >= 5
    spoken = next(clip for clip in mini if clip.tier("words"))
    assert spoken.text is not None
    assert [interval.label for interval in spoken.tier("words")] == spoken.text.split()
    assert spoken.tier("phones")[-1].end_s <= spoken.duration_s + 1e-6
    assert oto.corpus("mini").fingerprint == mini.fingerprint


def test_a_name_that_is_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean mini"):
        oto.corpus("minni")
