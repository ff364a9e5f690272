"""Features: the table, single ones with their examples and relatives, and random strong ones to begin with."""

from __future__ import annotations

import contextlib
import math
import random
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request

from otoscope.atlas import Atlas, FeatureEntry
from otoscope.atlas.labels.reading import Band
from otoscope.errors import InputError
from otoscope.server.routes.clips import clip_view
from otoscope.server.shapes import (
    Acoustic,
    BandScore,
    ExampleView,
    FeaturePage,
    FeatureRow,
    FeatureView,
    Histogram,
    LabelScore,
    MatchView,
    Related,
    Stack,
)
from otoscope.server.stacks import stacks
from otoscope.server.state import NotFoundError, State
from otoscope.server.tables import FeatureTable
from otoscope.server.tables import Query as TableQuery
from otoscope.server.views import cell, feature_name, feature_row, number

router = APIRouter(prefix="/api", tags=["features"])

EXAMPLE_KINDS = ("top", "decile", "random")
EXAMPLES_PER_KIND = 24
N_LABELS = 24
N_RELATED = 10
SCORES = ("f1", "f1_low", "f1_high", "ap", "auroc", "chance", "p_value", "precision", "recall")

Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]
AtlasName = Annotated[str | None, Query(max_length=200, description="one atlas; all of them if absent")]


def _table(state: State, atlas: str | None) -> FeatureTable:
    return state.table([atlas] if atlas else state.workspace.names("atlases"))


