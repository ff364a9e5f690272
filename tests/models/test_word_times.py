"""Word times: the path through the attention, what becomes words, and how near they are to the truth."""

from __future__ import annotations

import itertools
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import otoscope as oto
from otoscope.models import Edit, Transcript
from otoscope.models.generation import Word, dtw, token_matrix, word_times
from otoscope.models.generation.words import merge_punctuation, split_words

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5))


def cheapest(cost: np.ndarray) -> float:
    """The least cost of all monotone paths, tried one by one."""
    n, m = cost.shape

    def rest(i: int, j: int) -> float:
        if (i, j) == (n - 1, m - 1):
            return float(cost[i, j])
        onward = [(i + di, j + dj) for di, dj in ((1, 0), (0, 1), (1, 1)) if i + di < n and j + dj < m]
        return float(cost[i, j]) + min(rest(*cell) for cell in onward)

    return rest(0, 0)


@settings(max_examples=60, deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(-5, 5).map(float))))
def test_the_path_is_monotone_whole_and_the_cheapest(cost: np.ndarray) -> None:
    rows, columns = dtw(cost)
    cells = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert cells[0] == (0, 0)
    assert cells[-1] == (cost.shape[0] - 1, cost.shape[1] - 1)
    steps = {(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(cells)}
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert cost[rows, columns].sum() == pytest.approx(cheapest(cost))


@pytest.mark.parametrize("cost", [np.zeros(3), np.zeros((0, 3)), np.array([[0.0, np.nan]]), np.array([[-np.inf]])])
def test_no_path_leads_through_what_is_no_cost(cost: np.ndarray) -> None:
    with pytest.raises(oto.InputError, match="dtw takes"):
        dtw(cost)


def test_attention_that_moves_along_gives_a_diagonal() -> None:
    """Two heads attend to a block of ten frames for each of six tokens; a third one to noise."""
    scores = torch.full((3, 6, 60), -4.0)
    for token in range(6):
        scores[:2, token, 10 * token : 10 * token + 10] = 4.0
    scores[2] = torch.randn(6, 60, generator=torch.Generator().manual_seed(0))
    rows, columns = dtw(-token_matrix(scores).numpy())
    starts = columns[np.diff(rows, prepend=-1) > 0]
    assert np.abs(starts - np.arange(0, 60, 10)).max() <= 1


def test_words_are_split_at_spaces_and_punctuation_is_merged(pocket: oto.SpeechModel) -> None:
    assert pocket.tokenizer is not None
    ids = pocket.tokenizer.encode(" we were behind the bakery")
    words, tokens = split_words(ids, pocket.tokenizer, "en")
    assert words == [" we", " were", " behind", " the", " bakery"]
    assert [token for word in tokens for token in word] == ids
    split_anywhere, _ = split_words(ids, pocket.tokenizer, "ja")
    assert len(split_anywhere) == len(ids)
    said = [
        Word(text, start, start + 1.0, 0.5, (start,)) for start, text in enumerate([' "', " yes", ",", " you", "!"])
    ]
    merged = merge_punctuation(said)
    assert [(word.word, word.start_s, word.tokens) for word in merged if word.word] == [
        (' " yes,', 1, (0, 1, 2)),
        (" you!", 3, (3, 4)),
    ]


@pytest.fixture(scope="module")
def spoken(pocket: oto.SpeechModel, mini: oto.Corpus) -> list[oto.Clip]:
    """Clips of one window whose words are known."""
    return [clip for clip in mini if clip.text and clip.duration_s <= pocket.dims.window_s][:12]


def median_error_s(words: list[list[Word]], clips: list[oto.Clip]) -> float:
    """Of the ends of words, against the truth."""
    errors = []
    for found, clip in zip(words, clips, strict=True):
        truth = [interval.end_s for interval in clip.tiers["words"] if interval.label]
        assert len(found) == len(truth)
        errors += [abs(word.end_s - end_s) for word, end_s in zip(found, truth, strict=True)]
    return float(np.median(errors))


def test_words_are_found_where_they_are_said_and_not_by_random_weights(
    pocket: oto.SpeechModel, spoken: list[oto.Clip]
) -> None:
    found = [word_times(pocket, clip, clip.text, language="en") for clip in spoken]
    for words, clip in zip(found, spoken, strict=True):
        assert [word.word.strip(string.punctuation + " ") for word in words] == clip.text.split()
        times = [time for word in words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= clip.duration_s + 0.02
    random = pocket.random_weights(0)
    nonsense = [word_times(random, clip, clip.text, language="en") for clip in spoken]
    assert median_error_s(found, spoken) < 0.1
    assert median_error_s(nonsense, spoken) > 0.3


def test_a_text_its_tokens_and_the_models_own_transcript_give_the_same_words(
    pocket: oto.SpeechModel, spoken: list[oto.Clip]
) -> None:
    clip = spoken[0]
    assert pocket.tokenizer is not None
    transcript = pocket.transcribe(clip, word_times=True)
    by_text = word_times(pocket, clip, transcript.text)
    assert by_text == word_times(pocket, clip, pocket.tokenizer.encode(" " + transcript.text))
    assert by_text == word_times(pocket, clip, transcript) == word_times(pocket, clip)
    assert [word.word for word in transcript.words] == [word.word for word in by_text]
    assert all(token.start_s is not None and token.end_s is not None for token in transcript.tokens)
    assert word_times(pocket, clip, "") == []
    assert word_times(pocket, clip, clip.text, edits=[Edit.zero("decoder.3.cross.q")]) != by_text


def test_words_of_long_clips_lie_in_their_windows(pocket: oto.SpeechModel, spoken: list[oto.Clip]) -> None:
    size = pocket.dims.window_samples
    long = oto.Clip.from_samples(
        np.concatenate([np.pad(clip.samples(), (0, size - len(clip.samples()))) for clip in spoken[:2]]), 16000
    )
    transcript = pocket.transcribe(long)
    words = word_times(pocket, long, transcript)
    alone = [word_times(pocket, clip, pocket.transcribe(clip)) for clip in spoken[:2]]
    assert [word.word for word in words] == [word.word for part in alone for word in part]
    second = words[len(alone[0]) :]
    assert all(pocket.dims.window_s <= word.start_s <= word.end_s <= 2 * pocket.dims.window_s for word in second)
    with pytest.raises(oto.InputError, match="spans 2 windows"):
        word_times(pocket, long, transcript.text)


def test_what_cannot_be_aligned_is_refused(pocket: oto.SpeechModel, spoken: list[oto.Clip]) -> None:
    clip = spoken[0]
    with pytest.raises(oto.InputError, match=r"no decoder head \(4, 0\)"):
        word_times(pocket, clip, clip.text, heads=[(4, 0)])
    with pytest.raises(oto.InputError, match="at least one alignment head"):
        word_times(pocket, clip, clip.text, heads=[])
    with pytest.raises(oto.InputError, match="the decoder has room for"):
        word_times(pocket, clip, "we were " * 40)
    with pytest.raises(oto.InputError, match="does not know the language"):
        word_times(pocket, clip, clip.text, language="xx")


def test_a_transcript_that_says_nothing_has_no_words(pocket: oto.SpeechModel) -> None:
    silence = oto.Clip.from_samples(np.zeros(32000, np.float32), 16000)
    transcript: Transcript = pocket.transcribe(silence, word_times=True)
    assert transcript.words == word_times(pocket, silence, transcript) == []
