"""Labels of many clips read at once are those that each clip has by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otoscope as oto
from otoscope.audio import Clip, Corpus, Interval
from otoscope.audio.tiers import PackedTiers, tier_columns, tier_labels
from otoscope.evaluation.naming.columns import ClipRun, LabelColumns, Reading, read_run
from otoscope.evaluation.naming.label_sets import KINDS, LabelKind, label_sets
from otoscope.evaluation.naming.traits import all_kinds
from otoscope.models import Clock

SYMBOLS = ("m", "t", " t", "ɔ", "ɔ ", "aɪ", "ɛɹ", "ɔɹ", "aɪə", "oʊ", "?", "sil", " sp ", "", " ", "a-b")
WORDS = ("ma", " ma", "time", "", "sil", "#", "  ")
TIMES = st.one_of(
    st.integers(0, 30).map(lambda n: n / 20), st.floats(0, 2, width=32), st.sampled_from([-0.1, 1.3, 1e9])
)
SPEAKERS, SOUNDS = (None, "", "ann", "bob"), (None, "", "rain", "speech", " wind ")


def tier(labels: tuple[str, ...], times: st.SearchStrategy[float] = TIMES) -> st.SearchStrategy[tuple[Interval, ...]]:
    spans = st.lists(st.tuples(times, times, st.sampled_from(labels)), max_size=8)
    row = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.05, 0.3]), st.sampled_from(labels)), max_size=12)
    return st.one_of(spans.map(lambda found: tuple(Interval(*each) for each in found)), row.map(in_a_row))


def in_a_row(gaps: list[tuple[float, str]]) -> tuple[Interval, ...]:
    """Stretches of 0.1 s, each a gap after the one before."""

    def found() -> Iterator[Interval]:
        at = 0.0
        for gap, label in gaps:
            yield Interval(at + gap, at + gap + 0.1, label)
            at += gap + 0.1

    return tuple(found())


@st.composite
def clips(draw: st.DrawFn) -> list[Clip]:
    tiers = st.fixed_dictionaries(
        {}, optional={"phones": tier(SYMBOLS), "words": tier(WORDS), "events": tier(("rain", " rain", "", "dog"))}
    )
    made = []
    for number in range(draw(st.integers(1, 5))):
        sound, gender = draw(st.sampled_from(SOUNDS)), draw(st.sampled_from([None, "f", "m", " f"]))
        attributes = {"sound_class": sound, "gender": gender}
        made.append(
            Clip(
                f"{number}",
                "a.wav",
                speaker=draw(st.sampled_from(SPEAKERS)),
                attributes={name: value for name, value in attributes.items() if value is not None},
                tiers=draw(tiers),
            )
        )
    return made


def rows(found: LabelColumns) -> list[tuple[int, float, float, str]]:
    labels = [found.labels[i] for i in found.label.tolist()]
    return list(zip(found.clip.tolist(), found.start_s.tolist(), found.end_s.tolist(), labels, strict=True))


def one_by_one(kind: LabelKind) -> LabelKind:
    assert isinstance(kind.intervals, Reading)
    return replace(kind, intervals=kind.intervals.of_clip)


@settings(max_examples=300, deadline=None)
@given(clips())
def test_a_run_of_clips_has_the_stretches_that_its_clips_have(some: list[Clip]) -> None:
    run = ClipRun(some)
    assert run.has_columns
    # Phones and words in every corpus, so that each kind of label there is can be asked of every clip.
    both = {"phones": in_a_row([(0.0, "m"), (0.0, "ɔ")]), "words": in_a_row([(0.0, "ma")])}
    more = [Clip(name, "b.wav", speaker=name, attributes={"gender": name}, tiers=both) for name in "fm"]
    for kind in all_kinds(Corpus("some", [*some, *more])):
        at_once, each = read_run(kind.intervals, run), read_run(one_by_one(kind).intervals, run)
        assert at_once.known.tolist() == each.known.tolist(), kind.name
        assert rows(at_once) == rows(each), kind.name


@settings(max_examples=50, deadline=None)
@given(clips())
def test_labels_read_at_once_are_painted_alike(some: list[Clip]) -> None:
    corpus, n_frames = Corpus("some", some), [20 + number for number in range(len(some))]
    half = np.arange(len(some), dtype=np.uint8) % 2
    kinds = [replace(kind, min_count=0) for kind in all_kinds(corpus)]
    at_once = label_sets(corpus, n_frames, half, Clock(), kinds)
    each = label_sets(corpus, n_frames, half, Clock(), [one_by_one(kind) for kind in kinds])
    assert [str(astuple(one)) for one in at_once] == [str(astuple(one)) for one in each]


def test_every_kind_that_comes_with_the_package_reads_many_clips_at_once(mini: Corpus) -> None:
    kinds = all_kinds(mini)
    assert {"phone", "manner", "diphone", "position", "phrase", "syllable", "pause", "speaker"} <= {
        kind.name for kind in kinds
    }
    assert all(isinstance(kind.intervals, Reading) for kind in kinds)


@pytest.fixture(scope="module")
def mini() -> Corpus:
    return oto.corpus("mini")


def test_clips_of_a_saved_corpus_and_clips_made_one_by_one_are_read_alike(tmp_path: Path, mini: Corpus) -> None:
    saved = mini[:40].save(tmp_path / "saved")
    mixed = [saved[i] if i % 3 else mini[i] for i in range(0, 40, 2)]
    own = [Clip(each.clip_id, "a.wav", tiers=dict(each.tiers)) for each in mixed]
    for kind in (KINDS["phone"], KINDS["word"]):
        assert rows(read_run(kind.intervals, ClipRun(mixed))) == rows(read_run(kind.intervals, ClipRun(own)))
    tiers = [each.tiers for each in mixed if isinstance(each.tiers, PackedTiers)]
    columns = tier_columns(tiers, "phones")
    assert set(columns.labels) == tier_labels(tiers, "phones") == tier_labels(map(dict, tiers), "phones")
    assert len(columns.labels) == len(set(columns.labels))
    assert tier_columns(tiers, "glosses").clip.tolist() == []


def test_a_kind_of_ones_own_is_read_clip_by_clip_beside_those_of_the_package(mini: Corpus) -> None:
    some = mini[:60]
    longest = LabelKind("long", "long words", 2, lambda clip: clip.tier("words")[:3])
    half = np.arange(60, dtype=np.uint8) % 2
    alone = label_sets(some, [50] * 60, half, Clock(), [longest])
    beside = label_sets(some, [50] * 60, half, Clock(), [KINDS["phone"], longest, KINDS["word"]])
    assert [str(astuple(one)) for one in alone] == [str(astuple(one)) for one in beside if one.kind == "long"]
    assert alone


def test_replacing_how_a_kind_is_read_replaces_both_ways(mini: Corpus) -> None:
    other = replace(KINDS["phone"], intervals=lambda _: (Interval(0.0, 1.0, "same"),))
    assert set(read_run(other.intervals, ClipRun(mini.clips[:3])).labels) == {"same"}


def test_times_that_an_array_would_not_keep_are_read_clip_by_clip() -> None:
    whole = Clip("a", "a.wav", tiers={"phones": (Interval(0, 1, "m"), Interval(1, 2, "ɔ"))})
    run = ClipRun([whole, Clip("b", "b.wav", tiers={"phones": (Interval(0.5, 1.5, "t"),)})])
    assert not run.has_columns
    assert rows(read_run(KINDS["phone"].intervals, run)) == [(0, 0, 1, "m"), (0, 1, 2, "ɔ"), (1, 0.5, 1.5, "t")]
