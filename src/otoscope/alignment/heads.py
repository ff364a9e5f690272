"""Which decoder heads follow the speech: each head and each set of heads measured on clips with known words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from otoscope.alignment.lexicon import plain_word
from otoscope.alignment.words import language_of
from otoscope.audio import Clip
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

Head = tuple[int, int]
_WORST_S = 0.5
"""An error counts as this much at most, so that one lost clip does not decide."""
_KEPT = 4
"""For each head wanted, so many of the best alone are tried together."""


@dataclass(frozen=True)
class HeadScore:
    """How well a set of heads tells where words begin and end."""

    heads: tuple[Head, ...]
    error_ms: float
    """Mean error of a boundary, each at most 500 ms."""
    within_50: float
    """Share of boundaries within 50 ms."""


@dataclass(frozen=True)
class HeadChoice:
    """The heads chosen for a model, and everything they were chosen by."""

    heads: tuple[Head, ...]
    alone: tuple[HeadScore, ...]
    """Every head alone, best first, on the clips chosen by."""
    together: tuple[HeadScore, ...]
    """The best set of 1, 2, 3 … heads, each grown from the one before, on the same clips."""
    held_out: HeadScore | None
    """The chosen heads on the clips of other speakers."""
    default_held_out: HeadScore | None
    """The checkpoint's own heads on those clips."""

    def __repr__(self) -> str:
        best = self.together[len(self.heads) - 1]
        text = f"HeadChoice({list(self.heads)}: {best.error_ms:.0f} ms, {best.within_50:.0%} ≤ 50 ms"
        if self.held_out and self.default_held_out:
            text += f"; held out {self.held_out.error_ms:.0f} ms, checkpoint's {self.default_held_out.error_ms:.0f} ms"
        return text + ")"


def choose_heads(model: SpeechModel, clips: Sequence[Clip], held_out: Sequence[Clip] = (), *, n: int = 6) -> HeadChoice:
    """Choose up to `n` decoder heads for `align_words` by the word errors they make on `clips` (tier `words`).

    Every head is scored alone; then heads are added one by one, each time the one that lowers the mean error most,
    as long as one does. `held_out` clips, of other speakers, say what the choice is worth. Deterministic.

    Raises:
        InputError: no clip with words that fits a window, or a speaker or clip on both sides.
    """
    if not model.dims.n_decoder_layers:
        raise InputError(f"{model.name} has no text decoder, so it has no heads to align words by.")
    if n < 1:
        raise InputError(f"n={n} heads cannot be chosen; give 1 or more.")
    _check_apart(clips, held_out)
    every = [
        (layer, head) for layer in range(model.dims.n_decoder_layers) for head in range(model.dims.n_decoder_heads)
    ]
    usable = usable_clips(model, clips)
    alone_s: dict[Head, list[np.ndarray]] = {head: [] for head in every}
    for clip in usable:
        maps = _maps(model, clip, every)
        for index, head in enumerate(every):
            alone_s[head].append(_errors_s(maps, [index], clip, model))
    alone = sorted((_score((head,), errors) for head, errors in alone_s.items()), key=lambda s: (s.error_ms, s.heads))
    kept = [score.heads[0] for score in alone[: max(n, _KEPT * n)]]
    together = _grow(model, usable, kept, n)
    best = min(range(len(together)), key=lambda i: (together[i].error_ms, i))
    heads = together[best].heads
    ours = default = None
    if held_out:
        ours, default = score_heads(model, held_out, heads), score_heads(model, held_out, heads_of(model))
    return HeadChoice(heads, tuple(alone), tuple(together[: best + 1]), ours, default)


def heads_of(model: SpeechModel, heads: Sequence[Head] | None = None) -> tuple[Head, ...]:
    """Return the given heads, else those that the checkpoint names, else all of the upper half (as openai-whisper).

    Raises:
        InputError: no head, or one that the model does not have.
    """
    from otoscope.models.generation import alignment_heads

    return tuple(alignment_heads(heads, dict(model.checkpoint.generation), model.dims))


def score_heads(model: SpeechModel, clips: Sequence[Clip], heads: Sequence[Head]) -> HeadScore:
    """Return the errors that a set of heads makes on clips with known words."""
    errors = [
        _errors_s(_maps(model, clip, heads), range(len(heads)), clip, model) for clip in usable_clips(model, clips)
    ]
    return _score(tuple(heads), errors)


