"""What aligning a clip with its text gives, whichever way it was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otoscope.audio import Interval


@dataclass(frozen=True)
class Alignment:
    """Where the words and phones of a text lie in a clip, and how well the sound agrees."""

    words: tuple[Interval, ...]
    phones: tuple[Interval, ...] = ()
    margin: float = 0.0
    """How well the sound agrees, as the mean of a log-probability (natural; 0 is perfect): by phones, of what was
    aligned less what was most probable, over the frames of speech; by attention, of each word."""
    unknown: tuple[str, ...] = ()
    """Words without pronunciation, aligned as speech of unknown phones."""

    @property
    def tiers(self) -> Mapping[str, tuple[Interval, ...]]:
        """The tiers that are there: `words`, `phones`."""
        return {name: tier for name, tier in (("words", self.words), ("phones", self.phones)) if tier}
