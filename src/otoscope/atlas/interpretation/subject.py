"""A feature on its way up the ladder: its card, its trial, and the two rungs that need no language model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from otoscope.atlas.interpretation.card import make_card
from otoscope.atlas.interpretation.descriptors import named, sentence
from otoscope.atlas.interpretation.detection import Judged, scorable, score
from otoscope.atlas.interpretation.evidence import MIN_EVENTS, Evidence, Trial
from otoscope.atlas.interpretation.exchanges import Usage
from otoscope.atlas.interpretation.prompts import Explanation
from otoscope.atlas.interpretation.results import LABEL, SOUND, Interpretation, Rung
from otoscope.atlas.interpretation.rules import CarriesClass, LabelledMoments, Rule, sounds_like
from otoscope.atlas.labels.sentences import name as class_name
from otoscope.errors import InputError

TOO_FEW = f"active fewer than {MIN_EVENTS} times in the voices that are tried on"


@dataclass(frozen=True)
class Trials:
    """How explanations are tried.

    Attributes:
        n_active, n_silent: held-out moments of the feature itself.
        n_null: random features on whose moments rules are tried; `n_null_asked`: the same for a language model.
        n_part: active moments, and as many silent ones, of each of those that a language model reads.
        per_question: moments in one question.
    """

    n_active: int = 20
    n_silent: int = 20
    n_null: int = 8
    n_null_asked: int = 2
    n_part: int = 10
    per_question: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")


@dataclass(eq=False)
class Subject:
    """A feature on its way up the ladder: what is known of it so far; `card` is empty where it has none."""

    feature: int
    address: str
    card: str = ""
    note: str = ""
    trial: Trial | None = None
    rules: dict[int, Rule | None] = field(default_factory=dict)
    rungs: dict[int, Rung] = field(default_factory=dict)
    explanation: Explanation | None = None
    usage: Usage = field(default_factory=Usage)

    def interpretation(self) -> Interpretation:
        """Return the rungs that it has reached."""
        rungs = tuple(self.rungs[number] for number in sorted(self.rungs))
        return Interpretation(self.feature, self.address, rungs, self.card, self.note)


def too_seldom(evidence: Evidence) -> str:
    """Say why a feature has no card."""
    if evidence.world.frames.atlas[evidence.feature].stats["dead"]:
        return "it is dead, active in no frame of the corpus"
    return f"it is active fewer than {MIN_EVENTS} times in the voices that cards are made of"


def prepared(evidence: Evidence, labelled: LabelledMoments, trials: Trials) -> Subject:
    """Make the card, the trial and the rules of a feature."""
    subject = Subject(evidence.feature, evidence.world.frames.atlas[evidence.feature].address)
    if not evidence.enough:
        subject.note = too_seldom(evidence)
        return subject
    subject.card = make_card(evidence).to_markdown()
    subject.trial = trial_of(evidence, trials)
    subject.rungs[1], subject.rules[1] = _label_rung(evidence, labelled)
    subject.rungs[2], subject.rules[2] = _sound_rung(evidence)
    return subject


def trial_of(evidence: Evidence, trials: Trials) -> Trial | None:
    """Return the moments on which a feature's explanations are tried; None where there are too few."""
    if not evidence.triable:
        return None
    trial = evidence.trial(trials.n_active, trials.n_silent)
    return trial if scorable(trial) else None


def _label_rung(evidence: Evidence, labelled: LabelledMoments) -> tuple[Rung, Rule | None]:
    stats = evidence.world.frames.atlas[evidence.feature].stats
    label, kind = stats.get("label"), stats.get("label_kind")
    if not label or not kind:
        return Rung(1, LABEL, "", "", note="it detects no class better than chance"), None
    said = class_name(kind, [label])
    rung = Rung(1, LABEL, said, f"Active at {said}.")
    if kind not in labelled.kinds:
        return replace(rung, note=f"labels of kind {kind!r} cannot be tried by rule"), None
    if labelled.kinds[kind].within_speakers:
        return replace(rung, note="who speaks cannot be tried on other speakers"), None
    return rung, CarriesClass(labelled, kind, label)


def _sound_rung(evidence: Evidence) -> tuple[Rung, Rule | None]:
    comparison = evidence.comparison
    if comparison is None:
        return Rung(2, SOUND, "", "", note="too few silent moments to compare with"), None
    text = sentence(comparison.descriptors)
    if not text:
        return Rung(2, SOUND, "", "", note="its moments sound like others of the same clips"), None
    name = ", ".join(each.fragment for each in named(comparison.descriptors)[:2])
    explanation = f"Beside silent moments of the same clips, its moments are or have: {text}."
    return Rung(2, SOUND, name, explanation), sounds_like(comparison.descriptors, comparison.active, comparison.silent)


def others_of(null: dict[int, Trial], feature: int, count: int) -> list[Trial]:
    """Return the trials of so many other features."""
    return [trial for other, trial in null.items() if other != feature][:count]


def try_rules(subjects: list[Subject], null: dict[int, Trial], trials: Trials, seed: int) -> None:
    """Score rungs 1 and 2."""
    for number in (1, 2):
        able = [each for each in subjects if each.rules.get(number) is not None]
        for place, each in enumerate(able):
            rule, other = each.rules[number], able[(place + 1) % len(able)].rules[number]
            assert rule is not None
            assert other is not None
            if each.trial is None:
                each.rungs[number] = replace(each.rungs[number], note=TOO_FEW)
                continue
            shuffled = _by_rule(other, each.trial) if len(able) > 1 else None
            nulls = [_by_rule(rule, trial) for trial in others_of(null, each.feature, trials.n_null)]
            fits = _by_rule(rule, each.trial)[1]
            each.rungs[number] = replace(each.rungs[number], score=score(each.trial, fits, nulls, shuffled, seed))


def _by_rule(rule: Rule, trial: Trial) -> Judged:
    return trial.active, rule(trial.moments, trial.measures)
