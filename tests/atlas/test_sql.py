"""Questions in SQL are answered from the atlas as it lies, read only what they ask for, and change nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_world import ALWAYS, DEAD, MORNING, NOISE, M, World

from otoscope.atlas import Atlas
from otoscope.atlas.search import sql
from otoscope.atlas.search.sql import PostingsTable, run_sql
from otoscope.errors import InputError, OtoscopeError


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many features each scan of the postings reads."""
    read: list[int] = []

    class Watched(PostingsTable):
        def wanted(self, filter: object) -> np.ndarray:
            features = super().wanted(filter)
            read.append(len(features))
            return features

    monkeypatch.setattr(sql, "PostingsTable", Watched)
    return read


def test_the_named_features_are_those_that_were_planted(atlas: Atlas) -> None:
    found = atlas.sql("SELECT feature, label, label_kind FROM features WHERE f1 > 0.8 ORDER BY feature")
    rows = found.to_numpy().tolist()
    assert [M, "m", "phone"] in rows
    assert [MORNING, "morning", "word"] in rows
    assert {row[0] for row in rows}.isdisjoint({NOISE, DEAD, ALWAYS}), "the control"


def test_what_is_unknown_is_null_and_not_larger_than_everything(atlas: Atlas) -> None:
    assert run_sql(atlas, f"SELECT f1, label, dead FROM features WHERE feature = {DEAD}").rows == [(None, None, True)]
    above = run_sql(atlas, "SELECT count(*) FROM features WHERE f1 > 1").rows
    assert above == [(0,)], "the control: NaN would be counted"


@pytest.mark.parametrize(
    ("where", "holds", "n_read"),
    [
        ("feature = 0", lambda f, v: f == 0, 1),
        ("feature = 0 AND value > 1", lambda f, v: (f == 0) & (v > 1), 1),
        ("feature IN (0, 3)", lambda f, v: (f == 0) | (f == 3), 2),
        ("feature BETWEEN 3 AND 5", lambda f, v: (f >= 3) & (f <= 5), 3),
        ("feature = 99", lambda f, v: f == 99, 0),
        ("NOT feature = 3", lambda f, v: f != 3, 15),
        ("value > 1", lambda f, v: v > 1, 16),
        ("value > 1 OR feature = 0", lambda f, v: (v > 1) | (f == 0), 16),
        ("feature = 0 AND value IS NOT NULL", lambda f, v: f == 0, 16),
    ],
)
def test_postings_are_the_entries_and_a_filter_reads_only_what_it_leaves(
    atlas: Atlas, scans: list[int], where: str, holds: Callable[..., np.ndarray], n_read: int
) -> None:
    entries = [atlas.postings[feature] for feature in range(len(atlas))]
    feature = np.repeat(np.arange(len(atlas)), [len(each.frames) for each in entries])
    frames, values = (np.concatenate(each) for each in zip(*entries, strict=True))
    clip = np.searchsorted(atlas.clips.starts, frames, side="right") - 1
    kept = holds(feature, values)
    columns = "count(*), sum(feature * 1000003 + frame), sum(value::DOUBLE)"
    ((n, where_sum, total),) = run_sql(atlas, f"SELECT {columns} FROM postings WHERE {where}").rows
    within = frames.astype(np.int64) - atlas.clips.starts[clip]
    assert n == kept.sum()
    assert (where_sum or 0) == int((feature * 1000003 + within)[kept].sum())
    assert (total or 0) == pytest.approx(float(values[kept].sum(dtype=np.float64)))
    assert scans == [n_read]


def test_a_row_of_the_postings_names_its_clip(atlas: Atlas) -> None:
    rows = run_sql(
        atlas, f"SELECT clip_id, frame, value FROM postings WHERE feature = {M} ORDER BY clip_id, frame"
    ).rows
    frames, values = atlas.postings[M]
    clip = atlas.clips.of(frames)
    within = frames - atlas.clips.starts[clip]
    ours = zip([atlas.clips.ids[c] for c in clip.tolist()], within.tolist(), values.tolist(), strict=True)
    assert rows == sorted(ours)


def test_times_are_those_of_the_clock(atlas: Atlas) -> None:
    rows = run_sql(atlas, f"SELECT frame, time_s FROM postings WHERE feature = {M} LIMIT 50").rows
    assert [time_s for _, time_s in rows] == pytest.approx([atlas.clock.time_s(frame) for frame, _ in rows])


def test_tables_join(atlas: Atlas, world: World) -> None:
    query = f"""SELECT c.speaker, max(p.value) AS strongest FROM postings p JOIN clips c USING (clip_id)
                WHERE p.feature = {M} GROUP BY c.speaker ORDER BY strongest DESC LIMIT 1"""
    ((speaker, strongest),) = run_sql(atlas, query).rows
    frames = {clip.clip_id: world.model.frames[clip.clip_id][:, M].max() for clip in world.corpus}
    best = max(frames, key=lambda clip_id: frames[clip_id])
    assert speaker == world.corpus.get(best).speaker
    assert strongest == pytest.approx(frames[best], rel=1e-6)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "DROP VIEW features",
        "CREATE TABLE mine AS SELECT 1",
        "COPY (SELECT 1) TO '{here}/stolen.csv'",
        "COPY (SELECT 1) TO '{table}' (FORMAT parquet, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{table}' (FORMAT parquet, USE_TMP_FILE false)",
        "SET enable_external_access = true",
        "ATTACH '{here}/other.db'",
        "INSTALL httpfs",
        "SELECT 1; DROP VIEW features",
        "SELECT * FROM read_text('{here}/secret.txt')",
        "SELECT * FROM '{here}/secret.csv'",
        "SELECT * FROM glob('{here}/*')",
        "SELECT * FROM local_table",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{here}/stolen.csv''')",
        "SELEC 1",
        "SELECT nonsense FROM features",
    ],
)
def test_nothing_else_can_be_read_or_written(atlas: Atlas, tmp_path: Path, query: str) -> None:
    local_table = atlas.features  # noqa: F841  # Python's variables are not tables
    for name in ("secret.txt", "secret.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    before = sorted(tmp_path.iterdir())
    table = atlas.folder / "tables" / "features.parquet"
    with pytest.raises(InputError) as refused:
        run_sql(atlas, query.format(here=tmp_path, table=table))
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before
    atlas.verify()


def test_an_answer_ends_in_time_and_in_memory(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5"
    with pytest.raises(OtoscopeError, match=r"longer than 0\.1 s"):
        run_sql(atlas, endless, longest_s=0.1)
    monkeypatch.setattr(sql, "MEMORY", "50MB")
    with pytest.raises(OtoscopeError, match="more than 50MB of memory"):
        run_sql(atlas, "SELECT list(range) FROM range(20000000)")
    answer = run_sql(atlas, "SELECT * FROM range(1000)", max_rows=10)
    assert (len(answer.rows), answer.whole) == (10, False)
    assert run_sql(atlas, "SELECT * FROM range(10)", max_rows=10).whole
    with pytest.raises(InputError, match="at least 1 row"):
        run_sql(atlas, "SELECT 1", max_rows=0)


def test_without_duckdb_one_sentence_says_what_to_install(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(OtoscopeError, match=r"pip install 'otoscope\[sql\]'"):
        atlas.sql("SELECT 1")
