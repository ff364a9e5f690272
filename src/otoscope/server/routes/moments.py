"""Moments: by sound, by the value of a feature, by a combination of features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query, Request

from otoscope.atlas.search.ranges import FrameRange, Moment
from otoscope.atlas.search.similar import SimilarMoment
from otoscope.server.finding import query_by
from otoscope.server.routes.clips import FoundClip, MaybeSeconds, Seconds, clip_view
from otoscope.server.routes.features import feature_of
from otoscope.server.shapes import MomentPage, MomentView, RegionFeatureView, RegionView
from otoscope.server.state import Found, NotFoundError, State
from otoscope.server.views import feature_name, feature_row

router = APIRouter(prefix="/api", tags=["moments"])

M = TypeVar("M", Moment, SimilarMoment)
Name = Annotated[str, Query(max_length=200, description="the atlas to search in")]
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=100_000)]
Bound = Annotated[float | None, Query(allow_inf_nan=False)]


@router.get("/clips/{clip_id:path}/region")
def region(
    request: Request,
    found: FoundClip,
    atlas: Name,
    start_s: Seconds = 0.0,
    end_s: MaybeSeconds = None,
    top: Annotated[int, Query(ge=1, le=200)] = 30,
) -> RegionView:
    """The features that fire in a stretch of a clip (at most a minute) more than elsewhere, best first."""
    state: State = request.app.state.otoscope
    opened = state.atlas(atlas)
    query = query_by(state, found, atlas, start_s, end_s)
    return RegionView(
        atlas=atlas,
        start_s=query.start_s,
        end_s=query.end_s,
        n_frames=query.region.n_frames,
        features=[
            RegionFeatureView(
                feature=feature_row(opened, atlas, int(row.feature)),
                frames=int(row.frames),
                share=float(row.share),
                density=float(row.density),
                lift=float(row.lift),
                above=float(row.above),
                score=float(row.score),
                q_value=float(row.q_value),
                max=float(row.max),
                peak_time_s=float(row.peak_time_s) + query.shift_s,
            )
            for row in query.region.features(top=top)
        ],
    )


@router.get("/clips/{clip_id:path}/similar")
def similar(
    request: Request,
    found: FoundClip,
    atlas: Name,
    start_s: Seconds = 0.0,
    end_s: MaybeSeconds = None,
    top: Annotated[int, Query(ge=1, le=100)] = 20,
    elsewhere: Annotated[bool, Query(description="only in other clips")] = True,
) -> list[MomentView]:
    """The moments of the atlas's corpus that are most like a stretch of a clip, and the features that say so."""
    state: State = request.app.state.otoscope
    query = query_by(state, found, atlas, start_s, end_s)
    exclude = found.clip.clip_id if elsewhere and query.indexed else None
    return [
        MomentView(
            clip=clip_view(clip),
            start_s=moment.start_s,
            end_s=moment.end_s,
            time_s=(moment.start_s + moment.end_s) / 2,
            value=None,
            similarity=moment.similarity,
            shared=[feature_name(state.atlas(atlas), atlas, feature) for feature in moment.shared],
        )
        for moment, clip in _with_clips(state, atlas, query.region.similar(top=top, exclude_clip=exclude))
    ]


@router.get("/atlases/{atlas}/features/{index}/range")
def value_range(
    request: Request,
    atlas: str,
    index: int,
    low: Bound = None,
    high: Bound = None,
    side: Annotated[Literal["+", "-", "both"], Query(description="of a neuron: above zero, below, or both")] = "+",
    sort: Literal["value", "time"] = "value",
    offset: Offset = 0,
    limit: Limit = 24,
) -> MomentPage:
    """Moments at which the value of a feature lies between two bounds, frame by frame, strongest or earliest first."""
    state: State = request.app.state.otoscope
    opened = feature_of(state, atlas, index).atlas
    found = opened.frames_in_range(index, low, high, sign=side, sort=sort, limit=limit, offset=offset)
    return _page(state, atlas, found, offset)


@router.get("/atlases/{atlas}/moments")
def where(
    request: Request,
    atlas: str,
    q: Annotated[
        str, Query(min_length=1, max_length=200, description="features combined: 12 and not 88, (12 > 0.5 or 7) and 3")
    ],
    offset: Offset = 0,
    limit: Limit = 24,
) -> MomentPage:
    """Moments at which a combination of features holds: numbers with and, or, not, parentheses and thresholds."""
    state: State = request.app.state.otoscope
    found = state.atlas(atlas).frames_where(q, limit=limit, offset=offset)
    return _page(state, atlas, found, offset)


def _page(state: State, atlas: str, found: FrameRange, offset: int) -> MomentPage:
    moments = [
        MomentView(
            clip=clip_view(clip),
            start_s=moment.start_s,
            end_s=moment.end_s,
            time_s=moment.peak_s,
            value=moment.value,
            similarity=None,
            shared=[],
        )
        for moment, clip in _with_clips(state, atlas, found.moments)
    ]
    return MomentPage(
        n_frames=found.n_frames,
        n_clips=found.n_clips,
        n_moments=found.n_moments,
        complete_from=found.complete_from,
        offset=offset,
        moments=moments,
    )


def _with_clips(state: State, atlas: str, moments: Sequence[M]) -> Iterator[tuple[M, Found]]:
    """Yield the moments whose clips the workspace has."""
    corpus = str(state.atlas(atlas).meta["corpus"]["name"])
    for moment in moments:
        with contextlib.suppress(NotFoundError):
            yield moment, state.find(moment.clip_id, corpus)
