"""Words, and phones or letters, of a clip whose text is known, by a model with a CTC head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from otoscope.alignment.alignment import Alignment
from otoscope.alignment.inventory import to_base
from otoscope.alignment.lattice import Builder, Segment, Stretch
from otoscope.alignment.lexicon import Lexicon, plain_word, words_of
from otoscope.audio import Clip, Interval
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.models import SpeechModel
    from otoscope.models.text.letters import LetterTokenizer

BLANK = "blank"
Ways = Sequence[tuple[Sequence[int], float]]
"""How a word may be spelt: tokens, and the log-probability of that way."""


def align_ctc(model: SpeechModel, clip: Clip, text: str | None = None, lexicon: Lexicon | None = None) -> Alignment:
    """Align a clip with its text by the letters or phones that a CTC model hears.

    A model of letters needs no lexicon and gives words; one of phones (such as wav2vec2 fine-tuned on espeak's phones)
    needs one and gives phones, too: of several pronunciations the one that the sound fits best. A phone lasts from the
    middle of the blanks before it to the middle of those behind it, inside its word.

    Raises:
        InputError: a model without CTC head, no text, words without pronunciation, or letters or phones that the
            model does not know.
        OtoscopeError: the clip is too short for its text.
    """
    words = words_of((clip.text if text is None else text) or "")
    if not words:
        raise InputError(f"The clip {clip.clip_id!r} has no text to align.")
    tokenizer = letters_of(model)
    if tokenizer.phones:
        if lexicon is None:
            raise InputError(f"{model.name} hears phones; give a lexicon to align words with them.")
        missing = lexicon.missing(words)
        if missing:
            raise InputError(f"The lexicon has no pronunciation of {', '.join(missing)} (clip {clip.clip_id!r}).")
        said = [_phone_ways(lexicon, word, tokenizer, model.name) for word in words]
        between = None
    else:
        said = [[(tokenizer.encode(plain_word(word)), 0.0)] for word in words]
        between = tokenizer.vocabulary.get(tokenizer.between_words or "")
    run = model.run(clip, ["logits"])
    log_probs = run["logits"].log_softmax(-1).numpy()
    stretches = best_spelling(log_probs, said, tokenizer.blank, between)
    return _alignment(stretches, words, log_probs, run.times_s("logits"), clip.duration_s, tokenizer, lexicon)


def letters_of(model: SpeechModel) -> LetterTokenizer:
    """Return the tokenizer of a CTC model.

    Raises:
        InputError: the model has no CTC head.
    """
    from otoscope.models.text.letters import LetterTokenizer

    if not isinstance(model.tokenizer, LetterTokenizer):
        raise InputError(f"{model.name} has no CTC head that hears letters or phones; use a Whisper or a phone model.")
    return model.tokenizer


def best_spelling(log_probs: np.ndarray, said: Sequence[Ways], blank: int, between: int | None) -> list[Stretch]:
    """Return the segments of the best CTC path `[t, v]` that spells one way of each word, in order.

    Segments are tokens (their number as text) and blanks. Tokens follow each other directly or after blanks, the same
    token twice only after blanks; `between` is a token that must stand between words, if the model writes one.
    """
    builder = Builder()
    front = [(-1, 0.0)]
    gap = builder.chain(Segment(-1, BLANK), [blank], [True], front)
    ends: list[tuple[int, list[tuple[int, float]]]] = [(-1, front)]  # by the last token
    gaps = gap
    for number, ways in enumerate(said):
        if number and between is not None:
            ends, gaps = _token(builder, Segment(-1, str(between)), between, blank, ends, gaps)
        after: list[tuple[int, list[tuple[int, float]]]] = []
        blanks: list[tuple[int, float]] = []
        for tokens, log_prob in ways:
            here = [(last, [(state, score + log_prob) for state, score in states]) for last, states in ends]
            there = [(state, score + log_prob) for state, score in gaps]
            for token in tokens:
                here, there = _token(builder, Segment(number, str(token)), token, blank, here, there)
            after += here
            blanks += there
        ends, gaps = after, blanks
    builder.front = [pair for _, states in ends for pair in states] + gaps
    lattice = builder.finish()
    _, path = lattice.best_path(log_probs)
    return lattice.stretches(path)


def _token(
    builder: Builder,
    segment: Segment,
    token: int,
    blank: int,
    ends: list[tuple[int, list[tuple[int, float]]]],
    gaps: list[tuple[int, float]],
) -> tuple[list[tuple[int, list[tuple[int, float]]]], list[tuple[int, float]]]:
    direct = [pair for last, states in ends if last != token for pair in states]
    own = builder.chain(segment, [token], [True], direct + gaps)
    return [(token, own)], builder.chain(Segment(-1, BLANK), [blank], [True], own)


def _phone_ways(lexicon: Lexicon, word: str, tokenizer: LetterTokenizer, model: str) -> list[tuple[list[int], float]]:
    known = _tokens_of_phones(tokenizer)
    ways = [
        ([known[phone] for phone in way.phones], way.log_prob)
        for way in lexicon[word]
        if all(phone in known for phone in way.phones)
    ]
    if not ways:
        strange = sorted({phone for way in lexicon[word] for phone in way.phones if phone not in known})
        raise InputError(f"{model} does not know the phone {', '.join(strange)} of the word {plain_word(word)!r}.")
    return ways


def _tokens_of_phones(tokenizer: LetterTokenizer) -> dict[str, int]:
    """The token of each base phone (the plainest symbol that means it), and of each symbol of the model itself."""
    found: dict[str, int] = {}
    for symbol in sorted(tokenizer.vocabulary, key=lambda each: (len(each), each)):
        index = tokenizer.vocabulary[symbol]
        if index in tokenizer.special_ids:
            continue
        for name in (symbol, *(to_base(symbol, "ipa") or ())[:1]):
            if name == symbol or len(to_base(symbol, "ipa") or ()) == 1:
                found.setdefault(name, index)
    return found


def _alignment(
    stretches: Sequence[Stretch],
    words: Sequence[str],
    log_probs: np.ndarray,
    times_s: np.ndarray,
    duration_s: float,
    tokenizer: LetterTokenizer,
    lexicon: Lexicon | None,
) -> Alignment:
    half_s = (times_s[1] - times_s[0]) / 2 if len(times_s) > 1 else duration_s / 2
    names = {index: symbol for symbol, index in tokenizer.vocabulary.items()}
    if lexicon is not None:
        names |= {index: phone for phone, index in _tokens_of_phones(tokenizer).items() if phone in lexicon.phones}

    def seconds(edge: float) -> float:
        return float(min(max(0.0, times_s[0] + (2 * edge - 1) * half_s), duration_s))

    spoken = [each for each in stretches if each.segment.word >= 0]
    edges: list[list[float]] = [[each.first, each.stop] for each in spoken]
    for number in range(1, len(spoken)):
        if spoken[number].segment.word == spoken[number - 1].segment.word:
            edges[number - 1][1] = edges[number][0] = (edges[number - 1][1] + edges[number][0]) / 2
    parts = [
        Interval(seconds(first), seconds(stop), names[int(each.segment.phone)])
        for each, (first, stop) in zip(spoken, edges, strict=True)
    ]
    tier = []
    for number, word in enumerate(words):
        mine = [part for part, each in zip(parts, spoken, strict=True) if each.segment.word == number]
        tier.append(Interval(mine[0].start_s, mine[-1].end_s, plain_word(word)))
    best = log_probs.max(1)
    own = [log_probs[each.first : each.stop, int(each.segment.phone)] - best[each.first : each.stop] for each in spoken]
    margin = float(np.concatenate(own).mean())
    return Alignment(tuple(tier), tuple(parts) if tokenizer.phones else (), margin)
