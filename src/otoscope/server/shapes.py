"""What the API says: the JSON objects of its answers and requests. Seconds end in `_s`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """The model of the workspace."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    n_mels: int
    window_s: float
    vocabulary: int
    device: str
    sites: list[str]


class AtlasSummary(BaseModel):
    """One atlas at a glance."""

    name: str
    site: str
    kind: str
    corpus: str
    n_features: int
    n_alive: int
    n_labelled: int
    n_frames: int
    n_clips: int


class CorpusSummary(BaseModel):
    """One corpus at a glance."""

    name: str
    n_clips: int
    duration_s: float
    n_speakers: int
    tiers: list[str]


class LabelCount(BaseModel):
    """A sound that features are named after."""

    label: str
    kind: str
    n_features: int
    best_f1: float | None


class Overview(BaseModel):
    """Everything the home page shows."""

    workspace: str
    version: str
    model: Model
    atlases: list[AtlasSummary]
    corpora: list[CorpusSummary]
    labels: list[LabelCount]
    natures: list[str]
    statistics: list[str]
    max_upload_bytes: int


class FeatureRow(BaseModel):
    """One line of the feature table; `label` is what was searched for, or what the feature detects best."""

    atlas: str
    index: int
    unit: str
    label: str | None
    label_kind: str | None
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    ap: float | None
    density: float
    max: float
    dead: bool
    histogram: list[int]
    sentence: str | None
    nature: str | None


class Facet(BaseModel):
    """How many of the features found share a value; labels also have a kind."""

    value: str
    kind: str | None
    count: int


class FeaturePage(BaseModel):
    """Some lines of the feature table; `sorted_by` has the statistic that decided their order, where it is one,
    `found_by` what told of each with the words that were looked for ("people's notes", "supported explanations"),
    `note` says how the query was understood, `facets` what all lines are."""

    total: int
    offset: int
    rows: list[FeatureRow]
    sorted_by: list[float | None]
    found_by: list[list[str]]
    note: str | None
    facets: dict[str, list[Facet]]


class LabelScore(BaseModel):
    """How well a feature detects one sound."""

    label: str
    kind: str
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    ap: float | None
    auroc: float | None
    chance: float | None
    p_value: float | None
    precision: float | None
    recall: float | None


class IntervalView(BaseModel):
    """A labelled span of a clip."""

    start_s: float
    end_s: float
    label: str


class ClipView(BaseModel):
    """A clip without its sound; `version` belongs into the URLs of its sound, mel and lanes."""

    id: str
    corpus: str
    version: str
    title: str
    duration_s: float
    text: str | None
    speaker: str | None
    language: str | None
    attributes: dict[str, str]
    tiers: dict[str, list[IntervalView]]


class ExampleView(BaseModel):
    """A moment at which a feature fires, and the clip it lies in."""

    clip: ClipView
    time_s: float
    value: float
    decile: int | None


class Histogram(BaseModel):
    """Counts of active frames between consecutive edges."""

    edges: list[float]
    counts: list[int]


class BandScore(BaseModel):
    """What a feature detects while its value is above `low` and at most `high` (absent: any); several labels are a
    union, which one threshold finds better together than one by one."""

    labels: list[str]
    kind: str
    low: float
    high: float | None
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    chance: float | None
    precision: float | None
    recall: float | None


class Stack(BaseModel):
    """Counts of active frames of one class between consecutive edges of the histogram; no label: all the rest."""

    label: str | None
    kind: str | None
    counts: list[int]


class FeatureName(BaseModel):
    """A feature as a link says it."""

    atlas: str
    index: int
    unit: str
    label: str | None
    label_kind: str | None


class Related(BaseModel):
    """A feature that goes with another one: by the cosine of their directions, or because they fire together."""

    feature: FeatureName
    value: float
    share: float | None


class Acoustic(BaseModel):
    """How a feature follows an acoustic measure of its frames: correlation with its 95 % interval, and given the other
    measures."""

    name: str
    correlation: float
    low: float | None
    high: float | None
    partial: float | None


