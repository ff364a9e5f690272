"""One feature of an atlas: its statistics, labels and moments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas import examples as choose
from otoscope.atlas.examples import Example
from otoscope.atlas.format import FEATURES, LABELS
from otoscope.atlas.labels.reading import Band, Heard, acoustics_of, bands_of
from otoscope.atlas.labels.sentences import sentence
from otoscope.atlas.moments import ClipPeaks
from otoscope.atlas.postings import Entries
from otoscope.atlas.search.near_misses import near_misses
from otoscope.atlas.search.neighbours import Neighbour, Partner, cofiring, neighbours
from otoscope.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from otoscope.atlas.atlas import Atlas
    from otoscope.dictionaries import Dictionary

Histogram = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
WIDE = (
    "histogram", "profile", "clip_peaks",
    "neighbours", "neighbour_cosines", "cofiring", "cofiring_pmi", "cofiring_share",
)  # fmt: skip
"""Columns of `features.safetensors` with several numbers per feature."""


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
    def unit(self) -> str:
        """How people name it."""
        units = self.atlas.units
        return str(self.feature) if units is None else units[self.feature]

    @property
    def stats(self) -> dict[str, Any]:
        """Its row of `Atlas.features`, by column."""
        file = self.atlas.sealed.arrays(FEATURES)
        row: dict[str, Any] = {"unit": self.unit}
        for name in self.atlas.columns:
            row[name] = file.read(name, self.feature, self.feature + 1)[0].item()
        return self.atlas.classes.named(row)

    def figure(self, name: str) -> float:
        """One number of its row of `Atlas.features`."""
        return float(self.atlas.sealed.arrays(FEATURES).read(name, self.feature, self.feature + 1)[0])

    @property
    def histogram(self) -> Histogram:
        """`(edges [bins + 1], counts [bins])` of the active values."""
        file = self.atlas.sealed.arrays(FEATURES)
        counts = file.read("histogram", self.feature, self.feature + 1)[0].astype(np.int64)
        top = float(file.read("max", self.feature, self.feature + 1)[0])
        return np.linspace(0.0, top, len(counts) + 1), counts

    @property
    def profile(self) -> npt.NDArray[np.int64]:
        """`[bins]` active frames in each twentieth of their clip."""
        file = self.atlas.sealed.arrays(FEATURES)
        return np.asarray(file.read("profile", self.feature, self.feature + 1)[0].astype(np.int64))

    @property
    def label_rows(self) -> list[dict[str, Any]]:
        """Its scored classes, best first: `label`, `kind`, `rank`, and the figures described in `Atlas.features`."""
        file = self.atlas.sealed.arrays(LABELS)
        start, stop = file.read("indptr", self.feature, self.feature + 2).tolist()
        names = [name for name in file.names if name != "indptr"]
        columns = {name: file.read(name, start, stop).tolist() for name in names}
        rows = []
        for i in range(stop - start):
            row = {name: columns[name][i] for name in names}
            number = row.pop("class")
            label, kind = self.atlas.classes[number]
            rows.append({"rank": row.pop("rank"), "label": label, "kind": kind, **row})
        return rows

    @property
    def bands(self) -> list[Band]:
        """Its labels with the band of values in which each holds, best first: several where it means several things."""
        return bands_of(self.atlas, self.feature)

    @property
    def unions(self) -> list[Band]:
        """Sets of classes that one threshold finds better together than one by one."""
        return bands_of(self.atlas, self.feature, unions=True)

    @property
    def acoustics(self) -> dict[str, Heard]:
        """How its activation goes with energy, tilt, voicing and pitch."""
        return acoustics_of(self.atlas, self.feature)

    @property
    def sentence(self) -> str:
        """What it detects, how well, and what chance gives; or what is known of it."""
        return sentence(self.atlas, self.feature)

    @property
    def labels(self) -> pd.DataFrame:
        """`label_rows` as a table.

        The order and the thresholds come from one half of the voices, the figures from the other.
        """
        import pandas as pd

        return pd.DataFrame(self.label_rows, columns=["rank", "label", "kind", *self.atlas.label_figures])

    @cached_property
    def entries(self) -> Entries:
        """Its entries: frames (counted from the corpus's first, ascending) and values."""
        return self.atlas.postings[self.feature]

    def peaks(self) -> ClipPeaks:
        """Its peak in every clip where it is active; of heavy features without reading their entries."""
        return self._peaks

    @cached_property
    def _peaks(self) -> ClipPeaks:
        listed = self.atlas.postings.clip_list(self.feature)
        if listed is None:
            return self.atlas.clips.peaks(self.entries)
        bounds = np.append(listed.first.astype(np.int64), self.atlas.postings.count(self.feature))
        return ClipPeaks(listed.clips.astype(np.int64), listed.frames.astype(np.int64), listed.values, bounds)

    def maxima(self) -> npt.NDArray[np.float32]:
        """`[clips]` its largest value in every clip of the corpus; 0 where it is silent."""
        peaks = self.peaks()
        found = np.zeros(len(self.atlas.clips), dtype=np.float32)
        found[peaks.clips] = peaks.values
        return found

    def traces(self, clips: Sequence[int]) -> list[npt.NDArray[np.float32]]:
        """Its value in every frame `[t]` of some clips (by position in the corpus); 0 where it has no entry."""
        peaks, found = self.peaks(), []
        for clip in clips:
            start, stop = self.atlas.clips.span(clip)
            trace = np.zeros(stop - start, dtype=np.float32)
            at = int(np.searchsorted(peaks.clips, clip))
            if at < len(peaks.clips) and peaks.clips[at] == clip:
                first, last = peaks.bounds[at : at + 2].tolist()
                entries = self.atlas.postings.run(self.feature, first, last)
                trace[entries.frames.astype(np.int64) - start] = entries.values
            found.append(trace)
        return found

    def postings(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return `(clip_index, frame within the clip, value)` of every kept frame, in corpus order.

        Sparse dictionaries keep every active frame; dense ones the strongest, all above `stats["postings_from"]`.
        """
        frames, values = self.entries
        clips = self.atlas.clips
        clip = clips.of(frames)
        return clip, frames - clips.starts[clip], values

    def examples(self, kind: str = "top", top: int = 10) -> list[Example]:
        """Return moments to listen to.

        kind "top" is the strongest frame of different clips; "decile" up to three frames from every tenth of the range
        between 0 and the maximum, strongest band first; "random" active frames of different clips. At most `top`
        are returned; "decile" spreads them over the bands. "near_miss": see `otoscope.atlas.search.near_misses`.

        Raises:
            InputError: no such kind.
        """
        if kind == "near_miss":
            return near_misses(self.atlas, self.feature, top)
        clips, bands = self.atlas.clips, None
        seed = (int(self.atlas.meta["seed"]), self.feature)
        moments: Entries | ClipPeaks
        if kind == "top":
            moments = self.peaks()
            chosen = choose.strongest(moments, clips, top)
        elif kind == "decile":
            moments = self.entries
            chosen, bands = choose.of_every_band(moments, clips, top, seed)
        elif kind == "random":
            moments = self.entries
            chosen = choose.at_random(moments, clips, top, seed)
        else:
            raise InputError(f"There are no {kind!r} examples; choose one of {', '.join(choose.KINDS)}.")
        frames, values = moments.frames[chosen].astype(np.int64), moments.values[chosen]
        return choose.examples_at(clips, self.atlas.clock, kind, frames, values.tolist(), bands)

    def neighbours(self, top: int = 10, dictionary: Dictionary | None = None) -> list[Neighbour]:
        """Features that write alike: see `otoscope.atlas.search.neighbours.neighbours`."""
        return neighbours(self.atlas, self.feature, top, dictionary)

    def cofiring(self, top: int = 10) -> list[Partner]:
        """Features that fire in the same frames more often than chance would have it."""
        return cofiring(self.atlas, self.feature, top)

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
