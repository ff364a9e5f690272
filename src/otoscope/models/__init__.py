"""Models: the table of sites, loading, running with reads and edits, and transcribing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Clock": "clock",
    "Dims": "dims",
    "Edit": "edits",
    "FeatureReader": "edits",
    "HeadStatistics": "heads",
    "band_edits": "heads",
    "class_means": "means",
    "Gradients": "running",
    "DecodingOptions": "generation",
    "Segment": "generation",
    "Token": "generation",
    "Transcript": "generation",
    "Word": "generation",
    "word_times": "generation",
    "Position": "run",
    "Run": "run",
    "SITES": "site_table",
    "SiteKind": "site_table",
    "Site": "sites",
    "parse_site": "sites",
    "site_names": "sites",
    "SpeechModel": "speech_model",
    "load_model": "speech_model",
    "untrained_model": "speech_model",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from otoscope.models.clock import Clock as Clock
    from otoscope.models.dims import Dims as Dims
    from otoscope.models.edits import Edit as Edit
    from otoscope.models.edits import FeatureReader as FeatureReader
    from otoscope.models.generation import DecodingOptions as DecodingOptions
    from otoscope.models.generation import Segment as Segment
    from otoscope.models.generation import Token as Token
    from otoscope.models.generation import Transcript as Transcript
    from otoscope.models.generation import Word as Word
    from otoscope.models.generation import word_times as word_times
    from otoscope.models.heads import HeadStatistics as HeadStatistics
    from otoscope.models.heads import band_edits as band_edits
    from otoscope.models.means import class_means as class_means
    from otoscope.models.run import Position as Position
    from otoscope.models.run import Run as Run
    from otoscope.models.running import Gradients as Gradients
    from otoscope.models.site_table import SITES as SITES
    from otoscope.models.site_table import SiteKind as SiteKind
    from otoscope.models.sites import Site as Site
    from otoscope.models.sites import parse_site as parse_site
    from otoscope.models.sites import site_names as site_names
    from otoscope.models.speech_model import SpeechModel as SpeechModel
    from otoscope.models.speech_model import load_model as load_model
    from otoscope.models.speech_model import untrained_model as untrained_model


def __getattr__(name: str) -> Any:
    """Import the file of a name on first use: the table of sites and the clock need no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'otoscope.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"otoscope.models.{_HOME[name]}"), name)
    globals()[name] = value
    return value
