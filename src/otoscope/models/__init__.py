"""Models: the table of sites, loading, running with reads and edits, and transcribing."""

from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.edits import Edit, FeatureReader
from otoscope.models.generation import Token, Transcript
from otoscope.models.run import Position, Run
from otoscope.models.site_table import SITES, SiteKind
from otoscope.models.sites import Site, parse_site, site_names
from otoscope.models.speech_model import SpeechModel, load_model, untrained_model

__all__ = [
    "SITES",
    "Clock",
    "Dims",
    "Edit",
    "FeatureReader",
    "Position",
    "Run",
    "Site",
    "SiteKind",
    "SpeechModel",
    "Token",
    "Transcript",
    "load_model",
    "parse_site",
    "site_names",
    "untrained_model",
]
