"""How much of the activations a dictionary rebuilds, and with how many features.

What is rebuilt is the site that the dictionary reads (all of them side by side, for a crosscoder), or a transcoder's
target site. Definitions, with their sources, are in `docs/measures.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, nearest
from otoscope.evaluation.frames import (
    FRAME_CLASSES,
    Bools,
    ClipFrames,
    Floats,
    Ints,
    LabelledFrames,
    clustered_measure,
    ratio,
    read_blocks,
)
from otoscope.evaluation.measure import Measure

DENSE_SHARE = 0.1
"""A feature is dense when it is active in more than this share of the frames."""
OUTLIER_FACTOR = 6.0
"""A unit is an outlier where its |mean| or its standard deviation is this many times the median over units
(after Dettmers et al. 2022, who call features outliers from a magnitude of 6 on)."""
MIN_CLASS_FRAMES = 20
"""Frame classes with fewer frames are left out."""
_TINY = 1e-12


@dataclass(frozen=True)
class Reconstruction:
    """The quality of a dictionary on some frames.

    Attributes:
        fvu: fraction of variance unexplained, `Σ‖y − ŷ‖² / Σ‖y − ȳ‖²` over all frames at once, `ȳ` their mean.
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


def reconstruction(dictionary: Dictionary, store: ClipFrames, clips: Collection[str] | None = None) -> Reconstruction:
    """Measure `dictionary` on the frames of `clips` (ids; None: all clips), in one pass with 64-bit sums.

    Raises:
        InputError: unknown clip, or no frames.
    """
    # Sums are taken around the store's mean: exact for any shift, and safe from cancellation with a large mean.
    shift = torch.as_tensor(np.concatenate([store.mean(site) for site in rebuilt_sites(dictionary)])).double()
    total, squares = torch.zeros_like(shift), torch.zeros_like(shift)
    error, n_frames = 0.0, 0
    counts = torch.zeros(dictionary.n_features, dtype=torch.int64)
    for _, x, y in _pairs(dictionary, store, _spans(store, clips)):
        code = dictionary.encode(x)
        error += float((y - dictionary.decode(code).double()).square().sum())
        shifted = y - shift
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


def reconstruction_measures(dictionary: Dictionary, frames: LabelledFrames) -> list[Measure]:
    """Measure `dictionary` on all frames, by frame class, and without outlier units.

    `reconstruction.` `fvu` (ratio of sums over frames), `fvu_per_frame` (mean of each frame's own ratio), `l0`,
    `cosine`, `norm_ratio` (`‖ŷ‖/‖y‖`) and both `_centred`, around the mean of what is rebuilt (a large mean hides any
    loss from the plain ones), with `of` empty or naming a class; `fvu` once more of the units that are no outliers;
    `outlier_units`, `dead_share` and `dense_share`.
    In a class, the denominators of both FVUs are still distances from the mean of all frames.
    """
    mean, outlier = _moments(dictionary, frames)
    sums, counts = _per_frame(dictionary, frames, mean, outlier)
    every = np.arange(len(frames))
    measures = _figures(sums, every, frames, {})
    measures.append(
        clustered_measure(
            "reconstruction.fvu",
            frames.per_cluster(sums[:, 7:9]),
            ratio,
            of={"units": "without outliers"},
            n=len(frames),
        )
    )
    d = len(outlier)
    measures += [
        Measure("reconstruction.outlier_units", float(outlier.sum()), n=d, n_unit="units"),
        Measure("reconstruction.dead_share", float((counts == 0).mean()), n=len(counts), n_unit="features"),
        Measure(
            "reconstruction.dense_share",
            float((counts > DENSE_SHARE * len(frames)).mean()),
            n=len(counts),
            n_unit="features",
        ),
    ]
    for number, name in enumerate(FRAME_CLASSES):
        own = np.flatnonzero(frames.frame_class == number)
        if len(own) >= MIN_CLASS_FRAMES:
            measures += _figures(sums[own], own, frames, {"class": name})
    return measures


def rebuilt_sites(dictionary: Dictionary) -> tuple[str, ...]:
    """Return the sites, side by side, whose activations `decode` gives back."""
    return dictionary.sites if dictionary.target_site == dictionary.site else (dictionary.target_site,)


def outlier_units(mean: Floats, std: Floats) -> Bools:
    """Return which units `[d]` have a |mean| or a standard deviation beyond `OUTLIER_FACTOR` times its median."""
    far, wide = (np.abs(values) > OUTLIER_FACTOR * np.median(np.abs(values)) for values in (mean, std))
    return np.asarray(far | wide)


