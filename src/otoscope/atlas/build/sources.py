"""Where an atlas gets its frames: clip by clip, from an activation store or straight from a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.activations import ActivationStore
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, nearest
from otoscope.models import Clock, SpeechModel

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FrameStream:
    """Activations of some sites, clip by clip.

    Attributes:
        model: which model they come from, as written into the atlas.
        fingerprint: changes whenever the frames of a clip would, whatever the corpus.
        clock: which moment of its clip each frame stands for.
        read: the frames `[t, d]` of one clip at each site, by one run of the model.
    """

    model: dict[str, Any]
    fingerprint: str
    clock: Clock
    read: Callable[[Clip], dict[str, Frames]]

    def frames(self, clip: Clip, dictionaries: Sequence[Dictionary]) -> list[Frames]:
        """Return what each dictionary reads of a clip: `[t, d]`, its sites side by side."""
        found = self.read(clip)
        return [
            found[each.site] if len(each.sites) == 1 else np.concatenate([found[site] for site in each.sites], axis=1)
            for each in dictionaries
        ]


def frame_stream(
    source: ActivationStore | SpeechModel, dictionaries: Sequence[Dictionary], corpus: Corpus
) -> FrameStream:
    """Connect a source to the sites that `dictionaries` read.

    Raises:
        InputError: the source lacks a site or some clips, the widths differ, or the sites have different clocks.
    """
    if isinstance(source, ActivationStore):
        return _from_store(source, dictionaries, corpus)
    return _from_model(source, dictionaries)


def _from_store(store: ActivationStore, dictionaries: Sequence[Dictionary], corpus: Corpus) -> FrameStream:
    for dictionary in dictionaries:
        for site in dictionary.sites:
            if site not in store.sites:
                raise InputError(
                    f"Dictionary {dictionary.name!r} reads {site}, but the store holds only "
                    f"{', '.join(map(str, store.sites))}{nearest(site, map(str, store.sites)) or '.'}"
                )
        _check_width([store.d(site) for site in dictionary.sites], dictionary)
    missing = [clip.clip_id for clip in corpus if clip.clip_id not in store.clips]
    if missing:
        raise InputError(
            f"The store lacks {len(missing)} of the {len(corpus)} clips of corpus {corpus.name!r} "
            f"(first: {missing[0]!r}); harvest that corpus first."
        )
    sites = dict.fromkeys(site for dictionary in dictionaries for site in dictionary.sites)
    return FrameStream(
        model={key: store.meta[key] for key in ("model", "weights_hash") if key in store.meta},
        fingerprint=f"{store.meta['weights_hash']}/{store.meta['dtype']} store",
        clock=store.clock,
        read=lambda clip: {site: store.clip(site, clip.clip_id) for site in sites},
    )


def _from_model(model: SpeechModel, dictionaries: Sequence[Dictionary]) -> FrameStream:
    sites = dict.fromkeys(str(model.site(site)) for dictionary in dictionaries for site in dictionary.sites)
    for dictionary in dictionaries:
        _check_width([model.width(str(model.site(site))) for site in dictionary.sites], dictionary)
    clocks = {model.site(site).clock(model.dims) for site in sites}
    if len(clocks) > 1:
        raise InputError(f"The sites {', '.join(sites)} have different clocks; build their atlases one by one.")

    def read(clip: Clip) -> dict[str, Frames]:
        run = model.run(clip, read=list(sites))
        return {site: np.ascontiguousarray(run[site].numpy(), dtype=np.float32) for site in sites}

    return FrameStream(
        model={"model": model.name, "weights_hash": model.weights_hash},
        fingerprint=f"{model.weights_hash}/{model.dtype}",
        clock=clocks.pop(),
        read=read,
    )


def _check_width(widths: list[int], dictionary: Dictionary) -> None:
    if sum(widths) != dictionary.d_in * (1 if len(widths) == 1 else len(widths)) and sum(widths) != dictionary.d_in:
        raise InputError(
            f"Dictionary {dictionary.name!r} reads frames of width {dictionary.d_in}, "
            f"but {', '.join(dictionary.sites)} is {sum(widths)} wide here."
        )
