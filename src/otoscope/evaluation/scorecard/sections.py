"""The sections of a scorecard: what each measures, on what, and which of its figures are shown first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from otoscope.activations import ActivationStore
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Dictionary
from otoscope.evaluation.absorption import absorption
from otoscope.evaluation.clustering import pnmi
from otoscope.evaluation.coverage import coverage
from otoscope.evaluation.feature_scores import feature_scores, score_measures
from otoscope.evaluation.frames import LabelledFrames
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.probes import KS, RAW, probes
from otoscope.evaluation.reconstruction import reconstruction_measures
from otoscope.evaluation.scorecard.card import TRAINED
from otoscope.evaluation.splice import splice_effect
from otoscope.evaluation.stability import stability
from otoscope.models import SpeechModel
from otoscope.models.edits import MeanSource
from otoscope.progress import ProgressReport

PROBED = ("phone", "manner", "place", "voicing", "height", "backness", "rounding")
CORE_KS = (1, 5, 20)
NAMED = ("phone", "manner", "place", "voicing", "word", "sound_class")


@dataclass(frozen=True)
class Parameters:
    """What decides the figures, besides the dictionary and the data."""

    full: bool = False
    """Everything on every clip, instead of the core set."""
    splice_clips: int | None = 120
    """Held-out clips that are heard with the reconstruction spliced in; None: all."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A subject of the scorecard with what is needed to measure it.

    Attributes:
        role: see `Subject`.
        dictionary: what is measured.
        store: the activations that it reads.
        voices: frames of all clips: labels are learned on the half that the dictionary was fitted on, and scored on the
            held-out clips.
        held_out: frames of the held-out clips alone.
        own_model: whether its activations are the model's own (not those of a copy with random weights).
    """

    role: str
    dictionary: Dictionary
    store: ActivationStore
    voices: LabelledFrames
    held_out: LabelledFrames
    own_model: bool = True


@dataclass(frozen=True, eq=False)
class Setting:
    """What all subjects share."""

    model: SpeechModel
    means: MeanSource
    corpus: Corpus
    held_out: Sequence[str]
    fit: Sequence[str]
    parameters: Parameters
    seeds: Sequence[Dictionary] = ()
    """The dictionary trained again from other seeds."""
    progress: bool | ProgressReport = False
    notes: list[str] = field(default_factory=list)

    def splice_clips(self) -> list[Clip]:
        """The held-out clips that are heard: evenly chosen, speech and other sounds alike."""
        clips = [self.corpus.get(clip_id) for clip_id in self.held_out]
        count = self.parameters.splice_clips
        if count is None or count >= len(clips):
            return clips
        return [clips[number * len(clips) // count] for number in range(count)]


@cache
def measuring_code() -> str:
    """A fingerprint of the source that decides figures: kept ones of other code are measured again."""
    files = [*sorted(Path(__file__).parents[1].glob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


Figures = Mapping[str, Sequence[Measure]]
"""Measures by the role of the subject they are about."""


@dataclass(frozen=True)
class Headline:
    """A figure that is shown first, all subjects side by side."""

    measure: str
    title: str
    of: Mapping[str, str] = field(default_factory=dict)
    better: str = "higher"
    """Whether "higher" or "lower" is better; "" where neither is."""
    note: str = ""
    """What else a reader must know."""
    zero: bool = True
    """Whether the plot begins at 0."""


@dataclass(frozen=True)
class Section:
    """A part of the scorecard.

    Attributes:
        name: in rows, files and on the command line.
        title, question: for people.
        measure: from the setting and some candidates to their figures.
        headlines: what is shown first.
        together: whether all candidates are measured in one go (else one by one, so that each can be resumed).
        core: whether it belongs to the core set.
        of_baselines: whether baselines are measured as well.
        needs_seeds: whether it needs further seeds of the dictionary.
        uses: the parameters that decide its figures.
        by_k: measures that are drawn over the `k` of what they belong to, with their titles.
        tables: for a key of what measures belong to (`class`), the measures of its table, with their titles.
    """

    name: str
    title: str
    question: str
    measure: Callable[[Setting, Sequence[Candidate]], Figures]
    headlines: tuple[Headline, ...]
    together: bool = False
    core: bool = True
    of_baselines: bool = True
    needs_seeds: bool = False
    uses: tuple[str, ...] = ()
    by_k: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _reconstruction(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    return {each.role: reconstruction_measures(each.dictionary, each.held_out) for each in candidates}


def _probes(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    kinds, ks = (PROBED, KS) if setting.parameters.full else (PROBED[:2], CORE_KS)
    found: dict[str, list[Measure]] = {}
    for each in candidates:
        if not set(kinds) & set(each.voices.labels):
            setting.notes.append("No probes: they need clips with a tier of phones")
            continue
        raw = each.role == TRAINED
        measured = probes(
            {each.role: each.dictionary}, each.voices, ks=ks, kinds=kinds, raw=raw, seed=setting.parameters.seed
        )
        for figure in measured:
            of = dict(figure.of or {})
            found.setdefault(of.pop("basis"), []).append(replace(figure, of=of))
    return found


def _coverage(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    return {each.role: _of_kinds(coverage, setting, each) for each in candidates}


def _clustering(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    return {each.role: _of_kinds(pnmi, setting, each) for each in candidates}


def _features(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    def measure(dictionary: Dictionary, frames: LabelledFrames, kind: str, *, seed: int) -> list[Measure]:
        return score_measures(feature_scores(dictionary, frames, kind, seed=seed), dictionary, frames)

    return {each.role: _of_kinds(measure, setting, each) for each in candidates}


def _of_kinds(measure: Callable[..., list[Measure]], setting: Setting, candidate: Candidate) -> list[Measure]:
    """A measurement for every kind of label that there is; phones alone in the core set."""
    known = [kind for kind in (NAMED if setting.parameters.full else NAMED[:1]) if kind in candidate.voices.labels]
    if not known:
        setting.notes.append("No phones: coverage, PNMI and feature scores need clips with a tier of phones")
    dictionary, seed = candidate.dictionary, setting.parameters.seed
    return [figure for kind in known for figure in measure(dictionary, candidate.voices, kind, seed=seed)]


def _absorption(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    return {each.role: absorption(each.dictionary, each.voices, seed=setting.parameters.seed) for each in candidates}


def _stability(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    own = candidates[0]
    return {own.role: stability([own.dictionary, *setting.seeds], own.held_out, seed=setting.parameters.seed)}


def _splice(setting: Setting, candidates: Sequence[Candidate]) -> Figures:
    own = {each.role: each.dictionary for each in candidates if each.own_model}
    clips = setting.splice_clips()
    effect = splice_effect(setting.model, own, clips, means=setting.means, progress=setting.progress)
    setting.notes.extend(effect.missing)
    found = {role: _unconditioned(effect.measures([role])) for role in own}
    for condition in effect.conditions:
        if condition not in own:
            found[condition] = _unconditioned(effect.measures([condition]))
    return found


def _unconditioned(measures: Sequence[Measure]) -> list[Measure]:
    """The same measures without `of`: in a scorecard the subject says which condition it was."""
    return [replace(measure, of=None) for measure in measures]


SPLICED: Mapping[str, tuple[str, bool]] = {
    "wer": ("WER", True),
    "delta_wer": ("Δ WER", True),
    "loss_recovered": ("recovered", True),
    "substitutions": ("substituted", True),
    "insertions": ("inserted", True),
    "deletions": ("deleted", True),
    "delta_cer": ("Δ CER", True),
    "ce": ("CE, nats", False),
    "kl": ("KL, nats", False),
    "words_per_sound": ("words per sound", False),
}
"""The columns of the table of splices, and whether they are shown in per cent."""

ABLATIONS: Mapping[str, str] = {"zero": "Site set to zero", "mean": "Site set to its mean"}
CONDITIONS: Mapping[str, str] = {RAW: "All activations", "none": "Unedited model", **ABLATIONS}
"""What figures are held against, beside the baselines: a dense probe of the site, and other ways to treat it."""

SECTIONS: Mapping[str, Section] = {
    section.name: section
    for section in (
        Section(
            "reconstruction",
            "Reconstruction",
            "How much of the held-out activations is rebuilt, and from how many features?",
            _reconstruction,
            (
                Headline("reconstruction.fvu", "Variance unexplained (FVU)", better="lower"),
                Headline("reconstruction.l0", "Active features per frame (L0)", better=""),
                Headline("reconstruction.dead_share", "Features active in no held-out frame", better="lower"),
            ),
            tables={
                "class": {
                    "reconstruction.fvu": "FVU",
                    "reconstruction.l0": "L0",
                    "reconstruction.cosine_centred": "cosine, centred",
                    "reconstruction.norm_ratio": "norm ratio",
                }
            },
        ),
        Section(
            "probes",
            "Probes",
            "How well do k features tell a class from other frames, in voices that the probe was not fitted on?",
            _probes,
            (
                Headline(
                    "probe.accuracy",
                    "Accuracy of 5-sparse probes of phones",
                    {"kind": "phone", "k": "5"},
                    note="Chance: 0.5.",
                    zero=False,
                ),
            ),
            uses=("full", "seed"),
            by_k={"probe.accuracy": "Accuracy of k-sparse probes of phones"},
        ),
        Section(
            "coverage",
            "Coverage",
            "In how many frames does a feature that is named after a phone say the right one, beyond chance?",
            _coverage,
            (
                Headline(
                    "coverage.any.above_chance",
                    "Some active feature names the phone, minus chance",
                    {"kind": "phone"},
                    note="Chance: the same names, labels shifted within clips.",
                ),
                Headline(
                    "coverage.strongest.above_chance",
                    "The strongest names the phone, minus chance",
                    {"kind": "phone"},
                ),
                Headline("coverage.named_classes", "Phones with a confirmed feature", {"kind": "phone"}),
            ),
            uses=("full", "seed"),
            tables={
                "kind": {
                    "coverage.any": "any names it",
                    "coverage.any.chance": "by chance",
                    "coverage.strongest": "the strongest does",
                    "coverage.strongest.chance": "by chance",
                    "coverage.named_features": "confirmed features",
                    "coverage.named_features.chance": "by chance",
                    "coverage.named_classes": "classes named",
                }
            },
        ),
        Section(
            "clustering",
            "Phones as clusters (PNMI)",
            "How much of a frame's phone does its strongest feature tell?",
            _clustering,
            (
                Headline(
                    "clustering.pnmi",
                    "Phone-normalised mutual information",
                    {"kind": "phone", "strength": "relative"},
                    note="Grows with the number of features.",
                ),
            ),
            uses=("full", "seed"),
        ),
        Section(
            "features",
            "Single features",
            "How well does the best feature of each class detect it, and how pure are features?",
            _features,
            (
                Headline("features.best_f1", "F1 of the best feature, mean over phones", {"kind": "phone"}),
                Headline("features.purity", "Purity, median over features", {"kind": "phone"}),
            ),
            uses=("full", "seed"),
        ),
        Section(
            "absorption",
            "Absorption",
            "How often is the feature of a class silent because a more special one took its place?",
            _absorption,
            (Headline("absorption.fraction", "Absorbed share of the class", better="lower"),),
            uses=("seed",),
        ),
        Section(
            "stability",
            "Stability over seeds",
            "How many features are found again when training starts from another seed?",
            _stability,
            (Headline("stability.share", "Features found again"), Headline("stability.share.chance", "By chance")),
            of_baselines=False,
            needs_seeds=True,
            uses=("seed",),
            tables={
                "pair": {"stability.share": "found again", "stability.cosine": "cosine", "stability.iou": "overlap"}
            },
        ),
        Section(
            "splice",
            "Splice",
            "What does the model still write when the reconstruction takes the place of the activations?",
            _splice,
            (
                Headline("splice.delta_wer", "Change of word error rate", better="lower"),
                Headline("splice.loss_recovered", "Loss recovered", zero=False),
                Headline("splice.kl", "KL from the unedited model, nats", better="lower"),
            ),
            together=True,
            uses=("splice_clips",),
        ),
    )
}
"""By name, in the order of the page."""
