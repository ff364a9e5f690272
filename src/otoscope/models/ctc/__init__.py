"""Models that name a letter (or phone) for each frame: alignment of a known text, and transcripts with times."""

from otoscope.models.ctc.alignment import Aligned, ctc_align, ctc_greedy

__all__ = ["Aligned", "ctc_align", "ctc_greedy"]
