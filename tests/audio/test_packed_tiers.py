"""Tiers of clips take little memory and are otherwise what was given."""

from __future__ import annotations

import copy
import dataclasses
import pickle
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


def test_a_saved_clip_is_equal_to_its_copies_and_does_not_take_its_corpus_along(tmp_path: Path) -> None:
    saved = oto.corpus("mini").save(tmp_path / "saved")
    clip = saved[3]
    sent = pickle.loads(pickle.dumps(clip))  # noqa: S301 its own bytes
    for other in (sent, copy.deepcopy(clip), dataclasses.replace(clip, sha256=None)):
        assert other == clip
        assert other.tiers == clip.tiers == oto.corpus("mini")[3].tiers
        assert other.attributes == dict(clip.attributes) == oto.corpus("mini")[3].attributes
    assert dataclasses.replace(clip, attributes={**clip.attributes, "room": "hall"}) != clip
    assert len(pickle.dumps(clip)) < 4_000 < len(pickle.dumps(saved))


def test_labels_of_clips_that_are_not_in_the_corpus_are_left_out(tmp_path: Path) -> None:
    some = oto.corpus("mini")[:3]
    some.save(tmp_path / "saved")
    clips = pq.read_table(tmp_path / "saved" / "corpus.parquet")
    pq.write_table(clips.take([2, 0]), tmp_path / "saved" / "corpus.parquet")
    left = Corpus.load(tmp_path / "saved")
    assert [clip.clip_id for clip in left] == [some[2].clip_id, some[0].clip_id]
    assert [clip.tiers for clip in left] == [some[2].tiers, some[0].tiers]


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
    held = [make(20) for _ in range(200)]  # fills what the interpreter keeps for later, which is not counted
    tracemalloc.start()
    held = [make(20) for _ in range(200)]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / (len(held) * 40)


def test_an_interval_takes_tens_of_bytes() -> None:
    assert held_bytes(lambda n: Clip("one", "one.wav", tiers=spoken(n))) < 48
    assert held_bytes(spoken) > 100, "the control: the same as objects"


def test_a_clip_of_a_saved_corpus_takes_a_kilobyte(tmp_path: Path) -> None:
    some = oto.corpus("mini")[:100]
    many = [dataclasses.replace(clip, clip_id=f"{i}-{clip.clip_id}") for i in range(15) for clip in some]
    saved = Corpus("many", many).save(tmp_path / "saved")

    def own(clip: Clip) -> Clip:
        said = {"attributes": dict(clip.attributes), "tiers": dict(clip.tiers)}
        return dataclasses.replace(clip, source=Path(clip.uri), **said)

    def held(make: Callable[[], object]) -> float:
        tracemalloc.start()
        kept = make()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept
        return size / len(many)

    assert held(lambda: Corpus.load(tmp_path / "saved")) < 1_400
    assert held(lambda: [own(clip) for clip in saved]) > 1_700, "the control: what is said of each clip is its own"
