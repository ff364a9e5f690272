"""A frame phone model tells phones on voices it was not fitted on, from labels, from texts, and after being saved."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Voices

import otoscope as oto
from otoscope.alignment import (
    Alignment,
    FitSettings,
    FrameFeatures,
    Lexicon,
    PhoneModel,
    PhoneModelSettings,
    adapt,
    align_phones,
    base_intervals,
    boundary_report,
    fit_phone_model,
    flat_start,
    fold,
    uniform_tier,
)
from otoscope.alignment.quality import BoundaryReport
from otoscope.audio import Interval
from otoscope.errors import InputError, OtoscopeError


def known_phones(clips: list[oto.Clip]) -> list[list[Interval]]:
    return [base_intervals(clip.tier("phones"), "ipa") for clip in clips]


def quality(found: list[Alignment], clips: list[oto.Clip]) -> BoundaryReport:
    return boundary_report([each.phones for each in found], known_phones(clips), fold=fold, n_resamples=200)


@pytest.fixture(scope="module")
def aligned(phone_model: PhoneModel, voices: Voices, lexicon: Lexicon) -> list[Alignment]:
    return [align_phones(phone_model, clip, lexicon) for clip in voices.test]


def test_phones_of_other_voices_lie_where_they_are(aligned: list[Alignment], voices: Voices) -> None:
    phones = quality(aligned, voices.test)
    words = boundary_report([each.words for each in aligned], [clip.tier("words") for clip in voices.test])
    assert phones.within[50] >= 0.93
    assert phones.within[20] >= 0.75
    assert words.within[50] >= 0.95


def test_phones_from_the_encoder_are_sharper_than_from_one_with_random_weights(
    pocket: oto.SpeechModel, voices: Voices, lexicon: Lexicon, encoder_settings: PhoneModelSettings
) -> None:
    def share(model: oto.SpeechModel) -> BoundaryReport:
        fitted = fit_phone_model(voices.fit[::2], encoder_settings, model=model, fit=QUICK)
        return quality([align_phones(fitted, clip, lexicon) for clip in voices.test], voices.test)

    real, random = share(pocket), share(pocket.random_weights(0))
    assert real.within[20] >= 0.85
    assert random.within_interval[20][1] < real.within_interval[20][0]


def test_phones_spread_evenly_and_phones_of_another_text_are_no_match(
    aligned: list[Alignment], phone_model: PhoneModel, voices: Voices, lexicon: Lexicon
) -> None:
    known = known_phones(voices.test)
    even = [
        uniform_tier([each.label for each in tier], clip.duration_s)
        for tier, clip in zip(known, voices.test, strict=True)
    ]
    assert boundary_report(even, known, fold=fold).within[50] < 0.4
    mistaken = [
        align_phones(phone_model, clip, lexicon, other.text)
        for clip, other in zip(voices.test, voices.test[1:] + voices.test[:1], strict=True)
    ]
    margins = [each.margin for each in aligned]
    assert np.median([each.margin for each in mistaken]) < np.percentile(margins, 10)


def test_tiers_cover_the_text_in_order_inside_the_clip(aligned: list[Alignment], voices: Voices) -> None:
    for found, clip in zip(aligned, voices.test, strict=True):
        assert [each.label for each in found.words] == (clip.text or "").split()
        for tier in (found.words, found.phones):
            assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(tier))
            assert all(0.0 <= each.start_s < each.end_s <= clip.duration_s for each in tier)
        for word in found.words:
            inside = [p for p in found.phones if word.start_s - 1e-9 <= p.start_s and p.end_s <= word.end_s + 1e-9]
            assert (inside[0].start_s, inside[-1].end_s) == (word.start_s, word.end_s)


def test_of_two_pronunciations_the_one_spoken_is_chosen(
    phone_model: PhoneModel, lexicon: Lexicon, mini: oto.Corpus
) -> None:
    clip = next(clip for clip in mini if "bakery" in (clip.text or ""))
    wrong = ("ʃ", "u", "s", "oʊ", "m", "z")
    both = Lexicon({**{word: lexicon[word] for word in lexicon}, "bakery": [wrong, *lexicon["bakery"]]})
    found = align_phones(phone_model, clip, both)
    word = next(each for each in found.words if each.label == "bakery")
    said = [each.label for each in found.phones if word.start_s <= each.start_s < word.end_s]
    assert "b" in said
    assert "ʃ" not in said


def test_words_without_pronunciation_are_all_named_or_aligned_as_speech(
    phone_model: PhoneModel, voices: Voices, lexicon: Lexicon
) -> None:
    clip = voices.test[0]
    known = clip.tier("words")
    lost = known[len(known) // 2]
    short = Lexicon({word: lexicon[word] for word in lexicon if word != lost.label})
    with pytest.raises(InputError, match=rf"no pronunciation of {lost.label}, xyzzy"):
        align_phones(phone_model, clip, short, f"{clip.text} xyzzy")
    found = align_phones(phone_model, clip, short, unknown="any")
    assert found.unknown == (lost.label,)
    middle = found.words[len(known) // 2]
    assert middle.start_s == pytest.approx(lost.start_s, abs=0.1)
    assert middle.end_s == pytest.approx(lost.end_s, abs=0.1)


def test_bad_input_is_refused_with_a_reason(phone_model: PhoneModel, lexicon: Lexicon, voices: Voices) -> None:
    clip = voices.test[0]
    with pytest.raises(InputError, match="no text to align"):
        align_phones(phone_model, clip, lexicon, " … ")
    with pytest.raises(InputError, match="does not know 'ɲ'"):
        align_phones(phone_model, clip, Lexicon({"word": [("ɲ",)]}), "word")
    short = oto.Clip.from_samples(np.zeros(1600, np.float32), 16000, text="beautiful saturday")
    with pytest.raises(OtoscopeError, match="too few"):
        align_phones(phone_model, short, lexicon)
    with pytest.raises(InputError, match="nothing can be aligned"):
        align_phones(phone_model, oto.Clip.from_samples(np.zeros(100, np.float32), 16000, text="we"), lexicon)
    with pytest.raises(InputError, match="unknown='perhaps'"):
        align_phones(phone_model, clip, lexicon, unknown="perhaps")
    with pytest.raises(InputError, match="read from a model"):
        fit_phone_model(voices.fit[:1], PhoneModelSettings(FrameFeatures(("encoder.0.resid_post",))))
    with pytest.raises(InputError, match="No clip has a phones tier"):
        fit_phone_model([replace(clip, tiers={})])


def test_a_phone_that_the_model_does_not_know_can_pass_as_any_speech(
    phone_model: PhoneModel, voices: Voices, lexicon: Lexicon
) -> None:
    clip = voices.test[0]
    lost = clip.tier("words")[3]
    strange = tuple("ɲ" for _ in lexicon[lost.label][0].phones)
    odd = Lexicon({**{word: lexicon[word] for word in lexicon}, lost.label: [strange]})
    found = align_phones(phone_model, clip, odd, unknown="any")
    times_said = (clip.text or "").split().count(lost.label)
    assert [each.label for each in found.phones].count("ɲ") == times_said * len(strange)
    assert found.words[3].start_s == pytest.approx(lost.start_s, abs=0.1)


def test_a_site_that_is_no_track_of_frames_is_refused(pocket: oto.SpeechModel, voices: Voices) -> None:
    for site in ("decoder.0.resid_post", "encoder.0.attn.pattern"):
        with pytest.raises(InputError, match="no track of frames"):
            FrameFeatures((site,)).of(voices.test[0], pocket)


def test_a_saved_model_gives_the_same_numbers(
    phone_model: PhoneModel, voices: Voices, tmp_path: Path, pocket: oto.SpeechModel
) -> None:
    phone_model.save(tmp_path / "model")
    again = PhoneModel.load(tmp_path / "model")
    clip = voices.test[0]
    assert np.array_equal(again.log_posteriors(clip), phone_model.log_posteriors(clip))
    assert again.fingerprint == phone_model.fingerprint
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "phone_model.json",
        "phone_model.safetensors",
    ]
    with pytest.raises(InputError, match="is no phone model"):
        phone_model.save(tmp_path)
    (tmp_path / "model" / "phone_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(OtoscopeError, match="damaged"):
        PhoneModel.load(tmp_path / "model")


def test_a_model_that_reads_sites_wants_the_speech_model_it_was_fitted_with(
    voices: Voices, tmp_path: Path, pocket: oto.SpeechModel, encoder_settings: PhoneModelSettings
) -> None:
    fitted = fit_phone_model(voices.fit[:4], encoder_settings, model=pocket, fit=FitSettings(epochs=1))
    fitted.save(tmp_path / "model")
    assert PhoneModel.load(tmp_path / "model", pocket).speech_model is pocket
    with pytest.raises(InputError, match="give that model"):
        PhoneModel.load(tmp_path / "model")
    with pytest.raises(InputError, match="another model"):
        PhoneModel.load(tmp_path / "model", pocket.random_weights(0))


def test_fitting_twice_gives_the_same_weights(voices: Voices) -> None:
    once, twice = (fit_phone_model(voices.fit[:5], fit=FitSettings(epochs=1, seed=3)) for _ in range(2))
    assert torch.equal(once.weight, twice.weight)


def test_texts_and_a_lexicon_alone_are_enough_to_learn_the_phones(voices: Voices, lexicon: Lexicon) -> None:
    unlabelled = [replace(clip, tiers={}) for clip in voices.fit[::2]]
    refit = flat_start(unlabelled, lexicon, rounds=1, fit=FitSettings(epochs=3))
    found = quality([align_phones(refit.model, clip, lexicon) for clip in voices.test], voices.test)
    assert found.within[50] >= 0.7
    assert list(refit.scores[:3]) == sorted(refit.scores[:3])
    assert not refit.left_out


def test_adapting_to_new_voices_helps_them_without_knowing_any_time(voices: Voices, lexicon: Lexicon) -> None:
    few = fit_phone_model(voices.fit[:20:2], fit=QUICK)
    nameless = [replace(clip, tiers={}) for clip in voices.test]
    refit = adapt(few, [*nameless, replace(nameless[0], clip_id="mute", text=None)], lexicon, rounds=2, fit=QUICK)
    before = quality([align_phones(few, clip, lexicon) for clip in voices.test], voices.test)
    after = quality([align_phones(refit.model, clip, lexicon) for clip in voices.test], voices.test)
    assert after.within[50] > before.within[50]
    assert list(refit.left_out) == ["mute"]
    with pytest.raises(InputError, match="No clip can be aligned"):
        adapt(few, [replace(nameless[0], text="xyzzy")], lexicon, unknown="refuse")
