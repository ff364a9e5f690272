"""How much of the activations a dictionary rebuilds, and with how many features."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, nearest

DENSE_SHARE = 0.1
BLOCK = 8192


@dataclass(frozen=True)
class Reconstruction:
    """The quality of a dictionary on some frames.

    Attributes:
        fvu: fraction of variance unexplained, `Σ‖x − x̂‖² / Σ‖x − x̄‖²` over all frames at once, `x̄` their mean.
        l0: mean number of active features per frame; an entry of value 0 is not active.
        dead_share: share of features that are active in no frame.
        dense_share: share of features that are active in more than a tenth of the frames.
        n_frames: frames that were counted.
    """

    fvu: float
    l0: float
    dead_share: float
    dense_share: float
    n_frames: int


class ClipFrames(Protocol):
    """What evaluation needs of an `ActivationStore`."""

    @property
    def clips(self) -> Mapping[str, tuple[int, int]]: ...
    def mean(self, site: str) -> np.ndarray: ...
    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray: ...


def reconstruction(dictionary: Dictionary, store: ClipFrames, clips: Collection[str] | None = None) -> Reconstruction:
    """Measure `dictionary` on the frames of `clips` (ids; None: all clips), in one pass with 64-bit sums.

    Raises:
        InputError: unknown clip, or no frames.
    """
    # Sums are taken around the store's mean: exact for any shift, and safe from cancellation with a large mean.
    shift = torch.as_tensor(store.mean(dictionary.site), dtype=torch.float64)
    total, squares = torch.zeros_like(shift), torch.zeros_like(shift)
    error, n_frames = 0.0, 0
    counts = torch.zeros(dictionary.n_features, dtype=torch.int64)
    for x in _blocks(store, dictionary.site, clips):
        code = dictionary.encode(x)
        error += float((x.double() - dictionary.decode(code).double()).square().sum())
        shifted = x.double() - shift
        total += shifted.sum(dim=0)
        squares += shifted.square().sum(dim=0)
        counts += torch.bincount(code.indices[code.values != 0].long(), minlength=dictionary.n_features)
        n_frames += len(x)
    if n_frames == 0:
        raise InputError("There are no frames to measure the reconstruction on.")
    variance = float((squares - total.square() / n_frames).sum())
    return Reconstruction(
        fvu=error / variance if variance > 0 else float("nan"),
        l0=float(counts.sum()) / n_frames,
        dead_share=float((counts == 0).double().mean()),
        dense_share=float((counts > DENSE_SHARE * n_frames).double().mean()),
        n_frames=n_frames,
    )


def _blocks(store: ClipFrames, site: str, clips: Collection[str] | None) -> Iterator[Tensor]:
    names = list(store.clips if clips is None else clips)
    unknown = [name for name in names if name not in store.clips]
    if unknown:
        raise InputError(f"The store has no clip {unknown[0]!r}{nearest(unknown[0], store.clips)}")
    for name in names:
        offset, count = store.clips[name]
        for start in range(offset, offset + count, BLOCK):
            stop = min(start + BLOCK, offset + count)
            yield torch.from_numpy(np.ascontiguousarray(store.read(site, start, stop)))
