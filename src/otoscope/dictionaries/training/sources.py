"""Where training gets its frames from, brought to the scale in which dictionaries learn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from otoscope.activations.shuffle import FrameBatch
from otoscope.dictionaries.autoencoder import Normalisation, normalise
from otoscope.dictionaries.training.learner import Batch, Scaling, Spec
from otoscope.errors import InputError, nearest


class FrameSource(Protocol):
    """What training needs of an `ActivationStore` or of a stream from an encoder."""

    @property
    def sites(self) -> Sequence[str]: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def clips(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...

    def d(self, site: str) -> int: ...
    def mean(self, site: str) -> np.ndarray: ...
    def scale(self, site: str) -> float: ...
    def clip(self, site: str, clip_id: str) -> np.ndarray: ...
    def batches(
        self,
        sites: list[str],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        clips: Collection[str] | None = None,
        segment: int = 1,
        skip: int = 0,
    ) -> Iterator[FrameBatch]: ...


class Feed:
    """Batches of one run of training, epoch after epoch, from any place in it."""

    def __init__(
        self,
        source: FrameSource,
        sites: list[str],
        batch_size: int,
        *,
        seed: int,
        segment: int,
        clips: Collection[str] | None,
        position: tuple[int, int] = (0, 0),
    ) -> None:
        self.source, self.sites, self.batch_size = source, sites, batch_size
        self.seed, self.segment, self.clips = seed, segment, clips
        self.epoch, self.batch = position
        """The data cursor: the epoch, and the batches of it that were used."""

    def __iter__(self) -> Iterator[FrameBatch]:
        """Yield batches without end."""
        while True:
            found = self.source.batches(
                self.sites,
                self.batch_size,
                seed=self.seed,
                epoch=self.epoch,
                clips=self.clips,
                segment=self.segment,
                skip=self.batch,
            )
            for frames in found:
                self.batch += 1
                yield frames
            if self.batch == 0:
                raise InputError("There are no frames to train on.")
            self.epoch, self.batch = self.epoch + 1, 0

    @property
    def position(self) -> tuple[int, int]:
        """The data cursor, to go on from."""
        return self.epoch, self.batch


class Scaled:
    """The frames of one batch, each site centred and scaled once, for every dictionary that reads it."""

    def __init__(self, frames: FrameBatch, scales: Mapping[str, SiteScale], device: torch.device) -> None:
        self._frames, self._scales, self._device = frames, scales, device
        self._done: dict[str, Tensor] = {}
        self._inside = None if frames.inside is None else frames.inside.to(device)

    def batch(self, spec: Spec, sites: Sequence[str]) -> Batch:
        """Return what a dictionary of this architecture sees of these sites."""
        x = self._site(sites[0])
        if spec.reads == "several":
            x = torch.cat([self._site(site) for site in sites], dim=1)
        y = self._site(sites[1]) if spec.reads == "in_out" else x
        return Batch(x, y, self._frames.segment, self._inside)

    def _site(self, site: str) -> Tensor:
        if site not in self._done:
            x = self._scales[site].apply(self._frames.frames[site].to(self._device))
            self._done[site] = x if self._inside is None else x.masked_fill_(~self._inside[:, None], 0)
        return self._done[site]


class SiteScale:
    """How the frames of one site are brought to the scale of training: `(x − mean) · factor`, normalised first."""

    def __init__(self, mean: Tensor, factor: float, normalisation: Normalisation = "none") -> None:
        self.mean, self.factor, self.normalisation = mean.double(), float(factor), normalisation
        self._offset: dict[torch.device, Tensor] = {}

    def apply(self, x: Tensor) -> Tensor:
        """Return raw frames `[t, d]` normalised, centred and scaled."""
        if x.device not in self._offset:
            self._offset[x.device] = self.mean.float().to(x.device)
        return (normalise(x, self.normalisation)[0] - self._offset[x.device]) * self.factor


def scaling_of(spec: Spec, sites: Sequence[str], scales: Mapping[str, SiteScale]) -> Scaling:
    """Return how the input and the output of a dictionary are scaled."""

    def beside(names: Sequence[str]) -> tuple[Tensor, Tensor]:
        mean = torch.cat([scales[site].mean for site in names])
        factors = [torch.full_like(scales[site].mean, scales[site].factor) for site in names]
        return mean, torch.cat(factors)

    if spec.reads == "in_out":
        return Scaling(*beside(sites[:1]), *beside(sites[1:]))
    mean, factors = beside(sites)
    return Scaling(mean, factors, mean, factors)


def sites_for(source: FrameSource, spec: Spec, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sites that a dictionary reads, checked; where none is named, the only possible choice.

    Raises:
        InputError: unknown, too few or too many sites for the architecture.
    """
    known = [str(site) for site in source.sites]
    listed = ", ".join(known)
    if sites is None:
        if spec.reads == "in_out":
            raise InputError(f"A {spec.kind} reads one site and rebuilds another: name both; the store has {listed}.")
        if spec.reads == "one" and len(known) > 1:
            raise InputError(f"The store has several sites ({listed}); say which one to train on with site=.")
        return tuple(known)
    names = tuple(str(site) for site in sites)
    for name in names:
        if name not in known:
            raise InputError(f"The store has no site {name!r}{nearest(name, known) or f'; it has {listed}'}")
    if spec.reads == "one" and len(names) != 1:
        raise InputError(f"A {spec.kind} dictionary reads one site, got {len(names)}: {', '.join(names)}.")
    if spec.reads == "in_out" and len(names) != 2:
        raise InputError(f"A {spec.kind} dictionary reads one site and rebuilds another; name two, got {list(names)}.")
    if not names or len(set(names)) != len(names):
        raise InputError(f"Name each site once, got {list(names)}.")
    return names


def count_frames(source: FrameSource, clips: Collection[str] | None) -> int:
    """Return the frames of these clips (of all, if None).

    Raises:
        InputError: unknown clips, or no frames.
    """
    if clips is None:
        count = source.n_frames
    else:
        unknown = [clip for clip in clips if clip not in source.clips]
        if unknown:
            raise InputError(f"The store has no clip {unknown[0]!r}{nearest(unknown[0], source.clips)}")
        count = sum(source.clips[clip][1] for clip in set(clips))
    if count < 1:
        raise InputError("There are no frames to train on.")
    return count
