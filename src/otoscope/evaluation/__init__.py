"""Evaluation: how well a dictionary rebuilds activations, and how selective its features are."""

from __future__ import annotations

from otoscope.evaluation.absorption import absorption
from otoscope.evaluation.acoustics import Acoustics, acoustics, frame_acoustics
from otoscope.evaluation.clustering import pnmi
from otoscope.evaluation.coverage import coverage, name_features
from otoscope.evaluation.feature_scores import FeatureScores, best_pairs, feature_scores, score_measures
from otoscope.evaluation.frames import LabelledFrames
from otoscope.evaluation.held_out import BestUnits, best_units, held_out_purity
from otoscope.evaluation.lexical import Lexicality, lexical_measures, lexicality
from otoscope.evaluation.naming.contexts import context_kinds
from otoscope.evaluation.necessity import Effect, Estimate, Necessity, beyond_control, more_than_control, necessity
from otoscope.evaluation.onset import OnsetProfiles, onset_measures, onset_profiles
from otoscope.evaluation.partial import PartialSelectivity, partial_measures, partial_selectivity
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
    "Acoustics",
    "BestUnits",
    "Detection",
    "Effect",
    "Estimate",
    "FeatureScores",
    "LabelledFrames",
    "Lexicality",
    "Necessity",
    "OnsetProfiles",
    "PartialSelectivity",
    "Purity",
    "Reconstruction",
    "absorption",
    "acoustics",
    "auroc",
    "auroc_matrix",
    "average_precision",
    "benjamini_hochberg",
    "best_pairs",
    "best_units",
    "beyond_control",
    "circular_shift",
    "context_kinds",
    "coverage",
    "f1_at",
    "f1_max",
    "feature_scores",
    "frame_acoustics",
    "held_out_purity",
    "lexical_measures",
    "lexicality",
    "match_features",
    "more_than_control",
    "name_features",
    "necessity",
    "onset_measures",
    "onset_profiles",
    "partial_measures",
    "partial_selectivity",
    "pnmi",
    "probes",
    "purity",
    "reconstruction",
    "reconstruction_measures",
    "score_measures",
    "split_groups",
    "stability",
]
