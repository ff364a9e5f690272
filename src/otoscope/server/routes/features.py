"""Features: the table, single ones, and random strong ones to begin with."""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request

from otoscope.server.routes.clips import clip_view
from otoscope.server.shapes import (
    ExampleView,
    FeaturePage,
    FeatureRow,
    FeatureView,
    Histogram,
    LabelScore,
)
from otoscope.server.state import NotFoundError, State
from otoscope.server.tables import FeatureTable, number
from otoscope.server.tables import Query as TableQuery

router = APIRouter(prefix="/api", tags=["features"])

EXAMPLE_KINDS = ("top", "decile", "random")
EXAMPLES_PER_KIND = 24
N_LABELS = 24

Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]


def _table(state: State, atlas: str | None) -> FeatureTable:
    return state.table([atlas] if atlas else state.workspace.names("atlases"))


@router.get("/features")
def features(
    request: Request,
    q: Annotated[str, Query(max_length=100, description="a label (m, /m/, seven, bird) or a feature number")] = "",
    atlas: Annotated[str | None, Query(max_length=200, description="one atlas; all of them if absent")] = None,
    kind: Annotated[str | None, Query(max_length=40, description="kind of label: phone, word, sound…")] = None,
    min_f1: Share = 0.0,
    min_density: Share = 0.0,
    max_density: Share = 1.0,
    dead: bool = False,
    sort: Literal["f1", "ap", "density", "max", "index", "label"] = "f1",
    order: Literal["asc", "desc"] = "desc",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> FeaturePage:
    """List features: searched, filtered, sorted."""
    state: State = request.app.state.otoscope
    table = _table(state, atlas)
    query = TableQuery(q, kind, min_f1, min_density, max_density, dead, sort, order == "desc")
    selection = table.select(query)
    rows = selection.rows[offset : offset + limit].tolist()
    return FeaturePage(
        total=len(selection.rows), offset=offset, rows=table.view(rows, selection.labels), note=selection.note
    )


@router.get("/features/random")
def random_features(
    request: Request,
    min_f1: Share = 0.7,
    n: Annotated[int, Query(ge=1, le=24)] = 6,
    seed: int = 0,
    atlas: Annotated[str | None, Query(max_length=200)] = None,
) -> list[FeatureRow]:
    """Some features that detect a sound well, at most one per sound; fewer conditions if there are not enough."""
    state: State = request.app.state.otoscope
    table = _table(state, atlas)
    rows = table.select(TableQuery(min_f1=min_f1)).rows.tolist() or table.select(TableQuery()).rows.tolist()[:200]
    random.Random(seed).shuffle(rows)
    chosen: dict[str, int] = {}
    for row in rows:
        chosen.setdefault(f"{table.kind[row]} {table.label[row]}", row)
    return table.view(list(chosen.values())[:n])


@router.get("/atlases/{atlas}/features/{index}")
def feature(request: Request, atlas: str, index: int) -> FeatureView:
    """One feature: what it detects, how often it fires, and where."""
    state: State = request.app.state.otoscope
    table = state.table([atlas])
    opened = state.atlas(atlas)
    n_features = len(opened.features)
    if not 0 <= index < n_features:
        raise NotFoundError(f"{atlas} has the features 0…{n_features - 1}; there is no {index}.")
    edges, counts = opened[index].histogram
    kind = str(opened.meta["dictionary"].get("kind", ""))
    half = n_features // 2
    alive = np.flatnonzero(~table.dead)
    at = int(np.searchsorted(alive, index))
    after = at + 1 if at < len(alive) and alive[at] == index else at
    return FeatureView(
        row=table.view([index])[0],
        site=str(opened.meta["site"]),
        kind=kind,
        corpus=str(opened.meta["corpus"]["name"]),
        n_frames=int(opened.meta["n_frames"]),
        n_features=n_features,
        mean=number(opened.features["mean"].iloc[index]),
        opposite=(index + half) % n_features if kind == "neurons" else None,
        previous=int(alive[at - 1]) if at > 0 else None,
        next=int(alive[after]) if after < len(alive) else None,
        labels=[
            LabelScore(
                label=str(record["label"]),
                kind=str(record["kind"]),
                **{
                    key: number(record.get(key))
                    for key in (
                        "f1",
                        "f1_low",
                        "f1_high",
                        "ap",
                        "auroc",
                        "chance",
                        "p_value",
                        "precision",
                        "recall",
                    )
                },
            )
            for record in opened[index].labels.head(N_LABELS).to_dict("records")
        ],
        histogram=Histogram(edges=np.asarray(edges, float).tolist(), counts=np.asarray(counts).astype(int).tolist()),
        examples={kind: _examples(state, atlas, index, kind) for kind in EXAMPLE_KINDS},
    )


def _examples(state: State, atlas: str, index: int, kind: str) -> list[ExampleView]:
    opened = state.atlas(atlas)
    corpus = str(opened.meta["corpus"]["name"])
    views = []
    for example in opened[index].examples(kind=kind, top=EXAMPLES_PER_KIND):
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
