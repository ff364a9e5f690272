"""Naming features: which classes each one detects, how well on voices it was not chosen on, and whether that is chance.

For a feature and a class, the threshold with the best F1 is fixed on one half of the voices; F1, precision, recall,
average precision and AUROC are measured on the other half. The null keeps thresholds and moves labels: rotated within
each clip, or dealt to other clips where a label holds for whole clips. Values are exact, not binned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from otoscope.evaluation.naming import choosing, scoring
from otoscope.evaluation.naming.bands import Bands, choose_bands
from otoscope.evaluation.naming.by_feature import Block, ranking
from otoscope.evaluation.naming.collector import labelling_of_sets
from otoscope.evaluation.naming.keeping import N_BEST, N_RANKED, BestFeatures, worth_keeping
from otoscope.evaluation.naming.label_sets import SPEECH, LabelSet
from otoscope.evaluation.naming.labelling import BANDED, FIT, N_SHIFTS, SCORE, Labelling
from otoscope.evaluation.naming.targets import Rows, Targets, f1_interval, measure, shift_p_value

__all__ = [
    "N_BEST",
    "N_RANKED",
    "N_SHIFTS",
    "Labeller",
    "Named",
    "Rows",
    "always_on_f1",
    "f1_interval",
    "shift_p_value",
]

N_TOGETHER = 256
"""Features scored at a time."""
PURITY_SHARE, PURITY_MIN_FRAMES = 0.05, 10
MIN_BAND_SKILL, NEARLY = 0.02, 0.6
"""Bands are looked for if one threshold finds some class of the kind so well, and, of phones and words, nearly as well
as any of the other kind."""
MIN_WORD_SKILL = 0.1
"""Only features that find some word so well are asked whether they know the word or a phone in it."""


@dataclass(frozen=True)
class Named:
    """What labelling a block gave.

    Attributes:
        pairs: rows of (feature, class): each feature's best classes and each class's best features.
        bands: rows of further labels: `role` 0 a class in a band of values, 1 the union of a few classes; `step`, their
            order within a feature and kind; `members [r, 4]` classes (−1 none), `band_low`, `band_high`.
        purities: `purity_class`, `purity` of each feature.
        lexical: `word`, `phone` (−1: not asked), `word_low`, `word_high`, `phone_low`, `phone_high` of each feature:
            the interval of F1 for its best word, and for its best phone in all other words.
    """

    pairs: Rows
    bands: Rows
    purities: Rows
    lexical: Rows

    @classmethod
    def joined(cls, parts: Sequence[Named]) -> Named:
        """What was found of features that follow one another."""
        return cls(*(_joined([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


_Half = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.float32]]
"""`indptr`, entries, values: see `choosing.halve`."""


@dataclass(frozen=True)
class _Entries:
    """A block with its ranking and the classes of its entries (`codes [k, e]`, `around [b, e, 2]`).

    `halves`: for every way of halving the clips, the ranked entries of either half (see `choosing.halve`).
    """

    block: Block
    order: npt.NDArray[np.uint32]
    halves: tuple[tuple[_Half, _Half], ...]
    codes: npt.NDArray[np.int16]
    around: npt.NDArray[np.int16]


class Labeller:
    """Scores features against the labels of one corpus. Thread-safe.

    `best` are the best features of every class so far, which labellers of one atlas share.
    """

    def __init__(self, labelling: Labelling, best: BestFeatures | None = None) -> None:
        self.labelling = labelling
        self.first_class = labelling.first_class
        self.columns = np.flatnonzero(labelling.usable)
        self.banded = [c for name in BANDED if (c := labelling.column(name)) >= 0]
        half = labelling.half[self.columns]
        _, self.halving, self.halved = np.unique(half, axis=0, return_index=True, return_inverse=True)
        self.offset = np.ascontiguousarray(half.T.astype(np.int16) * np.int16(choosing.SCORED))
        counts = [labelling.n_positive[k][FIT] for k in self.columns]
        first = np.cumsum([0, *(len(each) for each in counts)])
        self._fit = first, self.first_class[self.columns], np.concatenate([np.zeros(0, dtype=np.int64), *counts])
        self.best = best or BestFeatures(int(self.first_class[-1]))

    @classmethod
    def of(
        cls,
        sets: Sequence[LabelSet],
        clip_of_frame: npt.NDArray[np.int32],
        half_of_clip: npt.NDArray[np.uint8],
        *,
        seed: int,
        n_shifts: int = N_SHIFTS,
    ) -> Labeller:
        """Return the labeller of frames whose labels are in memory."""
        return cls(labelling_of_sets(sets, clip_of_frame, half_of_clip, seed=seed, n_shifts=n_shifts))

    @property
    def n_positive(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Per kind `[2, c + 1]` frames of each class in either half, the last being none of them."""
        return self.labelling.n_positive

    def label(self, block: Block, order: npt.NDArray[np.uint32] | None = None) -> Named:
        """Score the features of a block whose frames ascend; `order` is its `ranking`, if that is known already."""
        parts, at = [], 0
        for each in _pieces(block):
            end = at + len(each.frames)
            parts.append(self._label(each, None if order is None else order[at:end] - np.uint32(at)))
            at = end
        return Named.joined(parts)

    def chosen(self, block: Block) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return skill and threshold `[n, c]` of every feature and class, from the choosing half alone.

        Skill is the best F1 as the share of the way from always-on (0) to perfect (1); the classes of all kinds follow
        one another. The block's entries may be in any order.
        """
        found = [self._chosen(self._entries(_ascending(piece))) for piece in _pieces(block)]
        return np.concatenate([skill for skill, _ in found]), np.concatenate([at for _, at in found])

    def scored(
        self,
        block: Block,
        keep: npt.NDArray[np.bool_],
        skill: npt.NDArray[np.float64],
        threshold: npt.NDArray[np.float64],
    ) -> Rows:
        """Measure the pairs `keep [n, c]` on the scoring half: one row each, features in order, then classes."""
        parts = []
        for piece in _pieces(block):
            span = slice(piece.first - block.first, piece.first - block.first + len(piece))
            entries, targets = self._entries(_ascending(piece)), Targets()
            self._add_pairs(targets, keep[span], threshold[span])
            parts.append(
                self._pair_rows(
                    entries,
                    keep[span],
                    skill[span],
                    threshold[span],
                    measure(self.labelling, entries.block, targets),
                )
            )
        return _joined(parts)

    def _label(self, block: Block, order: npt.NDArray[np.uint32] | None) -> Named:
        entries = self._entries(block, order)
        skill, threshold = self._chosen(entries)
        keep = worth_keeping(skill, self.best)
        targets = Targets()
        self._add_pairs(targets, keep, threshold)
        n_pairs = len(targets)
        bands = self._add_bands(entries, targets, skill)
        lexical = self._add_lexical(entries, targets, skill, threshold)
        figures = measure(self.labelling, block, targets)
        pairs = self._pair_rows(entries, keep, skill, threshold, {n: v[:n_pairs] for n, v in figures.items()})
        for name in ("f1", "f1_low", "f1_high", "precision", "recall", "chance", "p_value"):
            bands[name] = figures[name][bands["target"]]
        del bands["target"]
        return Named(pairs, bands, self._purities(entries), _lexical_columns(lexical, figures))

    def _entries(self, block: Block, order: npt.NDArray[np.uint32] | None = None) -> _Entries:
        n = len(block.frames)
        codes = np.empty((len(self.columns), n), dtype=np.int16)
        around = np.empty((len(self.banded), n, 2), dtype=np.int16)
        sides = np.zeros((len(self.halving), n), dtype=np.uint8)
        cursor = block.indptr[:-1].copy()
        banded = np.array(self.banded, dtype=np.int64)
        for number in range(self.labelling.n_parts):
            part = self.labelling.part(number)
            choosing.gather(
                part.first, part.classes, part.clip, self.offset, self.halving, self.columns, banded,
                self.labelling.near_frames, block.indptr, block.frames, cursor, codes, around, sides,
            )  # fmt: skip
        order = ranking(block.indptr, block.values) if order is None else order
        halves = tuple(
            (choosing.halve(block.indptr, order, block.values, each, FIT),
             choosing.halve(block.indptr, order, block.values, each, SCORE))
            for each in sides
        )  # fmt: skip
        return _Entries(block, order, halves, codes, around)

    def _half(self, entries: _Entries, row: int, side: int) -> _Half:
        """Ranked entries of one half, as the kind in a row of `codes` halves clips."""
        found: _Half = entries.halves[self.halved[row]][side]
        return found

    def _chosen(self, entries: _Entries) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        block = entries.block
        shape = (len(block), int(self.first_class[-1]))
        skill, threshold = np.zeros(shape), np.full(shape, np.inf)
        for halving in range(len(self.halving)):
            rows = np.flatnonzero(self.halved == halving)
            choosing.choose_thresholds(
                *self._half(entries, rows[0], FIT), entries.codes, rows, *self._fit, skill, threshold
            )
        return skill, threshold

    def _add_pairs(self, targets: Targets, keep: npt.NDArray[np.bool_], threshold: npt.NDArray[np.float64]) -> None:
        feature, c = np.nonzero(keep)
        k = np.searchsorted(self.first_class, c, side="right") - 1
        targets.add_pairs(feature, k, c - self.first_class[k], threshold[feature, c])

    def _pair_rows(
        self,
        entries: _Entries,
        keep: npt.NDArray[np.bool_],
        skill: npt.NDArray[np.float64],
        threshold: npt.NDArray[np.float64],
        figures: Rows,
    ) -> Rows:
        block = entries.block
        feature, classes = np.nonzero(keep)
        kind = np.searchsorted(self.first_class, classes, side="right") - 1
        ap, auroc = np.zeros(len(feature)), np.zeros(len(feature))
        for row, k in enumerate(self.columns):
            own = np.flatnonzero(kind == k)
            if len(own) == 0:
                continue
            found = np.zeros(len(own)), np.zeros(len(own))
            indptr = np.searchsorted(feature[own], np.arange(len(block) + 1))
            scoring.rank_scores(
                *self._half(entries, row, SCORE), entries.codes[row], self.n_positive[k][SCORE], indptr,
                classes[own] - self.first_class[k], *found,
            )  # fmt: skip
            ap[own], auroc[own] = found
        return {
            **figures,
            "ap": ap,
            "auroc": auroc,
            "feature": block.first + feature,
            "class": classes.astype(np.int32),
            "skill": skill[feature, classes],
            "threshold": threshold[feature, classes],
        }

    def _add_bands(self, entries: _Entries, targets: Targets, skill: npt.NDArray[np.float64]) -> Rows:
        """Add bands and unions of phones or of words, whichever the feature finds better, and of sounds but speech."""
        block, found, wanted = entries.block, {}, self._asked_for_bands(skill)
        for number, k in enumerate(self.banded):
            row = int(np.searchsorted(self.columns, k))
            name = self.labelling.kinds[k].name
            found[name] = k, choose_bands(
                *self._half(entries, row, FIT), entries.codes[row], entries.around[number],
                self.n_positive[k][FIT], self.labelling.near[name][FIT], wanted[number],
            )  # fmt: skip
        rows: dict[str, list[object]] = {n: [] for n in _BAND_COLUMNS}
        for i in range(len(block)):
            for k, bands in _spoken_and_sounds(found, i):
                self._add_bands_of(targets, rows, block.first, i, k, bands)
        return {name: np.array(values, dtype=_BAND_COLUMNS[name]).reshape(-1, *([4] if name == "members" else []))
                for name, values in rows.items()}  # fmt: skip

    def _asked_for_bands(self, skill: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """`[banded, n]` which features may have bands in which kinds, as far as one threshold each tells."""
        best = np.zeros((len(self.banded), len(skill)))
        spoken = np.zeros(len(self.banded), dtype=bool)
        for number, k in enumerate(self.banded):
            kind, own = self.labelling.kinds[k], skill[:, self.first_class[k] : self.first_class[k + 1]]
            named = [c for c, name in enumerate(kind.classes) if name != SPEECH]
            best[number] = own[:, named].max(axis=1, initial=0.0)
            spoken[number] = kind.name != "sound_class"
        wanted = best >= MIN_BAND_SKILL
        wanted[spoken] &= best[spoken] >= NEARLY * best[spoken].max(axis=0, initial=0.0)
        return wanted

    def _add_bands_of(
        self, targets: Targets, rows: dict[str, list[object]], first: int, i: int, k: int, bands: Bands
    ) -> None:
        offset, names, step = int(self.first_class[k]), self.labelling.kinds[k].classes, 0
        aside: list[int] = []
        labels = [(0, [int(c)], bands.low[i, j], bands.high[i, j], bands.skill[i, j])
                  for j, c in enumerate(bands.classes[i]) if c >= 0]  # fmt: skip
        union = [int(c) for c in bands.members[i] if c >= 0]
        if len(union) > 1:
            labels.append((1, union, bands.union_low[i], np.inf, bands.union_skill[i]))
        for role, members, low, high, skill in labels:
            if names[members[0]] == SPEECH:
                aside.append(members[0])
                continue
            rows["target"].append(targets.add(i, k, members, low, high, [] if role else aside))
            rows["feature"].append(first + i)
            rows["role"].append(role)
            rows["step"].append(step)
            rows["members"].append([offset + c for c in members] + [-1] * (4 - len(members)))
            rows["band_low"].append(low)
            rows["band_high"].append(high)
            rows["skill"].append(skill)
            aside.append(members[0])
            step += 1

    def _add_lexical(
        self,
        entries: _Entries,
        targets: Targets,
        skill: npt.NDArray[np.float64],
        threshold: npt.NDArray[np.float64],
    ) -> Rows:
        n, (p, w) = len(entries.block), (self.labelling.column(name) for name in ("phone", "word"))
        columns = {name: np.full(n, -1, dtype=np.int64) for name in ("word", "phone", "word_at", "phone_at")}
        if p < 0 or w < 0:
            return columns
        words, phones = (slice(self.first_class[k], self.first_class[k + 1]) for k in (w, p))
        for i in range(n):
            word, phone = int(skill[i, words].argmax()), int(skill[i, phones].argmax())
            if skill[i, words][word] < MIN_WORD_SKILL or skill[i, phones][phone] <= 0:
                continue
            columns["word"][i], columns["phone"][i] = word + words.start, phone + phones.start
            columns["word_at"][i] = targets.add(i, w, (word,), threshold[i, words][word])
            columns["phone_at"][i] = targets.add(i, p, (phone,), threshold[i, phones][phone], outside=(w, word))
        return columns

    def _purities(self, entries: _Entries) -> Rows:
        block = entries.block
        label, share = np.full(len(block), -1, dtype=np.int64), np.full(len(block), np.nan)
        if len(self.columns):
            n_named = len(self.labelling.kinds[self.columns[0]].classes)
            choosing.purest_class(
                block.indptr, block.values, entries.order, entries.codes[0], n_named, PURITY_SHARE, PURITY_MIN_FRAMES,
                label, share,
            )  # fmt: skip
        return {"purity_class": label.astype(np.int32), "purity": share}


_BAND_COLUMNS = {
    "target": np.int64, "feature": np.int64, "role": np.uint8, "step": np.uint8, "members": np.int32,
    "band_low": np.float64, "band_high": np.float64, "skill": np.float64,
}  # fmt: skip


def _spoken_and_sounds(found: dict[str, tuple[int, Bands]], i: int) -> Iterator[tuple[int, Bands]]:
    spoken = [each for name, each in found.items() if name != "sound_class"]
    if spoken:
        yield max(spoken, key=lambda each: max(each[1].skill[i, 0], each[1].union_skill[i]))
    if "sound_class" in found:
        yield found["sound_class"]


def _lexical_columns(lexical: Rows, figures: Rows) -> Rows:
    columns = {"word": lexical["word"], "phone": lexical["phone"]}
    for name in ("word", "phone"):
        at = lexical[f"{name}_at"]
        for end in ("low", "high"):
            values = np.full(len(at), np.nan)
            values[at >= 0] = figures[f"f1_{end}"][at[at >= 0]]
            columns[f"{name}_{end}"] = values
    return columns


def always_on_f1(n_positive: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """F1 of a detector that fires on every frame, for each class: what a label must beat."""
    return np.asarray(2 * n_positive / np.maximum(n_positive + n_positive.sum(), 1), dtype=np.float64)


def _pieces(block: Block) -> Iterator[Block]:
    for start in range(0, len(block), N_TOGETHER):
        indptr = block.indptr[start : start + N_TOGETHER + 1]
        span = slice(int(indptr[0]), int(indptr[-1]))
        yield Block(block.first + start, indptr - indptr[0], block.frames[span], block.values[span])


def _ascending(block: Block) -> Block:
    """The same entries, frames ascending within each feature."""
    order = np.lexsort((block.frames, np.repeat(np.arange(len(block)), np.diff(block.indptr))))
    return Block(block.first, block.indptr, block.frames[order], block.values[order])


def _joined(rows: list[Rows]) -> Rows:
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}
