"""The scorecard: everything measured about a dictionary beside the baselines it has to beat, on one page."""

from __future__ import annotations

from otoscope.evaluation.scorecard.assemble import evaluate
from otoscope.evaluation.scorecard.baselines import BASELINES
from otoscope.evaluation.scorecard.card import Row, Scorecard, Subject
from otoscope.evaluation.scorecard.comparing import comparison
from otoscope.evaluation.scorecard.report import report
from otoscope.evaluation.scorecard.sections import SECTIONS, Parameters

__all__ = ["BASELINES", "SECTIONS", "Parameters", "Row", "Scorecard", "Subject", "comparison", "evaluate", "report"]
