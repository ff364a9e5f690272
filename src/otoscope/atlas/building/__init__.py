"""Building: one pass over the clips, then every feature's entries, statistics and labels."""

from __future__ import annotations

from otoscope.atlas.building.atlases import build_atlas, build_atlases
from otoscope.atlas.building.merging import build_parts, clips_of_part, merge_atlases
from otoscope.atlas.building.reuse import part_facts
from otoscope.atlas.building.sources import source_name

__all__ = [
    "build_atlas",
    "build_atlases",
    "build_parts",
    "clips_of_part",
    "merge_atlases",
    "part_facts",
    "source_name",
]
