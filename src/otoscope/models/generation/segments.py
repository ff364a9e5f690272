"""Segments: what the model's timestamps say, and where the next window begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from otoscope.models.clock import FRAME_S
from otoscope.models.generation.transcript import Decoded, Segment, Token, text_of
from otoscope.models.generation.words import Word
from otoscope.models.text.rules import Rules
from otoscope.models.text.tokenizer import Tokenizer

_SENTENCE_ENDS = ".。!！?？"
_LONGEST_MEDIAN_S = 0.7


def whole_segment(
    decoded: Decoded, tokens: Sequence[Token], start_s: float, end_s: float, tokenizer: Tokenizer, window: int
) -> Segment:
    """Return a segment of the given tokens of a window."""
    return Segment(
        start_s,
        end_s,
        text_of(tokens, tokenizer),
        tuple(tokens),
        decoded.temperature,
        decoded.avg_log_prob,
        decoded.compression_ratio,
        decoded.no_speech_prob,
        window,
    )


def timed_segments(
    decoded: Decoded, start_s: float, end_s: float, rules: Rules, tokenizer: Tokenizer, window: int
) -> tuple[list[Segment], int | None]:
    """Return the segments of a window by its timestamps, and the frame of 0.02 s at which to go on.

    None in place of the frame: everything up to the window's end has been written. Two timestamps in a row part
    segments; what follows the last such pair is unfinished and heard again (`whisper.transcribe`).
    """
    tokens = decoded.tokens
    assert rules.first_timestamp is not None
    first = rules.first_timestamp
    marks = [rules.is_timestamp(token.id) for token in tokens]
    cuts = [index for index in range(1, len(tokens)) if marks[index - 1] and marks[index]]
    ends_with_one = marks[-2:] == [False, True]
    if not cuts:
        moments = [token.id - first for token in tokens if rules.is_timestamp(token.id)]
        stop_s = start_s + moments[-1] * FRAME_S if moments and moments[-1] else end_s
        return [whole_segment(decoded, tokens, start_s, stop_s, tokenizer, window)], None
    if ends_with_one:
        cuts.append(len(tokens))
    segments = []
    for begin, stop in zip([0, *cuts], cuts, strict=False):
        here = tokens[begin:stop]
        times = [start_s + (token.id - first) * FRAME_S for token in (here[0], here[-1])]
        segments.append(whole_segment(decoded, here, times[0], times[1], tokenizer, window))
    return segments, None if ends_with_one else tokens[cuts[-1] - 1].id - first


def written_tokens(segments: Sequence[Segment]) -> list[Token]:
    """Return the tokens of all segments."""
    return [token for segment in segments for token in segment.tokens]


def emptied(segment: Segment) -> Segment:
    """Return a segment without what it holds, if it lasts no time or says nothing."""
    if segment.start_s == segment.end_s or not segment.text.strip():
        return replace(segment, text="", tokens=(), words=())
    return segment


def shorten_long_words(words: Sequence[Word]) -> tuple[list[Word], float]:
    """Return words whose length beside the end of a sentence is at most twice the median, and that median.

    Source: `whisper.timing.add_word_timestamps`.
    """
    durations = np.array([word.end_s - word.start_s for word in words])
    durations = durations[durations.nonzero()]
    median = min(_LONGEST_MEDIAN_S, float(np.median(durations))) if len(durations) else 0.0
    longest = 2 * median
    cut = list(words)
    for index in range(1, len(cut) if len(durations) else 0):
        word = cut[index]
        if word.end_s - word.start_s > longest:
            if word.word in _SENTENCE_ENDS:
                cut[index] = replace(word, end_s=word.start_s + longest)
            elif cut[index - 1].word in _SENTENCE_ENDS:
                cut[index] = replace(word, start_s=word.end_s - longest)
    return cut, median


def with_words(
    segments: Sequence[Segment], words: Sequence[Word], n_tokens: Sequence[int], median: float, last_speech_s: float
) -> list[Segment]:
    """Return the segments with the `words` that belong to them.

    `n_tokens` are the text tokens of each segment, `last_speech_s` is when speech ended before them. The edges of
    segments move to their words, and words at them that are much too long are cut
    (`whisper.timing.add_word_timestamps`).
    """
    rest = list(words)
    finished = []
    for segment, wanted in zip(segments, n_tokens, strict=True):
        mine: list[Word] = []
        taken = 0
        while rest and taken < wanted:
            word = rest.pop(0)
            taken += len(word.tokens)
            if word.word:
                mine.append(replace(word, start_s=round(word.start_s, 2), end_s=round(word.end_s, 2)))
        if mine:
            segment, mine = _fitted(segment, mine, median, last_speech_s)
            last_speech_s = segment.end_s
        finished.append(replace(segment, words=tuple(mine)))
    return finished


def _fitted(segment: Segment, words: list[Word], median: float, last_speech_s: float) -> tuple[Segment, list[Word]]:
    """Fit the edges of a segment and of its first and last words to each other."""
    words = _shorten_after_pause(words, median, last_speech_s)
    first = words[0]
    if segment.start_s < first.end_s and segment.start_s - 0.5 > first.start_s:
        words[0] = replace(first, start_s=max(0.0, min(first.end_s - median, segment.start_s)))
    else:
        segment = replace(segment, start_s=first.start_s)
    last = words[-1]
    if segment.end_s > last.start_s and segment.end_s + 0.5 < last.end_s:
        words[-1] = replace(last, end_s=max(last.start_s + median, segment.end_s))
    else:
        segment = replace(segment, end_s=last.end_s)
    return segment, words


def _shorten_after_pause(words: list[Word], median: float, last_speech_s: float) -> list[Word]:
    """Cut the first two words after a pause to at most twice the median length."""
    longest = 2 * median
    words = list(words)
    first = words[0]
    second = words[1] if len(words) > 1 else None
    long_first = first.end_s - first.start_s > longest
    long_pair = second is not None and second.end_s - first.start_s > 2 * longest
    if first.end_s - last_speech_s > 4 * median and (long_first or long_pair):
        if second is not None and second.end_s - second.start_s > longest:
            boundary = max(second.end_s / 2, second.end_s - longest)
            first = replace(first, end_s=boundary)
            words[1] = replace(second, start_s=boundary)
        words[0] = replace(first, start_s=max(0.0, first.end_s - longest))
    return words
