"""What a model wrote for a clip: tokens, words, segments, and how sure it was."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from otoscope.audio import Clip
from otoscope.models.generation.options import DecodingOptions
from otoscope.models.generation.words import Word
from otoscope.models.text.tokenizer import Tokenizer

_LOOP_PERIODS = range(1, 9)
_LOOP_REPEATS = 6


@dataclass(frozen=True)
class Token:
    """One generated token, with the log-probability (natural) that the model gave it."""

    id: int
    text: str
    log_prob: float
    window: int = 0
    """Which window of the clip it belongs to."""
    start_s: float | None = None
    """When it begins in the clip, where that is known: tokens of CTC models, timestamps, and with word times."""
    end_s: float | None = None
    entropy: float = math.nan
    """Entropy in nats of the distribution that it was chosen from: at temperature 1, forbidden tokens left out."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip and what was said in it; probabilities are those of its whole window."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[Token, ...] = field(repr=False)
    temperature: float
    avg_log_prob: float
    compression_ratio: float
    no_speech_prob: float
    window: int = 0
    words: tuple[Word, ...] = field(default=(), repr=False)
    """Its words and their times, if they were asked for."""


@dataclass(frozen=True)
class WrittenWindow:
    """How one window of a clip was decoded."""

    start_s: float
    end_s: float
    """Where its sound ends (the clip's end, in the last window)."""
    prompt: tuple[int, ...]
    """The tokens fed before the text, prefix included."""
    temperature: float
    silent: bool
    """It counts as silence: its text was dropped."""


@dataclass(frozen=True, repr=False)
class Transcript:
    """What a model wrote for one clip, and how sure it was."""

    uri: str
    clip_id: str
    text: str
    language: str | None
    tokens: list[Token]
    avg_log_prob: float
    """Mean over the generated tokens, the end token included (NaN when nothing was generated)."""
    no_speech_prob: float
    """Probability of the no-speech token at the start; the highest of a long clip's windows."""
    truncated: bool = False
    """A window reached the model's maximal number of tokens before its end token."""
    looped: bool = False
    """The text ends in one phrase repeated six times or more: a decoding loop, not speech."""
    segments: list[Segment] = field(default_factory=list)
    """With timestamps, what the model marked as segments; without, one for each window that holds speech."""
    compression_ratio: float = 0.0
    """Bytes of the text over bytes after zlib: above 2.4, it repeats itself. The highest of a long clip's windows."""
    windows: list[WrittenWindow] = field(default_factory=list)
    """How each window was decoded."""
    options: DecodingOptions = field(default_factory=DecodingOptions)
    """How it was asked to be."""

    @property
    def words(self) -> list[Word]:
        """The words and their times (empty unless word times were asked for)."""
        return [word for segment in self.segments for word in segment.words]

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 80 else f"{self.text[:79]}…"
        flags = "".join(f", {flag}" for flag in ("truncated", "looped") if getattr(self, flag))
        return (
            f"Transcript({self.clip_id!r}, {self.language}: {text!r}; {len(self.tokens)} tokens, {len(self.segments)} "
            f"segments, log-probability {self.avg_log_prob:.2f}, no speech {self.no_speech_prob:.2f}{flags})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, strings and numbers, for JSON."""
        values = asdict(self)
        values["words"] = [asdict(word) for word in self.words]
        return values


@dataclass(frozen=True)
class Decoded:
    """What was written for one window."""

    tokens: list[Token]
    language: str | None
    no_speech_prob: float
    avg_log_prob: float
    silent: bool
    truncated: bool
    temperature: float = 0.0
    compression_ratio: float = 0.0
    prompt: tuple[int, ...] = ()
    """The tokens fed before the text, prefix included."""
    language_probs: dict[str, float] = field(default_factory=dict)
    """Of each language the model knows, where the language was detected."""


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes a text (`whisper.utils.compression_ratio`)."""
    written = text.encode()
    return len(written) / len(zlib.compress(written))


def is_looped(ids: Sequence[int]) -> bool:
    """Return whether `ids` end in one phrase of up to eight tokens repeated six times or more."""
    return any(
        len(ids) >= period * _LOOP_REPEATS
        and list(ids[-period * _LOOP_REPEATS :]) == list(ids[-period:]) * _LOOP_REPEATS
        for period in _LOOP_PERIODS
    )


def join(
    clip: Clip,
    decoded: Sequence[Decoded],
    windows: Sequence[WrittenWindow],
    segments: Sequence[Segment],
    tokens: Sequence[Token],
    text: str,
    options: DecodingOptions,
) -> Transcript:
    """Join what was written in the windows of one clip; windows without speech add nothing."""
    spoken = [item for item in decoded if not item.silent]
    averages = [item.avg_log_prob for item in spoken or decoded]
    return Transcript(
        uri=clip.uri,
        clip_id=clip.clip_id,
        text=text,
        language=next((item.language for item in spoken or decoded), None),
        tokens=list(tokens),
        avg_log_prob=sum(averages) / len(averages) if averages else math.nan,
        no_speech_prob=max((item.no_speech_prob for item in decoded), default=0.0),
        truncated=any(item.truncated for item in decoded),
        looped=any(is_looped([token.id for token in item.tokens]) for item in spoken),
        segments=list(segments),
        compression_ratio=max((item.compression_ratio for item in spoken), default=0.0),
        windows=list(windows),
        options=options,
    )


def text_of(tokens: Sequence[Token], tokenizer: Tokenizer) -> str:
    """Return what tokens write, special ones left out."""
    return tokenizer.decode([token.id for token in tokens], skip_special=True)


def in_window(tokens: Sequence[Token], window: int) -> tuple[Token, ...]:
    """Return the tokens, marked as belonging to a window."""
    return tuple(replace(token, window=window) for token in tokens)
