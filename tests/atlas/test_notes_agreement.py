"""Agreement between annotators: published examples, chance as the control, and labels given without seeing others'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otoscope.atlas.notes import FeatureKey, Notes, krippendorff_alpha, percent_agreement
from otoscope.atlas.notes.agreement import alpha_interval, same_label


def key(feature: int) -> FeatureKey:
    return FeatureKey("sae-2", "ab" * 32, feature)


def units(*annotators: str) -> list[list[str]]:
    """Turn rows of annotators (`.`: no answer) into units."""
    rows = [row.split() for row in annotators]
    return [[value for value in column if value != "."] for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [
        (("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
        (("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
        (
            (
                "1 2 3 3 2 1 4 1 2 . . .",
                "1 2 3 3 2 2 4 1 2 5 . 3",
                ". 3 3 3 2 3 4 2 2 5 1 .",
                "1 2 3 3 2 4 4 1 2 5 1 .",
            ),
            0.743,
        ),
    ],
    ids=["binary", "nominal", "missing data"],
)
def test_alpha_is_that_of_krippendorffs_worked_examples(rows: tuple[str, ...], alpha: float) -> None:
    """Krippendorff (2011), examples A, B and C."""
    found = krippendorff_alpha(units(*rows))
    assert found is not None
    assert round(found, 3) == alpha


def test_percent_agreement_counts_pairs() -> None:
    assert percent_agreement([["a", "a"], ["a", "b"], ["a", "a", "b"], ["a"]]) == pytest.approx((1 + 0 + 1) / 5)


def test_alpha_is_undefined_without_pairs_or_variation() -> None:
    assert krippendorff_alpha([]) is krippendorff_alpha([["a"], ["b"]]) is krippendorff_alpha([["a", "a"]] * 3) is None
    assert percent_agreement([["a"]]) is None
    assert alpha_interval([["a", "a"]] * 3) == (None, None)


def test_annotators_who_guess_agree_by_chance_and_experts_do_not() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(list("mnsz"), 200)
    careful = [[t, t if random.random() < 0.9 else str(random.choice(list("mnsz")))] for t in truth]
    shuffled = [[a, b] for (a, _), (_, b) in zip(careful, random.permutation(np.array(careful)), strict=True)]
    low, high = alpha_interval(careful)
    assert low is not None
    assert high is not None
    assert 0.7 < low < (krippendorff_alpha(careful) or 0) < high < 1
    low, high = alpha_interval(shuffled)
    assert low is not None
    assert high is not None
    assert low < 0 < high
    assert alpha_interval(careful) == alpha_interval(careful)


def test_labels_differ_by_what_they_say_not_by_how_they_are_typed() -> None:
    assert same_label(" Nasal  /m/") == same_label("nasal /m/")
    assert same_label("/S/") != same_label("/s/")
    assert same_label("é") == same_label("e\u0301")


def test_everybody_is_counted_by_what_they_said_last_themselves(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.sqlite")
    for feature, (ann, bob) in enumerate([("m", "M"), ("n", "n"), ("s", "z"), ("ʃ", "s")]):
        made = notes.add(key(feature), "label", ann, author="Ann")
        notes.add(key(feature), "label", bob, author="Bob")
        if ann == "ʃ":
            notes.edit(made.id, made.current.revision, editor="Ann", text="s")
        if ann == "s":
            notes.edit(made.id, made.current.revision, editor="Carl", text="z")
    notes.add(key(9), "label", "alone", author="Ann")
    gone = notes.add(key(1), "label", "withdrawn", author="Dora")
    notes.delete(gone.id, gone.current.revision, editor="Dora")
    notes.add(key(1), "comment", "not a label", author="Dora")
    found = notes.agreement()
    assert found.annotators == {"Ann": 5, "Bob": 4, "Carl": 1}
    assert found.n_features == 4
    assert [(each.feature, each.labels) for each in found.disagreements] == [
        (key(2), {"Ann": "s", "Bob": "z", "Carl": "z"})
    ]
    assert found.percent == pytest.approx((1 + 1 + 1 + 1) / (1 + 1 + 3 + 1))
    assert found.alpha == krippendorff_alpha(["mm", "nn", "szz", "ss"])
    assert notes.agreement(only=[key(0)]).n_features == 1
    assert notes.agreement(fingerprint="cd" * 32).n_features == 0


def test_blind_sees_only_ones_own_until_the_label_is_given(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.sqlite")
    notes.add(key(1), "label", "m", author="Ann")
    notes.add(key(1), "comment", "obviously m", author="Ann")
    own = notes.add(key(1), "comment", "hard to tell", author="Bob")
    notes.edit(own.id, own.current.revision, editor="Ann", text="it is m")
    star = notes.add(key(1), "star", author="Bob")
    assert notes.of(key(1), blind_for="Bob") == [star]
    committed = notes.add(key(1), "label", "n", author="Bob", blind=True)
    assert committed.current.blind
    assert len(notes.of(key(1), blind_for="Bob")) == 5
    gone = notes.delete(committed.id, committed.current.revision, editor="Bob")
    assert len(notes.of(key(1), blind_for="Bob")) == 4, "what was seen cannot be unseen"
    assert not gone.current.blind


def test_only_the_first_label_of_a_feature_can_be_blind(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.sqlite")
    for feature, (ann, bob) in enumerate(["mm", "nn", "sz"]):
        notes.add(key(feature), "label", ann, author="Ann", blind=True)
        first = notes.add(key(feature), "label", bob, author="Bob", blind=True)
        notes.edit(first.id, first.current.revision, editor="Bob", text=ann)
        assert not notes.add(key(feature), "label", ann, author="Bob", blind=True).current.blind
    assert notes.agreement().percent == 1.0
    blind = notes.agreement(blind=True)
    assert blind.percent == pytest.approx(2 / 3)
    assert [each.labels for each in blind.disagreements] == [{"Ann": "s", "Bob": "z"}]
