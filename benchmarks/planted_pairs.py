"""Units that mean two things because they were made so: sums of two known directions, and each direction alone.

For every phone met at least 60 times in English, the direction that tells it from everything else in the residual
stream (linear discriminant: inverse covariance times difference of means) is read out as a rectified unit whose
threshold has the best F1, and scaled so that nine tenths of its active values are below 1; all on the atlas's voices.
The 20 phones with the best F1 make ten pairs, the best with the eleventh and so on. Each pair is added twice: equally
strong, and the second at a third. Of an atlas of these units is asked:

- **both labels**: both phones are among the labels that pass, in bands of their own;
- **both bands**: moreover, each phone's band holds at least half of the values that the unit takes where the phone is
  said and its direction is active;
- **ends**: at a third, the band of the weaker one has an upper end.

Controls: each direction alone must get no second label; with moved tiers no unit may get any (but who speaks,
and a pause: a clip still begins with one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from otoscope.activations import ActivationStore
from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.labels.reading import Band
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Neurons
from otoscope.evaluation.naming.label_sets import KINDS, label_sets
from otoscope.evaluation.naming.traits import SPEAKER_KINDS
from otoscope.models import SpeechModel

N_PAIRS = 10
MIN_INTERVALS = 60
WEAK = 1 / 3
RIDGE = 1e-3
"""Of the mean variance, added to every direction's before the covariance is inverted."""
HELD = 0.5


@dataclass(frozen=True)
class Directions:
    """Rectified read-outs of phones.

    Attributes:
        phones: `[n]` names, the best F1 first; `f1 [n]`.
        values: `[frames, n]` of each direction, at least 0, over the clips in order.
        phone_of_frame: `[frames]` index into `phones`, −1 for every other.
        classes: names of all phones; `class_of_frame [frames]` index into them, beyond the last for none, −1 unknown.
    """

    phones: tuple[str, ...]
    f1: np.ndarray
    values: np.ndarray
    phone_of_frame: np.ndarray
    classes: tuple[str, ...]
    class_of_frame: np.ndarray


@dataclass(frozen=True)
class PlantedModel:
    """Stands in for a model whose units have given values."""

    model: SpeechModel
    frames: dict[str, np.ndarray]
    name: str = "planted"
    weights_hash: str = "0" * 64
    dtype: torch.dtype = torch.float32

    @property
    def dims(self) -> Any:
        """Those of the model beneath."""
        return self.model.dims

    def site(self, text: str) -> Any:
        """The site of a name."""
        return self.model.site(text)

    def width(self, site: str) -> int:
        """Number of units."""
        return next(iter(self.frames.values())).shape[1]

    def run(self, clip: Clip, read: list[str]) -> dict[str, torch.Tensor]:
        """The values of all units in a clip."""
        return {read[0]: torch.from_numpy(self.frames[clip.clip_id])}


@dataclass(frozen=True)
class Found:
    """What the atlas says of one sum of two directions; `said` are its labels with their bands."""

    labels: bool
    bands: bool
    ends: bool
    said: str


@dataclass(frozen=True)
class Pairs:
    """Pairs `(first phone, second phone, F1 of either alone)`, what was found of them, and the controls.

    `seconds` says of each second label of a direction alone how often the direction is active where it holds.
    """

    pairs: tuple[tuple[str, str, float, float], ...]
    equal: tuple[Found, ...]
    weak: tuple[Found, ...]
    alone: tuple[str, ...]
    seconds: tuple[str, ...]
    alone_with_second: int
    moved_with_label: int

    def summary(self) -> list[str]:
        """One line for every claim."""
        n, units = len(self.pairs), len(self.alone)
        return [
            f"{name}: both labels in {sum(each.labels for each in found)} of {n},"
            f" both bands in {sum(each.bands for each in found)} of {n}"
            for name, found in (("two directions added", self.equal), ("the second at a third", self.weak))
        ] + [
            f"at a third, the weaker one's band ends above in {sum(each.ends for each in self.weak)} of {n}",
            f"one direction alone: a second label in {self.alone_with_second} of {units}",
            f"with moved tiers: any label in {self.moved_with_label} of {2 * n + units}",
        ]

    def table(self) -> list[str]:
        """A row for every pair, then what is said of each direction alone."""
        rows = ["| phones (F1 alone) | equally strong | the second at a third |", "|---|---|---|"]
        for (a, b, fa, fb), equal, weak in zip(self.pairs, self.equal, self.weak, strict=True):
            rows.append(f"| /{a}/ ({fa:.2f}) + /{b}/ ({fb:.2f}) | {_cell(equal)} | {_cell(weak)} |")
        seconds = [
            "Second labels of directions alone, on the atlas's voices:",
            *(f"    {each}" for each in self.seconds),
        ]
        return [*rows, "", *(f"    alone: {each}" for each in self.alone), *(seconds if self.seconds else [])]


def _cell(found: Found) -> str:
    missing = "" if found.bands else "**a band is wrong:** " if found.labels else "**a label is missing:** "
    return missing + found.said


