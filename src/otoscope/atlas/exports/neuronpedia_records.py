"""The records of Neuronpedia's files, under its names, and what it asks about who publishes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from otoscope.errors import InputError, OtoscopeError


@dataclass(frozen=True)
class FeatureRecord:
    """One line of `features/batch-N.jsonl.gz`, under Neuronpedia's names."""

    modelId: str  # noqa: N815
    layer: str
    index: str
    creatorId: str  # noqa: N815
    createdAt: str  # noqa: N815
    maxActApprox: float  # noqa: N815
    hookName: str  # noqa: N815
    hasVector: bool  # noqa: N815
    vector: list[float]
    vectorDefaultSteerStrength: float  # noqa: N815
    topkCosSimIndices: list[int]  # noqa: N815
    topkCosSimValues: list[float]  # noqa: N815
    pos_str: list[str]
    pos_values: list[float]
    frac_nonzero: float
    freq_hist_data_bar_heights: list[float]
    freq_hist_data_bar_values: list[float]
    vectorLabel: str | None = None  # noqa: N815
    neg_str: list[str] = field(default_factory=list)
    neg_values: list[float] = field(default_factory=list)
    neuron_alignment_indices: list[int] = field(default_factory=list)
    neuron_alignment_values: list[float] = field(default_factory=list)
    neuron_alignment_l1: list[float] = field(default_factory=list)
    correlated_neurons_indices: list[int] = field(default_factory=list)
    correlated_neurons_pearson: list[float] = field(default_factory=list)
    correlated_neurons_l1: list[float] = field(default_factory=list)
    correlated_features_indices: list[int] = field(default_factory=list)
    correlated_features_pearson: list[float] = field(default_factory=list)
    correlated_features_l1: list[float] = field(default_factory=list)
    logits_hist_data_bar_heights: list[float] = field(default_factory=list)
    logits_hist_data_bar_values: list[float] = field(default_factory=list)
    decoder_weights_dist: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class ActivationRecord:
    """One line of `activations/batch-N.jsonl.gz`, under Neuronpedia's names."""

    id: str
    modelId: str  # noqa: N815
    layer: str
    index: str
    creatorId: str  # noqa: N815
    createdAt: str  # noqa: N815
    tokens: list[str]
    values: list[float]
    maxValue: float  # noqa: N815
    maxValueTokenIndex: int  # noqa: N815
    minValue: float  # noqa: N815
    dataSource: str  # noqa: N815
    dataIndex: str  # noqa: N815
    binMin: float  # noqa: N815
    binMax: float  # noqa: N815
    binContains: float  # noqa: N815
    qualifyingTokenIndex: int  # noqa: N815
    dfaValues: list[float] = field(default_factory=list)  # noqa: N815
    dfaTargetIndex: int | None = None  # noqa: N815
    dfaMaxValue: float | None = None  # noqa: N815
    lossValues: list[float] = field(default_factory=list)  # noqa: N815
    logitContributions: str | None = None  # noqa: N815


@dataclass(frozen=True)
class ExplanationRecord:
    """One line of `explanations/batch-N.jsonl.gz`, under Neuronpedia's names. No model wrote it, so none is named."""

    id: str
    modelId: str  # noqa: N815
    layer: str
    index: str
    description: str
    authorId: str  # noqa: N815
    createdAt: str  # noqa: N815
    embedding: list[float] | None = None
    triggeredById: str | None = None  # noqa: N815
    typeName: str | None = None  # noqa: N815
    explanationModelName: str | None = None  # noqa: N815
    notes: str | None = "Made from scores on held-out voices, without a language model."


@dataclass(frozen=True)
class Publication:
    """What Neuronpedia asks about who publishes what.

    Attributes:
        set_name: of the source set, in letters, digits, dashes; its pages are called `<layer>-<set>`.
        release: id of the release, likewise.
        title: of the release.
        creator: who made it.
        creator_id: of the account on Neuronpedia.
        urls: of a paper, say.
        created_at: the time that all records carry.
    """

    set_name: str
    release: str = "otoscope"
    title: str = "Speech dictionaries made with Otoscope"
    creator: str = "Otoscope"
    creator_id: str = "otoscope"
    urls: tuple[str, ...] = ()
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        for what, text in (("set_name", self.set_name), ("release", self.release)):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
                raise InputError(f"{what} must be letters, digits and dashes, as in 'sae-1k', got {text!r}.")


def rounded(value: Any) -> float:
    """A figure with six significant digits; Neuronpedia has no place for what is not finite."""
    number = float(value)
    if not math.isfinite(number):
        raise OtoscopeError(f"A figure of the atlas is {number}, which Neuronpedia cannot show; build the atlas again.")
    return float(f"{number:.6g}")
