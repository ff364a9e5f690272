"""Atlas: the searchable index of one dictionary over one corpus. Opening one reads kilobytes, the rest on demand."""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from otoscope.atlas.examples import KINDS as EXAMPLE_KINDS
from otoscope.atlas.format import read_meta, read_table, verify_files
from otoscope.atlas.postings import Postings
from otoscope.atlas.query import find_features
from otoscope.errors import InputError, nearest
from otoscope.models.clock import Clock

Histogram = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Example:
    """A moment at which a feature is active: frame `frame` of the clip, at `time_s` seconds from its start.

    `decile` (0–9, for kind "decile") is the tenth of the feature's range, from 0 to its maximum, that `value` is in.
    """

    clip_id: str
    frame: int
    time_s: float
    value: float
    kind: str
    decile: int | None = None


class Atlas:
    """What every feature of one dictionary does over one corpus.

    >>> atlas = oto.build_atlas(model, sae, clips)          # doctest: +SKIP
    >>> atlas.find("/m/").head(3), atlas[30].examples("top")  # doctest: +SKIP
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta
        self.name: str = meta["name"]
        self.holder: tempfile.TemporaryDirectory[str] | None = None
        """Keeps a temporary atlas on disk as long as this object lives."""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Atlas:
        """Open the atlas in a folder, after checking that its files are complete.

        Raises:
            OtoscopeError: missing, damaged, or of another version.
        """
        return cls(Path(folder), read_meta(Path(folder)))

    def verify(self) -> None:
        """Read every file and compare it with its checksum.

        Raises:
            OtoscopeError: a file changed since the atlas was built.
        """
        verify_files(self.folder, self.meta)

    def __len__(self) -> int:
        """Number of features."""
        return int(self.meta["n_features"])

    def __repr__(self) -> str:
        meta = self.meta
        return (
            f"Atlas({self.name!r}: {len(self)} features of {meta['site']} over corpus {meta['corpus']['name']!r}, "
            f"{meta['n_clips']} clips, {meta['n_frames']} frames, {meta['n_frames'] * meta['frame_s']:.0f} s)"
        )

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row per feature, indexed by feature.

        unit: how people name it. n_active, density: frames where it is active (> 0), and their share. dense_share:
        share of frames at a tenth of the maximum or more. clip_share: share of clips where it is active. max; mean
        and q10 … q99 of the active values. dead: never active. postings_from: above this value the postings are
        complete. label, label_kind: the class it detects, chosen on one half of the voices, absent where that may be
        chance (q_value > 0.05); f1 (f1_low, f1_high: 95 %), precision, recall, ap, auroc, chance (mean F1 with
        moved labels), p_value, q_value: that class on the other half, for detecting with value > threshold. purity,
        purity_label: see `otoscope.evaluation.selectivity.purity`.
        """
        names = [name for name in self._feature_schema if name != "histogram"]
        return _frame(read_table(self.folder / "features.parquet", names)).set_index("feature")

    @cached_property
    def histograms(self) -> npt.NDArray[np.int64]:
        """Active frames per bin, `[n, bins]`: equal bins from 0 to each feature's maximum."""
        column = read_table(self.folder / "features.parquet", ["histogram"]).column("histogram").combine_chunks()
        return np.asarray(column.flatten(), dtype=np.int64).reshape(len(self), -1)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """All label classes: label, kind, n_intervals, n_frames, prevalence among the labelled frames, n_features named
        after it, and best_feature (chosen on one half of the voices) with its scores on the other (best_f1 …)."""
        classes = _frame(read_table(self.folder / "classes.parquet"))
        named = self.features.groupby(["label_kind", "label"]).size()
        counts = [
            int(named.get((kind, label), 0)) for kind, label in zip(classes["kind"], classes["label"], strict=True)
        ]
        return classes.assign(n_features=counts)

    @cached_property
    def label_rows(self) -> pd.DataFrame:
        """Every scored pair of a feature and a class, each feature's best class first (column rank)."""
        return _frame(read_table(self.folder / "labels.parquet"))

    @cached_property
    def clip_ids(self) -> list[str]:
        """Ids of the clips, in corpus order."""
        return list(read_table(self.folder / "clips.parquet", ["clip_id"]).column("clip_id").to_pylist())

    @cached_property
    def postings(self) -> Postings:
        """Frames and values of every feature, counted from the first frame of the corpus."""
        return Postings(self.folder / "postings", self.meta["postings"]["parts"])

    def __getitem__(self, feature: int) -> FeatureEntry:
        """Return what is known about a feature.

        Raises:
            InputError: there is no such feature.
        """
        if not 0 <= int(feature) < len(self):
            raise InputError(
                f"There is no feature {feature} in atlas {self.name!r}: features go from 0 to {len(self) - 1}."
            )
        return FeatureEntry(self, int(feature))

    def find(
        self,
        label: str | None = None,
        kind: str | None = None,
        min_f1: float = 0.0,
        text: str | None = None,
        sort: str | None = None,
        limit: int | None = 50,
    ) -> pd.DataFrame:
        """Return matching features, best first, as rows of `features`; label columns are those of the class asked for.

        Args:
            label: a phone ("m", "/m/" for phones only), a word ("morning") or a sound class ("bird"); common spellings
                of phones ("sh", "ng") are understood.
            kind: only "phone", "word" or "sound_class".
            min_f1: only features with at least this F1 on the held-out half.
            text: only classes whose name contains this text.
            sort: column to order by instead of F1, largest first; "-column" for smallest first.
            limit: how many to return at most; None for all.

        Raises:
            InputError: no such label, kind or column (with the nearest ones), or the corpus has no labels.
        """
        return find_features(self, label=label, kind=kind, min_f1=min_f1, text=text, sort=sort, limit=limit)

    def clip_peaks(self, clip_id: str, top: int = 20) -> pd.DataFrame:
        """Return the features (at most 32) that a clip excites most and other clips do not, best first.

        Columns: feature, frame and time_s of its peak, value there, share_of_max; score: share_of_max times the share
        of clips that peak lower.

        Raises:
            InputError: no such clip.
        """
        clip = self._clip_index.get(clip_id)
        if clip is None:
            raise InputError(f"Atlas {self.name!r} has no clip {clip_id!r}{nearest(clip_id, self._clip_index) or '.'}")
        rows = _frame(read_table(self.folder / "peaks.parquet", clip=clip)).drop(columns="clip").head(top)
        rows.insert(2, "time_s", (rows["frame"] * self.clock.frame_s + self.clock.offset_s).round(6))
        return rows

    @property
    def clock(self) -> Clock:
        """Which moment of its clip each frame stands for."""
        return Clock(self.meta["frame_s"], self.meta.get("first_frame_s", 0.0))

    @cached_property
    def clip_starts(self) -> npt.NDArray[np.int64]:
        """First frame of every clip, counted from the first frame of the corpus."""
        return np.asarray(read_table(self.folder / "clips.parquet", ["first_frame"]).column("first_frame"))

    @cached_property
    def _clip_index(self) -> dict[str, int]:
        return {clip_id: i for i, clip_id in enumerate(self.clip_ids)}

    @cached_property
    def _feature_schema(self) -> list[str]:
        import pyarrow.parquet as pq

        return list(pq.read_schema(self.folder / "features.parquet").names)