def directions(store: ActivationStore, corpus: Corpus, site: str) -> Directions:
    """Learn the best directions of phones on the clips of a corpus (see above)."""
    x = np.concatenate([store.clip(site, clip.clip_id) for clip in corpus]).astype(np.float64)
    counts = [store.clips[clip.clip_id][1] for clip in corpus]
    (phones,) = label_sets(corpus, counts, np.arange(len(corpus), dtype=np.uint8) % 2, store.clock, [KINDS["phone"]])
    met = Counter(each.label for clip in corpus if clip.language == "en" for each in clip.tier("phones"))
    x -= x.mean(axis=0)
    covariance = x.T @ x / len(x)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    read = []
    for c, name in enumerate(phones.classes):
        if met[name] >= MIN_INTERVALS:
            own = phones.frame_class == c
            score = x @ np.linalg.solve(covariance, x[own].mean(axis=0))
            f1, threshold = best_threshold(score, own)
            active = np.maximum(score - threshold, 0)
            read.append((f1, c, active / np.quantile(active[active > 0], 0.9)))
    read = sorted(read, key=lambda each: -each[0])[: 2 * N_PAIRS]
    place = np.full(len(phones.classes) + 1, -1)
    place[[c for _, c, _ in read]] = np.arange(len(read))
    of_frame = np.where(phones.frame_class >= 0, place[phones.frame_class], -1)
    names = tuple(phones.classes[c] for _, c, _ in read)
    f1, values = np.array([each for each, _, _ in read]), np.stack([each for _, _, each in read], axis=1)
    return Directions(names, f1, values, of_frame, phones.classes, phones.frame_class)


def best_threshold(score: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """Return the best F1 that `score > threshold` has for the frames `own`, and that threshold."""
    order = np.argsort(-score)
    hits = np.cumsum(own[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + own.sum())
    last = int(f1[:-1].argmax())
    return float(f1[last]), float((score[order[last]] + score[order[last + 1]]) / 2)


def planted_pairs(store: ActivationStore, corpus: Corpus, moved: Corpus, site: str, model: SpeechModel) -> Pairs:
    """Build the units, their atlas and that with moved tiers (`moved`: the same clips), and see what was found."""
    known = directions(store, corpus, site)
    own, n = known.values, len(known.phones) // 2
    first, second = own[:, :n], own[:, n : 2 * n]
    units = np.concatenate([first + second, first + WEAK * second, own], axis=1).astype(np.float32)
    ends = np.cumsum([store.clips[clip.clip_id][1] for clip in corpus])[:-1]
    frames = {clip.clip_id: part for clip, part in zip(corpus, np.split(units, ends), strict=True)}
    dictionary = Neurons(site, units.shape[1], name="planted")
    stand_in: Any = PlantedModel(model, frames)
    atlas = build_atlas(stand_in, dictionary, corpus, progress=False)
    by_chance = build_atlas(stand_in, dictionary, moved, progress=False)
    found = [[_found(atlas, known, units, row * n + i, (i, n + i)) for i in range(n)] for row in (0, 1)]
    alone = [2 * n + j for j in range(own.shape[1])]
    pairs = [(known.phones[i], known.phones[n + i], float(known.f1[i]), float(known.f1[n + i])) for i in range(n)]
    said = by_chance.features
    said = said["label"].notna() & ~said["label_kind"].isin((*SPEAKER_KINDS, "pause"))
    return Pairs(
        tuple(pairs),
        tuple(found[0]),
        tuple(found[1]),
        tuple(f"/{name}/: {atlas[unit].sentence}" for name, unit in zip(known.phones, alone, strict=True)),
        tuple(why for j, unit in enumerate(alone) for why in _seconds(atlas[unit].bands, known, j)),
        sum(len(atlas[unit].bands) > 1 for unit in alone),
        int(said.sum()),
    )


def _found(atlas: Atlas, known: Directions, units: np.ndarray, unit: int, of: tuple[int, int]) -> Found:
    bands = {label: band for band in atlas[unit].bands for label in band.labels}
    both = all(known.phones[i] in bands for i in of)
    held = both and all(_holds(bands[known.phones[i]], units[:, unit], known, i) for i in of)
    ends = both and bands[known.phones[of[1]]].high < np.inf
    spans = [f"/{label}/ {band.low:.2f}–{band.high:.2f}" for label, band in bands.items()]
    return Found(both, held, ends, ", ".join(spans).replace("–inf", "–"))


def _holds(band: Band, value: np.ndarray, known: Directions, i: int) -> bool:
    """Whether a band holds half of what the unit is in the frames of a phone whose direction is active."""
    inside = value[(known.phone_of_frame == i) & (known.values[:, i] > 0)]
    return bool(np.mean((inside > band.low) & (inside <= band.high)) >= HELD)


def _seconds(bands: Sequence[Band], known: Directions, j: int) -> list[str]:
    """Whether a direction is active where its second labels hold more often than in any other speech but its own."""
    active, rest = known.values[:, j] > 0, (known.class_of_frame >= 0) & (known.phone_of_frame != j)
    said = []
    for band in bands[1:]:
        holds = known.class_of_frame == known.classes.index(band.labels[0])
        share, other = active[holds].mean(), active[rest & ~holds].mean()
        said.append(
            f"/{known.phones[j]}/ also /{band.labels[0]}/ (F1 {band.f1:.2f}, {band.f1_low:.2f}–{band.f1_high:.2f}):"
            f" active in {share:.0%} of its {int(holds.sum())} frames, in {other:.1%} of all other phones'"
        )
    return said
