"""Mean activations of classes: of clips by label, or of frames by what a tier says is heard in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.speech_model import SpeechModel


class StoredActivations(Protocol):
    """What is needed of an `ActivationStore`: the frames of one clip, and which moment each stands for."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What was stored, with its `clock`."""

    def clip(self, site: str, clip_id: str) -> np.ndarray:
        """Return `[frames, d]`."""


def class_means(
    source: SpeechModel | StoredActivations,
    clips: Iterable[Clip],
    site: str,
    *,
    label: str | Callable[[Clip], str | None] | None = None,
    tier: str | None = None,
) -> dict[str, Tensor]:
    """Return the mean activation `[d]` of each class at a site, every frame counting the same.

    The classes are those of the clips, by `label` (the name of an attribute, `speaker`, `language`, or a function of
    the clip; None leaves a clip out), or the labels of a `tier`, whose frames are those centred inside an interval.
    `source` is a model, which then listens to the clips, or a store that holds them. See `Edit.shift`.

    Raises:
        InputError: neither or both of label and tier, or nothing that belongs to a class.
    """
    if (label is None) == (tier is None):
        raise InputError("Classes come either from a `label` of the clips or from a `tier`; name one of them.")
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for clip in clips:
        if not (spans := _spans(clip, label, tier)):
            continue
        if isinstance(source, SpeechModel):
            frames, clock = source.run(clip, [site])[site], source.site(site).clock(source.dims)
        else:
            clock = Clock(**source.meta.get("clock", {}))
            frames = torch.from_numpy(np.asarray(source.clip(site, clip.clip_id)))
        for name, span in spans:
            first, stop = (0, len(frames)) if span is None else clock.span(*span)
            rows = frames[first:stop].double()
            sums[name] = sums.get(name, torch.zeros(())) + rows.sum(0)
            counts[name] = counts.get(name, 0) + len(rows)
    means = {name: (sums[name] / count).float() for name, count in sorted(counts.items()) if count}
    if not means:
        raise InputError(f"No clip has a {'label' if tier is None else f'tier {tier!r}'} to take class means by.")
    return means


def _spans(
    clip: Clip, label: str | Callable[[Clip], str | None] | None, tier: str | None
) -> list[tuple[str, tuple[float, float] | None]]:
    """The classes met in a clip, with the seconds of each (None: all of it)."""
    if tier is not None:
        return [(item.label, (item.start_s, item.end_s)) for item in clip.tiers.get(tier, ())]
    if callable(label):
        name = label(clip)
    elif label in ("speaker", "language"):
        name = getattr(clip, label)
    else:
        name = clip.attributes.get(str(label))
    return [] if name is None else [(name, None)]
