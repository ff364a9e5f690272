"""Evaluation: how well a dictionary rebuilds activations, and how selective its features are."""

from __future__ import annotations

from otoscope.evaluation.absorption import absorption
from otoscope.evaluation.clustering import pnmi
from otoscope.evaluation.coverage import coverage, name_features
from otoscope.evaluation.feature_scores import FeatureScores, feature_scores, score_measures
from otoscope.evaluation.frames import LabelledFrames
from otoscope.evaluation.held_out import BestUnits, best_units, held_out_purity
from otoscope.evaluation.necessity import Effect, Estimate, Necessity, beyond_control, more_than_control, necessity
from otoscope.evaluation.probes import probes
from otoscope.evaluation.reconstruction import Reconstruction, reconstruction, reconstruction_measures
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
from otoscope.evaluation.stability import match_features, stability

__all__ = [
    "BestUnits",
    "Detection",
    "Effect",
    "Estimate",
    "FeatureScores",
    "LabelledFrames",
    "Necessity",
    "Purity",
    "Reconstruction",
    "absorption",
    "auroc",
    "auroc_matrix",
    "average_precision",
    "benjamini_hochberg",
    "best_units",
    "beyond_control",
    "circular_shift",
    "coverage",
    "f1_at",
    "f1_max",
    "feature_scores",
    "held_out_purity",
    "match_features",
    "more_than_control",
    "name_features",
    "necessity",
    "pnmi",
    "probes",
    "purity",
    "reconstruction",
    "reconstruction_measures",
    "score_measures",
    "split_groups",
    "stability",
]
