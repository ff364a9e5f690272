"""Where the origin and the unit of length of training lie: statistics of the source, or of a sample of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from otoscope.activations import SiteStatistics
from otoscope.dictionaries.autoencoder import normalise
from otoscope.dictionaries.training.learner import Spec
from otoscope.dictionaries.training.settings import Settings
from otoscope.dictionaries.training.sources import FrameSource, SiteScale

SAMPLE_FRAMES = 1 << 14
"""Frames from which a geometric median, or the statistics of normalised frames, are computed."""
_TINY = 1e-12


def site_scales(
    source: FrameSource, sites: Sequence[str], settings: Settings, clips: Collection[str] | None
) -> dict[str, SiteScale]:
    """Return how each site is centred and scaled."""
    result = {}
    for site in sites:
        if settings.normalisation == "none":
            mean = torch.as_tensor(source.mean(site), dtype=torch.float64)
            scale = float(source.scale(site))
        else:
            frames = normalise(sample(source, site, settings.order_seed, clips), settings.normalisation)[0]
            statistics = SiteStatistics.of(frames)
            mean, scale = torch.as_tensor(statistics.mean), statistics.scale
        if settings.centring == "none":
            scale = math.sqrt(len(mean) / (len(mean) / scale**2 + float(mean.square().sum())))
            mean = torch.zeros_like(mean)
        result[site] = SiteScale(mean, scale if settings.scaling else 1.0, settings.normalisation)
    return result


def start_of_bias(
    source: FrameSource,
    spec: Spec,
    sites: Sequence[str],
    settings: Settings,
    scales: dict[str, SiteScale],
    clips: Collection[str] | None,
) -> Tensor | None:
    """Return where the bias of the output starts, `[d_out]` in centred and scaled units; None: at 0."""
    if settings.centring != "geometric-median":
        return None
    rebuilt = sites[1:] if spec.reads == "in_out" else sites
    medians = [
        geometric_median(scales[site].apply(sample(source, site, settings.order_seed, clips))) for site in rebuilt
    ]
    return torch.cat(medians)


def sample(source: FrameSource, site: str, seed: int, clips: Collection[str] | None) -> Tensor:
    """Return up to `SAMPLE_FRAMES` random frames of a site, float32 `[t, d]`."""
    batches = source.batches([site], SAMPLE_FRAMES, seed=seed, epoch=0, clips=clips)
    return next(iter(batches)).frames[site]


def geometric_median(x: Tensor, *, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Return the point with the least sum of distances to the rows of `x` `[t, d]`, float32 `[d]`.

    Weiszfeld's iteration (1937) in fp64, until it moves less than `tolerance` of the typical distance.
    """
    x = x.double()
    median = x.mean(dim=0)
    for _ in range(steps):
        distances = (x - median).norm(dim=1).clamp_min(_TINY)
        weights = 1 / distances
        moved = weights @ x / weights.sum()
        shift = float((moved - median).norm())
        median = moved
        if shift <= tolerance * float(distances.mean()):
            break
    return median.float()
