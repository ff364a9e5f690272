"""Frames with what is known about them: the one thing, beside dictionaries, that every measurement takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from otoscope.alignment.natural_classes import DIMENSIONS
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, nearest
from otoscope.evaluation.measure import Measure, clustered_interval
from otoscope.evaluation.naming.by_feature import Block, rank_entries
from otoscope.evaluation.naming.contexts import context_kinds
from otoscope.evaluation.naming.label_sets import (
    KINDS,
    NO_CLASS,
    SOUND_CLASS,
    SPEECH,
    LabelKind,
    LabelSet,
    label_sets,
    natural_kinds,
    split_clips,
)
from otoscope.evaluation.selectivity import circular_shift
from otoscope.models import Clock

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FIT, TEST = 0, 1
"""The halves: what is chosen is chosen on the first, what is reported is measured on the second."""
BLOCK_FRAMES = 8192
MIN_SPEAKERS = 12
"""Speakers are the clusters of intervals where the second half has this many; else clips are."""
SILENCE, OTHER_SPEECH, SOUND, UNLABELLED = "silence", "other speech", "sound", "unlabelled"
FRAME_CLASSES = (*dict.fromkeys(DIMENSIONS["manner"].values()), OTHER_SPEECH, SILENCE, SOUND, UNLABELLED)
"""What every frame is for measures by frame class: the manner of its phone; speech whose phone is not known;
a pause, or a clip of silence; other sound; or a clip of which nothing is known."""


class ClipFrames(Protocol):
    """What reconstruction needs of an `ActivationStore`."""

    @property
    def clips(self) -> Mapping[str, tuple[int, int]]: ...
    def mean(self, site: str) -> np.ndarray: ...
    def read(self, site: str, start: int = 0, stop: int | None = None) -> np.ndarray: ...


class TimedFrames(ClipFrames, Protocol):
    """What labelling needs besides: when each frame is."""

    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """The frames of some clips, numbered from 0 clip after clip, with their labels and the halves of the voices.

    Made by `LabelledFrames.of`. Only frames that were harvested are here: never padding.

    Attributes:
        store: where activations are read from.
        clips: ids.
        spans: `[b, 2]` each clip's first frame in the store, and how many it has.
        clusters: `[b]` which clips are one cluster of an interval; `cluster_unit` says "speakers" or "clips".
        half: `[b]` `FIT` or `TEST`; no speaker is in both where there are two or more (`held_out` says of what).
        labels: `LabelSet` by kind: "phone", "word", "sound_class", the dimensions of natural classes and the kinds of
            `contexts`, as far as the corpus has them. Frames that no interval covers are −1: dropped, and counted in
            `n_dropped`.
        frame_class: `[t]` index into `FRAME_CLASSES`.
    """

    store: TimedFrames
    clips: tuple[str, ...]
    spans: Ints
    clusters: Ints
    cluster_unit: str
    half: npt.NDArray[np.uint8]
    held_out: str
    labels: Mapping[str, LabelSet]
    frame_class: npt.NDArray[np.int8]
    _codes: weakref.WeakKeyDictionary[Dictionary, csr_matrix] = field(default_factory=weakref.WeakKeyDictionary)

    @classmethod
    def of(
        cls,
        store: TimedFrames,
        corpus: Corpus,
        clips: Collection[str] | None = None,
        *,
        test: Collection[str] | None = None,
        seed: int = 0,
    ) -> LabelledFrames:
        """Label the frames of `clips` (ids; None: the whole corpus); `seed` deals the voices to the halves.

        Clips that a dictionary was trained on flatter it: give those that were held out, where there are any, as
        `clips`, or as `test`, which makes them the `TEST` half and all others the `FIT` half.

        Raises:
            InputError: a clip is unknown to the corpus or the store, or there are no frames.
        """
        chosen = corpus if clips is None else corpus.select(list(clips))
        missing = [clip.clip_id for clip in chosen if clip.clip_id not in store.clips]
        if missing:
            raise InputError(
                f"The store lacks {len(missing)} of {len(chosen)} clips (first: {missing[0]!r}); harvest them first."
            )
        spans = np.array([store.clips[clip.clip_id] for clip in chosen], dtype=np.int64).reshape(-1, 2)
        counts = [int(count) for count in spans[:, 1]]
        if sum(counts) == 0:
            raise InputError("There are no frames to measure on.")
        half, held_out = split_clips(chosen, counts, seed) if test is None else _given_half(chosen, set(test))
        natural = natural_kinds(chosen)
        kinds = [*KINDS.values(), *natural.values(), *context_kinds(chosen).values()]
        sets = label_sets(chosen, counts, half, store.clock, kinds)
        clusters, unit = _clusters([clip.speaker for clip in chosen], half)
        return cls(
            store=store,
            clips=tuple(clip.clip_id for clip in chosen),
            spans=spans,
            clusters=clusters,
            cluster_unit=unit,
            half=half,
            held_out=held_out,
            labels={each.kind: each for each in sets},
            frame_class=_frame_classes(chosen, counts, store.clock, natural.get("manner")),
        )

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.spans[:, 1].sum())

    @cached_property
    def clip_of_frame(self) -> npt.NDArray[np.int32]:
        """`[t]` index into `clips`."""
        return np.repeat(np.arange(len(self.clips), dtype=np.int32), self.spans[:, 1])

    @cached_property
    def half_of_frame(self) -> npt.NDArray[np.uint8]:
        """`[t]` `FIT` or `TEST`."""
        return self.half[self.clip_of_frame]

    def label_set(self, kind: str) -> LabelSet:
        """Return the labels of a kind.

        Raises:
            InputError: these clips have no such labels; the message says which they have.
        """
        if kind not in self.labels:
            have = ", ".join(self.labels) or "none"
            raise InputError(f"These clips have no {kind!r} labels ({have}){nearest(kind, self.labels) or '.'}")
        return self.labels[kind]

    def named(self, kind: str, half: int) -> tuple[Ints, Ints]:
        """Return the frames of a half that are of a named class, and their classes."""
        labels = self.label_set(kind)
        own = (labels.frame_class >= 0) & (labels.frame_class < len(labels.classes)) & (self.half_of_frame == half)
        at = np.flatnonzero(own)
        return at, labels.frame_class[at].astype(np.int64)

    def moved(self, labels: LabelSet, seed: int, *, min_shift: int = 50) -> npt.NDArray[np.int16]:
        """Return `labels.frame_class` as chance would have it: rotated within each clip by `min_shift` frames or more.

        Clips with less than twice as many labelled frames always rotate by half: to see how chance varies, give less.
        Only frames of named classes rotate, among themselves. Labels of whole clips are dealt to other clips of the
        same half instead.
        """
        known = (labels.frame_class >= 0) & (labels.frame_class < len(labels.classes))
        own = np.where(known, labels.frame_class, -1)
        if not labels.whole_clips:
            starts = np.cumsum(self.spans[:, 1]) - self.spans[:, 1]
            return np.where(
                known, circular_shift(own, starts, seed=seed, min_shift=min_shift), labels.frame_class
            ).astype(np.int16)
        clip_class = np.full(len(self.clips), -1)
        clip_class[self.clip_of_frame[known]] = own[known]
        rng = np.random.default_rng(seed)
        for half in (FIT, TEST):
            dealt = np.flatnonzero((clip_class >= 0) & (self.half == half))
            clip_class[dealt] = clip_class[rng.permutation(dealt)]
        return np.where(known, clip_class[self.clip_of_frame], labels.frame_class).astype(np.int16)

    def blocks(self, sites: Sequence[str], *, by_clip: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Yield runs of whole clips as (frames, activations `[t, Σd]`), the sites side by side.

        About `BLOCK_FRAMES` frames at a time, or one clip at a time, for dictionaries that look at neighbours.
        """
        return read_blocks(self.store, self.spans, sites, by_clip=by_clip)

    def rows(self, sites: Sequence[str], at: Ints) -> npt.NDArray[np.float32]:
        """Return the activations `[len(at), Σd]` of some frames, in the order of `at`."""
        order = np.argsort(at, kind="stable")
        ranked = at[order]
        parts = []
        for span, x in self.blocks(sites):
            low, high = np.searchsorted(ranked, [span.start, span.stop])
            parts.append(x.numpy()[ranked[low:high] - span.start])
        found = np.concatenate(parts)
        result = np.empty_like(found)
        result[order] = found
        return result

    def code(self, dictionary: Dictionary) -> csr_matrix:
        """Return the active (non-zero) features of every frame, `[t, n]` float32; kept as long as the dictionary is."""
        if dictionary not in self._codes:
            self._codes[dictionary] = self._encode(dictionary)
        return self._codes[dictionary]

    def _encode(self, dictionary: Dictionary) -> csr_matrix:
        from scipy.sparse import csr_matrix

        values, indices, lengths = [], [], []
        for _, x in self.blocks(dictionary.sites, by_clip=bool(dictionary.context)):
            code = dictionary.encode(x)
            strengths = code.values.detach().float().cpu().numpy()
            active = strengths != 0
            values.append(strengths[active])
            indices.append(code.indices.cpu().numpy()[active])
            lengths.append(active.sum(axis=1))
        indptr = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
        shape = (len(self), dictionary.n_features)
        found = csr_matrix((np.concatenate(values), np.concatenate(indices), indptr), shape=shape)
        found.sort_indices()
        return found

    def by_feature(self, dictionary: Dictionary) -> Block:
        """Return the positive entries of every feature, strongest first."""
        columns = self.code(dictionary).tocsc()
        positive = columns.data > 0
        kept = np.concatenate(([0], np.cumsum(positive)))
        indptr = kept[columns.indptr].astype(np.int64)
        frames, values = columns.indices[positive].astype(np.uint32), columns.data[positive].astype(np.float32)
        return Block(0, indptr, *rank_entries(indptr, frames, values))

    def per_cluster(self, columns: Floats, at: Ints | None = None) -> Floats:
        """Sum per-frame `columns [t, m]` (of all frames, or of frames `at`) over the clusters that have any."""
        clips = self.clip_of_frame if at is None else self.clip_of_frame[at]
        _, own = np.unique(self.clusters[clips], return_inverse=True)
        n = int(own.max()) + 1 if len(own) else 0
        return np.stack([np.bincount(own, weights=column, minlength=n) for column in columns.T], axis=1)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{len(each.classes)} {each.kind}" for each in self.labels.values())
        return (
            f"LabelledFrames({len(self):,} frames of {len(self.clips)} clips, halves apart in {self.held_out}; "
            f"classes: {kinds or 'none'})"
        )