def usable_clips(model: SpeechModel, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with known words that fit one window.

    Raises:
        InputError: there is none.
    """
    found = [clip for clip in clips if clip.tier("words") and clip.duration_s <= model.dims.window_s]
    if not found:
        raise InputError(
            f"None of {len(clips)} clips has a words tier and fits the window of {model.dims.window_s:g} s, so heads "
            "cannot be measured."
        )
    return found


def _check_apart(clips: Sequence[Clip], held_out: Sequence[Clip]) -> None:
    ours = {clip.speaker for clip in clips if clip.speaker} | {clip.clip_id for clip in clips}
    both = sorted({name for clip in held_out for name in (clip.speaker, clip.clip_id) if name in ours and name})
    if both:
        raise InputError(f"{', '.join(both[:5])} is both chosen by and held out; hold out other speakers.")


def _grow(model: SpeechModel, clips: Sequence[Clip], kept: Sequence[Head], n: int) -> list[HeadScore]:
    maps = [_maps(model, clip, kept) for clip in clips]
    chosen: list[int] = []
    steps: list[HeadScore] = []
    while len(chosen) < min(n, len(kept)):
        rest = [index for index in range(len(kept)) if index not in chosen]
        tried = []
        for index in rest:
            members = [*chosen, index]
            errors = [_errors_s(each, members, clip, model) for each, clip in zip(maps, clips, strict=True)]
            tried.append((_score(tuple(kept[i] for i in members), errors), index))
        score, index = min(tried, key=lambda pair: (pair[0].error_ms, pair[1]))
        chosen.append(index)
        steps.append(score)
    return steps


def _maps(model: SpeechModel, clip: Clip, heads: Sequence[Head]) -> tuple[torch.Tensor, list[int]]:
    """How well each token fits each frame by each head, `[h, n + 1, k]`, and how many tokens each word has."""
    from otoscope.models.generation import token_matrix
    from otoscope.models.generation.words import split_words

    text = " ".join(each.label for each in clip.tier("words"))
    language = language_of(model, clip)
    run = model.run(
        clip, [f"decoder.{layer}.cross.scores[{head}]" for layer, head in heads], text=text, language=language
    )
    scores = torch.stack(
        [run[f"decoder.{layer}.cross.scores[{head}]"].reshape(len(run.positions), -1) for layer, head in heads]
    )
    matrices = torch.stack([token_matrix(one[None]) for one in scores])
    first = sum(position.kind == "prompt" for position in run.positions) - 1
    assert model.tokenizer is not None
    _, ids = split_words([p.id for p in run.positions if p.kind == "text"], model.tokenizer, language)
    return matrices[:, first:], [len(each) for each in ids]


def _errors_s(maps: tuple[torch.Tensor, list[int]], heads: Sequence[int], clip: Clip, model: SpeechModel) -> np.ndarray:
    """The absolute error of each word's start and end, in seconds, by the mean of some heads' maps.

    The first start and the last end are left out: `align_words` finds them by the pauses around the speech.
    """
    from otoscope.models.generation import dtw

    matrices, lengths = maps
    rows, columns = dtw(-matrices[list(heads)].mean(0).double().numpy())
    times_s = columns[np.diff(rows, prepend=-1) > 0] * model.clock.frame_s
    edges_s = times_s[np.cumsum([0, *lengths])]
    known = [each for each in clip.tier("words") if plain_word(each.label)]
    inner = max(0, 2 * len(known) - 2)
    if len(known) != len(lengths):
        return np.full(inner, _WORST_S)
    found = np.stack([edges_s[:-1], edges_s[1:]], 1).ravel()
    errors: np.ndarray = np.abs(found - [edge for each in known for edge in (each.start_s, each.end_s)])[1:-1]
    return errors


def _score(heads: tuple[Head, ...], errors_s: Sequence[np.ndarray]) -> HeadScore:
    every = np.concatenate(errors_s)
    if not len(every):
        raise InputError("No clip has two words or more, so there is no boundary to measure heads by.")
    return HeadScore(heads, float(np.minimum(every, _WORST_S).mean() * 1000), float((every <= 0.05 + 1e-9).mean()))
