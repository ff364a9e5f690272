"""How far people who labelled the same features agree: Krippendorff's alpha, percent agreement, and where they differ.

Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", for nominal data of any number of annotators, who
need not have labelled the same features. Alpha is 1 where all agree, 0 where they agree as often as by chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.atlas.notes.revision import FeatureKey

N_BOOTSTRAP = 1000
_BLOCK = 4_000_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rating:
    """What one annotator called a feature."""

    feature: FeatureKey
    annotator: str
    label: str


@dataclass(frozen=True)
class Disagreement:
    """A feature that people call differently: annotator → label, as written."""

    feature: FeatureKey
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Agreement:
    """alpha: Krippendorff's, nominal, with its 95 % interval (features drawn again, 1,000 times); None where it is
    undefined: nobody labelled the same feature, or only one label was ever used. percent: share of pairs of labels of
    the same feature that agree. n_features: features that two people or more have labelled. annotators: how many
    features each labelled.
    """

    alpha: float | None
    alpha_low: float | None
    alpha_high: float | None
    percent: float | None
    n_features: int
    annotators: Mapping[str, int]
    disagreements: tuple[Disagreement, ...]


def same_label(text: str) -> str:
    """Return what a label is compared by: composed Unicode, single spaces, and no case.

    Between slashes or brackets case stays: there it tells sounds apart (/s/ and /S/ in SAMPA).
    """
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()
    return plain if re.fullmatch(r"/.+/|\[.+\]", plain) else plain.casefold()


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Return alpha of nominal values: per unit, the values that its annotators gave (missing ones left out).

    >>> round(krippendorff_alpha(["ab", "aa", "bb", "bb"]), 3)
    0.533
    """
    sizes, counts, unit_of, value_of = _tables(units)
    agreeing = _agreeing(sizes, counts, unit_of)
    totals = np.bincount(value_of, weights=counts) if len(counts) else np.zeros(0)
    return _alpha(np.array([sizes.sum()]), np.array([agreeing.sum()]), np.array([(totals**2).sum()]))[0]


def percent_agreement(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Return the share of pairs of values of the same unit that agree."""
    pairs = agreeing = 0
    for unit in units:
        pairs += len(unit) * (len(unit) - 1)
        agreeing += sum(n * (n - 1) for n in Counter(unit).values())
    return agreeing / pairs if pairs else None


def alpha_interval(
    units: Sequence[Sequence[Hashable]], seed: int = 0, n: int = N_BOOTSTRAP
) -> tuple[float | None, float | None]:
    """Return the 95 % interval of alpha over units drawn again with replacement."""
    sizes, counts, unit_of, value_of = _tables(units)
    if len(sizes) < 2:
        return None, None
    agreeing, random = _agreeing(sizes, counts, unit_of), np.random.default_rng(seed)
    n_values, found = int(value_of.max()) + 1, list[float]()
    step = max(1, _BLOCK // max(len(counts), n_values))
    for start in range(0, n, step):
        drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), min(step, n - start)).astype(float)
        totals = np.array([np.bincount(value_of, counts * row[unit_of], n_values) for row in drawn])
        found += [a for a in _alpha(drawn @ sizes, drawn @ agreeing, (totals**2).sum(axis=1)) if a is not None]
    if not found:
        return None, None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def agreement_of(ratings: Sequence[Rating]) -> Agreement:
    """Compare ratings, at most one of each annotator for each feature."""
    by_feature: defaultdict[tuple[str, int], dict[str, Rating]] = defaultdict(dict)
    for each in ratings:
        by_feature[each.feature.fingerprint, each.feature.feature][each.annotator] = each
    several = [given for given in by_feature.values() if len(given) > 1]
    units = [[same_label(each.label) for each in given.values()] for given in several]
    differing = [given for given, unit in zip(several, units, strict=True) if len(set(unit)) > 1]
    low, high = alpha_interval(units)
    return Agreement(
        alpha=krippendorff_alpha(units),
        alpha_low=low,
        alpha_high=high,
        percent=percent_agreement(units),
        n_features=len(units),
        annotators=dict(sorted(Counter(each.annotator for each in ratings).items())),
        disagreements=tuple(sorted(map(_disagreement, differing), key=lambda each: each.feature)),
    )


def _disagreement(given: Mapping[str, Rating]) -> Disagreement:
    labels = {name: each.label for name, each in sorted(given.items())}
    return Disagreement(min(each.feature for each in given.values()), labels)


def _tables(units: Sequence[Sequence[Hashable]]) -> tuple[Floats, Floats, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the number of values of each unit with two or more, and its counts by value, with their unit and value."""
    paired = [Counter(unit) for unit in units if len(unit) > 1]
    number: dict[Hashable, int] = {}
    for unit in paired:
        for value in unit:
            number.setdefault(value, len(number))
    entries = [(i, number[value], count) for i, unit in enumerate(paired) for value, count in unit.items()]
    unit_of, value_of, counts = np.array(entries, np.intp).reshape(-1, 3).T
    sizes = np.array([unit.total() for unit in paired], float)
    return sizes, counts.astype(float), unit_of, value_of


def _agreeing(sizes: Floats, counts: Floats, unit_of: npt.NDArray[np.intp]) -> Floats:
    """Return each unit's agreeing coincidences: pairs of equal values / (values − 1)."""
    equal = np.bincount(unit_of, weights=counts * (counts - 1), minlength=len(sizes)) if len(counts) else np.zeros(0)
    return np.asarray(equal / (sizes - 1))


def _alpha(n: Floats, agreeing: Floats, squares: Floats) -> list[float | None]:
    """Return 1 − D_o / D_e, many at once, from n values, agreeing coincidences and the squared totals of values."""
    expected = n**2 - squares
    return [
        1 - (size - 1) * (size - same) / chance if chance > 0 else None
        for size, same, chance in zip(n.tolist(), agreeing.tolist(), expected.tolist(), strict=True)
    ]
