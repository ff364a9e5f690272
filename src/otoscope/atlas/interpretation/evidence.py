"""All that is known about when a feature is active: what cards are written from, and trials drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from otoscope.alignment.inventory import guess_alphabet, to_base
from otoscope.alignment.natural_classes import DIMENSIONS
from otoscope.atlas.atlas import Atlas
from otoscope.atlas.interpretation.descriptors import Descriptor, compare, measure, with_sound
from otoscope.atlas.interpretation.moments import Moment
from otoscope.atlas.interpretation.occurrences import occurrences
from otoscope.atlas.interpretation.sampling import CARD, HELD_OUT, Bools, FeatureMoments, Frames, Ints
from otoscope.audio import Corpus
from otoscope.errors import InputError

Floats = npt.NDArray[np.float64]

MIN_EVENTS = 5
"""A feature with fewer events in a half of the voices is not interpreted from it, or tried on it."""
N_MEASURED = 100
"""Active moments whose sound is measured, each beside a silent one of its clip."""
MAIN_SHARE = 0.1
"""Phones that hold this share of a feature's moments are its sounds: silent moments in them are near misses."""
LEADING_SHARE = 0.25
"""Of these phones, or of the commonest, silent moments in the phones most like them are near misses."""
STRONGEST = 0.2
"""Share of the moments that is called the strongest."""
_DRAW_TRIAL, _DRAW_MEASURED, _DRAW_NEAR = 1, 2, 3


@dataclass(frozen=True)
class Trial:
    """Moments on which explanations are tried, half of them active.

    Attributes:
        moments: in an order that says nothing.
        active: `[m]` at which the feature is active.
        near: `[m]` silent moments in its own sounds, or in sounds that are most like them.
        measures: `[m, descriptors.NAMES]`.
    """

    moments: list[Moment]
    active: Bools
    near: Bools
    measures: Floats


@dataclass(frozen=True)
class Comparison:
    """Measured active moments, silent ones of the same clips, and how they differ."""

    active: Floats
    silent: Floats
    descriptors: list[Descriptor]


class World:
    """An atlas, its corpus and its phones: what all features share."""

    def __init__(self, atlas: Atlas, corpus: Corpus, seed: int = 0) -> None:
        self.frames = Frames(atlas, corpus, seed)
        self.corpus = corpus
        self.said = {half: occurrences(self.frames, half) for half in (CARD, HELD_OUT)}
        names = sorted({name for said in self.said.values() for name in said.phones})
        self.classes = _classes_of(names)

    def siblings(self, phone: str) -> list[str]:
        """Return the phones most like this one: those that share most natural classes with it, and two at least."""
        own = self.classes.get(phone, {})
        shared = {
            other: sum(own.get(dimension) == name for dimension, name in classes.items())
            for other, classes in self.classes.items()
            if other != phone
        }
        best = max(shared.values(), default=0)
        return sorted(other for other, count in shared.items() if count == best >= 2)


