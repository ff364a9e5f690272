"""Transcripts of CTC models: letters or phones read off frame by frame, so that each of them has a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.ctc.alignment import Aligned, ctc_align, ctc_greedy
from otoscope.models.edits import Edit, bind_edits
from otoscope.models.generation import (
    DecodingOptions,
    Segment,
    Token,
    Transcript,
    Word,
    WrittenWindow,
    compression_ratio,
    is_looped,
)
from otoscope.models.loaded import LoadedModel
from otoscope.models.networks.taps import Tape
from otoscope.models.text.letters import LetterTokenizer

_FOLLOWED = ("timestamps", "word_times")


class _Heard(NamedTuple):
    """What a model hears in one window of a clip."""

    start_s: float
    """When the window begins in the clip."""
    log_probs: Tensor
    """Log-probabilities (natural) of the letters, `[t, v]`."""


def spell(model: LoadedModel, clip: Clip, edits: Sequence[Edit], options: DecodingOptions) -> Transcript:
    """Write down what is heard: the most probable path, special tokens left out; a segment for each window.

    A token's `log_prob` is summed over the frames that it holds (see `Aligned`), its `entropy` is their mean;
    `avg_log_prob` is the mean over all frames, blanks included. A word's probability is the mean over its letters'
    frames (geometric).
    """
    _check_options(model.name, options)
    tokenizer, clock = _letters_of(model), model.clock
    segments: list[Segment] = []
    windows: list[WrittenWindow] = []
    total, n_frames = 0.0, 0
    for number, window in enumerate(_hear(model, clip, edits)):
        best = window.log_probs.max(-1).values.double()
        segment = _segment(window, number, float(best.mean()), tokenizer, clock)
        segments += [segment] if segment.tokens else []
        windows.append(WrittenWindow(segment.start_s, segment.end_s, (), 0.0, silent=not segment.tokens))
        total += float(best.sum())
        n_frames += len(best)
    tokens = [token for segment in segments for token in segment.tokens]
    return Transcript(
        uri=clip.uri,
        clip_id=clip.clip_id,
        text=" ".join(segment.text for segment in segments if segment.text),
        language=None,
        tokens=tokens,
        avg_log_prob=total / n_frames if n_frames else math.nan,
        no_speech_prob=0.0,
        looped=is_looped([token.id for token in tokens]),
        segments=segments,
        compression_ratio=max((segment.compression_ratio for segment in segments), default=0.0),
        windows=windows,
        options=options,
    )


def score_spelling(model: LoadedModel, clip: Clip, transcript: Transcript, edits: Sequence[Edit]) -> list[float]:
    """Return the log-probability of each token of a transcript, forced: summed over the frames that the most probable
    path which spells the transcript gives it (see `Aligned`).

    What `spell` wrote gets its own `log_prob` again, unless special tokens were left out.

    Raises:
        InputError: the sound is too short for the tokens, or has fewer windows than the transcript.
    """
    tokenizer = _letters_of(model)
    scores: list[float] = []
    n_windows = 0
    for number, window in enumerate(_hear(model, clip, edits)):
        ids = [token.id for token in transcript.tokens if token.window == number]
        scores += [one.log_prob for one in ctc_align(window.log_probs, ids, tokenizer.blank)]
        n_windows += 1
    if any(token.window >= n_windows for token in transcript.tokens):
        raise InputError(f"The transcript has more windows than the clip's {n_windows}; it belongs to another clip.")
    return scores


def _letters_of(model: LoadedModel) -> LetterTokenizer:
    model.site("logits")  # refuses with the reason where there is no head
    tokenizer = model.require_tokenizer()
    if not isinstance(tokenizer, LetterTokenizer):
        raise InputError(f"The checkpoint of {model.name} has no vocabulary of letters (vocab.json).")
    return tokenizer


def _hear(model: LoadedModel, clip: Clip, edits: Sequence[Edit]) -> Iterator[_Heard]:
    """Yield what the model hears in each window of a clip."""
    bound = bind_edits(edits, model.dims, clip.duration_s)
    site = model.site("logits")
    for window in model.windows(clip):
        tape = Tape([site], bound, [window.start_s])
        model.forward(tape, window.input[None])
        yield _Heard(window.start_s, tape.read(site, 1)[0].log_softmax(-1))


def _check_options(model: str, options: DecodingOptions) -> None:
    """Refuse options that reading letters off cannot follow (times of tokens and words come with it anyway)."""
    for item in fields(options):
        value = getattr(options, item.name)
        if value != item.default and item.name not in _FOLLOWED and (item.name, value) != ("task", "transcribe"):
            raise InputError(
                f"{model} writes the letter of each frame (CTC) and knows no {item.name}; leave out {value!r}."
            )


def _segment(window: _Heard, number: int, avg_log_prob: float, tokenizer: LetterTokenizer, clock: Clock) -> Segment:
    """What one window says."""
    found = [one for one in ctc_greedy(window.log_probs, tokenizer.blank) if one.id not in tokenizer.special_ids]
    text = tokenizer.decode([one.id for one in found]).strip()
    entropy = -(window.log_probs.exp() * window.log_probs).nan_to_num().sum(-1)
    tokens = []
    for one in found:
        start_s, end_s = _times(one.first_frame, one.stop_frame, window.start_s, clock)
        unsure = float(entropy[one.first_frame : one.stop_frame].mean())
        tokens.append(Token(one.id, tokenizer.decode([one.id]), one.log_prob, number, start_s, end_s, unsure))
    return Segment(
        start_s=window.start_s,
        end_s=_times(0, len(window.log_probs), window.start_s, clock)[1],
        text=text,
        tokens=tuple(tokens),
        temperature=0.0,
        avg_log_prob=avg_log_prob,
        compression_ratio=compression_ratio(text),
        no_speech_prob=0.0,
        window=number,
        words=tuple(_word(word, window.start_s, tokenizer, clock) for word in _split(found, tokenizer)),
    )


def _split(found: Sequence[Aligned], tokenizer: LetterTokenizer) -> list[list[Aligned]]:
    """The letters of each word; none where the vocabulary has nothing that stands between words."""
    delimiter = tokenizer.vocabulary.get(tokenizer.between_words or "")
    if delimiter is None:
        return []
    words: list[list[Aligned]] = [[]]
    for one in found:
        if one.id == delimiter:
            words.append([])
        else:
            words[-1].append(one)
    return [word for word in words if word]


def _word(letters: Sequence[Aligned], start_s: float, tokenizer: LetterTokenizer, clock: Clock) -> Word:
    ids = tuple(one.id for one in letters)
    first_s, last_s = _times(letters[0].first_frame, letters[-1].stop_frame, start_s, clock)
    n_frames = sum(one.stop_frame - one.first_frame for one in letters)
    probability = math.exp(sum(one.log_prob for one in letters) / n_frames)
    return Word(f" {tokenizer.decode(ids)}", first_s, last_s, probability, ids)


def _times(first_frame: int, stop_frame: int, start_s: float, clock: Clock) -> tuple[float, float]:
    """From when to when frames last in the clip: each reaches half a hop around its centre."""
    half_s = clock.frame_s / 2
    begin_s = max(0.0, clock.time_s(first_frame) - half_s)
    return start_s + begin_s, start_s + clock.time_s(stop_frame - 1) + half_s
