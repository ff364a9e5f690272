"""What a web page shows of a feature: scores, histogram and moments, as JSON values."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.examples import KINDS
from otoscope.atlas.exports.belonging import sentence_of
from otoscope.atlas.exports.site_sounds import window_of
from otoscope.atlas.format import FEATURES
from otoscope.audio.licence import credit_of

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.entry import FeatureEntry
    from otoscope.atlas.examples import Example
    from otoscope.atlas.interpretation.reading import Interpretations
    from otoscope.audio import Clip, Corpus

SHOWN_S = 2.0
"""Seconds of sound around a moment."""
N_LABELS, N_RELATIVES = 10, 8
Ints = npt.NDArray[np.int64]
TIERS = ("words", "phones", "events")


class Pages:
    """Makes the pages of features, and takes note of the sound that they need.

    Args:
        atlas: whose features.
        corpus: the one that it was built over.
        exported: numbers of all features that get a page, ascending.
        examples: strongest moments of each feature; half as many of the other kinds.
        step_s: seconds from one window of sound to the next.
        told: what was interpreted of the atlas.
    """

    def __init__(
        self,
        atlas: Atlas,
        corpus: Corpus,
        exported: Ints,
        examples: int,
        step_s: int,
        told: Interpretations | None = None,
    ) -> None:
        self.atlas, self.corpus = atlas, corpus
        self.exported = exported
        self.numbers = {"top": examples}
        self.others = max(1, examples // 2)
        self.step_s = step_s
        self.told = told
        self.windows: dict[int, set[int]] = {}
        """By clip, the windows in which moments lie."""
        self.credits: list[str] = []
        """What clips say about who made them, each once."""
        self._credit: dict[str, int] = {}

    def page(self, feature: int) -> dict[str, Any]:
        """Return all that is shown of a feature."""
        entry = self.atlas[feature]
        stats = entry.stats
        edges, counts = entry.histogram
        top = float(stats["max"])
        return {
            "feature": feature,
            "unit": entry.unit,
            "sentence": sentence_of(entry),
            "label": stats["label"],
            "kind": stats["label_kind"],
            **{name: figure(stats[name]) for name in ("f1", "f1_low", "f1_high", "density", "max", "mean")},
            "labels": [self._score(row) for row in entry.label_rows[:N_LABELS]],
            "relatives": self._relatives(entry),
            "interpretation": None if self.told is None else self.told.shown(feature, public=True),
            "histogram": {"top": figure(edges[-1]), "counts": counts.tolist()},
            "examples": {kind: self._moments(entry, kind, top) for kind in KINDS},
        }

    def _moments(self, entry: FeatureEntry, kind: str, top: float) -> list[dict[str, Any]]:
        return [self._moment(entry, each, top) for each in entry.examples(kind, self.numbers.get(kind, self.others))]

    def _relatives(self, entry: FeatureEntry) -> dict[str, list[list[Any]]]:
        """Features that write alike (with the cosine), and that fire together (with the share of frames)."""
        file = self.atlas.sealed.arrays(FEATURES)
        alike = entry.neighbours(N_RELATIVES) if "neighbours" in file else []
        together = entry.cofiring(N_RELATIVES) if "cofiring" in file else []
        return {
            "alike": [self._relative(each.feature, each.cosine) for each in alike if self._has_page(each.feature)],
            "together": [self._relative(each.feature, each.share) for each in together if self._has_page(each.feature)],
        }

    def _has_page(self, feature: int) -> bool:
        at = int(np.searchsorted(self.exported, feature))
        return at < len(self.exported) and int(self.exported[at]) == feature

    def _relative(self, feature: int, how_much: float) -> list[Any]:
        label = int(self.atlas.column("label")[feature])
        named = self.atlas.classes[label] if label >= 0 else (None, None)
        return [feature, *named, figure(how_much)]

    def _score(self, row: dict[str, Any]) -> dict[str, Any]:
        names = ("f1", "f1_low", "f1_high", "chance", "precision", "recall", "q_value")
        return {"label": row["label"], "kind": row["kind"], **{name: figure(row[name]) for name in names}}

    def _moment(self, entry: FeatureEntry, example: Example, top: float) -> dict[str, Any]:
        clip = self.corpus.get(example.clip_id)
        number = self.atlas.clips.index(example.clip_id)
        start_s = example.time_s - SHOWN_S / 2
        window = window_of(start_s)
        self.windows.setdefault(number, set()).add(window)
        begins_s = window * self.step_s
        first, lane = self._lane(entry, number, start_s, top)
        return {
            "clip": number,
            "window": window,
            "id": example.clip_id,
            "title": _title(clip),
            "speaker": clip.speaker or "",
            "credit": self._credit_of(clip),
            "time_s": round(example.time_s, 3),
            "seconds": round(clip.duration_s - begins_s, 3),
            "value": figure(example.value),
            "decile": example.decile,
            "lane": lane,
            "lane_s": round(first - begins_s, 4),
            "tiers": {
                name: [
                    [round(i.start_s - begins_s, 3), round(i.end_s - begins_s, 3), i.label]
                    for i in clip.tier(name)
                    if i.end_s > start_s and i.start_s < start_s + SHOWN_S
                ]
                for name in TIERS
                if clip.tier(name)
            },
        }

    def _lane(self, entry: FeatureEntry, clip: int, start_s: float, top: float) -> tuple[float, str]:
        """Where the activation around a moment begins, in seconds of the clip, and its bytes, 255 for the maximum."""
        clock = self.atlas.clock
        first, last = self.atlas.clips.span(clip)
        begin = max(0, math.floor((start_s - clock.offset_s) / clock.frame_s) - 1)
        end = min(last - first, begin + math.ceil(SHOWN_S / clock.frame_s) + 3)
        frames, values = entry.entries
        here = slice(*np.searchsorted(frames, (first + begin, first + end)).tolist())
        lane = np.zeros(max(0, end - begin), dtype=np.uint8)
        share = np.ceil(values[here].astype(np.float64) * (255 / max(top, 1e-12)))
        lane[frames[here].astype(np.int64) - first - begin] = np.clip(share, 0, 255)
        # a frame is drawn from half its step before the moment that it stands for
        return clock.time_s(begin) - clock.frame_s / 2, base64.b64encode(lane.tobytes()).decode()

    def _credit_of(self, clip: Clip) -> int | None:
        said = credit_of(clip)
        if not said:
            return None
        if said not in self._credit:
            self._credit[said] = len(self.credits)
            self.credits.append(said)
        return self._credit[said]


def figure(value: Any) -> float | None:
    """A figure with four significant digits; None for none."""
    number = float(value) if value is not None else math.nan
    return float(f"{number:.4g}") if math.isfinite(number) else None


def _title(clip: Clip) -> str:
    return clip.text or clip.attributes.get("sound_class", "").replace("_", " ") or clip.clip_id
