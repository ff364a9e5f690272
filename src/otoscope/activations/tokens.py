"""Encoder and decoder side by side: one row for each text token, for dictionaries that read both stacks.

A token's row of a decoder site is what the decoder had when it read that token. Its row of an encoder site is the mean
over the frames that it attended to then, weighted by the cross-attention of the alignment heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.activations.shuffle import Block, FrameBatch, blocks_of, shuffled_batches
from otoscope.activations.statistics import SiteStatistics
from otoscope.audio import Clip
from otoscope.errors import InputError, nearest
from otoscope.models import Position, SpeechModel
from otoscope.models.generation import alignment_heads
from otoscope.progress import ProgressReport, track


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Activations by text token, in memory: what `train` takes beside an `ActivationStore`.

    Attributes:
        frames: float32 `[n, d]` of each site, the tokens of all clips one after another.
        clips: clip id → (first row, number of tokens).
        tokens: which token each row is.
        meta: the model, and how rows were made.
    """

    frames: Mapping[str, Tensor]
    clips: Mapping[str, tuple[int, int]]
    tokens: tuple[Position, ...]
    meta: Mapping[str, Any]

    @property
    def sites(self) -> tuple[str, ...]:
        """Canonical names."""
        return tuple(self.frames)

    @property
    def n_frames(self) -> int:
        """Number of rows: tokens, not frames, but training counts them alike."""
        return len(self.tokens)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over model, clips and activations."""
        digest = hashlib.sha256(repr([self.meta["weights_hash"], list(self.clips.items())]).encode())
        for site, frames in self.frames.items():
            digest.update(site.encode())
            digest.update(frames.numpy().tobytes())
        return digest.hexdigest()

    def d(self, site: str) -> int:
        """Return the width of a site."""
        return int(self._site(site).shape[1])

    def mean(self, site: str) -> np.ndarray:
        """Return the mean of each unit `[d]`, fp64, over all tokens."""
        return self._statistics[self._name(site)].mean

    def scale(self, site: str) -> float:
        """Return the factor that gives centred rows a mean squared length of d."""
        return self._statistics[self._name(site)].scale

    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return rows `[start, stop)` as float32 `[n, d]`."""
        return self._site(site)[start:stop].numpy()

    def clip(self, site: str, clip_id: str) -> np.ndarray:
        """Return the rows of a clip as float32 `[n, d]`.

        Raises:
            InputError: unknown site or clip.
        """
        first, count = self._span(clip_id)
        return self.read(site, first, first + count)

    def batches(
        self,
        sites: Sequence[str],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[FrameBatch]:
        """Yield every token (of `clips`) once, shuffled, as `ActivationStore.batches` does.

        Raises:
            InputError: unknown site or clip.
        """
        names = [self._name(site) for site in sites]
        chosen = self.clips if clips is None else dict.fromkeys(clips)
        spans = sorted((first, first + count) for first, count in map(self._span, chosen))

        def read(pool: Sequence[Block]) -> list[Tensor]:
            return [torch.cat([self.frames[name][a:b] for block in pool for a, b in block]) for name in names]

        found = shuffled_batches(
            read, blocks_of(spans, segment), batch_size, seed=seed, epoch=epoch, segment=segment, skip=skip
        )
        return (FrameBatch(dict(zip(names, rows, strict=True)), segment, inside) for rows, inside in found)

    def unpaired(self, seed: int = 0) -> TokenStore:
        """Return the control in which encoder and decoder rows belong to different tokens: nothing can be shared."""
        order = torch.randperm(self.n_frames, generator=torch.Generator().manual_seed(seed))
        frames = {site: x[order] if site.startswith("encoder") else x for site, x in self.frames.items()}
        return replace(self, frames=frames, meta={**self.meta, "unpaired": seed})

    @cached_property
    def _statistics(self) -> dict[str, SiteStatistics]:
        return {site: SiteStatistics.of(frames) for site, frames in self.frames.items()}

    def _name(self, site: str) -> str:
        if site not in self.frames:
            raise InputError(
                f"This store has no site {str(site)!r}; it has {', '.join(self.frames)}"
                f"{nearest(str(site), self.frames) or '.'}"
            )
        return str(site)

    def _site(self, site: str) -> Tensor:
        return self.frames[self._name(site)]

    def _span(self, clip_id: str) -> tuple[int, int]:
        if clip_id not in self.clips:
            raise InputError(f"This store has no clip {clip_id!r}{nearest(clip_id, self.clips) or '.'}")
        return self.clips[clip_id]

    def __repr__(self) -> str:
        sites = ", ".join(f"{site} (d={self.d(site)})" for site in self.frames)
        return f"TokenStore({self.n_frames:,} tokens of {len(self.clips):,} clips; {sites})"


def token_activations(
    model: SpeechModel,
    clips: Collection[Clip],
    sites: Sequence[str],
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    progress: bool | ProgressReport = True,
) -> TokenStore:
    """Run the model on the transcripts of clips and return encoder and decoder sites by text token.

    The decoder is made to read each clip's text (teacher forcing). Clips without text are left out. `heads` are the
    decoder heads `(layer, head)` whose attention says which frames belong to a token (default: see `alignment_heads`).

    Raises:
        InputError: a model without a text decoder, an unknown site or one that is a map, a clip that is longer than
            a window, or no clip with a text.
    """
    if not model.writes_with_decoder:
        raise InputError(f"{model.name} has no text decoder, so it reads no tokens.")
    chosen = list(dict.fromkeys(model.site(str(site)) for site in sites))
    for site in chosen:
        if site.is_map or site.kind == "mel":
            raise InputError(f"{site} has no vector for a token; name sites of the encoder's or decoder's layers.")
    spoken = [clip for clip in clips if clip.text and clip.text.strip()]
    if not chosen or not spoken:
        raise InputError("Name at least one site, and give at least one clip with a text.")
    maps = [
        f"decoder.{layer}.cross.pattern[{head}]"
        for layer, head in alignment_heads(heads, model.checkpoint.generation, model.dims)
    ]
    parts: dict[str, list[Tensor]] = {str(site): [] for site in chosen}
    spans: dict[str, tuple[int, int]] = {}
    tokens: list[Position] = []
    with track("tokens", len(spoken), progress, unit="clips") as advance:
        for clip in spoken:
            run = model.run(clip, [*parts, *maps], text=clip.text, language=_language(model, clip))
            rows = [row for row, position in enumerate(run.positions) if position.kind == "text"]
            attention = torch.stack([run[name][rows] for name in maps]).mean(dim=0)
            attention = attention / attention.sum(dim=1, keepdim=True).clamp_min(1e-12)
            for site in chosen:
                values = run[str(site)]
                parts[str(site)].append(values[rows] if site.of_text(model.dims) else attention @ values)
            spans[clip.clip_id] = (len(tokens), len(rows))
            tokens += [run.positions[row] for row in rows]
            advance(1)
    meta = {"model": model.name, "weights_hash": model.weights_hash, "alignment_heads": maps, "rows": "text tokens"}
    return TokenStore({site: torch.cat(found) for site, found in parts.items()}, spans, tuple(tokens), meta)


def _language(model: SpeechModel, clip: Clip) -> str | None:
    """The language to force: the clip's, where the model knows it."""
    known = clip.language is not None and clip.language.lower() in model.rules.languages
    return clip.language if known and model.rules.needs_language() else None
