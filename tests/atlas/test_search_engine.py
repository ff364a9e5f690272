"""Search: every query answers what its definition says, computed from plain arrays; controls find nothing."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_world import ALWAYS, MORNING, NOISE, SIREN, M, World
from tiny_atlas import Tiny, code_of, tiny, write

from otoscope.atlas import Atlas, postings
from otoscope.atlas.building import clip_lists
from otoscope.atlas.search import similar
from otoscope.atlas.search.facets import Filters
from otoscope.atlas.search.ranges import FrameRange
from otoscope.atlas.search.regions import LEVELS, Region
from otoscope.errors import InputError

few = settings(max_examples=20, deadline=None, derandomize=True)


def runs_of(world: Tiny, inside: np.ndarray) -> list[tuple[int, int, int]]:
    """(clip, first frame in the clip, frame after the last) of every run of frames where `inside` holds."""
    found = []
    for clip, (a, b) in enumerate(zip(world.bounds[:-1], world.bounds[1:], strict=True)):
        start = None
        for t in range(a, b + 1):
            if t < b and inside[t]:
                start = t if start is None else start
            elif start is not None:
                found.append((clip, int(start - a), int(t - a)))
                start = None
    return found


def check(atlas: Atlas, world: Tiny, found: FrameRange, inside: np.ndarray, values: np.ndarray) -> None:
    """Compare an answer in corpus order with the frames where `inside` holds."""
    assert found.n_frames == inside.sum()
    assert found.n_clips == len({world.clip_of(t) for t in np.flatnonzero(inside)})
    runs = runs_of(world, inside)
    assert found.n_moments == len(runs)
    for moment, (clip, first, stop) in zip(found.moments, runs, strict=True):
        own = values[world.bounds[clip] + first : world.bounds[clip] + stop]
        assert atlas.clips.index(moment.clip_id) == clip
        assert atlas.clock.span(moment.start_s, moment.end_s) == (first, stop)
        assert moment.value == own[np.argmax(np.abs(own))]
        assert moment.frame == first + np.argmax(np.abs(own))


@few
@given(tiny(), st.integers(0, 4), st.sampled_from([None, 0.25, 0.5, 1.0]), st.sampled_from([None, 0.5, 1.5]))
def test_a_range_finds_the_frames_whose_value_lies_in_it(
    world: Tiny, feature: int, low: float | None, high: float | None
) -> None:
    atlas = write(world)
    if low is not None and high is not None and low > high:
        with pytest.raises(InputError, match="lower bound"):
            atlas.frames_in_range(feature, low, high)
        return
    value = world.values[:, feature]
    inside = (value > 0) & (value >= (low or 0)) & (value <= (np.inf if high is None else high))
    whole = atlas.frames_in_range(feature, low, high, sort="time", limit=1000)
    check(atlas, world, whole, inside, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "PIECE", 3)
        assert atlas.frames_in_range(feature, low, high, sort="time", limit=1000) == whole
    strongest = [moment.value for moment in atlas.frames_in_range(feature, low, high, limit=1000).moments]
    assert strongest == sorted(strongest, reverse=True)
    pages = [atlas.frames_in_range(feature, low, high, limit=2, offset=at).moments for at in range(0, 40, 2)]
    assert [moment for page in pages for moment in page][:40] == (
        atlas.frames_in_range(feature, low, high, limit=40).moments
    )


def test_a_neuron_is_searched_on_both_sides(world: World, atlas: Atlas) -> None:
    noise = np.concatenate([world.model.frames[clip.clip_id] for clip in world.corpus])[:, NOISE]
    both = atlas.frames_in_range(NOISE, 2.0, sign="both", limit=1000)
    floors = [atlas[side].figure("postings_from") for side in (NOISE, NOISE + len(atlas) // 2)]
    assert max(floors) < 2.0
    assert both.complete_from == max(floors)
    assert both.n_frames == (np.abs(noise) >= 2.0).sum()
    assert {moment.value < 0 for moment in both.moments} == {True, False}
    negative = atlas.frames_in_range(NOISE, 2.0, sign="-", limit=1000)
    assert negative.n_frames == (noise <= -2.0).sum()


def test_signs_belong_to_neurons() -> None:
    atlas = write(Tiny([np.ones((2, 2), np.float32)]))
    with pytest.raises(InputError, match="never negative"):
        atlas.frames_in_range(0, sign="both")
    with pytest.raises(InputError, match="finite"):
        atlas.frames_in_range(0, math.nan)


@st.composite
def expression(draw: st.DrawFn, depth: int = 3) -> tuple[str, object]:
    """A query and a function from values `[t, n]` to the frames it holds for."""
    if depth == 0 or draw(st.booleans()):
        feature = draw(st.integers(0, 4))
        sign = draw(st.sampled_from(["", ">", ">=", "<", "<="]))
        if not sign:
            return draw(st.sampled_from([str(feature), f"f{feature}"])), lambda v: v[:, feature] > 0
        bound = draw(st.sampled_from([0.0, 0.25, 0.5, 1.2]))
        compare = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}[sign]
        return f"{feature} {sign}{bound}", lambda v: compare(v[:, feature], bound)
    a, inside_a = draw(expression(depth - 1))
    if draw(st.booleans()):
        return f"not ({a})", lambda v: ~inside_a(v)
    b, inside_b = draw(expression(depth - 1))
    if draw(st.booleans()):
        return f"({a}) and ({b})", lambda v: inside_a(v) & inside_b(v)
    return f"({a} OR {b})", lambda v: inside_a(v) | inside_b(v)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tiny(), expression())
def test_a_combination_holds_where_its_logic_does(world: Tiny, query: tuple[str, object]) -> None:
    text, holds = query
    inside = holds(world.values)
    found = write(world).frames_where(text, sort="time", limit=1000)
    assert (found.n_frames, found.n_moments) == (inside.sum(), len(runs_of(world, inside)))
    assert [moment.frame for moment in found.moments if moment.value == 0] or found.n_moments == sum(
        0 < moment.value <= 1 for moment in found.moments
    )


def test_not_binds_before_and_before_or_and_values_say_how_well_a_frame_fits() -> None:
    values = np.array([[2, 0, 0], [1, 4, 0], [0, 2, 1], [2, 4, 1]], dtype=np.float32)
    world = Tiny([values[:2], values[2:]])
    atlas = write(world)

    def answer(query: str) -> list[tuple[str, int, float]]:
        return [(m.clip_id, m.frame, m.value) for m in atlas.frames_where(query, sort="time").moments]

    assert answer("0 and 1") == [("clip-0", 1, 0.5), ("clip-1", 1, 1.0)]
    assert answer("1 and 0") == answer("0 and 1")
    assert answer("0 or 1 and 2") == [("clip-0", 0, 1.0), ("clip-1", 1, 1.0)]
    assert answer("not 0 and 1") == [("clip-1", 0, 0.5)]
    assert answer("not 2") == [("clip-0", 0, 0.0)]
    apart = write(Tiny([np.array([[1, 4]], np.float32), np.array([[2, 0]], np.float32)]))
    assert [moment.value for moment in apart.frames_where("0 or 1", sort="time").moments] == [1.0, 1.0]
    assert [moment.value for moment in apart.frames_where("0 and not 1", sort="time").moments] == [1.0]


@pytest.mark.parametrize(
    ("query", "where", "words"),
    [
        ("", 1, "expected a feature"),
        ("1 and", 6, "expected a feature"),
        ("(1 or 2", 8, "closing parenthesis"),
        ("1 2", 3, "expected and, or, or the end"),
        ("1 > x", 5, "expected a feature, a number"),
        ("1 > and", 5, "expected a number after >"),
        ("9", 1, "no feature 9, features go from 0 to 4"),
        ("1 && 2", 3, "expected a feature, a number"),
        ("0.5 > 1", 1, "expected a feature"),
        ("not " * 40 + "1", 133, "more than 32 nested"),
        (" or ".join(["1"] * 33), 161, "more than 32 features"),
    ],
)
def test_what_cannot_be_understood_is_refused_where_it_goes_wrong(query: str, where: int, words: str) -> None:
    atlas = write(Tiny([np.ones((2, 5), np.float32)]))
    with pytest.raises(InputError, match=f"at character {where}: .*{words}"):
        atlas.frames_where(query)


def test_a_query_without_end_is_refused_unread() -> None:
    with pytest.raises(InputError, match="1000 are allowed"):
        write(Tiny([np.ones((2, 5), np.float32)])).frames_where("(" * 100_000)


def evidence(world: Tiny, atlas: Atlas, feature: int, values: np.ndarray) -> float:
    """The score of a feature in a region, from its definition."""
    active, n_frames = int((world.values[:, feature] > 0).sum()), len(world.values)
    best = 0.0
    for name, level in LEVELS:
        above = values[:, feature] > (atlas.column(name)[feature] if name else 0)
        k = int(above.sum())
        runs = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
        share, rate = k / len(values), (active + 1) / (n_frames + 2) * (1 - level)
        if share > rate:
            divergence = share * math.log(share / rate)
            if share < 1:
                divergence += (1 - share) * math.log((1 - share) / (1 - rate))
            best = max(best, len(values) * runs / k * divergence)
    return max(best - math.log(len(LEVELS)), 0.0)


@few
@given(tiny(), st.data())
def test_a_region_ranks_its_features_by_the_evidence_that_they_fire_more_there(
    world: Tiny, data: st.DataObject
) -> None:
    atlas = write(world)
    clip = data.draw(st.integers(0, len(world.clips) - 1))
    first = data.draw(st.integers(0, len(world.clips[clip]) - 1))
    stop = data.draw(st.integers(first + 1, len(world.clips[clip])))
    values = world.clips[clip][first:stop]
    region = atlas.region(f"clip-{clip}", first * 0.02, stop * 0.02)
    found = {row.feature: row for row in region.features(top=10)}
    assert set(found) == set(np.flatnonzero(values.any(axis=0)))
    for feature, row in found.items():
        above = values[:, feature] > row.above
        assert row.frames == above.sum()
        assert row.share == pytest.approx(above.mean())
        assert row.lift == pytest.approx(row.share / row.density)
        assert row.score == pytest.approx(evidence(world, atlas, feature, values), abs=1e-9)
        assert row.max == values[:, feature].max()
        assert round(row.peak_time_s / 0.02) == first + np.argmax(values[:, feature])
    scores = [row.score for row in region.features(top=10)]
    assert scores == sorted(scores, reverse=True)
    p_values = np.sort(np.exp(-np.array([*scores, *[0.0] * (5 - len(scores))])))
    expected = np.minimum.accumulate((p_values * 5 / np.arange(1, 6))[::-1])[::-1]
    assert [row.q_value for row in region.features(top=10)] == pytest.approx(expected[: len(scores)].tolist())
    again = Region.of_code(atlas, code_of(values)).features(top=10)
    assert [(row.feature, row.score) for row in again] == [(row.feature, row.score) for row in region.features(top=10)]


def test_a_lone_feature_is_judged_among_all_of_the_dictionary() -> None:
    values = np.zeros((200, 20), np.float32)
    values[[20, 24, 28, 33, 150], 3] = 1.0
    atlas = write(Tiny([values]))
    (row,) = atlas.region("clip-0", 20 * 0.02, 36 * 0.02).features()
    assert row.score > 3
    assert row.q_value == pytest.approx(20 * math.exp(-row.score))
    values[20:24, 3] = 1.0  # more frames, but in one run: hardly more evidence than one frame
    (longer,) = write(Tiny([values])).region("clip-0", 20 * 0.02, 24 * 0.02).features()
    assert longer.score < 3


def vector(world: Tiny, values: np.ndarray) -> np.ndarray:
    """What a stretch of frames is compared by, from its definition."""
    expected, top = world.values.mean(axis=0, dtype=np.float64), world.values.max(axis=0)
    excess = np.maximum(values.sum(axis=0) - len(values) * expected, 0)
    rarity = np.log(np.where(top > 0, top, 1) / np.where(top > 0, expected, 1))
    return np.where(top > 0, excess * rarity / np.where(top > 0, top, 1), 0.0)


@few
@given(tiny(n_features=8), st.data())
def test_similar_moments_are_the_nearest_windows_by_cosine(world: Tiny, data: st.DataObject) -> None:
    atlas = write(world)
    clip = data.draw(st.integers(0, len(world.clips) - 1))
    first = data.draw(st.integers(0, len(world.clips[clip]) - 1))
    stop = data.draw(st.integers(first + 1, len(world.clips[clip])))
    own = world.bounds[clip] + first
    n_frames = stop - first
    query = vector(world, world.values[own : own + n_frames])
    telling = np.flatnonzero(query)
    step = max(1, n_frames // 4)
    windows = {}
    for block in range(0, len(world.values), step):
        if not (world.values[block : block + step][:, telling] > 0).any():
            continue
        home = world.clip_of(min(block + n_frames // 2, len(world.values) - 1))
        low, high = world.bounds[home], world.bounds[home + 1]
        start = max(min(block, high - n_frames), low)
        end = min(start + n_frames, high)
        if (start + n_frames <= own or start >= own + n_frames) and (
            block + n_frames <= own or block >= own + n_frames
        ):
            other = vector(world, world.values[start:end])
            norms = np.linalg.norm(other) * np.linalg.norm(query)
            windows[start, end] = float(other @ query / norms) if norms else 0.0
    expected: list[tuple[int, int]] = []
    for (start, end), cosine in sorted(windows.items(), key=lambda item: (-round(item[1], 6), item[0])):
        if cosine > 1e-9 and all(end <= a or start >= b for a, b in expected):
            expected.append((start, end))
    region = atlas.region(f"clip-{clip}", first * 0.02, stop * 0.02)
    found = region.similar(top=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "KEY_BITS", len(atlas).bit_length())  # so few that each window is summed alone
        assert region.similar(top=50) == found
    for moment in found:
        base = world.bounds[atlas.clips.index(moment.clip_id)]
        start, end = (int(base + frame) for frame in atlas.clock.span(moment.start_s, moment.end_s))
        assert moment.similarity == pytest.approx(windows[start, end], abs=1e-5)
        products = vector(world, world.values[start:end]) * query
        assert moment.shared[0] in np.flatnonzero(products >= products.max() * (1 - 1e-5))
    assert [moment.similarity for moment in found[:1]] == pytest.approx(
        [windows[each] for each in expected[:1]], abs=1e-5
    )
    spans = [(moment.clip_id, moment.start_s, moment.end_s) for moment in found]
    assert all(a[0] != b[0] or a[2] <= b[1] or b[2] <= a[1] for i, a in enumerate(spans) for b in spans[:i])


def test_a_siren_finds_sirens_and_noise_finds_nothing(world: World, atlas: Atlas) -> None:
    sirens = {clip.clip_id for clip in world.corpus if clip.attributes.get("sound_class") == "siren"}
    clip = sorted(sirens)[0]
    region = atlas.region(clip, 0.5, 1.5)
    best = region.features()[0]
    assert (best.feature, best.q_value < 0.05, best.lift > 3) == (SIREN, True, True)
    similar = region.similar(top=len(sirens) - 1, exclude_clip=clip)
    assert {moment.clip_id for moment in similar} <= sirens - {clip}
    assert all(moment.shared[0] == SIREN for moment in similar)
    rain = next(clip.clip_id for clip in world.corpus if clip.attributes.get("sound_class") == "rain")
    assert all(row.q_value > 0.05 for row in atlas.region(rain, 0.5, 1.5).features() if row.feature != NOISE)


def test_regions_that_are_not_there_are_refused(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="it ends at"):
        atlas.region("sound-41", 100.0, 101.0)
    with pytest.raises(InputError, match="no frames from 1 to 1"):
        atlas.region("sound-41", 1.0, 1.0)
    with pytest.raises(InputError, match="sound-4"):
        atlas.region("sound-410")
    with pytest.raises(InputError, match="encode the sound"):
        Region.of_code(atlas, code_of(np.ones((3, 99), np.float32)))
    with pytest.raises(InputError, match="no frames"):
        Region.of_code(atlas, code_of(np.ones((0, 3), np.float32)))


SCORED = [
    (0, "place", "labial", 0.9), (0, "phone", "m", 0.7), (1, "phone", "m", 0.8), (1, "position", "word-final", 0.2),
    (3, "phone", "m", 0.3), (3, "word", "morning", 0.5), (3, "place", "labial", 0.6), (4, "diphone", "s t", 0.4),
]  # fmt: skip


def labelled() -> Tiny:
    values = np.random.default_rng(0).gamma(1.0, 1.0, (40, 6)).astype(np.float32)
    values *= np.random.default_rng(1).random((40, 6)) < np.array([0.9, 0.5, 0.3, 0.2, 0.6, 0.0])
    return Tiny([values[:25], values[25:]], SCORED)


def test_every_kind_that_the_atlas_has_can_be_asked_for() -> None:
    atlas = write(labelled())
    assert list(atlas.find(kind="place").index) == [0, 3]
    assert list(atlas.find(kind="place classes").index) == [0, 3]
    assert list(atlas.find(kind="Diphones").index) == [4]
    assert list(atlas.find("labial").index) == [0, 3]
    assert list(atlas.find("s t").index) == [4]
    assert list(atlas.find("M").index) == [1, 0, 3]
    assert atlas.find(text="m")["label"].to_dict() == {0: "m", 1: "m", 3: "morning"}
    with pytest.raises(InputError, match="kind 'manner'; it has diphone, phone, place, position, word"):
        atlas.find(kind="manner")


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", ["density", "f1", "max", "n_active", "feature"])
def test_a_selection_is_what_filtering_and_sorting_rows_gives(sort: str, descending: bool) -> None:
    world = labelled()
    atlas = write(world)
    table = atlas.features
    filters = Filters(ranges={"density": (0.15, None), "max": (None, 6.0)})
    rows = table[(table["density"] >= 0.15) & (table["max"] <= 6.0) & ~table["dead"]]
    keys = rows.index if sort == "feature" else rows[sort]
    missing = np.isnan(np.asarray(keys, dtype=float))
    order = sorted(
        range(len(rows)),
        key=lambda i: (
            missing[i],
            0 if missing[i] else float(keys[i] if sort == "feature" else keys.iloc[i]) * (-1) ** descending,
            i,
        ),
    )
    whole = atlas.select(filters, sort, descending=descending, limit=None)
    assert whole.features.tolist() == rows.index[order].tolist()
    assert whole.total == len(rows)
    pages = [atlas.select(filters, sort, descending=descending, limit=2, offset=at).features for at in range(0, 8, 2)]
    assert np.concatenate(pages).tolist() == whole.features.tolist()


def test_features_without_a_value_come_last_and_ties_keep_the_order_of_features() -> None:
    atlas = write(labelled())
    everything = Filters(dead=True)
    for limit in range(1, 7):
        assert atlas.select(everything, "f1", limit=limit).features.tolist() == [0, 1, 3, 4, 2, 5][:limit]
        assert (
            atlas.select(everything, "f1", descending=False, limit=limit).features[:4].tolist()
            == ([4, 3, 1, 0, 2, 5][: min(limit, 4)])
        )
        assert atlas.select(everything, "nature", limit=limit).features.tolist() == list(range(limit))


def test_facets_count_what_the_other_filters_leave() -> None:
    atlas = write(labelled())
    everything = atlas.select()
    assert everything.facets["kind"] == {"place": 2, "diphone": 1, "phone": 1}
    assert everything.facets["label"] == {"labial": 2, "m": 1, "s t": 1}
    one = atlas.select(Filters(kind="phone"))
    assert (one.features.tolist(), one.total) == ([1], 1)
    assert one.facets["kind"] == everything.facets["kind"]
    assert one.facets["label"] == {"m": 1}
    scored = atlas.select(Filters(label="m", ranges={"f1": (0.75, None)}))
    assert scored.features.tolist() == [1]
    assert scored.facets["label"] == {"labial": 1, "m": 1}
    assert atlas.select(Filters(dead=True)).total == 6
    assert everything.total == 5


def test_notes_join_what_text_finds_and_lists_narrow_it() -> None:
    atlas = write(labelled())
    found = atlas.select(Filters(text="lab", noted=np.array([2, 3])), "feature", descending=False)
    assert found.features.tolist() == [0, 2, 3]
    assert (found.label_rows >= 0).tolist() == [True, False, True]
    assert atlas.select(Filters(among=np.array([1, 4])), "feature", descending=False).features.tolist() == [1, 4]
    with pytest.raises(InputError, match="density"):
        atlas.select(Filters(ranges={"densty": (0, 1)}))


@few
@given(tiny())
def test_heavy_features_answer_as_light_ones_do(world: Tiny) -> None:
    light = write(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_lists, "HEAVY_ENTRIES", 2)
        patch.setattr(clip_lists, "HEAVY_PER_CLIP", 1)
        heavy = write(world)
    for feature in range(5):
        column = world.values[:, feature]
        assert (heavy.postings.clip_list(feature) is not None) == ((column > 0).sum() >= 2)
        assert light.postings.clip_list(feature) is None
        maxima = [column[a:b].max() for a, b in zip(world.bounds[:-1], world.bounds[1:], strict=True)]
        for atlas in (light, heavy):
            entry = atlas[feature]
            assert entry.maxima().tolist() == maxima
            traces = entry.traces(range(len(world.clips)))
            assert np.concatenate(traces).tolist() == column.tolist()
            peaks = entry.peaks()
            assert peaks.values.tolist() == [top for top in maxima if top]
            assert column[peaks.frames].tolist() == peaks.values.tolist()
        assert heavy[feature].examples("top", 5) == light[feature].examples("top", 5)


@pytest.mark.parametrize(("many", "few"), [((0.01, 1.0), (1.0, 10.0)), ((5.0, 10.0), (0.01, 5.0))])
def test_examples_of_a_feature_with_many_entries_lie_in_their_bands(
    many: tuple[float, float], few: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "PIECE", 1000)  # the values are looked at in ten pieces
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(*many, (9000, 1)), rng.uniform(*few, (40, 1))]).astype(np.float32)
    rng.shuffle(values)
    world = Tiny(np.split(values, 40))
    entry = write(world)[0]
    found = entry.examples("decile", 30)
    top = values.max()
    assert {example.decile for example in found} == {
        band for band in range(10) if ((values > top * band / 10) & (values <= top * (band + 1) / 10)).any()
    }
    for example in found:
        assert world.values[world.bounds[entry.atlas.clips.index(example.clip_id)] + example.frame, 0] == np.float32(
            example.value
        )
        assert example.decile == min(int(np.ceil(example.value / top * 10)) - 1, 9)
    for band in range(10):
        clips = [example.clip_id for example in found if example.decile == band]
        assert len(clips) == len(set(clips))
    drawn = entry.examples("random", 20)
    assert len({example.clip_id for example in drawn}) == 20
    assert entry.examples("random", 20) == drawn


def test_reading_and_searching_an_atlas_loads_nothing_heavy(atlas: Atlas) -> None:
    code = (
        "import sys, otoscope.atlas; from otoscope.atlas import Atlas\n"
        f"a = Atlas.open({str(atlas.folder)!r}); e = a[{M}]; r = a.region('sound-41', 0.5, 1.0)\n"
        "from otoscope.atlas.search.facets import Filters; a.select(Filters(label='m')); r.features(); r.similar()\n"
        "a.frames_in_range(0, 0.5); a.frames_where('0 and not 4')\n"
        "e.stats, e.label_rows, e.histogram, e.maxima(), [e.examples(kind) for kind in ('top', 'decile', 'random')]\n"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'numba', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_always_active_says_nothing_about_a_word(atlas: Atlas, world: World) -> None:
    clip = next(c for c in world.corpus if any(each.label == "morning" for each in c.tier("words")))
    word = next(each for each in clip.tier("words") if each.label == "morning")
    rows = {row.feature: row for row in atlas.region(clip.clip_id, word.start_s, word.end_s).features()}
    assert max(rows.values(), key=lambda row: row.score).feature == MORNING
    assert rows[MORNING].lift > 2
    assert ALWAYS not in rows or rows[ALWAYS].q_value == 1.0