class Evidence:
    """One feature in a `World`."""

    def __init__(self, world: World, feature: int) -> None:
        self.world, self.feature = world, feature
        self.moments = FeatureMoments(world.frames, feature)

    @property
    def enough(self) -> bool:
        """Whether a card can be made."""
        return self.moments.n_events(CARD) >= MIN_EVENTS

    @property
    def triable(self) -> bool:
        """Whether explanations can be tried."""
        return self.moments.n_events(HELD_OUT) >= MIN_EVENTS

    @cached_property
    def peaks(self) -> list[Moment]:
        """The strongest moment of every event of the card half, in corpus order."""
        events = self.moments.events(CARD)
        return self.world.frames.moments(events.peak, events.value)

    @cached_property
    def phone_shares(self) -> dict[str, float]:
        """Share of each phone among the moments at which a phone is said, commonest first."""
        return shares(each.phone for each in self.peaks if each.phone is not None)

    @cached_property
    def strong(self) -> Bools:
        """Which of `peaks` are the strongest fifth, `[e]`."""
        values = np.array([each.value for each in self.peaks])
        return np.asarray(values >= np.quantile(values, 1 - STRONGEST), dtype=np.bool_)

    @cached_property
    def strong_shares(self) -> dict[str, float]:
        """The same as `phone_shares`, of the strongest fifth."""
        strongest = (each for each, strong in zip(self.peaks, self.strong, strict=True) if strong)
        return shares(each.phone for each in strongest if each.phone is not None)

    @cached_property
    def own_sounds(self) -> list[str]:
        """Its commonest phones, where most of its moments are in speech."""
        spoken = sum(each.phone is not None for each in self.peaks)
        if spoken < len(self.peaks) / 2:
            return []
        return [phone for phone, share in self.phone_shares.items() if share >= MAIN_SHARE][:4]

    @cached_property
    def comparison(self) -> Comparison | None:
        """How its moments sound, beside silent moments of the same clips; None where there are too few.

        Raises:
            InputError: a clip cannot be decoded.
        """
        frames, half = self.world.frames, CARD
        drawn = self.moments.across_levels(half, N_MEASURED, _DRAW_MEASURED)
        silent = self.moments.silent.in_same_clip(drawn.clip, frames.rng(self.feature, _DRAW_MEASURED))
        silent = silent[silent >= 0]
        if min(len(drawn.frame), len(silent)) < MIN_EVENTS:
            return None
        sides = [frames.moments(drawn.frame, drawn.value), frames.moments(silent)]
        active, quiet = (measure(self.world.corpus, side) for side in sides)
        clips = [[each.clip_id for each in side] for side in sides]
        return Comparison(active, quiet, compare(active, quiet, clips[0], clips[1]))

    def same_sound(self, half: int, count: int) -> Ints:
        """Return silent frames in the middle of its own sounds."""
        return self._silent_in(half, self.own_sounds, count)

    def near_sound(self, half: int, count: int) -> Ints:
        """Return silent frames in the middle of the sounds that are most like its own."""
        main = [phone for phone in self.own_sounds if self.phone_shares[phone] >= LEADING_SHARE]
        siblings = {other for phone in main or self.own_sounds[:1] for other in self.world.siblings(phone)}
        return self._silent_in(half, sorted(siblings - set(self.own_sounds)), count)

    def _silent_in(self, half: int, phones: list[str], count: int) -> Ints:
        said = self.world.said[half]
        wanted = np.array([name in phones for name in said.phones], dtype=np.bool_)
        at = said.middle(np.flatnonzero(wanted[said.phone]))
        at = at[self.moments.silent.holds(at)]
        rng = self.world.frames.rng(self.feature, 10 * _DRAW_NEAR + half)
        return np.asarray(rng.permutation(at)[:count], dtype=np.int64)

    def trial(self, n_active: int, n_silent: int) -> Trial:
        """Draw held-out moments: active ones of every strength; silent ones from anywhere, half of them near misses.

        Raises:
            InputError: a clip cannot be decoded.
        """
        frames, rng = self.world.frames, self.world.frames.rng(self.feature, _DRAW_TRIAL)
        drawn = self.moments.across_levels(HELD_OUT, n_active, _DRAW_TRIAL)
        near = np.concatenate([self.same_sound(HELD_OUT, n_silent // 4), self.near_sound(HELD_OUT, n_silent // 4)])
        silent = np.concatenate([near, self.moments.silent.anywhere(HELD_OUT, n_silent - len(near), rng)])
        moments = [*frames.moments(drawn.frame, drawn.value), *frames.moments(silent)]
        order = rng.permutation(len(moments))
        moments = [moments[i] for i in order]
        kind = np.repeat((0, 1, 2), (len(drawn.frame), len(near), len(silent) - len(near)))[order]
        measures = measure(self.world.corpus, moments)
        return Trial(with_sound(self.world.corpus, moments, measures), kind == 0, kind == 1, measures)


def shares(labels: Iterable[str]) -> dict[str, float]:
    """Return the share of each label, commonest first."""
    counts = Counter(labels)
    total = counts.total()
    return {label: count / total for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def _classes_of(phones: list[str]) -> dict[str, dict[str, str]]:
    """Phone → dimension → natural class, for phones of a known alphabet that stand for one base phone."""
    try:
        alphabet = guess_alphabet(phones)
    except InputError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for phone in phones:
        base = to_base(phone, alphabet) or ()
        if len(base) == 1:
            classes = {name: table[base[0]] for name, table in DIMENSIONS.items() if base[0] in table}
            if classes:
                found[phone] = classes
    return found
