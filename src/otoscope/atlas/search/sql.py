"""Questions in SQL: the tables of an atlas and its postings, read by DuckDB where they lie, and never written."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from otoscope.atlas.exports.parquet import POSTINGS, TABLES, posting_rows, table_path
from otoscope.errors import InputError, OtoscopeError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

MAX_ROWS = 100_000
MEMORY = "1GB"
THREADS = 2
LONGEST_S = 60.0
_ABOUT_OTHERS = re.compile(r"\bis_(?:valid|null|nan|in)\((?!feature\b)")
"""What a filter may ask about another column so that it holds where that column is null."""


class Answer(NamedTuple):
    """Rows of an answer by column; `whole` says whether there were no more than were asked for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    whole: bool


def run_sql(atlas: Atlas, query: str, *, max_rows: int = MAX_ROWS, longest_s: float = LONGEST_S) -> Answer:
    """Answer one SELECT over an atlas.

    Its tables are `features`, `labels`, `classes`, `clips` (see `otoscope.atlas.exports.parquet`) and `postings`
    (feature, clip_id, frame, time_s, value), of which only the features that a filter on `feature` leaves are read.

    Args:
        atlas: what is asked about.
        query: one SELECT in DuckDB's SQL. It can neither write nor read any other file.
        max_rows: at most so many rows are returned.
        longest_s: seconds after which it is given up.

    Raises:
        InputError: not one SELECT, or DuckDB cannot understand it.
        OtoscopeError: it took too long or too much memory, or DuckDB is not installed.
        DamagedError: a table changed since the atlas was built.
    """
    if max_rows < 1 or not longest_s > 0:
        raise InputError(f"A query returns at least 1 row in more than 0 s, got {max_rows} rows in {longest_s} s.")
    duckdb = _duckdb()
    connection = _connect(duckdb, atlas)
    stop = threading.Timer(longest_s, connection.interrupt)
    try:
        _check_select(duckdb, connection, query)
        stop.start()
        connection.execute(query)
        columns = [str(column[0]) for column in connection.description or ()]
        rows = connection.fetchmany(max_rows + 1)
    except duckdb.InterruptException:
        raise OtoscopeError(
            f"The query took longer than {longest_s:g} s; ask about fewer features (WHERE feature = …) or export the "
            "atlas as Parquet."
        ) from None
    except duckdb.OutOfMemoryException as error:
        raise OtoscopeError(f"The query needs more than {MEMORY} of memory; ask for less ({_first(error)}).") from None
    except duckdb.Error as error:
        names = ", ".join((*TABLES, "postings"))
        raise InputError(f"DuckDB refuses the query: {_first(error)} (tables: {names}).") from None
    finally:
        stop.cancel()
        connection.close()
    return Answer(columns, rows[:max_rows], len(rows) <= max_rows)


class PostingsTable(ds.Dataset):  # type: ignore[misc]
    """The postings as a dataset that DuckDB scans: it hands over its filters, and only what they leave is read."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self.read: list[int] = []
        """How many features each scan has read."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of a row."""
        return POSTINGS

    def scanner(
        self, columns: Sequence[str] | None = None, filter: Any = None, batch_size: int | None = None, **_: Any
    ) -> ds.Scanner:
        """Return a scan of some columns of the rows that a filter leaves."""
        features = self.wanted(filter)
        self.read.append(len(features))
        asked = POSTINGS.names if columns is None or filter is not None else columns
        schema = pa.schema([field for field in POSTINGS if field.name in asked])
        rows: Iterator[pa.RecordBatch] = posting_rows(self._atlas, features, asked)
        return ds.Scanner.from_batches(rows, schema=schema, columns=columns, filter=filter)

    def wanted(self, filter: Any) -> npt.NDArray[np.int64]:
        """Features for which a filter may hold: it is tried on every feature with everything else left open (null)."""
        features = np.arange(len(self._atlas))
        if filter is None or _ABOUT_OTHERS.search(str(filter)):
            return features
        open_rows = {
            field.name: pa.array(features) if field.name == "feature" else pa.nulls(len(features), field.type)
            for field in POSTINGS
        }
        held = ds.dataset(pa.table(open_rows, schema=POSTINGS)).to_table(columns={"held": filter})["held"]
        kept: npt.NDArray[np.int64] = features[held.fill_null(True).to_numpy()]
        return kept


def _connect(duckdb: Any, atlas: Atlas) -> Any:
    """A database in memory that sees the tables of the atlas and nothing else of this machine."""
    paths = {name: str(atlas.sealed.path(table_path(name)).resolve()) for name in TABLES}
    connection = duckdb.connect(":memory:")
    for name, path in paths.items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({_quoted(path)})")
    connection.register("postings", PostingsTable(atlas))
    for setting in (
        f"threads = {THREADS}",
        f"memory_limit = {_quoted(MEMORY)}",
        "temp_directory = ''",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        f"allowed_paths = [{', '.join(map(_quoted, paths.values()))}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _check_select(duckdb: Any, connection: Any, query: str) -> None:
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError(f"Only one SELECT can be asked, not {query.strip()[:60]!r}; an atlas is never changed by SQL.")


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise OtoscopeError("SQL needs DuckDB, which is not installed: pip install 'otoscope[sql]'.") from None
    return duckdb


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first(error: Exception) -> str:
    """The first line of what DuckDB says, without its class."""
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0].partition("Error: ")[2].strip().rstrip(".") or lines[0]
