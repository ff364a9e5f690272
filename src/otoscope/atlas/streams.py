"""Where an atlas gets its frames: clip by clip, from an activation store or straight from a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """Activations of one site for the clips of a corpus, in corpus order.

    Attributes:
        model: which model they come from, as written into the atlas.
        fingerprint: changes whenever the frames would.
        clock: which moment of its clip each frame stands for.
        read: the frames of one clip, `[t, d]`.
    """

    model: dict[str, Any]
    fingerprint: str
    clock: Clock
    read: Callable[[Clip], Frames]

    def clips(self, corpus: Corpus, start: int = 0) -> Iterator[tuple[Clip, Frames]]:
        """Yield every clip from index `start` on, with its frames `[t, d]`."""
        for index in range(start, len(corpus)):
            clip = corpus[index]
            yield clip, self.read(clip)


def frame_stream(source: ActivationStore | SpeechModel, dictionary: Dictionary, corpus: Corpus) -> FrameStream:
    """Connect a source to the site that `dictionary` reads.

    Raises:
        InputError: the source lacks the site or some clips, or the site's width is not the dictionary's.
    """
    if isinstance(source, ActivationStore):
        return _from_store(source, dictionary, corpus)
    return _from_model(source, dictionary)


def _from_store(store: ActivationStore, dictionary: Dictionary, corpus: Corpus) -> FrameStream:
    site = dictionary.site
    if site not in store.sites:
        raise InputError(
            f"Dictionary {dictionary.name!r} reads {site}, but the store holds only "
            f"{', '.join(map(str, store.sites))}{nearest(site, map(str, store.sites)) or '.'}"
        )
    _check_width(store.d(site), dictionary)
    missing = [clip.clip_id for clip in corpus if clip.clip_id not in store.clips]
    if missing:
        raise InputError(
            f"The store lacks {len(missing)} of the {len(corpus)} clips of corpus {corpus.name!r} "
            f"(first: {missing[0]!r}); harvest that corpus first."
        )
    return FrameStream(
        model={key: store.meta[key] for key in ("model", "weights_hash") if key in store.meta},
        fingerprint=store.fingerprint,
        clock=Clock(**store.meta.get("clock", {})),
        read=lambda clip: store.clip(site, clip.clip_id),
    )


def _from_model(model: SpeechModel, dictionary: Dictionary) -> FrameStream:
    site = str(model.site(dictionary.site))
    _check_width(model.width(site), dictionary)

    def read(clip: Clip) -> Frames:
        return np.ascontiguousarray(model.run(clip, read=[site])[site].numpy(), dtype=np.float32)

    return FrameStream(
        model={"model": model.name, "weights_hash": model.weights_hash},
        fingerprint=f"{model.weights_hash}/{model.dtype}",
        clock=model.site(site).clock(model.dims),
        read=read,
    )


def _check_width(width: int, dictionary: Dictionary) -> None:
    if width != dictionary.d_in:
        raise InputError(
            f"Dictionary {dictionary.name!r} reads frames of width {dictionary.d_in}, "
            f"but {dictionary.site} is {width} wide here."
        )
