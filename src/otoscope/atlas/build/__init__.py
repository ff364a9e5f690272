"""Building: one pass over the clips, then every feature's entries, statistics and labels."""

from __future__ import annotations

from otoscope.atlas.build.building import build_atlas, build_atlases

__all__ = ["build_atlas", "build_atlases"]
