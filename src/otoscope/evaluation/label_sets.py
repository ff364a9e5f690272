"""What each frame is labelled as: one class per frame and kind, from a corpus's tiers and attributes.

Frame t stands where the clock of its site says (Whisper: at 0.02·t s) and belongs to the interval that holds that
moment. Frames that no interval covers are dropped and counted. In a clip of labelled sound without phones or words, it
is known that nothing is said: its frames count against every phone and word, so that a detector of noise cannot pass
for a detector of s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

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
    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        everything = clip.tier(tier)
        pauses = {label for label in {each.label for each in everything} if label.strip() in PAUSES}
        found = tuple(each for each in everything if each.label not in pauses)
        if found:
            return found
        return () if _is_sound(clip) else None

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

    def intervals(clip: Clip) -> tuple[Interval, ...] | None:
        spoken = _spoken("phones")(clip)
        if not spoken:
            return spoken
        of_symbol = {label: to_base(label, alphabet) or () for label in {each.label for each in spoken}}
        found = []
        for each in spoken:
            phones = of_symbol[each.label]
            step = (each.end_s - each.start_s) / max(1, len(phones))
            for number, phone in enumerate(phones):
                if (name := class_of.get(phone, NO_CLASS)) != MOVING:
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
    sets = (_label_set(kind, corpus, clip_frames, half, clock) for kind in kinds)
    return [each for each in sets if each is not None]


def known_classes(
    kind: LabelKind, corpus: Corpus, half: npt.NDArray[np.uint8]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the classes of a kind that are met often enough in a corpus, and how often: names and counts `[c]`.

    At most `MAX_CLASSES`: the ones met most. `half [b]` as for `label_sets`.
    """
    counts: dict[str, list[int]] = {}
    for clip, side in zip(corpus, half, strict=True):
        for each in kind.intervals(clip) or ():
            if each.label != NO_CLASS:
                counts.setdefault(each.label.strip(), [0, 0])[int(side)] += 1
    least = kind.min_count / 4
    enough = [name for name, n in counts.items() if sum(n) >= kind.min_count and min(n) >= least]
    classes = tuple(sorted(sorted(enough, key=lambda name: (-sum(counts[name]), name))[:MAX_CLASSES]))
    return classes, np.array([sum(counts[name]) for name in classes], dtype=np.int64)


def clip_classes(
    kind: LabelKind, clip: Clip, index: Mapping[str, int], n_frames: int, clock: Clock
) -> tuple[npt.NDArray[np.int16], bool, bool]:
    """Return the class `[t]` of every frame of a clip as `LabelSet` has it, whether the clip is labelled at all, and
    whether one class holds for all of it."""
    frames = np.full(n_frames, DROPPED, dtype=np.int16)
    intervals = kind.intervals(clip)
    if intervals is None:
        return frames, False, False
    _paint(frames, intervals, index, clock)
    inside = frames[frames >= 0]
    return frames, bool(intervals), bool(intervals) and len(inside) > 0 and bool((inside == inside[0]).all())


def _label_set(
    kind: LabelKind, corpus: Corpus, clip_frames: list[int], half: npt.NDArray[np.uint8], clock: Clock
) -> LabelSet | None:
    classes, n_intervals = known_classes(kind, corpus, half)
    index = {name: i for i, name in enumerate(classes)}
    found = [clip_classes(kind, clip, index, n, clock) for clip, n in zip(corpus, clip_frames, strict=True)]
    frame_class = np.concatenate([frames for frames, _, _ in found]) if found else np.zeros(0, dtype=np.int16)
    present = np.unique(frame_class[frame_class >= 0])
    if not classes or len(present) < 2:
        return None
    return LabelSet(
        kind=kind.name,
        classes=classes,
        frame_class=frame_class,
        n_intervals=n_intervals,
        whole_clips=2 * sum(constant for _, _, constant in found) > sum(labelled for _, labelled, _ in found),
        n_dropped=int((frame_class < 0).sum()),
    )


def _paint(
    frames: npt.NDArray[np.int16], intervals: tuple[Interval, ...], index: Mapping[str, int], clock: Clock
) -> None:
    """Write the class of every frame of one clip; a clip where no class occurs is all "none of them"."""
    if not intervals:
        frames[:] = len(index)
    times = np.array([(each.start_s, each.end_s) for each in intervals], dtype=np.float64).reshape(-1, 2)
    spans = clock.first_after_each(times).tolist()
    of_label = {each.label: index.get(each.label.strip(), len(index)) for each in intervals}
    for (first, last), each in zip(spans, intervals, strict=True):
        frames[first : max(first, last)] = of_label[each.label]


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
