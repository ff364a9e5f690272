"""Words by cross-attention: chosen heads do better than the checkpoint's, and both better than chance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import Voices

import otoscope as oto
from otoscope.alignment import HeadChoice, align_words, boundary_report, choose_heads, uniform_tier
from otoscope.alignment.heads import heads_of, score_heads
from otoscope.alignment.loudness import loud_frames
from otoscope.errors import InputError
from otoscope.models import untrained_model


@pytest.fixture(scope="module")
def choice(pocket: oto.SpeechModel, voices: Voices) -> HeadChoice:
    return choose_heads(pocket, voices.fit[:24], voices.test[:12], n=4)


def test_heads_are_chosen_by_what_they_do_on_clips_and_judged_on_other_voices(choice: HeadChoice) -> None:
    assert len(choice.alone) == 16
    assert [score.error_ms for score in choice.alone] == sorted(score.error_ms for score in choice.alone)
    assert choice.together[0].heads == choice.alone[0].heads
    assert choice.together[-1].error_ms <= choice.together[0].error_ms
    assert choice.heads == choice.together[-1].heads
    assert choice.held_out is not None
    assert choice.default_held_out is not None
    assert choice.held_out.error_ms < choice.default_held_out.error_ms


def test_the_choice_is_the_same_every_time(pocket: oto.SpeechModel, voices: Voices) -> None:
    assert choose_heads(pocket, voices.fit[:4], n=2) == choose_heads(pocket, voices.fit[:4], n=2)


def test_words_lie_nearer_to_their_times_than_by_chance_and_random_weights_do_not(
    pocket: oto.SpeechModel, voices: Voices, choice: HeadChoice
) -> None:
    known = [clip.tier("words") for clip in voices.test]

    def share(model: oto.SpeechModel) -> float:
        found = [align_words(model, clip, heads=choice.heads).words for clip in voices.test]
        return boundary_report(found, known).within[100]

    heard_s = [np.flatnonzero(loud_frames(clip)) * 0.01 for clip in voices.test]
    even = [
        uniform_tier([word.label for word in tier], float(span_s[-1]), float(span_s[0]))
        for tier, span_s in zip(known, heard_s, strict=True)
    ]
    chance = boundary_report(even, known).within[100]
    assert share(pocket) > chance + 0.2
    assert share(pocket.random_weights(0)) < chance


def test_words_are_those_of_the_text_in_order_inside_the_clip(pocket: oto.SpeechModel, voices: Voices) -> None:
    clip = voices.test[0]
    found = align_words(pocket, clip, f"“{clip.text}!”")
    assert [word.label for word in found.words] == (clip.text or "").split()
    edges = [edge for word in found.words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert edges[-1] <= clip.duration_s
    assert found.margin <= 0.0


def test_text_outside_the_models_world_is_aligned_with_a_low_margin(pocket: oto.SpeechModel, voices: Voices) -> None:
    clip = voices.test[0]
    strange = align_words(pocket, clip, "Zzyzx kümmert’s 日本 -- 4,711!")
    assert [word.label for word in strange.words] == ["zzyzx", "kümmert's", "日本", "4,711"]
    assert strange.margin < align_words(pocket, clip).margin - 1.0


def test_a_text_without_words_gives_no_words(pocket: oto.SpeechModel, voices: Voices) -> None:
    found = align_words(pocket, voices.test[0], " … ")
    assert found.words == ()
    assert math.isnan(found.margin)


def test_without_a_text_the_words_are_what_the_model_writes(pocket: oto.SpeechModel, voices: Voices) -> None:
    clip = replace(voices.test[0], text=None)
    assert [word.label for word in align_words(pocket, clip).words] == pocket.transcribe(clip).text.split()


def test_a_long_clip_is_aligned_window_by_window(pocket: oto.SpeechModel, voices: Voices) -> None:
    window = round(pocket.dims.window_s * 16000)
    parts = [clip for clip in voices.test if len(clip.samples()) < window][:2]
    padded = [np.pad(clip.samples(), (0, window - len(clip.samples()))) for clip in parts]
    text = " ".join(str(clip.text) for clip in parts)
    long = oto.Clip.from_samples(np.concatenate(padded), 16000, clip_id="long", text=text)
    found = align_words(pocket, long).words
    first = align_words(pocket, parts[0]).words
    assert [word.label for word in found] == text.split()
    assert found[0].start_s == pytest.approx(first[0].start_s, abs=0.1)
    assert found[len(first)].start_s >= pocket.dims.window_s - 0.1
    with pytest.raises(InputError, match="hears only 0 of its 3 words"):
        align_words(pocket, long, "xyzzy plugh qwfpg")


def test_heads_cannot_be_measured_on_what_they_were_chosen_by(pocket: oto.SpeechModel, voices: Voices) -> None:
    with pytest.raises(InputError, match="both chosen by and held out"):
        choose_heads(pocket, voices.fit[:4], voices.fit[:2])
    with pytest.raises(InputError, match="has a words tier"):
        choose_heads(pocket, [replace(voices.fit[0], tiers={})])
    with pytest.raises(InputError, match="n=0"):
        choose_heads(pocket, voices.fit[:2], n=0)


def test_the_heads_of_are_those_that_the_checkpoint_names(pocket: oto.SpeechModel, voices: Voices) -> None:
    named = pocket.checkpoint.generation["alignment_heads"]
    assert [list(head) for head in heads_of(pocket)] == named
    assert score_heads(pocket, voices.test[:2], heads_of(pocket)).heads == heads_of(pocket)


def test_a_model_without_decoder_has_no_heads() -> None:
    config = {
        "model_type": "wav2vec2",
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
        "feat_extract_norm": "group",
        "conv_dim": [8, 8],
        "conv_kernel": [10, 8],
        "conv_stride": [5, 4],
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    with pytest.raises(InputError, match="no text decoder"):
        choose_heads(untrained_model(config), [])
