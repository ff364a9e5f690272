"""The scorecard itself: tidy rows of figures, how they were made, and the files they are kept in."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.errors import InputError, nearest
from otoscope.evaluation.measure import Measure
from otoscope.storage import atomic_path, read_json, write_json

FORMAT, VERSION = "otoscope-scorecard", 1
JSON, PARQUET, HTML = "scorecard.json", "scorecard.parquet", "scorecard.html"

TRAINED = "trained"


@dataclass(frozen=True)
class Subject:
    """What a figure is about: the dictionary itself (`trained`), one of its baselines, or another seed.

    Attributes:
        role: `trained`, `neurons`, `random`, `pca`, `frozen_decoder`, `soft_frozen`, `random_weights`, `seeds`…
        name: as people read it.
    """

    role: str
    name: str


@dataclass(frozen=True)
class Row:
    """One figure of one subject, in one section."""

    section: str
    subject: str
    measure: Measure

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values; what is not a number becomes null."""
        figure = self.measure
        return {
            "section": self.section,
            "subject": self.subject,
            "name": figure.name,
            "value": _number(figure.value),
            "low": _number(figure.low),
            "high": _number(figure.high),
            "of": dict(figure.of or {}),
            "n": figure.n,
            "n_unit": figure.n_unit,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """Build the row that `to_json` wrote."""
        value, low, high = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
        of = {str(key): str(part) for key, part in row["of"].items()} or None
        figure = Measure(str(row["name"]), value, low, high, of, int(row["n"]), str(row["n_unit"]))
        return cls(str(row["section"]), str(row["subject"]), figure)


@dataclass(frozen=True, eq=False)
class Scorecard:
    """Every figure of one dictionary and of the baselines that it has to beat.

    Attributes:
        rows: the figures, section after section.
        subjects: what the figures are about, the dictionary itself first.
        provenance: model, corpus, store and dictionary with their fingerprints, parameters, held-out clips, seeds,
            code version, seconds of each section.
        notes: what is missing, and why.
    """

    rows: tuple[Row, ...]
    subjects: tuple[Subject, ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The dictionary's name."""
        return self.subjects[0].name

    def find(self, name: str, subject: str = TRAINED, **of: str) -> Measure:
        """Return one figure by its name, subject and what it belongs to.

        Raises:
            InputError: there is none, or several fit.
        """
        named = [row for row in self.rows if row.measure.name == name]
        if not named:
            known = sorted({row.measure.name for row in self.rows})
            raise InputError(f"The scorecard of {self.name} has no figure {name!r}{nearest(name, known) or '.'}")
        fitting = [row.measure for row in named if row.subject == subject and dict(row.measure.of or {}) == of]
        if not fitting:
            fitting = [row.measure for row in self.select(name, subject, **of)]
        if len(fitting) != 1:
            raise InputError(f"{len(fitting)} figures {name!r} of {subject!r} fit {of}; say of what, e.g. k='5'.")
        return fitting[0]

    def select(self, name: str, subject: str | None = None, **of: str) -> Iterator[Row]:
        """Yield the rows of a name, of one subject (None: of all), whose `of` holds what is given."""
        for row in self.rows:
            belongs = dict(row.measure.of or {})
            if row.measure.name == name and subject in (None, row.subject) and of.items() <= belongs.items():
                yield row

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "dictionary": self.name,
            "provenance": dict(self.provenance),
            "subjects": [{"role": each.role, "name": each.name} for each in self.subjects],
            "notes": list(self.notes),
            "rows": [row.to_json() for row in self.rows],
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `scorecard.json`, `scorecard.parquet` and `scorecard.html` into a folder, each atomically."""
        from otoscope.evaluation.scorecard.report import report

        folder = Path(folder)
        with atomic_path(folder / PARQUET) as temporary:
            write_parquet(self.rows, temporary)
        with atomic_path(folder / HTML) as temporary:
            temporary.write_text(report(self), encoding="utf-8")
        write_json(folder / JSON, self.to_json())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Scorecard:
        """Open a saved scorecard.

        Raises:
            OtoscopeError: missing, damaged, or of another format.
        """
        value = read_json(Path(folder) / JSON, format=FORMAT, version=VERSION)
        rows = tuple(Row.from_json(row) for row in value["rows"])
        subjects = tuple(Subject(each["role"], each["name"]) for each in value["subjects"])
        return cls(rows, subjects, value["provenance"], tuple(value["notes"]))

    def __repr__(self) -> str:
        sections = list(dict.fromkeys(row.section for row in self.rows))
        return f"Scorecard({self.name!r}: {len(self.rows)} figures of {len(self.subjects)} subjects in {sections})"


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a table with one column for each of their fields; `of` is a map."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, figure = pa.string(), pa.float64()
    figures = [(name, figure) for name in ("value", "low", "high")]
    names = [(name, text) for name in ("section", "subject", "name")]
    schema = pa.schema([*names, *figures, ("of", pa.map_(text, text)), ("n", pa.int64()), ("n_unit", text)])
    listed = [row.to_json() for row in rows]
    pq.write_table(pa.Table.from_pylist([{**row, "of": list(row["of"].items())} for row in listed], schema), path)


def subjects_with(rows: Sequence[Row], subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects that some of the rows are about, in order."""
    present = {row.subject for row in rows}
    return [subject for subject in subjects if subject.role in present]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
