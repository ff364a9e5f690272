"""Writing down what was said: greedy decoding in batches, with the checkpoint's own prompt and rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from otoscope.errors import InputError, nearest
from otoscope.models.modules.whisper import Memory
from otoscope.models.tokenizer import Tokenizer

NO_SPEECH_THRESHOLD = 0.6
LOGPROB_THRESHOLD = -1.0
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
    """When it begins in the clip, where the model says so (CTC models do)."""
    end_s: float | None = None


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Decoded:
    """Greedy decoding of one window."""

    tokens: list[Token]
    language: str | None
    no_speech_prob: float
    avg_log_prob: float
    silent: bool
    truncated: bool


@dataclass(frozen=True)
class Rules:
    """What a checkpoint's generation_config says about prompts and forbidden tokens."""

    start: int
    end: int
    no_timestamps: int | None
    languages: dict[str, int]
    tasks: dict[str, int]
    forced: dict[int, int | None]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    no_speech: int | None
    no_speech_threshold: float
    logprob_threshold: float
    max_length: int

    @classmethod
    def of(cls, generation: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Tokenizer) -> Rules:
        """Read the rules of a checkpoint: its `generation_config.json`, else its `config.json`."""

        def setting(name: str, default: Any = None) -> Any:
            for source in (generation, config):
                if source.get(name) is not None:
                    return source[name]
            return default

        known = tokenizer.vocabulary
        no_speech = next((known[name] for name in ("<|nospeech|>", "<|nocaptions|>") if name in known), None)
        end = setting("eos_token_id", 0)
        limit = config.get("max_target_positions", 448)
        return cls(
            start=setting("decoder_start_token_id", 0),
            end=end[0] if isinstance(end, list) else end,
            no_timestamps=setting("no_timestamps_token_id", known.get("<|notimestamps|>")),
            languages={name.strip("<|>"): index for name, index in (setting("lang_to_id") or {}).items()},
            tasks=setting("task_to_id") or {},
            forced={int(at): token for at, token in setting("forced_decoder_ids") or ()},
            suppressed=tuple(setting("suppress_tokens") or ()),
            suppressed_first=tuple(setting("begin_suppress_tokens") or ()),
            no_speech=no_speech,
            no_speech_threshold=setting("no_speech_threshold", NO_SPEECH_THRESHOLD),
            logprob_threshold=setting("logprob_threshold", LOGPROB_THRESHOLD),
            max_length=min(setting("max_length", limit), limit),
        )

    def language_id(self, language: str) -> int:
        """Return the token of a language code such as `en`.

        Raises:
            InputError: the model does not know it.
        """
        code = language.lower().strip("<|>")
        if code not in self.languages:
            if not self.languages:
                raise InputError(f"This model writes one language only, so language={language!r} cannot be chosen.")
            known = nearest(code, self.languages) or f"; it knows {', '.join(sorted(self.languages))}"
            raise InputError(f"The model does not know the language {language!r}{known}.")
        return self.languages[code]

    def prompt(self, language: int | None, chosen: bool) -> list[int]:
        """Return the tokens that precede the text: start, language, "transcribe", "no timestamps".

        The same as Hugging Face's `generate` feeds with `language` and `task="transcribe"`, and as openai-whisper
        always feeds. `language` is the language token (None in one-language models); `chosen` says that the user
        asked for it, which overrides a language forced by the checkpoint.
        """
        forced = {} if chosen else self.forced
        tokens: list[int | None] = [self.start]
        while len(tokens) in forced:
            tokens.append(forced[len(tokens)])
        if len(tokens) == 1:
            tokens.append(language)
        elif tokens[1] is None:
            tokens[1] = language
        if not set(tokens) & set(self.tasks.values()):
            tokens.append(self.tasks.get("transcribe"))
        if tokens[-1] != self.no_timestamps:
            tokens.append(self.no_timestamps)
        return [token for token in tokens if token is not None]

    def prompt_for(self, language: str | None) -> list[int]:
        """Return the prompt for a language code (None: the one the checkpoint forces, if any)."""
        if language is None:
            return self.prompt(self.forced.get(1), False)
        return self.prompt(self.language_id(language), True)

    def needs_language(self) -> bool:
        """Whether the prompt has a place for a language that must be detected."""
        return bool(self.languages) and self.forced.get(1) is None