def read_blocks(
    store: ClipFrames, spans: Ints, sites: Sequence[str], *, by_clip: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the clips that `spans [b, 2]` names as (frames, activations), as `LabelledFrames.blocks` does."""
    first = at = 0
    waiting: list[npt.NDArray[np.float32]] = []
    for start, count in spans.tolist():
        parts = [store.read(site, start, start + count) for site in sites]
        waiting.append(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
        at += count
        if at > first and (by_clip or at - first >= BLOCK_FRAMES):
            yield slice(first, at), torch.from_numpy(np.concatenate(waiting))
            first, waiting = at, []
    if at > first:
        yield slice(first, at), torch.from_numpy(np.concatenate(waiting))


def clustered_measure(
    name: str,
    per_cluster: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    of: Mapping[str, str] | None = None,
    n: int = 0,
    n_unit: str = "frames",
) -> Measure:
    """Return the figure `statistic` makes of the sums of all clusters `[c, m]`, with its interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.asarray(statistic(per_cluster.sum(axis=0, keepdims=True)))[0])
    low, high = clustered_interval(per_cluster, statistic)
    return Measure(name, value, low, high, of=of, n=n, n_unit=n_unit)


def ratio(sums: Floats) -> Floats:
    """The first column over the second: means, shares and FVU."""
    return np.asarray(sums[:, 0] / sums[:, 1], dtype=np.float64)


