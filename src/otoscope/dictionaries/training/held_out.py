"""How well a dictionary in training rebuilds clips that it does not learn from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.training.learner import Scaling, Spec
from otoscope.dictionaries.training.sources import FrameSource, count_frames

HELD_OUT_FRAMES = 1 << 13
"""Frames after which no further held-out clip is read: enough for three digits, and quick."""


class HeldOut:
    """Whole held-out clips, up to about `HELD_OUT_FRAMES` frames, spread evenly over those that were asked for."""

    def __init__(self, source: FrameSource, clips: Collection[str]) -> None:
        self._source = source
        names = sorted(set(clips))
        mean_length = count_frames(source, names) / len(names)
        wanted = max(int(HELD_OUT_FRAMES / mean_length), 1)
        self._clips = names[:: max(len(names) // wanted, 1)]
        self._held: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def score(self, dictionary: Dictionary, spec: Spec, sites: Sequence[str], scaling: Scaling) -> dict[str, float]:
        """Return FVU (in the scale of training, about these frames' mean), L0 and the share of silent features."""
        inputs = sites[:1] if spec.reads == "in_out" else sites
        clips = [torch.cat(parts, dim=1) for parts in zip(*map(self._frames, inputs), strict=True)]
        targets = self._frames(sites[1]) if spec.reads == "in_out" else clips
        factors = scaling.scale_out.float()
        active = torch.zeros(dictionary.n_features, dtype=torch.bool)
        error, entries = torch.zeros((), dtype=torch.float64), 0
        for x, y in zip(clips, targets, strict=True):
            code = dictionary.encode(x)
            error += ((y - dictionary.decode(code)) * factors).double().square().sum()
            on = code.values != 0
            entries += int(on.sum())
            active[code.indices[on].long()] = True
        whole = torch.cat(targets).double() * scaling.scale_out
        variance = (whole - whole.mean(dim=0)).square().sum()
        return {
            "held_out_fvu": float(error / variance),
            "held_out_l0": entries / len(whole),
            "held_out_silent_share": float((~active).double().mean()),
        }

    def _frames(self, site: str) -> list[Tensor]:
        if site not in self._held:
            self._held[site] = [torch.from_numpy(self._source.clip(site, clip)).float() for clip in self._clips]
        return self._held[site]