def decode(module: Any, tokenizer: Any, rules: Rules, encoded: Tensor, language: str | None = None) -> list[Decoded]:
    """Decode windows `encoded [b, t, d]` greedily, one token at a time for all of them together.

    Raises:
        InputError: the model does not know `language`.
    """
    chosen = None if language is None else rules.language_id(language)
    step = _Decoder(module, encoded)
    start_logits = step(torch.full((len(encoded), 1), rules.start, device=encoded.device))
    no_speech = _no_speech_prob(start_logits, rules)
    spoken = _languages(start_logits, rules, chosen)
    prompts = [rules.prompt(token, chosen is not None) for token in spoken]
    logits = step(torch.tensor([prompt[1:] for prompt in prompts], device=encoded.device))

    ended = torch.zeros(len(encoded), dtype=torch.bool, device=encoded.device)
    ids: list[Tensor] = []
    log_probs: list[Tensor] = []
    for count in range(rules.max_length - len(prompts[0])):
        logits[:, list(rules.suppressed)] = -torch.inf
        if count == 0:
            logits[:, list(rules.suppressed_first)] = -torch.inf
        best, token = logits.log_softmax(-1).max(-1)
        ids.append(token.masked_fill(ended, rules.end))
        log_probs.append(best)
        ended |= token == rules.end
        if bool(ended.all()):
            break
        logits = step(ids[-1][:, None])

    names = {index: code for code, index in rules.languages.items()}
    return [
        _decoded(row_ids, row_probs, probability, None if code is None else names.get(code), rules, tokenizer)
        for row_ids, row_probs, probability, code in zip(
            torch.stack(ids, 1).tolist(), torch.stack(log_probs, 1).tolist(), no_speech, spoken, strict=True
        )
    ]


def score(
    module: Any, rules: Rules, encoded: Tensor, ids: Sequence[Sequence[int]], language: str | None
) -> list[list[float]]:
    """Return the log-probability of each of the given tokens of windows `encoded [b, t, d]`, teacher-forced.

    Raises:
        InputError: the model does not know `language`.
    """
    scores = []
    for window, tokens in zip(encoded, ids, strict=True):
        prompt = rules.prompt_for(language)
        fed = torch.tensor([[*prompt, *tokens]], device=encoded.device)
        logits = module.decode(fed, window[None])[0, len(prompt) - 1 : -1]
        logits[:, list(rules.suppressed)] = -torch.inf
        if len(tokens):
            logits[0, list(rules.suppressed_first)] = -torch.inf
        picked = logits.log_softmax(-1).gather(1, fed[0, len(prompt) :, None])
        scores.append([float(value) for value in picked[:, 0]])
    return scores


class _Decoder:
    """The text decoder with its memory of the tokens so far."""

    def __init__(self, module: Any, encoded: Tensor) -> None:
        self.module = module
        self.encoded = encoded
        self.memory = Memory(len(module.decoder.blocks))

    def __call__(self, ids: Tensor) -> Tensor:
        """Append `ids [b, n]` and return the scores `[b, vocabulary]` of the token after them, in float32."""
        logits: Tensor = self.module.decode(ids, self.encoded, self.memory, last_only=True)[:, -1]
        return logits


def _no_speech_prob(start_logits: Tensor, rules: Rules) -> list[float]:
    if rules.no_speech is None:
        return [0.0] * len(start_logits)
    probabilities: list[float] = start_logits.softmax(-1)[:, rules.no_speech].tolist()
    return probabilities


def _languages(start_logits: Tensor, rules: Rules, chosen: int | None) -> Sequence[int | None]:
    if chosen is not None:
        return [chosen] * len(start_logits)
    if not rules.needs_language():
        return [rules.forced.get(1)] * len(start_logits)
    candidates = torch.tensor(sorted(rules.languages.values()), device=start_logits.device)
    found: list[int | None] = candidates[start_logits[:, candidates].argmax(-1)].tolist()
    return found


def _decoded(
    ids: list[int],
    log_probs: list[float],
    no_speech: float,
    language: str | None,
    rules: Rules,
    tokenizer: Any,
) -> Decoded:
    length = ids.index(rules.end) if rules.end in ids else len(ids)
    counted = log_probs[: length + 1]
    average = sum(counted) / len(counted) if counted else math.nan
    tokens = [
        Token(index, tokenizer.decode([index]), log_prob)
        for index, log_prob in zip(ids[:length], log_probs[:length], strict=True)
    ]
    silent = no_speech > rules.no_speech_threshold and not average >= rules.logprob_threshold
    return Decoded(tokens, language, no_speech, average, silent, truncated=length == len(ids))


def is_looped(ids: Sequence[int]) -> bool:
    """Return whether `ids` end in one phrase of up to eight tokens repeated six times or more."""
    return any(
        len(ids) >= period * _LOOP_REPEATS
        and list(ids[-period * _LOOP_REPEATS :]) == list(ids[-period:]) * _LOOP_REPEATS
        for period in _LOOP_PERIODS
    )


def join(uri: str, clip_id: str, windows: Sequence[Decoded], tokenizer: Any) -> Transcript:
    """Join the windows of one clip; windows without speech add no text."""
    spoken = [window for window in windows if not window.silent]
    tokens = [
        replace(token, window=index)
        for index, window in enumerate(windows)
        if not window.silent
        for token in window.tokens
    ]
    texts = [tokenizer.decode([token.id for token in window.tokens], skip_special=True).strip() for window in spoken]
    averages = [window.avg_log_prob for window in spoken or windows]
    return Transcript(
        uri=uri,
        clip_id=clip_id,
        text=" ".join(text for text in texts if text),
        language=next((window.language for window in spoken or windows), None),
        tokens=tokens,
        avg_log_prob=sum(averages) / len(averages) if averages else math.nan,
        no_speech_prob=max((window.no_speech_prob for window in windows), default=0.0),
        truncated=any(window.truncated for window in windows),
        looped=any(is_looped([token.id for token in window.tokens]) for window in spoken),
    )
