"""What each frame is labelled as: one class per frame and kind, from a corpus's tiers and attributes.

Frame t stands where the clock of its site says (Whisper: at 0.02·t s) and belongs to the interval that holds that
moment. Frames that no interval covers are dropped and counted. In a clip of labelled sound without phones or words, it
is known that nothing is said: its frames count against every phone and word, so that a detector of noise cannot pass
for a detector of s.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from otoscope.alignment.inventory import guess_alphabet, to_base
from otoscope.alignment.natural_classes import DIMENSIONS, MOVING
from otoscope.audio import Clip, Corpus, Interval
from otoscope.errors import InputError
from otoscope.evaluation.selectivity import split_groups
from otoscope.models import Clock

MAX_CLASSES = 1000
"""At most so many classes of a kind (words, say) are scored: those met most."""
FOREVER_S = 1e9
"""End of an interval that lasts as long as its clip."""
DROPPED = -1
SOUND_CLASS = "sound_class"
SPEECH = "speech"
NO_CLASS = ""
"""The label of a stretch of which it is known that it is of no class."""
PAUSES = frozenset({"", "_", "_:", "sil", "sp", "spn", "pau", "<p:>", "<sil>", "#"})
"""Labels by which aligners mark that nothing is said; such intervals cover no phone and no word."""


@dataclass(frozen=True)
class LabelKind:
    """One way to label frames.

    Attributes:
        name: "phone", "word", "sound_class", or a dimension of natural classes ("manner", "place"…).
        plural: how people call it.
        min_count: classes met fewer times (intervals, or clips where the class holds for whole clips) are not named;
            their frames stay as negatives of the others.
        intervals: labelled stretches of a clip; None where nothing is known about the clip; an empty tuple where it is
            known that no class occurs.
        holds_for: "frames", or what one label holds for as a whole: "clips" or "speakers". Chance then deals labels
            to other clips, or to other speakers.
        within_speakers: True where the class is who speaks: such classes are met in both halves only if each speaker's
            own clips are halved.
    """

    name: str
    plural: str
    min_count: int
    intervals: Callable[[Clip], tuple[Interval, ...] | None]
    holds_for: str = "frames"
    within_speakers: bool = False


def _spoken(tier: str) -> Callable[[Clip], tuple[Interval, ...] | None]:
    """Intervals of a tier without its pauses; those of the clip asked last are kept, as many kinds are made of them."""
    last: tuple[Clip | None, tuple[Interval, ...] | None] = None, None

    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        nonlocal last
        then, found = last
        if then is not clip:
            found = tuple(each for each in clip.tier(tier) if each.label.strip() not in PAUSES)
            found = found or (() if _is_sound(clip) else None)
            last = clip, found
        return found

    return intervals


def _is_sound(clip: Clip) -> bool:
    sound = clip.attributes.get(SOUND_CLASS)
    return bool(sound) and sound != SPEECH


def _sounds(clip: Clip) -> tuple[Interval, ...] | None:
    whole = clip.attributes.get(SOUND_CLASS)
    if not whole and (clip.tier("phones") or clip.tier("words")):
        whole = SPEECH
    if events := clip.tier("events"):
        return events
    return (Interval(0.0, FOREVER_S, whole),) if whole else None


KINDS: Mapping[str, LabelKind] = {
    kind.name: kind
    for kind in (
        LabelKind("phone", "phones", 15, _spoken("phones")),
        LabelKind("word", "words", 15, _spoken("words")),
        LabelKind(SOUND_CLASS, "sound classes", 4, _sounds),
    )
}


def natural_kinds(corpus: Corpus) -> dict[str, LabelKind]:
    """Return one kind per dimension of natural classes (`alignment.natural_classes`), for the phones of a corpus.

    Phones are read in the alphabet that knows most of them, and symbols of several phones are cut evenly. Frames of
    phones that it does not know, and of diphthongs where vowels are told apart, are dropped. Without phones, or in
    an unknown alphabet, there are no kinds.
    """
    symbols = {each.label for clip in corpus for each in clip.tier("phones")}
    try:
        alphabet = guess_alphabet(symbols)
    except InputError:
        return {}
    if not symbols:
        return {}
    return {name: LabelKind(name, f"{name} classes", 15, _natural(name, alphabet)) for name in DIMENSIONS}


def _natural(dimension: str, alphabet: str) -> Callable[[Clip], tuple[Interval, ...] | None]:
    class_of = DIMENSIONS[dimension]

    @functools.cache
    def names(symbol: str) -> tuple[str, ...]:
        return tuple(class_of.get(phone, NO_CLASS) for phone in to_base(symbol, alphabet) or ())

    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        spoken = KINDS["phone"].intervals(clip)
        if not spoken:
            return spoken
        found = []
        for each in spoken:
            own = names(each.label)
            if len(own) == 1:
                if own[0] != MOVING:
                    found.append(Interval(each.start_s, each.end_s, own[0]))
                continue
            step = (each.end_s - each.start_s) / max(1, len(own))
            for number, name in enumerate(own):
                if name != MOVING:
                    found.append(Interval(each.start_s + number * step, each.start_s + (number + 1) * step, name))
        return tuple(found) or None

    return intervals


@dataclass(frozen=True)
class LabelSet:
    """The labels of one kind for every frame of a corpus.

    Attributes:
        kind: name of the kind.
        classes: names, in alphabetical order.
        frame_class: `[t]` int16; index into `classes`, `len(classes)` for frames known to be none of them, −1 dropped.
        n_intervals: `[c]` labelled stretches of each class.
        whole_clips: True where labels hold for whole clips, so that shifting them within a clip changes nothing.
        n_dropped: frames without a label.
    """

    kind: str
    classes: tuple[str, ...]
    frame_class: npt.NDArray[np.int16]
    n_intervals: npt.NDArray[np.int64]
    whole_clips: bool
    n_dropped: int


def label_sets(
    corpus: Corpus,
    clip_frames: list[int],
    half: npt.NDArray[np.uint8],
    clock: Clock,
    kinds: Iterable[LabelKind] = tuple(KINDS.values()),
) -> list[LabelSet]:
    """Label every frame in each of `kinds` for which the corpus has two classes, or one class and its absence.

    `clip_frames [b]` are the clips' frame counts, `clock` says when each frame is; `half [b]` is the half
    (0 choose, 1 score) each clip is in: a class needs a quarter of its kind's `min_count` in either half.
    """
    kinds = list(kinds)
    painter = Painter(kinds, np.tile(half, (len(kinds), 1)), clock)
    stretches, found = painter.read(corpus, clip_frames), painter.classes()
    frames, labelled, constant = painter.paint(stretches, range(len(kinds)), [names for names, _ in found])
    return [
        LabelSet(
            kind=kind.name,
            classes=names,
            frame_class=np.ascontiguousarray(frames[:, k]),
            n_intervals=n_intervals,
            whole_clips=bool(2 * constant[:, k].sum() > labelled[:, k].sum()),
            n_dropped=int((frames[:, k] < 0).sum()),
        )
        for k, (kind, (names, n_intervals)) in enumerate(zip(kinds, found, strict=True))
        if names and len(np.unique(frames[frames[:, k] >= 0, k])) > 1
    ]


@dataclass(frozen=True)
class Stretches:
    """The labelled stretches of a run of clips, in frames.

    Attributes:
        n_frames: `[b]` frames of each clip.
        known: `[b, k]` 0 where nothing is known about a clip, 1 where it is known that no class occurs, else 2.
        indptr: `[b * k + 1]` where the stretches of each clip and kind begin.
        span: `[r, 2]` first frame and the one after the last.
        name: `[r]` number of the label among all labels of its kind; −1 where it is known to be of no class.
    """

    n_frames: npt.NDArray[np.int64]
    known: npt.NDArray[np.uint8]
    indptr: npt.NDArray[np.int64]
    span: npt.NDArray[np.int64]
    name: npt.NDArray[np.int32]


class Painter:
    """Reads the labels of clips in all kinds at once, and paints them on frames once the classes are known.

    Stretches of later kinds, or later in a clip, cover earlier ones. `half [k, b]` is the half each clip is in.
    """

    def __init__(self, kinds: Sequence[LabelKind], half: npt.NDArray[np.uint8], clock: Clock) -> None:
        self.kinds, self.half, self.clock = kinds, half, clock
        self._names: list[dict[str, int]] = [{NO_CLASS: -1} for _ in kinds]
        self._counts = [np.zeros((2, 0), dtype=np.int64) for _ in kinds]
        self._n_clips = 0

    def read(self, clips: Iterable[Clip], n_frames: Sequence[int]) -> Stretches:
        """Take in the labels of the next clips."""
        known = np.zeros((len(n_frames), len(self.kinds)), dtype=np.uint8)
        ends, names, sizes = array("d"), array("i"), array("q")  # lists would take four times as much
        for number, clip in enumerate(clips):
            for k, kind in enumerate(self.kinds):
                found = kind.intervals(clip)
                known[number, k] = 0 if found is None else 1 + bool(found)
                sizes.append(len(found or ()))
                if found:
                    numbers = self._names[k]
                    ends.extend([end for each in found for end in (each.start_s, each.end_s)])
                    names.extend([numbers[each.label] if each.label in numbers else _numbered(each.label, numbers)
                                  for each in found])  # fmt: skip
        span = self.clock.first_after_each(np.array(ends, dtype=np.float64)).reshape(-1, 2)
        name = np.array(names, dtype=np.int32)
        self._count(np.array(sizes, dtype=np.int64).reshape(known.shape), name)
        indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        return Stretches(np.asarray(n_frames, dtype=np.int64), known, indptr, span, name)

    def _count(self, sizes: npt.NDArray[np.int64], name: npt.NDArray[np.int32]) -> None:
        n_clips = len(sizes)
        side = self.half[:, self._n_clips : self._n_clips + n_clips]
        self._n_clips += n_clips
        kind = np.repeat(np.tile(np.arange(len(self.kinds)), n_clips), sizes.ravel())
        sides = np.repeat(side.T.ravel(), sizes.ravel())
        for k, numbers in enumerate(self._names):
            n_names = max(numbers.values()) + 1 if len(numbers) > 1 else 0
            counts = np.zeros((2, n_names), dtype=np.int64)
            counts[:, : self._counts[k].shape[1]] = self._counts[k]
            for half in (0, 1):
                counts[half] += np.bincount(name[(kind == k) & (sides == half) & (name >= 0)], minlength=n_names)
            self._counts[k] = counts

    def classes(self) -> list[tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
        """Return the classes of every kind that were met often enough, and how often: names and counts `[c]`.

        At most `MAX_CLASSES` of a kind: the ones met most. A class needs a quarter of `min_count` in either half.
        """
        found = []
        for kind, numbers, counts in zip(self.kinds, self._names, self._counts, strict=True):
            totals = counts.sum(axis=0)
            enough = (totals >= kind.min_count) & (counts.min(axis=0) >= kind.min_count / 4)
            met = {label.strip(): int(totals[n]) for label, n in numbers.items() if n >= 0 and enough[n]}
            names = tuple(sorted(sorted(met, key=lambda name: (-met[name], name))[:MAX_CLASSES]))
            found.append((names, np.array([met[name] for name in names], dtype=np.int64)))
        return found

    def paint(
        self, stretches: Stretches, chosen: Sequence[int], classes: Sequence[Sequence[str]]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return the class `[t, c]` of every frame in the `chosen` kinds as `LabelSet` has it, and `[b, c]` whether a
        clip is labelled at all, and whether one class holds for all of it."""
        of_name, first_name = [np.zeros(0, dtype=np.int16)], [0]
        for k, own in zip(chosen, classes, strict=True):
            index = {name: i for i, name in enumerate(own)}
            table = np.full(len(self._names[k]), len(own), dtype=np.int16)
            for label, n in self._names[k].items():
                table[n] = index.get(label.strip(), len(own))  # number −1, "none of them", is the last of the table
            of_name.append(table)
            first_name.append(first_name[-1] + len(table))
        frames = np.full((int(stretches.n_frames.sum()), len(chosen)), DROPPED, dtype=np.int16)
        constant = np.zeros((len(stretches.n_frames), len(chosen)), dtype=np.bool_)
        _paint(
            stretches.n_frames, stretches.known, stretches.indptr, stretches.span, stretches.name,
            np.array(chosen, dtype=np.int64), np.array(first_name, dtype=np.int64), np.concatenate(of_name),
            np.array([len(own) for own in classes], dtype=np.int64), frames, constant,
        )  # fmt: skip
        labelled = stretches.known[:, list(chosen)] == 2
        return frames, labelled, constant & labelled


