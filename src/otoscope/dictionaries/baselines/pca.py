"""Principal components, both signs: how far the directions of largest variance get without learning features."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries.baselines.basis import Basis
from otoscope.dictionaries.registry import register
from otoscope.errors import InputError


class Frames(Protocol):
    """What fitting needs of an `ActivationStore`."""

    @property
    def sites(self) -> Sequence[str]: ...
    @property
    def clips(self) -> Mapping[str, tuple[int, int]]: ...

    def iter_clips(self, site: str) -> Iterator[tuple[str, np.ndarray]]: ...


@register
class PCA(Basis):
    """The principal components of a site's activations; the `k` strongest projections are kept, whatever their sign.

    Feature `i < m` is the positive side of component `i` of `m`, strongest first; feature `m + i` is its negative
    side, printed as `"i−"`.
    """

    kind: ClassVar[str] = "pca"

    def __init__(
        self,
        site: str,
        components: Tensor,
        k: int = 32,
        *,
        mean: Tensor | None = None,
        name: str = "pca",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        rows = torch.cat([components, -components]).detach().float().contiguous()
        super().__init__(site, rows, k, mean=mean, name=name, metadata=metadata)

    @classmethod
    def fit(
        cls,
        store: Frames,
        site: str | None = None,
        *,
        k: int = 32,
        n_components: int | None = None,
        clips: Collection[str] | None = None,
        name: str = "pca",
    ) -> PCA:
        """Return the components of the frames of one site, read clip by clip, sums in fp64.

        Args:
            store: harvested activations.
            site: canonical name; may be left out if the store has one site.
            k: entries kept per frame.
            n_components: components to keep, strongest first; None: all.
            clips: ids of the clips to fit on; None: all.

        Raises:
            InputError: the site must be named, there are no frames, or fewer units than `n_components`.
        """
        if site is None:
            if len(store.sites) != 1:
                raise InputError(f"The store has several sites ({', '.join(map(str, store.sites))}); name one of them.")
            site = str(store.sites[0])
        count, total, square = _sums(store, site, clips)
        m = len(total) if n_components is None else n_components
        if not 1 <= m <= len(total):
            raise InputError(f"n_components must be between 1 and the {len(total)} units of {site}, got {m}.")
        mean = total / count
        components = np.linalg.eigh(square / count - np.outer(mean, mean))[1][:, ::-1][:, :m].T
        # A component has no sign of its own: its largest entry is made positive, so that fits can be compared.
        largest = components[np.arange(m), np.abs(components).argmax(axis=1)]
        rows = torch.from_numpy(components * np.sign(largest)[:, None])
        return cls(site, rows, min(k, 2 * m), mean=torch.from_numpy(mean), name=name)

    def unit_label(self, index: int) -> str:
        """Return the component's number, with a minus sign after it for the negative side."""
        m = self.n_features // 2
        return str(self._check(index)) if index < m else f"{self._check(index) - m}−"

    @classmethod
    def from_saved(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str) -> PCA:
        """Build the basis from its saved directions."""
        rows = tensors["W_dec"]
        return cls(site, rows[: len(rows) // 2], int(config["k"]), mean=tensors["b_dec"], name=name)


def _sums(store: Frames, site: str, clips: Collection[str] | None) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of frames, their sum `[d]` and the sum of their outer products `[d, d]`."""
    wanted = None if clips is None else set(clips)
    count, total, square = 0, np.zeros(0), np.zeros(0)
    for clip, frames in store.iter_clips(site):
        if len(frames) and (wanted is None or clip in wanted):
            exact = frames.astype(np.float64)
            count += len(exact)
            total = exact.sum(axis=0) + (total if total.size else 0)
            square = exact.T @ exact + (square if square.size else 0)
    if not count:
        raise InputError("There are no frames to fit principal components to.")
    return count, total, square
