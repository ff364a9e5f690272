"""Switching off the feature of a phone hurts the words that have the phone, more than an equally large change does."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

import otoscope as oto
from otoscope.errors import InputError
from otoscope.evaluation import Effect, Estimate, Necessity, beyond_control, more_than_control, necessity
from otoscope.evaluation.necessity import RedirectedFeature, group_words
from otoscope.models.generation import Token, Transcript

if TYPE_CHECKING:
    from conftest import Learned

    from otoscope.atlas import Atlas
    from otoscope.audio import Clip, Corpus
    from otoscope.dictionaries import Dictionary
    from otoscope.models import Edit, SpeechModel

    Sweep = list[list[Edit]]

N_PHONES, N_CLIPS = 5, 30


class WritesOnce:
    """The bundled model, which remembers what it wrote of a clip and how it scored it, under which edits."""

    def __init__(self, model: SpeechModel) -> None:
        self.model = model
        self.done: dict[tuple[Hashable, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def transcribe(self, clips: list[Clip]) -> list[Transcript]:
        return self._each("plain", clips, (), self.model.transcribe)

    def transcribe_each(self, clips: list[Clip], sweep: Sweep, **options: Any) -> list[list[Transcript]]:
        return self._each("edited", clips, named(sweep), lambda new: self.model.transcribe_each(new, sweep, **options))

    def score_each(self, clip: Clip, transcript: Transcript, sweep: Sweep) -> list[list[float]]:
        key = named(sweep)
        (scores,) = self._each("scored", [clip], key, lambda _: [self.model.score_each(clip, transcript, sweep)])
        return scores

    def _each(self, what: str, clips: list[Clip], key: Hashable, work: Callable[[list[Clip]], list[Any]]) -> list[Any]:
        new = [clip for clip in clips if (what, clip.clip_id, key) not in self.done]
        if new:
            self.done |= {(what, clip.clip_id, key): made for clip, made in zip(new, work(new), strict=True)}
        return [self.done[what, clip.clip_id, key] for clip in clips]


class ScoresOnly(WritesOnce):
    """The same for who asks only for log-probabilities: texts under edits, which take longest, are not written."""

    def transcribe_each(self, clips: list[Clip], sweep: Sweep, **options: Any) -> list[list[Transcript]]:
        return [[transcript] * len(sweep) for transcript in self.transcribe(clips)]


def named(sweep: Sweep) -> Hashable:
    """What the edits of a sweep write, and how strongly: one key for equal sweeps."""
    return tuple(
        (edit.value, edit.dictionary.directions(edit.features).numpy().tobytes()) for edits in sweep for edit in edits
    )


@pytest.fixture(scope="module")
def writer(pocket: SpeechModel) -> SpeechModel:
    return cast("SpeechModel", WritesOnce(pocket))


@pytest.fixture(scope="module")
def scorer(pocket: SpeechModel, writer: SpeechModel) -> SpeechModel:
    made = ScoresOnly(pocket)
    made.done = cast("WritesOnce", writer).done
    return cast("SpeechModel", made)


@pytest.fixture(scope="module")
def trained(learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dictionary, Atlas]:
    folder: Path = tmp_path_factory.mktemp("necessity") / "atlas"
    heard = learned.corpus[::2]  # enough to know which feature detects which phone
    atlas = oto.build_atlas(learned.store, learned.sae, heard, to=folder, n_shifts=2, progress=False)
    return learned.sae, atlas


@pytest.fixture(scope="module")
def clips(learned: Learned) -> Corpus:
    return learned.corpus


def with_phone(corpus: Corpus, phone: str, count: int) -> list[Clip]:
    return [clip for clip in corpus if any(p.label == phone for p in clip.tier("phones"))][:count]


def scaled(
    writer: SpeechModel, clips: Corpus, trained: tuple[Dictionary, Atlas], factor: float
) -> tuple[list[Necessity], Effect, Effect]:
    """Scale the feature of each of the phones detected best; also the effect and the control over all clips."""
    sae, atlas = trained
    phones = atlas.labels[atlas.labels["kind"] == "phone"]["label"]
    best = [(phone, atlas.find(label=phone, kind="phone", limit=1)) for phone in phones]
    ranked = sorted((-float(row["f1"].iloc[0]), phone, int(row.index[0])) for phone, row in best if len(row))
    results = [
        necessity(writer, sae, feature, with_phone(clips, phone, N_CLIPS), phone, factor=factor, n_controls=2)
        for _, phone, feature in ranked[:N_PHONES]
    ]
    assert sum(result.n_clips for result in results) >= 100
    edit = Effect.of(np.concatenate([result.per_clip for result in results]), seed=0)
    return (
        results,
        edit,
        Effect.of(np.concatenate([result.control_per_clip.mean(axis=0) for result in results]), seed=0),
    )


@pytest.fixture(scope="module")
def reversed_(
    writer: SpeechModel, clips: Corpus, trained: tuple[Dictionary, Atlas]
) -> tuple[list[Necessity], Effect, Effect]:
    """Each feature scaled by −1."""
    return scaled(writer, clips, trained, factor=-1.0)


def test_words_with_the_phone_lose_more_when_its_feature_is_off(
    scorer: SpeechModel, clips: Corpus, trained: tuple[Dictionary, Atlas]
) -> None:
    results, edit, control = scaled(scorer, clips, trained, factor=0.0)
    assert edit.log_prob.mean > control.log_prob.mean
    assert more_than_control(results).low > 0.5


def test_words_with_the_phone_are_rewritten_when_its_feature_is_reversed(
    reversed_: tuple[list[Necessity], Effect, Effect],
) -> None:
    results, edit, control = reversed_
    assert edit.log_prob.low > control.log_prob.high
    assert edit.changed.low > control.changed.mean
    assert more_than_control(results).low > 0.5


def test_features_of_other_phones_do_not_explain_the_words(
    writer: SpeechModel,
    clips: Corpus,
    trained: tuple[Dictionary, Atlas],
    reversed_: tuple[list[Necessity], Effect, Effect],
) -> None:
    """The control that must fail: the same edits of the same clips, but words marked by the phones of the others."""
    matched, _, _ = reversed_
    phones = [result.label for result in matched]
    mismatched = [
        necessity(
            writer,
            trained[0],
            result.feature,
            with_phone(clips, result.label, N_CLIPS),
            other,
            factor=-1.0,
            n_controls=2,
        )
        for result in matched
        for other in phones
        if other != result.label
    ]
    assert sum(result.n_clips for result in mismatched) >= 100
    assert more_than_control(mismatched).mean < more_than_control(matched).low
    assert beyond_control(mismatched).mean < beyond_control(matched).low


def test_a_direction_like_any_other_scores_one_half_however_skewed_its_effects() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.exponential(size=(5, 4000, 2)) ** 3
    flat = Effect.of(drawn[0], 0)
    result = Necessity("d", 0, "m", 4000, flat, flat, drawn[0], drawn[1:])
    share = more_than_control([result])
    assert share.low < 0.5 < share.high
    still = Necessity("d", 0, "m", 9, flat, flat, np.zeros((9, 2)), np.zeros((2, 9, 2)))
    assert more_than_control([still]).mean == 0.5


def test_an_edit_that_changes_nothing_has_no_effect(
    writer: SpeechModel, clips: Corpus, trained: tuple[Dictionary, Atlas]
) -> None:
    sae, _ = trained
    result = necessity(writer, sae, 3, with_phone(clips, "m", 8), "m", factor=1.0, n_controls=1)
    assert np.abs(result.per_clip[:, 0]).max() < 1e-4
    assert not result.per_clip[:, 1].any()


def test_clips_without_tiers_are_refused_in_one_sentence(
    pocket: SpeechModel, trained: tuple[Dictionary, Atlas]
) -> None:
    silent = oto.Clip.from_samples(np.zeros(16000, np.float32), 16000)
    with pytest.raises(InputError, match="Only 0 of 1 clips"):
        necessity(pocket, trained[0], 0, [silent], "m")


def test_the_control_writes_the_same_values_along_a_direction_of_equal_norm(trained: tuple[Dictionary, Atlas]) -> None:
    sae, _ = trained
    other = RedirectedFeature(sae, 5, 3 * sae.directions([9])[0])
    assert torch.allclose(other.directions([0]).norm(), sae.directions([5]).norm())
    h = torch.randn(4, sae.d_in) * 10
    assert torch.equal(other.feature_values(h, [0]), sae.feature_values(h, [5]))


def test_tokens_are_grouped_into_words_at_spaces() -> None:
    tokens = [Token(i, text, 0.0) for i, text in enumerate(["the", " gr", "een", " wo", "lf"])]
    assert group_words(tokens) == [[0], [1, 2], [3, 4]]


def test_the_interval_holds_the_mean_and_shrinks_with_more_clips() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    few, many = Estimate.of(values[:20], 0), Estimate.of(values, 0)
    assert few.low < few.mean < few.high
    assert many.high - many.low < few.high - few.low
