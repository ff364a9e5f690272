"""Atlas: the searchable index of one dictionary over one corpus. Opening one reads kilobytes, the rest on demand."""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.classes import Classes
from otoscope.atlas.codes import Codes
from otoscope.atlas.entry import WIDE, FeatureEntry
from otoscope.atlas.format import FEATURES, LABELS, open_folder
from otoscope.atlas.moments import Clips
from otoscope.atlas.postings import Postings
from otoscope.atlas.search.by_clip import clip_peaks
from otoscope.atlas.search.by_label import find_features
from otoscope.atlas.search.combining import frames_where
from otoscope.atlas.search.facets import Filters, Selection, select
from otoscope.atlas.search.ranges import FrameRange, frames_in_range
from otoscope.atlas.search.regions import Region
from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.storage.arrays import DamagedError, Strings
from otoscope.storage.sealed import SealedFolder

if TYPE_CHECKING:
    import pandas as pd


class Atlas:
    """What every feature of one dictionary does over one corpus.

    >>> atlas = oto.build_atlas(model, sae, clips)          # doctest: +SKIP
    >>> atlas.find("/m/").head(3), atlas[30].examples("top")  # doctest: +SKIP
    """

    def __init__(self, sealed: SealedFolder) -> None:
        self.sealed = sealed
        self.folder = sealed.folder
        self.meta: dict[str, Any] = sealed.meta
        self.name: str = self.meta["name"]
        self.holder: tempfile.TemporaryDirectory[str] | None = None
        """Keeps a temporary atlas on disk as long as this object lives."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Atlas:
        """Open the atlas in a folder, after checking that its files are there and their list is intact.

        Raises:
            OtoscopeError: missing, damaged, or of another version.
        """
        return cls(open_folder(Path(folder)))

    def verify(self) -> None:
        """Read every byte and compare it with its checksum.

        Raises:
            DamagedError: a file changed since the atlas was built.
        """
        for damage in self.sealed.damage():
            raise DamagedError(self.folder / damage.file, damage.what, damage.start, damage.stop)

    def __len__(self) -> int:
        """Number of features."""
        return int(self.meta["n_features"])

    def __repr__(self) -> str:
        meta = self.meta
        return (
            f"Atlas({self.name!r}: {len(self)} features of {meta['site']} over corpus {meta['corpus']['name']!r}, "
            f"{meta['n_clips']} clips, {meta['n_frames']} frames, {meta['n_frames'] * meta['frame_s']:.0f} s)"
        )

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column of all features, mapped from the file: `[n]`, or `[n, …]` for histograms and the like.

        `label` and `purity_label` are numbers of `classes`, −1 for none.
        """
        return self.sealed.arrays(FEATURES).read(name)

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns with one number per feature."""
        return [name for name in self.sealed.arrays(FEATURES).names if name not in WIDE and "." not in name]

    @cached_property
    def units(self) -> Strings | None:
        """How people name features, where it is not their number."""
        file = self.sealed.arrays(FEATURES)
        return Strings(file, "unit") if "unit.offsets" in file else None

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row per feature, indexed by feature.

        unit: how people name it. n_active, density: frames where it is active (> 0), and their share. dense_share:
        share of frames at a tenth of the maximum or more. clip_share: share of clips where it is active. max; mean
        and q10 … q99 of the active values. dead: never active. postings_from: above this value the postings are
        complete. label, label_kind: the class it detects, chosen on one half of the voices, absent where that may be
        chance (q_value > 0.05); f1 (f1_low, f1_high: 95 %), precision, recall, ap, auroc, chance (mean F1 with
        moved labels), p_value, q_value: that class on the other half, for detecting with value > threshold.
        label_share: share of all frames that labels are learned from, below 1 for what fires very often. purity,
        purity_label: see `otoscope.evaluation.selectivity.purity`. nature: what it is by nature, see
        `otoscope.atlas.labels.natures`. n_labels: labels that hold, each in its band of values (`FeatureEntry.bands`).
        """
        import pandas as pd

        columns: dict[str, Any] = {
            "unit": [str(i) for i in range(len(self))] if self.units is None else self.units.all()
        }
        columns |= {name: self.column(name) for name in self.columns}
        return pd.DataFrame(self.classes.named_columns(columns), index=pd.RangeIndex(len(self), name="feature"))

    @cached_property
    def histograms(self) -> npt.NDArray[np.integer]:
        """Active frames per bin, `[n, bins]`: equal bins from 0 to each feature's maximum."""
        return self.column("histogram")

    @cached_property
    def classes(self) -> Classes:
        """The label classes by number."""
        return Classes(self.sealed)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """All label classes: label, kind, n_intervals, n_frames, prevalence among the labelled frames, n_features named
        after it, and best_feature (chosen on one half of the voices) with its scores on the other (best_f1 …)."""
        import pandas as pd

        classes = self.classes
        named = self.column("label")
        counts = np.bincount(named[named >= 0], minlength=len(classes))
        columns = {name: classes.file.read(name) for name in classes.file.names if "." not in name}
        order = ("n_intervals", "n_frames", "prevalence", "best_feature")
        figures = [name for name in columns if name not in order]
        names = [
            *order,
            *sorted(figures, key=("best_f1", "best_f1_low", "best_f1_high", "best_ap", "best_auroc").index),
        ]
        return pd.DataFrame(
            {
                "label": pd.Series(classes.labels, dtype=object),
                "kind": pd.Series(classes.kinds, dtype=object),
                **{name: columns[name] for name in names},
                "n_features": counts.astype(np.int64),
            }
        )

    @cached_property
    def label_figures(self) -> list[str]:
        """Names of the figures of `label_rows`."""
        return [name for name in self.sealed.arrays(LABELS).names if name not in ("indptr", "class", "rank")]

    @cached_property
    def label_rows(self) -> pd.DataFrame:
        """Every scored pair of a feature and a class, each feature's best class first (column rank)."""
        import pandas as pd

        file = self.sealed.arrays(LABELS)
        number = file.read("class")
        labels, kinds = (np.array(names, dtype=object) for names in (self.classes.labels, self.classes.kinds))
        return pd.DataFrame(
            {
                "feature": np.repeat(np.arange(len(self)), np.diff(file.read("indptr"))),
                "rank": file.read("rank"),
                "label": labels[number] if len(number) else number.astype(object),
                "kind": kinds[number] if len(number) else number.astype(object),
                **{name: file.read(name) for name in self.label_figures},
            }
        )

    @cached_property
    def clips(self) -> Clips:
        """The clips, in corpus order."""
        return Clips(self.sealed)

    @property
    def clip_ids(self) -> list[str]:
        """Ids of the clips, in corpus order."""
        return self.clips.ids.all()

    @cached_property
    def postings(self) -> Postings:
        """Frames and values of every feature, counted from the first frame of the corpus."""
        return Postings(self.sealed)

    @cached_property
    def codes(self) -> Codes:
        """Active features of every frame."""
        return Codes(self.sealed)

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
            label: a phone ("m", "/m/" for phones only), a word ("morning"), a sound class ("bird") or any other class
                of the atlas; common spellings of phones ("sh", "ng") are understood.
            kind: only labels of this kind, in singular or plural ("word", "sound classes").
            min_f1: only features with at least this F1 on the held-out half.
            text: only classes whose name contains this text.
            sort: column to order by instead of F1, largest first; "-column" for smallest first.
            limit: how many to return at most; None for all.

        Raises:
            InputError: no such label, kind or column (with the nearest ones), or the corpus has no labels.
        """
        return find_features(self, label=label, kind=kind, min_f1=min_f1, text=text, sort=sort, limit=limit)

    def select(
        self,
        filters: Filters | None = None,
        sort: str | None = None,
        *,
        descending: bool = True,
        limit: int | None = 50,
        offset: int = 0,
    ) -> Selection:
        """Return the features that pass all filters, in order, and how many there are of each kind and label.

        Args:
            filters: see `otoscope.atlas.search.facets.Filters`.
            sort: a column, "label" (by name) or "feature"; default: F1, or the maximum where nothing is labelled.
                Features without a value come last either way.
            descending: largest first.
            limit: how many to return at most; None for all.
            offset: how many to pass over first.

        Raises:
            InputError: no such column, label or kind (with the nearest ones).
        """
        return select(self, filters or Filters(), sort, descending, limit, offset)

    def frames_in_range(
        self,
        feature: int,
        low: float | None = None,
        high: float | None = None,
        *,
        sign: str = "+",
        sort: str = "value",
        limit: int = 100,
        offset: int = 0,
    ) -> FrameRange:
        """Return the moments at which a feature is active with a value from `low` to `high` (inclusive).

        Args:
            feature: its index.
            low: lowest value; None for any.
            high: highest value; None for any.
            sign: for neurons, "-" is the other sign of the unit (its negative values, as positive numbers), "both" the
                magnitude; the values of moments are then negative where the unit is.
            sort: "value" (largest magnitude first), "-value" or "time" (corpus order).
            limit: moments to return at most.
            offset: moments to pass over first.

        Raises:
            InputError: no such feature, sign or order; bounds that are no numbers or the wrong way round.
        """
        return frames_in_range(self, self[feature].feature, low, high, sign, sort, limit, offset)

    def frames_where(self, query: str, *, sort: str = "value", limit: int = 100, offset: int = 0) -> FrameRange:
        """Return the moments at which a combination of features holds: `12 and not 88`, `(12 > 0.5 or 7) and not 88`.

        Values say how well a frame fits, from 0 to 1; see `otoscope.atlas.search.combining`.

        Raises:
            InputError: the query cannot be understood; says at which character and why.
        """
        return frames_where(self, query, sort, limit, offset)

    def region(self, clip_id: str, start_s: float | None = None, end_s: float | None = None) -> Region:
        """Return a stretch of a clip, or all of it, as a query: its `features()`, and moments `similar()` to it.

        Raises:
            InputError: no such clip, or it has no frames there.
        """
        return Region.of_clip(self, clip_id, start_s, end_s)

    def clip_peaks(self, clip_id: str, top: int = 20) -> pd.DataFrame:
        """Return the features that a clip excites most and other clips do not, best first.

        Columns: feature, frame and time_s of its peak, value there, share_of_max; score: share_of_max times the share
        of clips that peak lower.

        Raises:
            InputError: no such clip.
        """
        import pandas as pd

        rows = clip_peaks(self, self.clips.index(clip_id, f"Atlas {self.name!r}"), top)
        frames = rows.pop("frame")
        times = (frames * self.clock.frame_s + self.clock.offset_s).round(6)
        return pd.DataFrame({"feature": rows.pop("feature"), "frame": frames, "time_s": times, **rows})

    def sql(self, query: str, max_rows: int = 100_000) -> pd.DataFrame:
        """Answer one SELECT over the tables `features`, `labels`, `classes`, `clips` and `postings`.

        >>> atlas.sql("SELECT label, count(*) FROM features GROUP BY label")  # doctest: +SKIP

        Raises:
            InputError: not one SELECT, or it cannot be understood.
            OtoscopeError: DuckDB is missing (`pip install 'otoscope[sql]'`), or the query takes too long.
        """
        import pandas as pd

        from otoscope.atlas.search.sql import run_sql

        answer = run_sql(self, query, max_rows=max_rows)
        return pd.DataFrame(answer.rows, columns=answer.columns)

    @cached_property
    def clock(self) -> Clock:
        """Which moment of its clip each frame stands for."""
        return Clock(self.meta["frame_s"], self.meta.get("first_frame_s", 0.0))

    @property
    def clip_starts(self) -> npt.NDArray[np.int64]:
        """First frame of every clip, counted from the first frame of the corpus."""
        return self.clips.starts