def _given_half(corpus: Corpus, test: set[str]) -> tuple[npt.NDArray[np.uint8], str]:
    """The halves that a choice of clips makes, and whether it parts speakers or only clips."""
    half = np.array([TEST if clip.clip_id in test else FIT for clip in corpus], dtype=np.uint8)
    voices = [{clip.speaker for clip, side in zip(corpus, half, strict=True) if side == own} for own in (FIT, TEST)]
    return half, "speakers" if voices[1] - {None} and not voices[0] & voices[1] - {None} else "clips"


def _clusters(speakers: Sequence[str | None], half: npt.NDArray[np.uint8]) -> tuple[Ints, str]:
    scored = {name for name, side in zip(speakers, half, strict=True) if side == TEST and name}
    names = [f"speaker {name}" if name else f"clip {i}" for i, name in enumerate(speakers)]
    if len(scored) >= MIN_SPEAKERS:
        return np.unique(names, return_inverse=True)[1].astype(np.int64), "speakers"
    return np.arange(len(speakers), dtype=np.int64), "clips"


def _frame_classes(
    corpus: Corpus, counts: Sequence[int], clock: Clock, manner: LabelKind | None
) -> npt.NDArray[np.int8]:
    index = {name: number for number, name in enumerate(FRAME_CLASSES)}
    parts = []
    for clip, count in zip(corpus, counts, strict=True):
        sound = clip.attributes.get(SOUND_CLASS)
        spoken = bool(clip.tier("phones") or clip.tier("words"))
        known = sound if sound in (None, "", SPEECH, SILENCE) else SOUND
        whole = SILENCE if spoken or known == SILENCE else OTHER_SPEECH if known == SPEECH else known or UNLABELLED
        frames = np.full(count, index[whole], dtype=np.int8)
        words = KINDS["word"].intervals(clip) or ()
        phones = (manner.intervals(clip) if manner else None) or ()
        for interval, name in [*((w, OTHER_SPEECH) for w in words), *((p, p.label) for p in phones)]:
            if name != NO_CLASS:
                frames[clock.first_after(interval.start_s) : clock.first_after(interval.end_s)] = index[name]
        parts.append(frames)
    return np.concatenate(parts)
