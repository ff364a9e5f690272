"""What every dictionary can do: encode activations into features, decode them, and hand out single features to edit."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
from torch import Tensor

from otoscope.dictionaries.sparse_code import SparseCode, check_feature
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.models import Edit, Run
    from otoscope.models.edits import Op, Where


class Dictionary(ABC):
    """A set of directions read out of one site of a model.

    Attributes:
        kind: name of the architecture, as saved and registered.
        dense: True where nearly every entry is non-zero (neurons), False for sparse codes.
        context: frames on either side that the code of a frame depends on. 0: every frame stands alone and may be
            encoded in any company; more: `encode` and `decode` take contiguous frames of one clip, best the whole clip.
        name: what people call this dictionary; a saved one is named after its folder.
        site: canonical name of the site whose activations it reads; of the first, where it reads several.
        sites: all sites that it reads, side by side.
        target_site: canonical name of the site that it rebuilds: `site`, but for transcoders.
        d_in: width of what it reads.
        d_out: width of what it rebuilds.
        n_features: number of features.
        metadata: how it was made; saved with it and not interpreted.
    """

    kind: ClassVar[str]
    dense: ClassVar[bool] = False
    context: int = 0

    def __init__(
        self,
        *,
        name: str,
        site: str,
        d_in: int,
        n_features: int,
        metadata: Mapping[str, Any] | None = None,
        d_out: int | None = None,
        target_site: str | None = None,
        sites: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.site = site
        self.sites: tuple[str, ...] = (site,) if sites is None else tuple(sites)
        self.target_site = site if target_site is None else target_site
        self.d_in = d_in
        self.d_out = d_in if d_out is None else d_out
        self.n_features = n_features
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._copies: dict[torch.device, Dictionary] = {}

    @abstractmethod
    def encode(self, x: Tensor) -> SparseCode:
        """Return the active features of activations `x` `[t, d_in]`."""

    @abstractmethod
    def decode(self, code: SparseCode) -> Tensor:
        """Return the activations `[t, d_out]` that `code` stands for."""

    @abstractmethod
    def directions(self, features: Sequence[int]) -> Tensor:
        """Return what one unit of each feature adds to what is rebuilt, `[len(features), d_out]`."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as it is saved in `cfg.json` (metadata apart)."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are saved, by name."""
        return {}

    @classmethod
    @abstractmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> Dictionary:
        """Build the dictionary that `config()` and `tensors()` describe."""

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        """Return the strengths of some features on activations `h` `[…, t, d_in]`, as `[…, t, len(features)]`."""
        for index in features:
            self._check(index)
        wanted = torch.as_tensor(list(features), device=h.device)
        parts = [self._on(h.device).encode(clip).features(wanted) for clip in self._clips(h)]
        return torch.cat(parts).reshape(*h.shape[:-1], len(features)).to(h.dtype)

    def feature_scale(self, h: Tensor) -> Tensor | None:
        """Return what the directions of features are multiplied by in each frame of `h` `[…, t, d]`, as `[…, t, 1]`.

        None: by 1. Dictionaries that normalise every frame write a feature at the frame's own scale.
        """
        return None

    def reconstruct(self, h: Tensor) -> Tensor:
        """Return what this dictionary makes of activations `h [..., t, d_in]`, as `[..., t, d_out]`."""
        here = self._on(h.device)
        parts = [here.decode(here.encode(clip)) for clip in self._clips(h)]
        return torch.cat(parts).reshape(*h.shape[:-1], self.d_out)

    def unit_label(self, index: int) -> str:
        """Return how people name feature `index`."""
        return str(self._check(index))

    def feature(self, index: int) -> Feature:
        """Return one feature, from which edits are made.

        Raises:
            InputError: there is no such feature; the message gives the valid range.
        """
        return Feature(self, self._check(index))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what this dictionary computes."""
        digest = hashlib.sha256(json.dumps([self.site, self.config()], sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `cfg.json` and `sae_weights.safetensors` into `folder`, replacing it as a whole."""
        from otoscope.dictionaries.formats.saelens import save_dictionary

        save_dictionary(self, folder)

    def to(self, device: str | torch.device) -> Dictionary:
        """Return this dictionary with its tensors on `device`."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        result = type(self).from_saved(self.config(), moved, name=self.name, site=self.site)
        result.metadata, result.sites, result.target_site = dict(self.metadata), self.sites, self.target_site
        return result

    def _on(self, device: torch.device) -> Dictionary:
        """Return this dictionary, or its copy on another device (kept, since edits ask for it at every step)."""
        tensors = list(self.tensors().values())
        if not tensors or tensors[0].device == device:
            return self
        if device not in self._copies:
            self._copies[device] = self.to(device)
        return self._copies[device]

    def _clips(self, h: Tensor) -> list[Tensor]:
        """Return `h [..., t, d]` as float32 pieces `[t, d]` that may be encoded each for itself."""
        h = h.float()
        return list(h.reshape(-1, *h.shape[-2:])) if self.context and h.ndim > 2 else [h.reshape(-1, h.shape[-1])]

    def _check(self, index: int) -> int:
        return check_feature(int(index), self.n_features, f"dictionary {self.name!r}")

    def _check_width(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise InputError(
                f"Dictionary {self.name!r} reads {self.site or 'activations'} of shape [frames, {self.d_in}], "
                f"got {list(x.shape)}."
            )
        return x

    def __len__(self) -> int:
        """Number of features."""
        return self.n_features

    def __repr__(self) -> str:
        where = f" of {self.site}" if self.site else ""
        return f"{type(self).__name__}({self.name!r}: {self.n_features} features{where}, width {self.d_in})"


@dataclass(frozen=True, eq=False)
class Feature:
    """One entry of a dictionary. Its methods make error-preserving edits: nothing but this feature changes."""

    dictionary: Dictionary
    index: int

    @property
    def direction(self) -> Tensor:
        """What one unit of this feature adds to the activation, `[d_in]`."""
        return self.dictionary.directions([self.index])[0]

    @property
    def address(self) -> str:
        """`dictionary:index`, as on the command line and in links."""
        return f"{self.dictionary.name}:{self.index}"

    def zero(self, **where: Unpack[Where]) -> Edit:
        """Switch the feature off: everywhere, or `where` (`time_s`, `frames` or `tokens`) says."""
        return self._edit("zero", 0.0, where)

    def scale(self, factor: float, **where: Unpack[Where]) -> Edit:
        """Multiply the feature by `factor`; it stays off where it was off."""
        return self._edit("scale", factor, where)

    def add(self, alpha: float, **where: Unpack[Where]) -> Edit:
        """Add `alpha` to the feature, which switches it on where it was off."""
        return self._edit("add", alpha, where)

    def clamp(self, value: float, **where: Unpack[Where]) -> Edit:
        """Set the feature to `value`, also where it was off."""
        return self._edit("clamp", value, where)

    def limit(self, *, low: float | None = None, high: float | None = None, **where: Unpack[Where]) -> Edit:
        """Raise the feature to `low` where it is below, and lower it to `high` where it is above."""
        return self._edit("limit", 0.0, where, low=low, high=high)

    def patch(self, run: Run, *, offset: int = 0, **where: Unpack[Where]) -> Edit:
        """Give the feature the strength that it had in another run, in which its site was read."""
        return self._edit("patch", 0.0, where, source=run[self.dictionary.site], offset=offset)

    def _edit(self, op: Op, value: float, where: Where, **more: Any) -> Edit:
        from otoscope.models import Edit

        more |= where
        site = self.dictionary.target_site
        return Edit(site, op, float(value), features=(self.index,), dictionary=self.dictionary, **more)

    def __repr__(self) -> str:
        return f"Feature({self.address} of {self.dictionary.site})"
