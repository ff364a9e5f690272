"""Edits: interventions at a site, or on features of a dictionary, during one run."""

from otoscope.models.edits.binding import BoundEdit, bind_edits
from otoscope.models.edits.edit import Edit, FeatureReader, MeanSource, Op, Reconstructor, Where

__all__ = ["BoundEdit", "Edit", "FeatureReader", "MeanSource", "Op", "Reconstructor", "Where", "bind_edits"]
