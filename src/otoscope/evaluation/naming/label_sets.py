"""What each frame is labelled as: one class per frame and kind, from a corpus's tiers and attributes.

Frame t stands where the clock of its site says (Whisper: at 0.02·t s) and belongs to the interval that holds that
moment. Frames that no interval covers are dropped and counted. In a clip of labelled sound without phones or words, it
is known that nothing is said: its frames count against every phone and word, so that a detector of noise cannot pass
for a detector of s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt

from otoscope.alignment.inventory import guess_alphabet, to_base
from otoscope.alignment.natural_classes import DIMENSIONS, MOVING
from otoscope.audio import Clip, Corpus, Interval
from otoscope.audio.tiers import tier_labels
from otoscope.errors import InputError
from otoscope.evaluation.naming.columns import (
    NONE,
    SOME,
    UNKNOWN,
    ClipRun,
    LabelColumns,
    Reading,
    read_run,
    whole_clips,
)
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
_NO_NAMES = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class LabelKind:
    """One way to label frames.

    Attributes:
        name: "phone", "word", "sound_class", or a dimension of natural classes ("manner", "place"…).
        plural: how people call it.
        min_count: classes met fewer times (intervals, or clips where the class holds for whole clips) are not named;
            their frames stay as negatives of the others.
        intervals: labelled stretches of a clip; None where nothing is known about the clip; an empty tuple where it is
            known that no class occurs. A `columns.Reading` reads many clips at once.
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


def _spoken(tier: str) -> Reading:
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

    return Reading(intervals, lambda run: run.once(spoken, tier))


def spoken(run: ClipRun, tier: str) -> LabelColumns:
    """Return a tier of a run of clips without its pauses."""
    found = run.tier(tier)
    said = np.array([label.strip() not in PAUSES for label in found.labels], dtype=np.bool_)[found.label]
    clip = found.clip[said]
    silent = np.where([_is_sound(each) for each in run.clips], NONE, UNKNOWN)
    return LabelColumns(
        known=np.where(np.bincount(clip, minlength=len(run)) > 0, SOME, silent).astype(np.uint8),
        clip=clip,
        start_s=found.times[said, 0],
        end_s=found.times[said, 1],
        label=found.label[said],
        labels=found.labels,
    )


def spoken_by_start(run: ClipRun, tier: str) -> LabelColumns:
    """Return the same in the order of their starts, in each clip."""
    return run.once(spoken, tier).by_start()


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


def _sounds_of_run(run: ClipRun) -> LabelColumns:
    events = run.tier("events")
    n_events, n_phones, n_words = (
        np.bincount(run.tier(tier).clip, minlength=len(run)).tolist() for tier in ("events", "phones", "words")
    )
    whole = [
        None if n_events[b] else clip.attributes.get(SOUND_CLASS) or (SPEECH if n_phones[b] or n_words[b] else None)
        for b, clip in enumerate(run.clips)
    ]
    marked = LabelColumns(
        known=np.where(np.array(n_events) > 0, SOME, UNKNOWN).astype(np.uint8),
        clip=events.clip,
        start_s=events.times[:, 0],
        end_s=events.times[:, 1],
        label=events.label,
        labels=events.labels,
    )
    return marked.and_of(whole_clips(whole, FOREVER_S))


KINDS: Mapping[str, LabelKind] = {
    kind.name: kind
    for kind in (
        LabelKind("phone", "phones", 15, _spoken("phones")),
        LabelKind("word", "words", 15, _spoken("words")),
        LabelKind(SOUND_CLASS, "sound classes", 4, Reading(_sounds, _sounds_of_run)),
    )
}


def natural_kinds(corpus: Corpus) -> dict[str, LabelKind]:
    """Return one kind per dimension of natural classes (`alignment.natural_classes`), for the phones of a corpus.

    Phones are read in the alphabet that knows most of them, and symbols of several phones are cut evenly. Frames of
    phones that it does not know, and of diphthongs where vowels are told apart, are dropped. Without phones, or in
    an unknown alphabet, there are no kinds.
    """
    symbols = tier_labels((clip.tiers for clip in corpus), "phones")
    try:
        alphabet = guess_alphabet(symbols)
    except InputError:
        return {}
    if not symbols:
        return {}
    return {name: LabelKind(name, f"{name} classes", 15, _natural(name, alphabet)) for name in DIMENSIONS}


def _natural(dimension: str, alphabet: str) -> Reading:
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

    def of_run(run: ClipRun) -> LabelColumns:
        phones = run.once(_base_phones, alphabet)
        classes = [class_of.get(phone, NO_CLASS) for phone in phones.labels]
        still = np.array([name != MOVING for name in classes], dtype=np.bool_)
        return replace(phones.take(still[phones.label]), labels=classes).if_any()

    return Reading(intervals, of_run)


