"""What an atlas says of one feature beside its first label: bands of values with labels of their own, and acoustics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otoscope.atlas.format import ACOUSTICS, BANDS

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

HEARD = ("energy", "tilt", "voicing", "pitch")
_FIGURES = ("skill", "f1", "f1_low", "f1_high", "precision", "recall", "chance", "p_value", "q_value")


@dataclass(frozen=True)
class Band:
    """A label that holds where `low < value <= high`.

    Attributes:
        labels: one class; or the few classes of a union, which one threshold finds better together than one by one.
        kind: their kind.
        low, high: the band, in units of the feature's activation; `high` is infinite for "above".
        skill: on the fit half, F1 as the share of the way from always-on to perfect, other bands' classes set aside.
        f1, f1_low, f1_high, precision, recall, chance, p_value, q_value: on the scored half; a further label is scored
            in frames away from the classes before it.
    """

    labels: tuple[str, ...]
    kind: str
    low: float
    high: float
    skill: float
    f1: float
    f1_low: float
    f1_high: float
    precision: float
    recall: float
    chance: float
    p_value: float
    q_value: float


@dataclass(frozen=True)
class Heard:
    """How a feature goes with something that can be heard: correlation with its 95 % interval, and given the others."""

    correlation: float
    low: float
    high: float
    partial: float


def bands_of(atlas: Atlas, feature: int, *, unions: bool = False) -> list[Band]:
    """Return the labels of a feature that pass in bands of their own, best first; or the unions that pass."""
    file = atlas.sealed.arrays(BANDS)
    start, stop = file.read("indptr", feature, feature + 2).tolist()
    roles, passes = file.read("role", start, stop), file.read("passes", start, stop)
    figures = {name: file.read(name, start, stop) for name in (*_FIGURES, "band_low", "band_high")}
    members, found = file.read("members", start, stop), []
    for i in range(stop - start):
        if not passes[i] or bool(roles[i]) != unions:
            continue
        named = [atlas.classes[int(c)] for c in members[i] if c >= 0]
        found.append(
            Band(
                labels=tuple(label for label, _ in named),
                kind=named[0][1],
                low=float(figures["band_low"][i]),
                high=float(figures["band_high"][i]),
                **{name: float(figures[name][i]) for name in _FIGURES},
            )
        )
    return found


def acoustics_of(atlas: Atlas, feature: int) -> dict[str, Heard]:
    """Return how a feature goes with energy, tilt, voicing and pitch, where that is defined."""
    file = atlas.sealed.arrays(ACOUSTICS)
    rows = [file.read(name, feature, feature + 1)[0].tolist() for name in ("correlation", "low", "high", "partial")]
    found = {name: Heard(*figures) for name, figures in zip(HEARD, zip(*rows, strict=True), strict=True)}
    return {name: each for name, each in found.items() if not math.isnan(each.correlation)}
