"""Building: one pass over the clips, then every feature's entries, statistics and labels."""

from __future__ import annotations

from otoscope.atlas.build.building import build_atlas, build_atlases
from otoscope.atlas.build.merging import build_parts, clips_of_part, merge_atlases
from otoscope.atlas.build.reuse import part_facts
from otoscope.atlas.build.sources import source_name

__all__ = [
    "build_atlas",
    "build_atlases",
    "build_parts",
    "clips_of_part",
    "merge_atlases",
    "part_facts",
    "source_name",
]