def _base_phones(run: ClipRun, alphabet: str) -> LabelColumns:
    """The phones of a run of clips in the base inventory; symbols of several are cut evenly."""
    symbols = run.once(spoken, "phones")
    of_symbol = [to_base(symbol, alphabet) or () for symbol in symbols.labels]
    base = list(dict.fromkeys(phone for phones in of_symbol for phone in phones))
    number = {phone: i for i, phone in enumerate(base)}
    n_of = np.array([len(phones) for phones in of_symbol], dtype=np.intp)
    flat = np.array([number[phone] for phones in of_symbol for phone in phones], dtype=np.intp)
    n = n_of[symbols.label]
    pieces = symbols.take(np.repeat(np.arange(len(n)), n))
    place = np.arange(len(pieces.label)) - np.repeat(np.cumsum(n) - n, n)
    start_s, end_s = pieces.start_s.copy(), pieces.end_s.copy()
    (cut,) = np.nonzero(n_of[pieces.label] > 1)
    step = (end_s[cut] - start_s[cut]) / n_of[pieces.label[cut]]
    start_s[cut], end_s[cut] = start_s[cut] + place[cut] * step, start_s[cut] + (place[cut] + 1) * step
    label = flat[(np.cumsum(n_of) - n_of)[pieces.label] + place]
    return replace(pieces, start_s=start_s, end_s=end_s, label=label, labels=base)


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
        indptr: `[k * b + 1]` where the stretches of each kind and clip begin.
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
        run = ClipRun(clips)
        half = self.half[:, self._n_clips : self._n_clips + len(run)]
        self._n_clips += len(run)
        known = np.zeros((len(run), len(self.kinds)), dtype=np.uint8)
        sizes, spans, names = [np.zeros(0, dtype=np.intp)], [np.zeros((0, 2), dtype=np.int64)], [_NO_NAMES]
        for k, kind in enumerate(self.kinds):
            found = read_run(kind.intervals, run)
            known[:, k] = found.known
            sizes.append(np.bincount(found.clip, minlength=len(run)))
            spans.append(self.clock.first_after_each(np.stack((found.start_s, found.end_s), axis=1)))
            names.append(self._named(k, found))
            self._count(k, names[-1], half[k][found.clip])
        indptr = np.concatenate(([0], np.cumsum(np.concatenate(sizes)))).astype(np.int64)
        frames = np.asarray(n_frames, dtype=np.int64)
        return Stretches(frames, known, indptr, np.concatenate(spans), np.concatenate(names))

    def _named(self, k: int, found: LabelColumns) -> npt.NDArray[np.int32]:
        """The number among all labels of kind `k` of each stretch's label; space around a label counts for nothing."""
        numbers, of_label = self._names[k], np.full(len(found.labels), -1, dtype=np.int32)
        for i in np.flatnonzero(np.bincount(found.label)).tolist():
            of_label[i] = numbers.setdefault(found.labels[i].strip(), len(numbers) - 1)
        return of_label[found.label]

    def _count(self, k: int, name: npt.NDArray[np.int32], half: npt.NDArray[np.uint8]) -> None:
        n_names = len(self._names[k]) - 1
        counts = np.zeros((2, n_names), dtype=np.int64)
        counts[:, : self._counts[k].shape[1]] = self._counts[k]
        for side in (0, 1):
            counts[side] += np.bincount(name[(half == side) & (name >= 0)], minlength=n_names)
        self._counts[k] = counts

    def classes(self) -> list[tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
        """Return the classes of every kind that were met often enough, and how often: names and counts `[c]`.

        At most `MAX_CLASSES` of a kind: the ones met most. A class needs a quarter of `min_count` in either half.
        """
        found = []
        for kind, numbers, counts in zip(self.kinds, self._names, self._counts, strict=True):
            totals = counts.sum(axis=0)
            enough = (totals >= kind.min_count) & (counts.min(axis=0) >= kind.min_count / 4)
            met = {label: int(totals[n]) for label, n in numbers.items() if n >= 0 and enough[n]}
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
                table[n] = index.get(label, len(own))  # number −1, "none of them", is the last of the table
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


@numba.njit(cache=True, nogil=True)
def _paint(n_frames, known, indptr, span, name, chosen, first_name, of_name, n_classes, frames, constant):  # type: ignore[no-untyped-def]
    start, n_clips = 0, len(n_frames)
    for b in range(n_clips):
        end = start + n_frames[b]
        for column in range(len(chosen)):
            k = chosen[column]
            if known[b, k] == 1:
                frames[start:end, column] = n_classes[column]
            last = first_name[column + 1] - 1
            for r in range(indptr[k * n_clips + b], indptr[k * n_clips + b + 1]):
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
