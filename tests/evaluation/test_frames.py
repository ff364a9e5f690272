"""Labelled frames: only what was harvested, each with the label that holds at its moment, voices kept apart."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_speech import NASALS, PHONES, SITE, D, MemoryStore, N, Speech, plant

from otoscope.alignment.inventory import BASE
from otoscope.alignment.natural_classes import DIMENSIONS
from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import Dictionary, SparseCode
from otoscope.errors import InputError
from otoscope.evaluation import LabelledFrames
from otoscope.evaluation.frames import FIT, FRAME_CLASSES, TEST


def test_every_frame_has_the_phone_that_is_said_when_it_is(speech: Speech) -> None:
    labels = speech.frames.label_set("phone")
    said = speech.code[:, : len(PHONES)] > 0
    for number, phone in enumerate(PHONES):
        assert (labels.frame_class == labels.classes.index(phone)).tolist() == said[:, number].tolist()
    assert labels.n_dropped == int((~said.any(axis=1)).sum()) > 0


def test_natural_classes_gather_their_phones(speech: Speech) -> None:
    manner = speech.frames.label_set("manner")
    nasal = speech.code[:, [PHONES.index(phone) for phone in NASALS]].any(axis=1)
    assert (manner.frame_class == manner.classes.index("nasal")).tolist() == nasal.tolist()
    assert set(speech.frames.labels) - {"diphone"} == {"phone", *DIMENSIONS}


def test_every_base_phone_has_a_manner_and_a_voicing_and_no_class_names_an_unknown_phone() -> None:
    assert set(DIMENSIONS["manner"]) == set(DIMENSIONS["voicing"]) == set(BASE)
    assert all(set(phones) <= set(BASE) for phones in DIMENSIONS.values())
    assert not set(DIMENSIONS["place"]) & set(DIMENSIONS["height"])


def test_phones_of_another_alphabet_have_the_same_natural_classes(speech: Speech) -> None:
    arpabet = dict(zip(PHONES, ["M", "N", "NG", "B", "D", "G", "S", "Z", "F", "IY1", "UW", "AA0"], strict=True))
    clips = [
        replace(
            clip, tiers={"phones": tuple(Interval(p.start_s, p.end_s, arpabet[p.label]) for p in clip.tier("phones"))}
        )
        for clip in speech.corpus
    ]
    other = LabelledFrames.of(speech.store, Corpus("arpabet", clips))
    for kind in DIMENSIONS:
        ours, theirs = speech.frames.label_set(kind), other.label_set(kind)
        assert ours.classes == theirs.classes
        assert (ours.frame_class == theirs.frame_class).all()


def test_no_voice_is_in_both_halves(speech: Speech) -> None:
    assert speech.frames.held_out == "speakers"
    halves = [
        {clip.speaker for clip, half in zip(speech.corpus, speech.frames.half, strict=True) if half == side}
        for side in (FIT, TEST)
    ]
    assert len(halves[0]) == len(halves[1]) == 4
    assert not halves[0] & halves[1]


def test_intervals_rest_on_speakers_where_there_are_enough_of_them(speech: Speech) -> None:
    assert (speech.frames.cluster_unit, len(np.unique(speech.frames.clusters))) == ("clips", 40)
    crowd = plant(n_speakers=26, clips_each=2, n_frames=60).frames
    assert (crowd.cluster_unit, len(np.unique(crowd.clusters))) == ("speakers", 26)


def test_a_choice_of_clips_reads_only_their_frames(speech: Speech) -> None:
    chosen = LabelledFrames.of(speech.store, speech.corpus, ["c003", "c021"])
    expected = np.concatenate([speech.store.read(SITE, 360, 480), speech.store.read(SITE, 2520, 2640)])
    ((span, x),) = chosen.blocks([SITE])
    assert (len(chosen), span) == (240, slice(0, 240))
    assert np.array_equal(x.numpy(), expected)


def test_rows_come_in_the_order_asked_for_wherever_they_lie(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[LabelledFrames.__module__], "BLOCK_FRAMES", 200)
    wanted = np.array([4100, 3, 250, 3, 4099])
    assert np.array_equal(speech.frames.rows([SITE], wanted), speech.store.read(SITE)[wanted])


def test_only_positive_entries_are_active_and_the_strongest_come_first(speech: Speech) -> None:
    oracle = speech.oracle()
    code = speech.frames.code(oracle)
    assert (code.toarray() > 0.02).tolist() == (speech.code > 0).tolist()
    assert code.nnz == (speech.code > 0).sum(), "the entries that TopK fills up with are none"
    block = speech.frames.by_feature(oracle)
    for feature in range(N):
        own = slice(block.indptr[feature], block.indptr[feature + 1])
        assert (np.diff(block.values[own]) <= 0).all()
        assert sorted(block.frames[own].tolist()) == np.flatnonzero(speech.code[:, feature]).tolist()


class Neighbours(Dictionary):
    """Looks at the frames beside each frame: what it is shown at a time matters."""

    kind = "neighbours"
    context = 1

    def __init__(self) -> None:
        super().__init__(name="neighbours", site=SITE, d_in=D, n_features=1)
        self.shown: list[int] = []

    def encode(self, x: torch.Tensor) -> SparseCode:
        self.shown.append(len(x))
        return SparseCode(x[:, :1].abs(), torch.zeros(len(x), 1, dtype=torch.int64), 1)

    def decode(self, code: SparseCode) -> torch.Tensor:
        return code.values.expand(-1, D)

    def directions(self, features: object) -> torch.Tensor:
        return torch.ones(1, D)

    def config(self) -> dict:
        return {}

    @classmethod
    def from_saved(cls, *args: object, **kwargs: object) -> Dictionary:
        return cls()


def test_dictionaries_that_look_at_neighbours_are_shown_one_whole_clip_at_a_time(speech: Speech) -> None:
    dictionary = Neighbours()
    speech.frames.code(dictionary)
    assert dictionary.shown == [120] * len(speech.corpus)


def test_frames_are_classed_for_reconstruction_by_what_they_are() -> None:
    def clip(name: str, **known: object) -> Clip:
        return Clip.from_samples(np.zeros(16 * 320, np.float32), 16000, clip_id=name, **known)

    tiers = {"phones": (Interval(0.0, 0.08, "m"), Interval(0.08, 0.2, "a")), "words": (Interval(0.0, 0.24, "ma"),)}
    clips = [
        clip("spoken", tiers=tiers),
        clip("rain", attributes={"sound_class": "rain"}),
        clip("hush", attributes={"sound_class": "silence"}),
        clip("who knows"),
    ]
    store = MemoryStore({SITE: np.zeros((64, 4), np.float32)}, {c.clip_id: (16 * i, 16) for i, c in enumerate(clips)})
    frames = LabelledFrames.of(store, Corpus("c", clips))
    named = [FRAME_CLASSES[c] for c in frames.frame_class]
    assert named[:16] == ["nasal"] * 4 + ["vowel"] * 6 + ["other speech"] * 2 + ["silence"] * 4
    assert named[16:] == ["sound"] * 16 + ["silence"] * 16 + ["unlabelled"] * 16


def test_moved_labels_stay_in_their_clip_and_keep_their_numbers_but_not_their_places(speech: Speech) -> None:
    labels = speech.frames.label_set("phone")
    moved = speech.frames.moved(labels, seed=1)
    for clip in range(len(speech.frames.clips)):
        own = speech.frames.clip_of_frame == clip
        assert sorted(moved[own]) == sorted(labels.frame_class[own])
    known = labels.frame_class >= 0
    assert (moved[known] == labels.frame_class[known]).mean() < 0.2
    assert (moved[~known] == -1).all()


def test_labels_of_whole_clips_are_moved_to_other_clips() -> None:
    clips = [
        Clip.from_samples(
            np.zeros(10 * 320, np.float32), 16000, clip_id=f"s{i}", attributes={"sound_class": ("rain", "bell")[i % 2]}
        )
        for i in range(40)
    ]
    store = MemoryStore({SITE: np.zeros((400, 4), np.float32)}, {c.clip_id: (10 * i, 10) for i, c in enumerate(clips)})
    frames = LabelledFrames.of(store, Corpus("sounds", clips))
    labels = frames.label_set("sound_class")
    moved = frames.moved(labels, seed=0).reshape(40, 10)
    assert (moved == moved[:, :1]).all()
    assert 0.2 < (moved[:, 0] == labels.frame_class[::10]).mean() < 0.8
    assert np.bincount(moved.ravel()).tolist() == np.bincount(labels.frame_class).tolist()


def test_missing_clips_and_labels_are_named(speech: Speech) -> None:
    unknown = Corpus("more", [*speech.corpus, Clip.from_samples(np.zeros(320, np.float32), 16000, clip_id="new")])
    with pytest.raises(InputError, match="lacks 1 of 41 clips \\(first: 'new'\\)"):
        LabelledFrames.of(speech.store, unknown)
    with pytest.raises(InputError, match="No clip"):
        LabelledFrames.of(speech.store, speech.corpus, [])
    with pytest.raises(InputError, match="no 'phones' labels"):
        speech.frames.label_set("phones")
