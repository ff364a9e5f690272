"""Tiers of clips take little memory and are otherwise what was given."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import otoscope as oto
from otoscope.audio import Clip, Corpus, Interval


def spoken(n: int) -> dict[str, tuple[Interval, ...]]:
    """Tiers of `n` words, `n` phones and no events."""
    words = tuple(Interval(0.5 * i, 0.5 * i + 0.4, f"word {i % 7}") for i in range(n))
    return {"words": words, "phones": tuple(Interval(each.start_s, each.end_s, "m") for each in words), "events": ()}


def test_tiers_are_what_was_given() -> None:
    given = spoken(3)
    clip = Clip("one", "one.wav", tiers=given)
    assert clip.tiers == given
    assert given == clip.tiers
    assert dict(clip.tiers) == given
    assert list(clip.tiers) == ["words", "phones", "events"]
    assert len(clip.tiers) == 3
    assert clip.tier("words") == given["words"]
    assert clip.tier("events") == () == clip.tier("glosses")
    assert "phones" in clip.tiers
    assert "glosses" not in clip.tiers
    assert {**clip.tiers, "phones": ()} == {**given, "phones": ()}
    assert copy.deepcopy(clip) == clip == Clip("one", "one.wav", tiers=spoken(3))
    assert clip != Clip("one", "one.wav", tiers=spoken(2))
    with pytest.raises(KeyError):
        clip.tiers["glosses"]


def test_each_clip_has_its_own_tiers_however_many_are_read() -> None:
    clips = [Clip(f"{i}", "one.wav", tiers={"words": (Interval(i / 2, i, f"{i}"),)}) for i in range(500)]
    for _ in range(2):
        assert [clip.tier("words")[0].label for clip in clips] == [f"{i}" for i in range(500)]


def test_whole_numbers_stay_whole_so_that_a_fingerprint_stays() -> None:
    (found,) = Clip("one", "one.wav", tiers={"words": (Interval(0, 1, "no"),)}).tier("words")
    assert (type(found.start_s), type(found.end_s)) == (int, int)


def test_tiers_of_a_saved_corpus_may_lie_in_any_order(tmp_path: Path) -> None:
    some = oto.corpus("mini")[:3]
    saved = some.save(tmp_path / "saved")
    assert saved.fingerprint == some.fingerprint
    table = pq.read_table(tmp_path / "saved" / "tiers.parquet")
    alternating = [*range(0, len(table), 2), *range(1, len(table), 2)]
    pq.write_table(table.take(alternating), tmp_path / "saved" / "tiers.parquet")
    for clip in Corpus.load(tmp_path / "saved"):
        assert set(clip.tiers) == set(some[clip.clip_id].tiers)
        for name, tier in clip.tiers.items():
            assert set(tier) == set(some[clip.clip_id].tier(name))
            assert len(tier) == len(some[clip.clip_id].tier(name))


def test_a_tier_without_times_is_damage(tmp_path: Path) -> None:
    saved = oto.corpus("mini")[:2].save(tmp_path / "saved")
    table = pq.read_table(tmp_path / "saved" / "tiers.parquet")
    rows = table.to_pylist()
    rows[0]["start_s"] = None
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "saved" / "tiers.parquet")
    with pytest.raises(oto.OtoscopeError, match="start_s is missing in 1 rows"):
        Corpus.load(tmp_path / "saved")
    assert len(saved) == 2


def held_bytes(make: Callable[[int], object]) -> float:
    """Bytes that each interval takes, of 200 clips with 20 words and 20 phones."""
    tracemalloc.start()
    held = [make(20) for _ in range(200)]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / (len(held) * 40)


def test_an_interval_takes_tens_of_bytes() -> None:
    assert held_bytes(lambda n: Clip("one", "one.wav", tiers=spoken(n))) < 48
    assert held_bytes(spoken) > 100, "the control: the same as objects"