def _figures(sums: Floats, at: Ints, frames: LabelledFrames, of: dict[str, str]) -> list[Measure]:
    """The measures of some frames, from the columns of `_per_frame` in these frames."""
    one = np.ones(len(at))
    varied = sums[:, 1] > _TINY
    columns = {
        "fvu": sums[:, :2],
        "fvu_per_frame": np.stack([np.divide(sums[:, 0], sums[:, 1], out=0 * one, where=varied), varied], axis=1),
        "l0": np.stack([sums[:, 2], one], axis=1),
        "cosine": np.stack([sums[:, 3], one], axis=1),
        "cosine_centred": np.stack([sums[:, 4], one], axis=1),
        "norm_ratio": np.stack([sums[:, 5], one], axis=1),
        "norm_ratio_centred": np.stack([sums[:, 6], one], axis=1),
    }
    return [
        clustered_measure(f"reconstruction.{name}", frames.per_cluster(pair, at), ratio, of=of, n=len(at))
        for name, pair in columns.items()
    ]


def _moments(dictionary: Dictionary, frames: LabelledFrames) -> tuple[Tensor, Bools]:
    """Mean `[d_out]` of what is rebuilt, fp64, and which units are outliers."""
    shift: Tensor | None = None
    total = squares = torch.zeros((), dtype=torch.float64)
    for _, block in frames.blocks(rebuilt_sites(dictionary)):
        y = block.double()
        shift = y.mean(dim=0) if shift is None else shift
        total = total + (y - shift).sum(dim=0)
        squares = squares + (y - shift).square().sum(dim=0)
    mean = total / len(frames)
    std = (squares / len(frames) - mean.square()).clamp_min(0).sqrt()
    mean = mean if shift is None else mean + shift
    return mean, outlier_units(mean.numpy(), std.numpy())


def _per_frame(dictionary: Dictionary, frames: LabelledFrames, mean: Tensor, outlier: Bools) -> tuple[Floats, Ints]:
    """Figures of every frame, `[t, 9]`, and in how many frames each feature is active.

    The columns: error, deviation, L0, cosine, centred cosine, norm ratio, centred norm ratio, and the first two once
    more without outliers.
    """
    kept = torch.from_numpy(~outlier)
    counts = torch.zeros(dictionary.n_features, dtype=torch.int64)
    sums = np.empty((len(frames), 9))
    for span, x, y in _pairs(dictionary, frames.store, frames.spans):
        code = dictionary.encode(x)
        rebuilt = dictionary.decode(code).double()
        error, deviation = (y - rebuilt).square(), (y - mean).square()
        columns = [
            error.sum(dim=1),
            deviation.sum(dim=1),
            code.l0.double(),
            torch.cosine_similarity(y, rebuilt),
            torch.cosine_similarity(y - mean, rebuilt - mean),
            rebuilt.norm(dim=1) / y.norm(dim=1).clamp_min(_TINY),
            (rebuilt - mean).norm(dim=1) / (y - mean).norm(dim=1).clamp_min(_TINY),
            error[:, kept].sum(dim=1),
            deviation[:, kept].sum(dim=1),
        ]
        sums[span] = torch.stack(columns, dim=1).numpy()
        counts += torch.bincount(code.indices[code.values != 0].long(), minlength=dictionary.n_features)
    return sums, counts.numpy()


def _pairs(dictionary: Dictionary, store: ClipFrames, spans: Ints) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Runs of whole clips: which frames, what is read `[t, d_in]`, and what is to be rebuilt `[t, d_out]` in fp64."""
    by_clip = bool(dictionary.context)
    target = rebuilt_sites(dictionary)
    if target == dictionary.sites:
        for span, x in read_blocks(store, spans, dictionary.sites, by_clip=by_clip):
            yield span, x, x.double()
        return
    sides = (read_blocks(store, spans, sites, by_clip=by_clip) for sites in (dictionary.sites, target))
    for (span, x), (_, y) in zip(*sides, strict=True):
        yield span, x, y.double()


def _spans(store: ClipFrames, clips: Collection[str] | None) -> Ints:
    names = list(store.clips if clips is None else clips)
    unknown = [name for name in names if name not in store.clips]
    if unknown:
        raise InputError(f"The store has no clip {unknown[0]!r}{nearest(unknown[0], store.clips)}")
    return np.array([store.clips[name] for name in names], dtype=np.int64).reshape(-1, 2)
