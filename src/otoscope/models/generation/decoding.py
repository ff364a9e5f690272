"""Decoding windows: prompt, language, the choice of tokens, and another temperature where the result looks bad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.generation.beam import best_ranked, search
from otoscope.models.generation.choosing import Hypothesis, choose
from otoscope.models.generation.options import DecodingOptions
from otoscope.models.generation.steps import RowEdits, Steps
from otoscope.models.generation.token_rules import TokenRules
from otoscope.models.generation.transcript import Decoded, Token, compression_ratio
from otoscope.models.text.rules import Rules
from otoscope.models.text.tokenizer import Tokenizer


class WindowDecoder:
    """Decodes windows of one model with one set of options."""

    def __init__(self, module: Any, tokenizer: Tokenizer, rules: Rules, options: DecodingOptions) -> None:
        """Check the options against the model.

        Raises:
            InputError: unknown language, task or token, or a model that writes no timestamps.
        """
        self.module = module
        self.tokenizer = tokenizer
        self.rules = rules
        self.options = options
        self.chosen = None if options.language is None else rules.language_id(options.language)
        device = next(module.parameters()).device
        self._token_rules = TokenRules.of(options, rules, tokenizer, device)
        self._prefix = self._ids(options.prefix)
        half = module.decoder.positions.shape[0] // 2
        self._most_previous = half - 1
        self._most_tokens = half
        prompt = self._prompt(self.chosen if self.chosen is not None else rules.forced.get(1))
        if self._room(len(prompt)) < 1:
            raise InputError(f"The prefix has {len(self._prefix)} tokens and leaves no room to write any; shorten it.")
        self.initial_prompt = self._ids(options.initial_prompt)
        if self.initial_prompt and rules.previous is None:
            raise InputError("This model's vocabulary has no <|startofprev|>, so it takes no initial prompt.")

    def _ids(self, given: str | Sequence[int] | None) -> list[int]:
        if given is None:
            return []
        if isinstance(given, str):
            return self.tokenizer.encode(" " + given.strip()) if given.strip() else []
        n_vocab = self.module.decoder.tokens.weight.shape[0]
        wrong = [token for token in given if not 0 <= token < n_vocab]
        if wrong:
            raise InputError(f"There is no token {wrong[0]}; the model's tokens are 0 to {n_vocab - 1}.")
        return list(given)

    def _prompt(self, language: int | None) -> list[int]:
        options = self.options
        chosen = self.chosen is not None
        return self.rules.prompt(language, chosen, task=options.task, timestamps=options.timestamps) + self._prefix

    def _room(self, n_prompt: int) -> int:
        """How many tokens may be written after a prompt of `n_prompt`."""
        room = self.rules.max_length - n_prompt
        if self.options.max_tokens is not None:
            return min(room, self.options.max_tokens)
        return min(room, self._most_tokens) if self.options.timestamps or self.options.initial_prompt else room

    def previous(self, ids: Sequence[int]) -> list[int]:
        """Return what is fed before the start token so that `ids` count as said before."""
        if not ids or self.rules.previous is None:
            return []
        return [self.rules.previous, *ids[-self._most_previous :]]

    def __call__(
        self,
        encoded: Tensor,
        edits: RowEdits | None = None,
        *,
        before: Sequence[Sequence[int]] = (),
        languages: Sequence[int | None] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Decoded]:
        """Decode windows `encoded [b, t, d]`, all together, at the first temperature whose result looks good.

        `before[i]` are tokens said before window i, equally many for all; `languages` the language tokens where they
        are known already; `numbers` tell windows of a clip apart when tokens are drawn.
        """
        edits = edits or RowEdits()
        numbers = list(numbers or [0] * len(encoded))
        previous = [self.previous(ids) for ids in before or [()] * len(encoded)]
        probabilities: list[dict[str, float]] = [{} for _ in range(len(encoded))]
        if languages is None:
            languages, probabilities = self.languages(encoded, edits)
        done: list[Decoded | None] = [None] * len(encoded)
        waiting = list(range(len(encoded)))
        for temperature in self.options.temperatures:
            decoded = self._at(
                temperature,
                encoded[waiting],
                edits.select(waiting),
                [previous[row] for row in waiting],
                [languages[row] for row in waiting],
                [numbers[row] for row in waiting],
            )
            for row, result in zip(waiting, decoded, strict=True):
                done[row] = replace(result, language_probs=probabilities[row])
            waiting = [row for row in waiting if self._looks_bad(done[row])]
            if not waiting:
                break
        return [result for result in done if result is not None]

    def _looks_bad(self, result: Decoded | None) -> bool:
        """Whether another temperature should be tried (`whisper.transcribe.decode_with_fallback`)."""
        assert result is not None
        options = self.options
        repeats = options.compression_ratio_threshold
        too_repetitive = repeats is not None and result.compression_ratio > repeats
        unlikely = options.logprob_threshold is not None and result.avg_log_prob < options.logprob_threshold
        silent = options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold
        return (too_repetitive or unlikely) and not (silent and unlikely)

    def languages(self, encoded: Tensor, edits: RowEdits) -> tuple[list[int | None], list[dict[str, float]]]:
        """Return each window's language token and, where it was detected, how likely every language is."""
        nothing: list[dict[str, float]] = [{} for _ in range(len(encoded))]
        if self.chosen is not None:
            return [self.chosen] * len(encoded), nothing
        if not self.rules.needs_language():
            return [self.rules.forced.get(1)] * len(encoded), nothing
        codes = sorted(self.rules.languages, key=self.rules.languages.__getitem__)
        candidates = torch.tensor([self.rules.languages[code] for code in codes], device=encoded.device)
        start = torch.full((len(encoded), 1), self.rules.start, device=encoded.device)
        with torch.no_grad():
            probabilities = Steps(self.module, encoded, edits)(start)[:, candidates].softmax(-1)
        tokens: list[int | None] = candidates[probabilities.argmax(-1)].tolist()
        return tokens, [dict(zip(codes, row, strict=True)) for row in probabilities.tolist()]

    @torch.no_grad()
    def _at(
        self,
        temperature: float,
        encoded: Tensor,
        edits: RowEdits,
        previous: Sequence[Sequence[int]],
        languages: Sequence[int | None],
        numbers: Sequence[int],
    ) -> list[Decoded]:
        """Decode at one temperature."""
        options, rules = self.options.at(temperature), self.rules
        prompts = [self._prompt(language) for language in languages]
        steps = Steps(self.module, encoded, edits)
        opening = torch.tensor(
            [[*before, prompt[0]] for before, prompt in zip(previous, prompts, strict=True)], device=encoded.device
        )
        logits = steps(opening)
        no_speech = _no_speech_probs(logits, rules)
        if len(prompts[0]) > 1:
            logits = steps(torch.tensor([prompt[1:] for prompt in prompts], device=encoded.device))
        n_tokens = self._room(opening.shape[1] - 1 + len(prompts[0]))
        n_group = options.n_group
        steps.spread(n_group)
        logits = logits.repeat_interleave(n_group, 0)
        if options.beam_size is not None:
            groups = search(steps, logits, self._token_rules, n_tokens, options.beam_size, options.patience or 1.0)
        else:
            generators = [
                _generator(options.seed, number, temperature, sample)
                for number in (numbers if temperature else [])
                for sample in range(n_group)
            ]
            flat = choose(steps, logits, self._token_rules, n_tokens, temperature, generators)
            groups = [flat[first : first + n_group] for first in range(0, len(flat), n_group)]
        best = [best_ranked(group, rules.end, options.length_penalty) for group in groups]
        return [
            self._decoded(hypothesis, temperature, probability, language, (*before, *prompt))
            for hypothesis, probability, language, before, prompt in zip(
                best, no_speech, languages, previous, prompts, strict=True
            )
        ]

    def _decoded(
        self,
        found: Hypothesis,
        temperature: float,
        no_speech: float,
        language: int | None,
        prompt: tuple[int, ...],
    ) -> Decoded:
        options, rules = self.options, self.rules
        ended = rules.end in found.ids
        length = len(found.ids) - ended
        average = found.total / (length + 1) if found.ids else math.nan
        tokens = [
            Token(index, self.tokenizer.decode([index]), log_prob, entropy=entropy)
            for index, log_prob, entropy in zip(
                found.ids[:length], found.log_probs[:length], found.entropies[:length], strict=True
            )
        ]
        unsure = options.logprob_threshold is None or not average > options.logprob_threshold
        return Decoded(
            tokens,
            rules.language_of(language),
            no_speech,
            average,
            silent=options.no_speech_threshold is not None and no_speech > options.no_speech_threshold and unsure,
            truncated=not ended,
            temperature=temperature,
            compression_ratio=compression_ratio(self.tokenizer.decode(found.ids[:length], skip_special=True).strip()),
            prompt=prompt,
        )


def _no_speech_probs(start_logits: Tensor, rules: Rules) -> list[float]:
    if rules.no_speech is None:
        return [0.0] * len(start_logits)
    probabilities: list[float] = start_logits.softmax(-1)[:, rules.no_speech].tolist()
    return probabilities


def _generator(seed: int, number: int, temperature: float, sample: int) -> torch.Generator:
    """Randomness of its own for each sample of each window, whatever else is in the batch."""
    state = np.random.SeedSequence([seed, number, round(temperature * 1e6), sample]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
