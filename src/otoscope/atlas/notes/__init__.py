"""People's labels and notes of features: kept for ever, merged without loss, compared between annotators."""

from __future__ import annotations

from otoscope.atlas.notes.agreement import Agreement, Disagreement, krippendorff_alpha, percent_agreement
from otoscope.atlas.notes.exchange import Imported
from otoscope.atlas.notes.note import Note
from otoscope.atlas.notes.notes import Notes
from otoscope.atlas.notes.revision import KINDS, Evidence, FeatureKey, Revision

__all__ = [
    "KINDS",
    "Agreement",
    "Disagreement",
    "Evidence",
    "FeatureKey",
    "Imported",
    "Note",
    "Notes",
    "Revision",
    "krippendorff_alpha",
    "percent_agreement",
]
