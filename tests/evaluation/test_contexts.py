"""Kinds of label around a frame: diphones run from middle to middle, positions are in words, and words in phrases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_speech import SITE, MemoryStore, relabelled
from planted_words import MORNING, Spoken

from otoscope.audio import Clip, Corpus, Interval
from otoscope.errors import InputError
from otoscope.evaluation import LabelledFrames, context_kinds, feature_scores
from otoscope.evaluation.naming.label_sets import NO_CLASS

PHONES = (
    Interval(0.10, 0.20, "m"),
    Interval(0.20, 0.30, "ɔ"),
    Interval(0.30, 0.36, "m"),
    Interval(0.40, 0.50, "i"),
    Interval(0.50, 0.70, "t"),
    Interval(1.00, 1.10, "ɔ"),
)
WORDS = (Interval(0.10, 0.30, "ma"), Interval(0.30, 0.70, "meet"), Interval(1.00, 1.10, "aw"))


def clip(name: str = "a", sound: str = "", **tiers: tuple[Interval, ...]) -> Clip:
    attributes = {"sound_class": sound} if sound else {}
    samples = np.zeros(24000, dtype=np.float32)
    return Clip.from_samples(samples, 16000, clip_id=name, speaker=name, tiers=tiers, attributes=attributes)


def labelled(kind: str, one: Clip) -> list[tuple[float, float, str]]:
    corpus = Corpus("few", [clip("all", phones=PHONES, words=WORDS), one])
    found = context_kinds(corpus)[kind].intervals(one)
    return [(round(each.start_s, 3), round(each.end_s, 3), each.label) for each in found]


def test_a_diphone_runs_from_the_middle_of_one_phone_to_the_middle_of_the_next_where_they_meet() -> None:
    assert labelled("diphone", clip(phones=PHONES, words=WORDS)) == [
        (0.10, 0.15, NO_CLASS),
        (0.15, 0.25, "m-ɔ"),
        (0.25, 0.33, "ɔ-m"),
        (0.33, 0.36, NO_CLASS),
        (0.40, 0.45, NO_CLASS),
        (0.45, 0.60, "i-t"),
        (0.60, 0.70, NO_CLASS),
        (1.00, 1.05, NO_CLASS),
        (1.05, 1.10, NO_CLASS),
    ]


def test_a_phone_is_first_last_or_between_in_the_word_that_holds_its_middle() -> None:
    assert [name for _, _, name in labelled("position", clip(phones=PHONES, words=WORDS))] == [
        "initial", "final", "initial", "medial", "final", "only",
    ]  # fmt: skip


def test_a_pause_ends_a_phrase() -> None:
    close = (*WORDS[:2], replace(WORDS[2], start_s=0.85))
    assert [name for _, _, name in labelled("phrase", clip(words=WORDS))] == ["initial", "final", "only"]
    assert [name for _, _, name in labelled("phrase", clip(words=close))] == ["initial", "medial", "final"]


@pytest.mark.parametrize("kind", ["diphone", "position", "phrase"])
def test_in_a_clip_of_sound_no_context_occurs_and_of_an_unlabelled_clip_nothing_is_known(kind: str) -> None:
    kinds = context_kinds(Corpus("one", [clip(phones=PHONES, words=WORDS)]))
    assert kinds[kind].intervals(clip(sound="rain")) == ()
    assert kinds[kind].intervals(clip()) is None


def test_only_what_the_tiers_tell_becomes_a_kind() -> None:
    assert set(context_kinds(Corpus("phones", [clip(phones=PHONES)]))) == {"diphone"}
    assert set(context_kinds(Corpus("words", [clip(words=WORDS)]))) == {"phrase"}
    store = MemoryStore({SITE: np.zeros((75, 4), dtype=np.float32)}, {"a": (0, 75)})
    bare = LabelledFrames.of(store, Corpus("bare", [clip()]))
    with pytest.raises(InputError, match="have no 'diphone' labels"):
        bare.label_set("diphone")


def test_frames_of_labelled_speech_carry_their_contexts(spoken: Spoken) -> None:
    frames = spoken.frames
    phone, place = frames.label_set("phone"), frames.label_set("position")
    assert place.classes == ("final", "initial", "medial")
    assert ((phone.frame_class >= 0) == (place.frame_class >= 0)).all()
    begins = place.frame_class == place.classes.index("initial")
    assert {phone.classes[c] for c in np.unique(phone.frame_class[begins])} == {"b", "m", "s", "t"}
    diphone = frames.label_set("diphone")
    inside = diphone.frame_class == diphone.classes.index("n-i")
    said = {phone.classes[c] for c in np.unique(phone.frame_class[inside])}
    assert said == {"n", "i"}
    assert (spoken.code[inside, MORNING] > 0).all(), "n meets i in morning only"


def test_a_feature_of_one_word_finds_its_diphones_and_none_in_labels_dealt_at_random(spoken: Spoken) -> None:
    scores = feature_scores(spoken.dictionary, spoken.frames, "diphone", n_shifts=8)
    own = scores.classes.index("n-i")
    assert scores.best_feature[own] == MORNING
    assert scores.recall[MORNING, own] == 1
    assert scores.f1[MORNING, own] > scores.chance[MORNING, own] + 0.2
    control = feature_scores(spoken.dictionary, relabelled(spoken.frames, "diphone"), "diphone", n_shifts=8)
    assert control.f1[MORNING, own] < 0.2