class FeatureView(BaseModel):
    """Everything the feature page shows; what the atlas does not have is empty."""

    row: FeatureRow
    site: str
    kind: str
    corpus: str
    n_frames: int
    n_features: int
    mean: float | None
    opposite: int | None
    previous: int | None
    next: int | None
    labels: list[LabelScore]
    bands: list[BandScore]
    unions: list[BandScore]
    label_share: float
    histogram: Histogram
    opposite_histogram: Histogram | None
    profile: list[int]
    neighbours: list[Related]
    cofiring: list[Related]
    acoustics: list[Acoustic]
    examples: dict[str, list[ExampleView]]


class MatchView(BaseModel):
    """The most similar feature of another atlas, over the clips that both have: correlation of values, shared active
    frames (iou), cosine of directions where both read one place, and whether each is the other's best match."""

    feature: FeatureName
    score: float
    correlation: float
    iou: float
    cosine: float | None
    mutual: bool


class RegionFeatureView(BaseModel):
    """A feature in a region of a clip: in how many of its frames it exceeds `above`, and how much more often than
    elsewhere; `score` is the evidence for that in nats."""

    feature: FeatureRow
    frames: int
    share: float
    density: float
    lift: float
    above: float
    score: float
    q_value: float
    max: float
    peak_time_s: float


class RegionView(BaseModel):
    """What fires in a region of a clip more than elsewhere, best first."""

    atlas: str
    start_s: float
    end_s: float
    n_frames: int
    features: list[RegionFeatureView]


class MomentView(BaseModel):
    """A stretch of a clip: with the value reached there, or how similar it is and which features say so."""

    clip: ClipView
    start_s: float
    end_s: float
    time_s: float
    value: float | None
    similarity: float | None
    shared: list[FeatureName]


class MomentPage(BaseModel):
    """Some of the moments that were asked for, and how many frames, clips and moments there are in all. Dense
    dictionaries keep only values above `complete_from`."""

    n_frames: int
    n_clips: int
    n_moments: int
    complete_from: float
    offset: int
    moments: list[MomentView]


class ClipPage(BaseModel):
    """Some clips of a corpus."""

    total: int
    offset: int
    clips: list[ClipView]


class TokenView(BaseModel):
    """A token of a transcript and its natural-log probability."""

    id: int
    text: str
    log_prob: float


class TranscriptView(BaseModel):
    """What the model hears in a clip."""

    text: str
    language: str | None
    tokens: list[TokenView]
    avg_log_prob: float | None
    no_speech_prob: float | None


class EditItem(BaseModel):
    """One intervention: on a feature (`ATLAS:INDEX`), or on a site as a whole or some of its units."""

    model_config = ConfigDict(extra="forbid")

    feature: str | None = Field(None, max_length=200, examples=["sae-2:30"])
    site: str | None = Field(None, max_length=200, examples=["encoder.2.mlp.post"])
    units: list[int] | None = Field(None, max_length=4096)
    op: Literal["zero", "scale", "add", "clamp"]
    value: float = Field(0.0, ge=-1e6, le=1e6, allow_inf_nan=False)
    time_s: tuple[float, float] | None = None


class EditRequest(BaseModel):
    """Transcribe a clip with and without some edits."""

    model_config = ConfigDict(extra="forbid")

    clip: str = Field(max_length=500)
    corpus: str | None = Field(None, max_length=200)
    edits: list[EditItem] = Field(max_length=32)


class WordChange(BaseModel):
    """A piece of the word-level difference between two transcripts."""

    change: Literal["same", "replaced", "removed", "added"]
    base: list[str]
    edited: list[str]


class TokenChange(BaseModel):
    """A token of the unedited transcript: its log-probability without and with the edits, the same text forced."""

    text: str
    log_prob: float
    edited_log_prob: float
    delta: float


class EditView(BaseModel):
    """What the model hears without and with the edits."""

    base: TranscriptView
    edited: TranscriptView
    words: list[WordChange]
    tokens: list[TokenChange]


class Problem(BaseModel):
    """One sentence that says what went wrong and what to do."""

    error: str
