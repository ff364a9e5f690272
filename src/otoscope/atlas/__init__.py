"""Atlas: the searchable index of one dictionary over one corpus."""

from __future__ import annotations

from otoscope.atlas.atlas import Atlas, Example, FeatureEntry
from otoscope.atlas.build import build_atlas

__all__ = ["Atlas", "Example", "FeatureEntry", "build_atlas"]
