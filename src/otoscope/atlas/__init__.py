"""Atlas: the searchable index of one dictionary over one corpus."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Atlas": "atlas",
    "Example": "examples",
    "FeatureEntry": "entry",
    "build_atlas": "building",
    "build_atlases": "building",
    "build_parts": "building",
    "clips_of_part": "building",
    "merge_atlases": "building",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas as Atlas
    from otoscope.atlas.building import build_atlas as build_atlas
    from otoscope.atlas.building import build_atlases as build_atlases
    from otoscope.atlas.building import build_parts as build_parts
    from otoscope.atlas.building import clips_of_part as clips_of_part
    from otoscope.atlas.building import merge_atlases as merge_atlases
    from otoscope.atlas.entry import FeatureEntry as FeatureEntry
    from otoscope.atlas.examples import Example as Example


def __getattr__(name: str) -> Any:
    """Import the file of a name on first use: reading an atlas needs neither torch nor pandas."""
    if name not in _HOME:
        raise AttributeError(f"module 'otoscope.atlas' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"otoscope.atlas.{_HOME[name]}"), name)
    globals()[name] = value
    return value