class FeatureEntry:
    """One feature of an atlas."""

    def __init__(self, atlas: Atlas, feature: int) -> None:
        self.atlas = atlas
        self.feature = feature

    @property
    def address(self) -> str:
        """`dictionary:index`, as on the command line and in links."""
        return f"{self.atlas.meta['dictionary']['name']}:{self.feature}"

    @property
    def stats(self) -> dict[str, Any]:
        """Its row of `Atlas.features`, by column."""
        row = self.atlas.features.iloc[self.feature]
        return {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}

    @property
    def histogram(self) -> Histogram:
        """`(edges [bins + 1], counts [bins])` of the active values."""
        counts = self.atlas.histograms[self.feature]
        return np.linspace(0.0, self.stats["max"], len(counts) + 1), counts

    @property
    def labels(self) -> pd.DataFrame:
        """Classes it detects, best first, with the columns of `Atlas.features` that describe a label.

        The order and the thresholds come from one half of the voices, the figures from the other.
        """
        rows = _frame(read_table(self.atlas.folder / "labels.parquet", feature=self.feature))
        return rows.drop(columns="feature").reset_index(drop=True)

    def examples(self, kind: str = "top", top: int = 10) -> list[Example]:
        """Return moments to listen to.

        kind "top" is the strongest frame of different clips; "decile" up to three frames from every tenth of the range
        between 0 and the maximum, strongest band first; "random" active frames of different clips. At most `top`
        are returned; "decile" spreads them over the bands.

        Raises:
            InputError: no such kind.
        """
        if kind not in EXAMPLE_KINDS:
            raise InputError(f"There are no {kind!r} examples; choose one of {', '.join(EXAMPLE_KINDS)}.")
        rows = [row for row in self._example_rows if row["kind"] == kind]
        if kind == "decile":
            rows = _spread(rows, top)
        ids, clock = self.atlas.clip_ids, self.atlas.clock
        return [
            Example(
                clip_id=ids[row["clip"]],
                frame=row["frame"],
                time_s=round(clock.time_s(row["frame"]), 6),
                value=row["value"],
                kind=kind,
                decile=row["decile"] if kind == "decile" else None,
            )
            for row in rows[:top]
        ]

    def postings(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return `(clip_index, frame within the clip, value)` of every kept frame, in corpus order.

        Sparse dictionaries keep every active frame; dense ones the strongest, all above `stats["postings_from"]`.
        """
        frames, values = self.atlas.postings[self.feature]
        starts = self.atlas.clip_starts
        clip = np.searchsorted(starts, frames, side="right") - 1
        return clip, frames - starts[clip], values

    @cached_property
    def _example_rows(self) -> list[dict[str, Any]]:
        return list(read_table(self.atlas.folder / "examples.parquet", feature=self.feature).to_pylist())

    def __repr__(self) -> str:
        stats = self.stats
        named = (
            f"detects {stats['label_kind']} {stats['label']!r} with F1 {stats['f1']:.2f}"
            if stats["label"]
            else "no label"
        )
        return (
            f"FeatureEntry({self.address}: active in {stats['density']:.1%} of frames, max {stats['max']:.3g}, {named})"
        )


def _spread(rows: list[dict[str, Any]], top: int) -> list[dict[str, Any]]:
    """At most `top` rows, taken in turn from every band, strongest band first."""
    turn: dict[int, int] = {}
    keyed = []
    for row in rows:
        turn[row["decile"]] = turn.get(row["decile"], -1) + 1
        keyed.append((turn[row["decile"]], -row["decile"], row))
    chosen = sorted(keyed, key=lambda item: item[:2])[:top]
    return [row for _, _, row in sorted(chosen, key=lambda item: (item[1], item[0]))]


def _frame(table: Any) -> pd.DataFrame:
    """Arrow to pandas, with None (not NaN) where a text is absent."""
    frame: pd.DataFrame = table.to_pandas()
    for name in frame.columns:
        if frame[name].dtype.kind not in "biuf":
            column = frame[name].astype(object)
            frame[name] = column.where(column.notna(), None)
    return frame
