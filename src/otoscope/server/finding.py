"""Stretches of sound as search queries: of clips that an atlas holds, and of any other clip by encoding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.search.regions import Region
    from otoscope.server.state import Found, State

MAX_REGION_S = 60.0
"""Longest stretch that can be searched by: beyond a minute, nothing stands out of it."""


class Query(NamedTuple):
    """A stretch of a clip to search by: its seconds on the grid of frames; how much later its clip's clock is than the
    region's; and whether the atlas holds the clip."""

    region: Region
    start_s: float
    end_s: float
    shift_s: float
    indexed: bool


def holds(atlas: Atlas, found: Found) -> bool:
    """Tell whether the atlas was built over this very clip."""
    about = atlas.meta["corpus"]
    return (about["name"], about["fingerprint"][:16]) == (found.corpus, found.version) and (
        found.clip.clip_id in atlas.clips
    )


def query_by(state: State, found: Found, name: str, start_s: float, end_s: float | None) -> Query:
    """Return a stretch of a clip as a query of the atlas `name`.

    Raises:
        InputError: it lies outside the clip, or is longer than `MAX_REGION_S`.
    """
    from otoscope.atlas.search.regions import Region

    atlas, duration_s = state.atlas(name), found.clip.duration_s
    stop_s = min(duration_s, duration_s if end_s is None else end_s)
    if not start_s < stop_s:
        raise InputError(
            f"Clip {found.clip.clip_id!r} has nothing from {start_s:g} to {stop_s:g} s: it ends at {duration_s:.2f} s."
        )
    if stop_s - start_s > MAX_REGION_S:
        raise InputError(
            f"The stretch lasts {stop_s - start_s:.0f} s; search by at most {MAX_REGION_S:.0f} s of a clip."
        )
    clock = atlas.clock
    first, stop = clock.span(start_s, stop_s)
    span = (clock.time_s(first), clock.time_s(stop))
    if holds(atlas, found):
        region = Region.of_clip(atlas, found.clip.clip_id, start_s, stop_s)
        return Query(region, *span, 0.0, indexed=True)
    code = state.code(found, name).part(first, stop)
    return Query(Region.of_code(atlas, code), *span, first * clock.frame_s, indexed=False)