def _numbered(label: str, numbers: dict[str, int]) -> int:
    """Give a label a number: that of the same label without space around it, or the next."""
    plain = label.strip()
    if plain not in numbers:
        numbers[plain] = max(numbers.values()) + 1
    return numbers.setdefault(label, numbers[plain])


@numba.njit(cache=True, nogil=True)
def _paint(n_frames, known, indptr, span, name, chosen, first_name, of_name, n_classes, frames, constant):  # type: ignore[no-untyped-def]
    start, n_kinds = 0, known.shape[1]
    for b in range(len(n_frames)):
        end = start + n_frames[b]
        for column in range(len(chosen)):
            k = chosen[column]
            if known[b, k] == 1:
                frames[start:end, column] = n_classes[column]
            last = first_name[column + 1] - 1
            for r in range(indptr[b * n_kinds + k], indptr[b * n_kinds + k + 1]):
                c = of_name[last if name[r] < 0 else first_name[column] + name[r]]
                for t in range(start + span[r, 0], min(end, start + max(span[r]))):
                    frames[t, column] = c
            one, varies = np.int16(DROPPED), False
            for t in range(start, end):
                c = frames[t, column]
                if c >= 0 and one >= 0 and c != one:
                    varies = True
                one = max(one, c)
            constant[b, column] = one >= 0 and not varies
        start = end


def split_clips(corpus: Corpus, clip_frames: list[int], seed: int) -> tuple[npt.NDArray[np.uint8], str]:
    """Halve the clips, 0 to choose on and 1 to score on, and say what is held out: "speakers" or "clips".

    No speaker is in both halves when there are at least two. Clips without a speaker are dealt one by one, sound class
    by sound class.
    """
    speakers = [clip.speaker for clip in corpus]
    by_speaker = len({s for s in speakers if s}) >= 2
    half = np.zeros(len(corpus), dtype=np.uint8)
    strata: dict[str, list[int]] = {}
    for i, clip in enumerate(corpus):
        own = by_speaker and clip.speaker
        stratum = "" if own else f"sound {clip.attributes.get(SOUND_CLASS, '')}"
        strata.setdefault(stratum, []).append(i)
    for members in strata.values():
        groups = [(by_speaker and speakers[i]) or f"clip {i:09d}" for i in members]
        weights = [float(clip_frames[i]) for i in members]
        half[members] = split_groups(groups, weights, seed=seed)
    return half, "speakers" if by_speaker else "clips"
