"""Evaluation: how well a dictionary rebuilds activations, and how selective its features are."""

from __future__ import annotations

from otoscope.evaluation.held_out import BestUnits, best_units, held_out_purity
from otoscope.evaluation.necessity import Effect, Estimate, Necessity, beyond_control, more_than_control, necessity
from otoscope.evaluation.reconstruction import Reconstruction, reconstruction
from otoscope.evaluation.selectivity import (
    Detection,
    Purity,
    auroc,
    auroc_matrix,
    average_precision,
    benjamini_hochberg,
    circular_shift,
    f1_at,
    f1_max,
    purity,
    split_groups,
)

__all__ = [
    "BestUnits",
    "Detection",
    "Effect",
    "Estimate",
    "Necessity",
    "Purity",
    "Reconstruction",
    "auroc",
    "auroc_matrix",
    "average_precision",
    "benjamini_hochberg",
    "best_units",
    "beyond_control",
    "circular_shift",
    "f1_at",
    "f1_max",
    "held_out_purity",
    "more_than_control",
    "necessity",
    "purity",
    "reconstruction",
    "split_groups",
]
