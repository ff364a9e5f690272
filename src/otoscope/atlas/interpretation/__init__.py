"""Interpretation: explanations of features in words, and how well they hold on other voices."""

from __future__ import annotations

from otoscope.atlas.interpretation.card import Card
from otoscope.atlas.interpretation.detection import Score
from otoscope.atlas.interpretation.endpoint import Endpoint, EndpointError, EndpointRefused
from otoscope.atlas.interpretation.ladder import card_of, interpret, prompt_of
from otoscope.atlas.interpretation.results import Interpretation, Rung, load_interpretations
from otoscope.atlas.interpretation.subject import Trials

__all__ = [
    "Card",
    "Endpoint",
    "EndpointError",
    "EndpointRefused",
    "Interpretation",
    "Rung",
    "Score",
    "Trials",
    "card_of",
    "interpret",
    "load_interpretations",
    "prompt_of",
]
