"""Forward passes over a clip: read under edits, for a whole sweep of edits at once, and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from otoscope.errors import InputError
from otoscope.models.dims import Dims
from otoscope.models.edits import BoundEdit, Edit, bind_edits
from otoscope.models.generation import DecodingOptions, Transcript, transcribe_clips
from otoscope.models.loaded import LoadedModel
from otoscope.models.networks.taps import Tape
from otoscope.models.run import Position, Run
from otoscope.models.sites import Site

if TYPE_CHECKING:
    from otoscope.audio import Clip
    from otoscope.models.front_end import Window

_BYTES_AT_ONCE = 1 << 28
"""Memory for the widest activation of the rows of a sweep that are computed together."""

Objective = str | tuple[str, Callable[[Tensor], Tensor]] | Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class Gradients:
    """A number computed from one pass, the activations it was computed with, and its gradient at them."""

    value: float
    values: Run
    gradients: Run
    """By site, of the same shapes as in `values`; 0 where the number does not depend on a value."""


def run_each(
    model: LoadedModel,
    clip: Clip,
    sites: Sequence[Site],
    sweep: Sequence[Sequence[Edit]],
    text: str | None,
    language: str | None,
) -> list[Run]:
    """Run the clip once for each list of edits; lists share one forward pass (see `SpeechModel.run_each`)."""
    for edits in sweep:
        bind_edits(edits, model.dims)  # refuses before the clip is opened
    bound = [bind_edits(edits, model.dims, clip.duration_s) for edits in sweep]
    windows = model.windows(clip)
    maps = [site for site in sites if site.is_map]
    if maps:
        _check_one_window(model, clip, windows, str(maps[0]))
    tokens = tokens_read(model, clip, windows, sites, sweep, text, language)
    pieces: list[dict[str, list[Tensor]]] = [{str(site): [] for site in sites} for _ in sweep]
    size = max(1, _BYTES_AT_ONCE // (4 * max(1, model.dims.n_positions) * model.dims.d_mlp))
    for start in range(0, len(sweep), size):
        rows = range(start, min(start + size, len(sweep)))
        for number, window in enumerate(windows):
            here = [tokens[row][number] for row in rows]
            tape = _tape(sites, [bound[row] for row in rows], window.start_s)
            model.forward(tape, window.input[None], _ids(here))
            for site in sites:
                values = tape.read(site, site.n_heads(model.dims))
                for row, value, positions in zip(rows, values, here, strict=True):
                    kept = trim(value, site, model.dims, window.n_frames, len(positions))
                    pieces[row][str(site)].append(kept.to("cpu", torch.float32))
    return [
        Run(
            clip.clip_id,
            model.name,
            model.dims,
            {name: torch.cat(parts, -2).contiguous() for name, parts in pieces[row].items()},
            tuple(position for positions in tokens[row] for position in positions),
        )
        for row in range(len(sweep))
    ]


def trim(value: Tensor, site: Site, dims: Dims, n_frames: int, n_tokens: int | None = None) -> Tensor:
    """Keep what `n_frames` 20-ms frames and `n_tokens` tokens (None: all) fill: rows, or queries and keys of maps."""
    of_text = site.of_text(dims)
    n_kept = n_frames * max(site.row.hz, 50) // 50 if dims.n_mels else None
    if not site.is_map:
        return value[..., : n_tokens if of_text else n_kept, :]
    if of_text:
        return value[..., :n_tokens, : n_tokens if site.kind.startswith("attn") else n_kept]
    return value[..., :n_kept, :n_kept]


def differentiate(
    model: LoadedModel,
    clip: Clip,
    of: Objective,
    wrt: Sequence[Site],
    read: Sequence[Site],
    edits: Sequence[Edit],
    text: str | None,
    language: str | None,
) -> Gradients:
    """Return a number and its gradients at sites (see `SpeechModel.gradients`)."""
    goal = model.site(of if isinstance(of, str) else of[0]) if isinstance(of, str | tuple) else None
    sites = list(dict.fromkeys([*wrt, *read, *([] if goal is None else [goal])]))
    bound = bind_edits(edits, model.dims, clip.duration_s)
    windows = model.windows(clip)
    _check_one_window(model, clip, windows, "a gradient")
    (positions,) = tokens_read(model, clip, windows, sites, [edits], text, language)[0]
    tape = _tape(sites, [bound], 0.0)
    model.forward(tape, windows[0].input[None], _ids([positions]), differentiable=True)

    def as_run(find: Callable[[Site], Tensor], which: Sequence[Site]) -> Run:
        kept = {str(s): trim(find(s), s, model.dims, windows[0].n_frames, len(positions)) for s in which}
        return Run(clip.clip_id, model.name, model.dims, kept, tuple(positions))

    with torch.enable_grad():
        values = as_run(lambda site: tape.read(site, site.n_heads(model.dims))[0], sites)
        objective = _objective(of, goal, values)
        bases = {site.base: tape.values[site.base] for site in wrt}
        slopes = torch.autograd.grad(objective, list(bases.values()), allow_unused=True)
    filled = [
        torch.zeros_like(base) if slope is None else slope for base, slope in zip(bases.values(), slopes, strict=True)
    ]
    tape.values = {name: value.detach() for name, value in tape.values.items()}
    plain = as_run(lambda site: _plain(tape.read(site, site.n_heads(model.dims))[0]), sites)
    tape.values = dict(zip(bases, filled, strict=True))
    slopes_at = as_run(lambda site: _plain(tape.read(site, site.n_heads(model.dims))[0]), wrt)
    return Gradients(float(objective.detach()), plain, slopes_at)


def _objective(of: Objective, goal: Site | None, values: Run) -> Tensor:
    if isinstance(of, tuple) and goal is not None:
        objective = of[1](values[str(goal)])
    elif goal is not None:
        objective = values[str(goal)].sum()
    else:
        assert callable(of)
        objective = of(values)
    if not isinstance(objective, Tensor) or objective.numel() != 1:
        raise InputError("Gradients are taken of one number: reduce the values to a tensor of a single element.")
    if not objective.requires_grad:
        raise InputError("The number depends on none of the values read, so it has no gradient.")
    return objective.reshape(())


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64 if value.dtype == torch.float64 else torch.float32)


def _tape(sites: Sequence[Site], bound: Sequence[Sequence[BoundEdit]], start_s: float) -> Tape:
    if len(bound) == 1:
        return Tape(sites, bound[0], [start_s])
    return Tape(sites, (), [start_s] * len(bound), row_edits=bound)


def _check_one_window(model: LoadedModel, clip: Clip, windows: Sequence[Window], what: str) -> None:
    if len(windows) > 1:
        raise InputError(
            f"{what} exists within one window of {model.dims.window_s:g} s, but {clip.clip_id!r} spans "
            f"{len(windows)}; cut it with start_s and end_s."
        )


def tokens_read(
    model: LoadedModel,
    clip: Clip,
    windows: Sequence[Window],
    sites: Sequence[Site],
    sweep: Sequence[Sequence[Edit]],
    text: str | None,
    language: str | None,
) -> list[list[list[Position]]]:
    """For each list of edits, the tokens that the decoder reads in each window; none where it need not run."""
    if not model.writes_with_decoder and (text is not None or language is not None):
        raise InputError(f"{model.name} has no text decoder that could be forced; leave out the text and the language.")
    if not model.writes_with_decoder or not any(site.needs_text(model.dims) for site in sites):
        return [[[] for _ in windows] for _ in sweep]
    if text is not None:
        _check_one_window(model, clip, windows, "a forced text")
        if language is None and model.rules.needs_language():
            heard = transcribe_clips(model, [clip] * len(sweep), sweep, DecodingOptions(max_tokens=1))
            return [_positions(model, windows, text, transcript.language) for transcript in heard]
        return [_positions(model, windows, text, language)] * len(sweep)
    written = transcribe_clips(model, [clip] * len(sweep), sweep, DecodingOptions(language=language))
    return [_positions(model, windows, transcript, language) for transcript in written]


def _positions(
    model: LoadedModel, windows: Sequence[Window], text: str | Transcript, language: str | None
) -> list[list[Position]]:
    """The tokens that the decoder reads in each window: the prompt and the text, given or generated."""
    tokenizer = model.require_tokenizer()
    if isinstance(text, Transcript):
        transcript, language = text, text.language
        written = [[t.id for t in transcript.tokens if t.window == index] for index in range(len(windows))]
    else:
        written = [tokenizer.encode(" " + text.strip())]
    prompt = model.rules.prompt_for(language)
    limit = model.dims.n_text_positions - len(prompt)
    if len(written[0]) > limit:
        raise InputError(f"The text has {len(written[0])} tokens; the decoder has room for {limit}.")
    return [
        [Position(index, tokenizer.decode([index]), "prompt", number) for index in prompt]
        + [Position(index, tokenizer.decode([index]), "text", number) for index in ids]
        for number, ids in enumerate(written)
    ]


def _ids(rows: Sequence[Sequence[Position]]) -> Tensor | None:
    """The tokens of the rows of a sweep `[b, n]`, filled up to one length; one row where all are the same."""
    lists = [[position.id for position in row] for row in rows]
    longest = max(len(ids) for ids in lists)
    if not longest:
        return None
    if all(ids == lists[0] for ids in lists):
        return torch.tensor(lists[:1])
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in lists])
