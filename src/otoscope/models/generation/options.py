"""Options of decoding, under the names that users of `whisper.transcribe` know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from otoscope.errors import InputError, nearest

FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The temperatures that openai-whisper's `transcribe` tries one after another."""
TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class DecodingOptions:
    """How text is chosen. The defaults are greedy decoding of each window without timestamps.

    Raises:
        InputError: a value out of range, or options that exclude each other.
    """

    language: str | None = None
    """Code of the language spoken, such as `en`; None: detected, where the model knows several."""
    task: str | None = None
    """`transcribe`, or `translate` to English; None: what the checkpoint asks for, else `transcribe`."""
    initial_prompt: str | Sequence[int] | None = None
    """Text (or tokens) fed as if it had been said before: spellings of names, style. The last half-context counts."""
    condition_on_previous_text: bool = True
    """With timestamps: feed each window what was written in the windows before it (not after a temperature > 0.5)."""
    prefix: str | Sequence[int] | None = None
    """Text (or tokens) that every window must begin with; it is not repeated in the transcript."""
    timestamps: bool = False
    """Let the model write times; long clips are then read from the end of one segment to the next."""
    max_initial_timestamp_s: float | None = 1.0
    """The latest moment of a window at which its first segment may begin; None: any."""
    temperature: float | tuple[float, ...] = 0.0
    """0 takes the likeliest token, more samples. A tuple (see `FALLBACK`) is tried in turn while results look bad."""
    compression_ratio_threshold: float | None = 2.4
    """A text that zlib shrinks more than this is too repetitive: the next temperature is tried; None: never."""
    logprob_threshold: float | None = -1.0
    """An average log-probability below this is too low: the next temperature is tried; None: never."""
    no_speech_threshold: float | None = 0.6
    """A window with a no-speech probability above this and a low average log-probability is silent; None: none is."""
    beam_size: int | None = None
    """Hypotheses kept side by side at temperature 0; None: greedy."""
    patience: float | None = None
    """Beam search ends after `patience · beam_size` finished hypotheses (default 1; Kasai et al. 2022)."""
    length_penalty: float | None = None
    """Hypotheses are ranked by log-probability over ((5 + n) / 6)^penalty (Wu et al. 2016); None: over n."""
    best_of: int | None = None
    """Independent samples at temperatures above 0, of which the likeliest is kept."""
    seed: int = 0
    """Of sampling: the same clip, options and seed give the same text, alone or in a batch."""
    suppress_tokens: Sequence[int] | None = None
    """Tokens never written; −1 stands for symbols that are not speech. None: those the checkpoint lists."""
    suppress_blank: bool | None = None
    """Whether a window may not begin with a space or end at once. None: as the checkpoint says."""
    max_tokens: int | None = None
    """The most tokens written per window. None: with timestamps or a prompt half the decoder's positions (as
    openai-whisper), otherwise all that are free (as Hugging Face's `generate`)."""
    word_times: bool = False
    """Also find when each word is spoken (see `word_times`)."""
    alignment_heads: tuple[tuple[int, int], ...] | None = None
    """Decoder heads `(layer, head)` that word times are read from; None: those the checkpoint names, else the upper
    half of the layers."""

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in TASKS:
            raise InputError(f"There is no task {self.task!r}; the tasks are {' and '.join(TASKS)}.")
        if not self.temperatures:
            raise InputError("Give at least one temperature, e.g. 0.0.")
        for temperature in self.temperatures:
            if not (math.isfinite(temperature) and temperature >= 0):
                raise InputError(f"A temperature is a number from 0, not {temperature}.")
        for name in ("beam_size", "best_of", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")
        if self.patience is not None and self.beam_size is None:
            raise InputError(f"patience={self.patience:g} belongs to beam search; give a beam_size, too.")
        if self.patience is not None and not (self.patience > 0 and round((self.beam_size or 1) * self.patience) > 0):
            raise InputError(f"patience={self.patience:g} would end beam search before it begins; give at least 1.")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise InputError(f"length_penalty must lie between 0 and 1, not {self.length_penalty:g}.")
        if self.best_of is not None and not any(self.temperatures):
            raise InputError(f"best_of={self.best_of} picks among samples; give a temperature above 0, too.")
        if self.beam_size is not None and all(self.temperatures):
            raise InputError(f"beam_size={self.beam_size} is for temperature 0; use best_of with higher ones.")
        if self.max_initial_timestamp_s is not None and not self.max_initial_timestamp_s >= 0:
            raise InputError(f"max_initial_timestamp_s must be at least 0 s, not {self.max_initial_timestamp_s}.")

    @classmethod
    def of(cls, options: DecodingOptions | None, choices: dict[str, Any]) -> DecodingOptions:
        """Return `options` (default: the defaults) with `choices` changed.

        Raises:
            InputError: there is no such option, or a value is not allowed.
        """
        known = [item.name for item in fields(cls)]
        for name in choices:
            if name not in known:
                raise InputError(
                    f"There is no decoding option {name!r}{nearest(name, known) or '; see DecodingOptions.'}"
                )
        if isinstance(choices.get("temperature"), list):
            choices = {**choices, "temperature": tuple(choices["temperature"])}
        return replace(options or cls(), **choices)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures to try, in order."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    def at(self, temperature: float) -> DecodingOptions:
        """Return the options for one temperature: beams only at 0, several samples only above."""
        if temperature > 0:
            return replace(self, temperature=temperature, beam_size=None, patience=None)
        return replace(self, temperature=temperature, best_of=None)

    @property
    def n_group(self) -> int:
        """Hypotheses per window."""
        return self.beam_size or self.best_of or 1
