"""Where an atlas gets its frames: clip by clip, from an activation store or straight from a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.activations import ActivationStore
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, nearest
from otoscope.models import Clock, SpeechModel
from otoscope.storage.arrays import ArrayFile, write_arrays

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FrameStream:
    """Activations of some sites, clip by clip.

    Attributes:
        model: which model they come from, as written into the atlas.
        fingerprint: its `source_name`.
        clock: which moment of its clip each frame stands for.
        read: the frames `[t, d]` of one clip at each site, by one run of the model.
        costly: whether that takes a run of the model.
    """

    model: dict[str, Any]
    fingerprint: str
    clock: Clock
    read: Callable[[Clip], dict[str, Frames]]
    costly: bool = False

    def frames(self, clip: Clip, dictionaries: Sequence[Dictionary]) -> list[Frames]:
        """Return what each dictionary reads of a clip: `[t, d]`, its sites side by side."""
        found = self.read(clip)
        parts = [[found[site] for site in dictionary.sites] for dictionary in dictionaries]
        return [each[0] if len(each) == 1 else np.concatenate(each, axis=1) for each in parts]

    def twice(self, folder: Path) -> tuple[FrameStream, FrameStream]:
        """Return a stream for some clips and one for all: what the first reads lies in `folder` until the second asks
        for it, so that the model runs once on every clip."""
        if not self.costly:
            return self, self
        folder.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Path] = {}

        def keep(clip: Clip) -> dict[str, Frames]:
            found = self.read(clip)
            kept[clip.clip_id] = folder / f"{len(kept):05d}"
            write_arrays(kept[clip.clip_id], found)
            return found

        def take(clip: Clip) -> dict[str, Frames]:
            path = kept.pop(clip.clip_id, None)
            if path is None:
                return self.read(clip)
            file = ArrayFile(path)
            return {name: np.array(file.read(name)) for name in file.names}

        return dataclasses.replace(self, read=keep), dataclasses.replace(self, read=take)


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


def source_name(source: ActivationStore | SpeechModel) -> str:
    """Return what changes whenever the frames of a clip would, whatever the corpus."""
    if isinstance(source, ActivationStore):
        meta = source.meta
        return f"{meta['weights_hash']}/{meta['compute_dtype']} stored as {meta['dtype']}"
    return f"{source.weights_hash}/{str(source.dtype).removeprefix('torch.')}"


def _from_store(store: ActivationStore, dictionaries: Sequence[Dictionary], corpus: Corpus) -> FrameStream:
    for dictionary in dictionaries:
        for site in dictionary.sites:
            if site not in store.sites:
                raise InputError(
                    f"Dictionary {dictionary.name!r} reads {site}, but the store holds only "
                    f"{', '.join(map(str, store.sites))}{nearest(site, map(str, store.sites)) or '.'}"
                )
        _check_widths(dictionary, [store.d(site) for site in dictionary.sites])
    missing = [clip.clip_id for clip in corpus if clip.clip_id not in store.clips]
    if missing:
        raise InputError(
            f"The store lacks {len(missing)} of the {len(corpus)} clips of corpus {corpus.name!r} "
            f"(first: {missing[0]!r}); harvest that corpus first."
        )
    sites = dict.fromkeys(site for dictionary in dictionaries for site in dictionary.sites)
    return FrameStream(
        model={key: store.meta[key] for key in ("model", "weights_hash") if key in store.meta},
        fingerprint=source_name(store),
        clock=store.clock,
        read=lambda clip: {site: store.clip(site, clip.clip_id) for site in sites},
    )


def _from_model(model: SpeechModel, dictionaries: Sequence[Dictionary]) -> FrameStream:
    """Connect a model; one run reads all sites, and always the same ones, so that a frame never depends on what else
    is still to be done."""
    for dictionary in dictionaries:
        for text in dictionary.sites:
            site = model.site(text)
            if site.is_map or site.of_text(model.dims):
                what = "maps of frames by frames" if site.is_map else "a row per token of text"
                raise InputError(
                    f"Dictionary {dictionary.name!r} reads {site}, which holds {what}; an atlas is made of frames."
                )
        _check_widths(dictionary, [model.width(str(model.site(site))) for site in dictionary.sites])
    names = {text: str(model.site(text)) for dictionary in dictionaries for text in dictionary.sites}
    clocks = {model.site(text).clock(model.dims) for text in names}
    if len(clocks) > 1:
        raise InputError(f"The sites {', '.join(names)} have different clocks; build their atlases one by one.")

    def read(clip: Clip) -> dict[str, Frames]:
        run = model.run(clip, read=list(dict.fromkeys(names.values())))
        return {text: np.ascontiguousarray(run[name].numpy(), dtype=np.float32) for text, name in names.items()}

    return FrameStream(
        model={"model": model.name, "weights_hash": model.weights_hash},
        fingerprint=source_name(model),
        clock=clocks.pop(),
        read=read,
        costly=True,
    )


def _check_widths(dictionary: Dictionary, found: list[int]) -> None:
    """Refuse a dictionary whose sites are not as wide here as where it was trained."""
    expected = list(getattr(dictionary, "widths", (dictionary.d_in,)))
    if found != expected:
        raise InputError(
            f"Dictionary {dictionary.name!r} reads frames of width {' + '.join(map(str, expected))}, "
            f"but {' + '.join(dictionary.sites)} has {' + '.join(map(str, found))} here."
        )