@router.get("/features")
def features(
    request: Request,
    q: Annotated[
        str,
        Query(
            max_length=100,
            description="a number, a label (m, /m/, seven, bird, nasal), words of a note or an explanation",
        ),
    ] = "",
    atlas: AtlasName = None,
    label: Annotated[str | None, Query(max_length=100, description="only features named exactly so")] = None,
    kind: Annotated[str | None, Query(max_length=40, description="kind of label: phone, word, sound_class…")] = None,
    nature: Annotated[str | None, Query(max_length=40, description="phonetic, lexical, speaker…")] = None,
    min_f1: Share = 0.0,
    min_density: Share = 0.0,
    max_density: Share = 1.0,
    dead: bool = False,
    sort: Annotated[str, Query(max_length=40, description="index, label, or any column of the atlas")] = "f1",
    order: Literal["asc", "desc"] = "desc",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> FeaturePage:
    """List features: searched, filtered, sorted, and counted by kind, label and nature."""
    state: State = request.app.state.otoscope
    table = _table(state, atlas)
    query = TableQuery(q, label, kind, nature, min_f1, min_density, max_density, dead, sort, order == "desc")
    selection = table.select(query)
    return FeaturePage(
        total=len(selection),
        offset=offset,
        rows=table.view(selection, slice(offset, offset + limit)),
        sorted_by=table.sorted_by(selection, slice(offset, offset + limit), sort),
        found_by=table.found_by(selection, slice(offset, offset + limit)),
        note=selection.note,
        facets=dict(selection.facets),
    )


@router.get("/features/random")
def random_features(
    request: Request,
    min_f1: Share = 0.7,
    n: Annotated[int, Query(ge=1, le=24)] = 6,
    seed: int = 0,
    atlas: AtlasName = None,
) -> list[FeatureRow]:
    """Some features that detect a sound well, at most one per sound; fewer conditions if there are not enough."""
    state: State = request.app.state.otoscope
    table = _table(state, atlas)
    found = table.select(TableQuery(min_f1=min_f1))
    if not len(found):
        found = table.select(TableQuery())
    chosen: dict[tuple[str | None, str | None], FeatureRow] = {}
    for at in random.Random(seed).sample(range(len(found)), min(len(found), 8 * n)):
        [row] = table.view(found, [at])
        chosen.setdefault((row.label_kind, row.label), row)
    return list(chosen.values())[:n]


@router.get("/atlases/{atlas}/features/{index}")
def feature(request: Request, atlas: str, index: int) -> FeatureView:
    """One feature: what it detects, how often it fires, where, and what goes with it."""
    state: State = request.app.state.otoscope
    opened = feature_of(state, atlas, index).atlas
    entry, meta = opened[index], opened.meta
    neurons = meta["dictionary"].get("kind") == "neurons"
    opposite = (index + len(opened) // 2) % len(opened) if neurons else None
    previous, following = _neighbouring(opened, index)
    return FeatureView(
        row=feature_row(opened, atlas, index),
        site=str(meta["site"]),
        kind=str(meta["dictionary"].get("kind", "")),
        corpus=str(meta["corpus"]["name"]),
        n_frames=int(meta["n_frames"]),
        n_features=len(opened),
        mean=number(cell(opened, "mean", index)),
        opposite=opposite,
        previous=previous,
        next=following,
        labels=[_score(row) for row in entry.label_rows[:N_LABELS]],
        bands=[_band(band) for band in entry.bands],
        unions=[_band(band) for band in entry.unions],
        label_share=float(entry.stats.get("label_share", 1.0)),
        histogram=_histogram(entry),
        opposite_histogram=None if opposite is None else _histogram(opened[opposite]),
        profile=entry.profile.tolist(),
        neighbours=_neighbours(entry, atlas),
        cofiring=_cofiring(entry, atlas),
        acoustics=[
            Acoustic(
                name=name,
                correlation=heard.correlation,
                low=number(heard.low),
                high=number(heard.high),
                partial=number(heard.partial),
            )
            for name, heard in entry.acoustics.items()
            if math.isfinite(heard.correlation)
        ],
        examples={kind: _examples(state, atlas, entry, kind, EXAMPLES_PER_KIND) for kind in EXAMPLE_KINDS},
    )


@router.get("/atlases/{atlas}/features/{index}/examples")
def examples(
    request: Request,
    atlas: str,
    index: int,
    kind: Literal["top", "decile", "random", "near_miss"] = "top",
    limit: Annotated[int, Query(ge=1, le=100)] = EXAMPLES_PER_KIND,
) -> list[ExampleView]:
    """Moments of a feature: its strongest, some of its whole range, random ones, or near misses, where it is silent."""
    state: State = request.app.state.otoscope
    return _examples(state, atlas, feature_of(state, atlas, index), kind, limit)


@router.get("/atlases/{atlas}/features/{index}/stacks")
def histogram_by_class(
    request: Request,
    atlas: str,
    index: int,
    kind: Annotated[str | None, Query(max_length=40, description="kind of label; that of its own if absent")] = None,
) -> list[Stack]:
    """The histogram of a feature split by what its frames are; empty where the atlas does not say."""
    state: State = request.app.state.otoscope
    entry = feature_of(state, atlas, index)
    return stacks(entry, kind or feature_name(entry.atlas, atlas, index).label_kind)


@router.get("/atlases/{atlas}/features/{index}/matches")
def matches(request: Request, atlas: str, index: int) -> list[MatchView]:
    """The same feature in the workspace's other atlases: the most similar one of each that shares clips, best first."""
    state: State = request.app.state.otoscope
    feature_of(state, atlas, index)
    return state.matches(atlas, index)


def feature_of(state: State, atlas: str, index: int) -> FeatureEntry:
    """Return a feature of an atlas.

    Raises:
        NotFoundError: there is no such atlas or feature.
    """
    opened = state.atlas(atlas)
    if not 0 <= index < len(opened):
        raise NotFoundError(f"{atlas} has the features 0…{len(opened) - 1}; there is no {index}.")
    return opened[index]


def _neighbouring(atlas: Atlas, index: int) -> tuple[int | None, int | None]:
    """Return the nearest living features before and after one."""
    dead = atlas.column("dead")
    before = np.flatnonzero(dead[:index] == 0)[-1:].tolist()
    after = int(np.argmin(dead[index + 1 :])) + index + 1 if index + 1 < len(atlas) else None
    return (before[0] if before else None), after if after is not None and not dead[after] else None


def _score(row: dict[str, Any]) -> LabelScore:
    return LabelScore(
        label=str(row["label"]),
        kind=str(row["kind"]),
        **{key: number(row.get(key)) for key in SCORES},
    )


def _band(band: Band) -> BandScore:
    figures = ("high", "f1", "f1_low", "f1_high", "chance", "precision", "recall")
    return BandScore(
        labels=list(band.labels),
        kind=band.kind,
        low=band.low,
        **{name: number(getattr(band, name)) for name in figures},
    )


def _histogram(entry: FeatureEntry) -> Histogram:
    edges, counts = entry.histogram
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _neighbours(entry: FeatureEntry, name: str) -> list[Related]:
    """Return the features with the nearest directions; none where the dictionary is too wide to keep them."""
    with contextlib.suppress(InputError):
        found = entry.neighbours(N_RELATED)
        return [
            Related(feature=feature_name(entry.atlas, name, each.feature), value=each.cosine, share=None)
            for each in found
        ]
    return []


def _cofiring(entry: FeatureEntry, name: str) -> list[Related]:
    return [
        Related(feature=feature_name(entry.atlas, name, each.feature), value=each.pmi, share=each.share)
        for each in entry.cofiring(N_RELATED)
    ]


def _examples(state: State, atlas: str, entry: FeatureEntry, kind: str, limit: int) -> list[ExampleView]:
    corpus = str(entry.atlas.meta["corpus"]["name"])
    views = []
    for example in entry.examples(kind=kind, top=limit):
        try:
            found = state.find(example.clip_id, corpus)
        except NotFoundError:
            continue
        views.append(
            ExampleView(
                clip=clip_view(found),
                time_s=float(example.time_s),
                value=float(example.value),
                decile=example.decile,
            )
        )
    return views
