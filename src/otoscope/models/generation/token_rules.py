"""Which tokens may come next: forbidden ones, and the order that timestamps must keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.clock import FRAME_S
from otoscope.models.generation.options import DecodingOptions
from otoscope.models.loading.special_tokens import non_speech_tokens
from otoscope.models.text.rules import Rules
from otoscope.models.text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class TokenRules:
    """What is forbidden at each step of one decoding."""

    suppressed: Tensor
    suppressed_first: Tensor
    end: int
    no_timestamps: int | None
    first_timestamp: int | None
    """None when no timestamps are written."""
    last_initial: int | None
    """The latest timestamp that may come first."""

    @classmethod
    def of(cls, options: DecodingOptions, rules: Rules, tokenizer: Tokenizer, device: torch.device) -> TokenRules:
        """Return the rules that a checkpoint and the user's options make together.

        Raises:
            InputError: a suppressed token that is not in the vocabulary.
        """
        last = None
        if options.timestamps and rules.first_timestamp is not None and options.max_initial_timestamp_s:
            last = rules.first_timestamp + round(options.max_initial_timestamp_s / FRAME_S)
        return cls(
            torch.tensor(_suppressed(options, rules, tokenizer), dtype=torch.long, device=device),
            torch.tensor(_suppressed_first(options, rules, tokenizer), dtype=torch.long, device=device),
            rules.end,
            rules.no_timestamps,
            rules.first_timestamp if options.timestamps else None,
            last,
        )

    def apply(self, logits: Tensor, written: Tensor) -> None:
        """Set the scores `[b, v]` of tokens that must not follow `written [b, n]` to minus infinity, in place."""
        logits.index_fill_(1, self.suppressed, -torch.inf)
        if not written.shape[1]:
            logits.index_fill_(1, self.suppressed_first, -torch.inf)
        if self.first_timestamp is not None:
            self._apply_timestamps(logits, written, self.first_timestamp)

    def _apply_timestamps(self, logits: Tensor, written: Tensor, first: int) -> None:
        """Timestamps come in pairs (except before the end), never go back, and win when they are likelier together
        than any text (`whisper.decoding.ApplyTimestampRules`)."""
        if self.no_timestamps is not None:
            logits[:, self.no_timestamps] = -torch.inf
        if not written.shape[1]:
            logits[:, :first] = -torch.inf
            if self.last_initial is not None:
                logits[:, self.last_initial + 1 :] = -torch.inf
        else:
            marks = written >= first
            after_mark = marks[:, -1]
            after_pair = after_mark & (marks[:, -2] if written.shape[1] > 1 else torch.ones_like(after_mark))
            closing = after_mark & ~after_pair
            logits[:, first:].masked_fill_(after_pair[:, None], -torch.inf)
            logits[:, : self.end].masked_fill_(closing[:, None], -torch.inf)
            # a segment lasts longer than no time, lest windows repeat for ever
            earliest = written.masked_fill(~marks, -1).amax(1) + (~closing).long()
            moments = torch.arange(first, logits.shape[1], device=logits.device)
            too_early = (moments < earliest[:, None]) & marks.any(1)[:, None]
            logits[:, first:].masked_fill_(too_early, -torch.inf)
        log_probs = logits.log_softmax(-1)
        timed = log_probs[:, first:].logsumexp(-1) > log_probs[:, :first].amax(-1)
        logits[:, :first].masked_fill_(timed[:, None], -torch.inf)


def _suppressed(options: DecodingOptions, rules: Rules, tokenizer: Tokenizer) -> list[int]:
    if options.suppress_tokens is None:
        return list(rules.suppressed)
    chosen = {int(token) for token in options.suppress_tokens}
    n_vocab = len(tokenizer.vocabulary)
    for token in chosen:
        if not -1 <= token < n_vocab:
            raise InputError(f"suppress_tokens names {token}, but the tokens are 0 to {n_vocab - 1} (or −1).")
    if -1 in chosen:
        chosen |= set(non_speech_tokens(tokenizer))
    return sorted((chosen - {-1}) | set(rules.special))


def _suppressed_first(options: DecodingOptions, rules: Rules, tokenizer: Tokenizer) -> list[int]:
    if options.suppress_blank is None:
        return list(rules.suppressed_first)
    return [*tokenizer.encode(" "), rules.end] if options.suppress_blank else []
