"""What an unfinished run has found of each feature, on disk as it goes, so that a killed one goes on where it was.

`<dictionary>.unfinished.jsonl`: a line that says which run, then a line per feature: its card, its trial and what rungs
1 and 2 say, before they are tried (they are tried beside each other, which takes no time). Gone when the run has ended.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.atlas.interpretation.evidence import Evidence, Trial, World
from otoscope.atlas.interpretation.moments import Moment
from otoscope.atlas.interpretation.results import Rung, json_line
from otoscope.atlas.interpretation.rules import CarriesClass, LabelledMoments, Rule, SoundsLike
from otoscope.atlas.interpretation.sampling import Bools
from otoscope.atlas.interpretation.subject import Subject, Trials, prepared, trial_of
from otoscope.storage import plain_os_errors

FORMAT, VERSION = "otoscope-unfinished-interpretations", 1
_SECONDS = ("passed_s", "phone_s")
"""What of a moment may be unknown, NaN."""


class Unfinished:
    """Prepares features, and remembers what it has prepared: on disk where a path is given.

    A file that another run left (another atlas, seed, trial or version of this program) or that cannot be read is
    begun anew: it holds nothing that cannot be found again.
    """

    def __init__(
        self, path: Path | None, about: dict[str, Any], labelled: LabelledMoments, trials: Trials, seed: int
    ) -> None:
        from otoscope import __version__

        self.path, self.labelled, self.trials = path, labelled, trials
        self._subjects: dict[int, Subject] = {}
        self._trials: dict[int, Trial | None] = {}
        self._head: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "program": __version__,
            "seed": seed,
            "trials": asdict(trials),
            **about,
        }
        if path is not None and path.exists():
            self._resume(path)

    def __contains__(self, feature: int) -> bool:
        return feature in self._subjects

    def subject(self, world: World, feature: int) -> Subject:
        """Return a feature with its card, trial and rules.

        Raises:
            InputError: a clip cannot be decoded.
            OtoscopeError: the file cannot be written.
        """
        if feature not in self._subjects:
            found = self._subjects[feature] = prepared(Evidence(world, feature), self.labelled, self.trials)
            self._trials[feature] = found.trial
            self._append(_of_subject(found))
        return self._subjects[feature]

    def trial(self, world: World, feature: int) -> Trial | None:
        """Return the trial of a feature; None where there is too little for a card or a trial.

        Raises:
            InputError: a clip cannot be decoded.
            OtoscopeError: the file cannot be written.
        """
        if feature not in self._trials:
            evidence = Evidence(world, feature)
            found = self._trials[feature] = trial_of(evidence, self.trials) if evidence.enough else None
            self._append({"feature": feature, "trial": _of_trial(found)})
        return self._trials[feature]

    def ended(self) -> None:
        """Remove the file."""
        if self.path is not None:
            with plain_os_errors(self.path):
                self.path.unlink(missing_ok=True)

    def _append(self, row: dict[str, Any]) -> None:
        """Add a line, on disk before this returns."""
        if self.path is None:
            return
        with plain_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                head = json_line(self._head) if file.tell() == 0 else ""
                file.write((head + json_line(row)).encode())
                file.flush()
                os.fsync(file.fileno())

    def _resume(self, path: Path) -> None:
        """Read the file; what a crash cut off is dropped."""
        with plain_os_errors(path):
            whole = path.read_bytes()
            whole = whole[: whole.rfind(b"\n") + 1]
            try:
                head, *rows = [json.loads(line) for line in whole.split(b"\n") if line]
                if head == self._head:
                    for row in rows:
                        self._restore(row)
            except (ValueError, LookupError, TypeError, AttributeError):
                self._subjects, self._trials = {}, {}
            os.truncate(path, len(whole) if self._trials else 0)

    def _restore(self, row: dict[str, Any]) -> None:
        feature, trial = int(row["feature"]), _trial(row["trial"])
        self._trials[feature] = trial
        if "address" not in row:
            return
        subject = Subject(feature, row["address"], row["card"], row["note"], trial)
        for each in row["rungs"]:
            rung = Rung(**each)
            subject.rungs[rung.rung] = rung
        for number, rule in zip(subject.rungs, row["rules"], strict=True):
            subject.rules[number] = _rule(rule, self.labelled)
        self._subjects[feature] = subject


def _of_subject(subject: Subject) -> dict[str, Any]:
    return {
        "feature": subject.feature,
        "address": subject.address,
        "card": subject.card,
        "note": subject.note,
        "trial": _of_trial(subject.trial),
        "rungs": [asdict(rung) for rung in subject.rungs.values()],
        "rules": [_of_rule(subject.rules[number]) for number in subject.rungs],
    }


def _of_rule(rule: Rule | None) -> dict[str, Any] | None:
    if isinstance(rule, CarriesClass):
        return {"kind": rule.kind, "label": rule.label}
    return asdict(rule) if isinstance(rule, SoundsLike) else None


def _rule(value: dict[str, Any] | None, labelled: LabelledMoments) -> Rule | None:
    if value is None:
        return None
    if "kind" in value:
        return CarriesClass(labelled, value["kind"], value["label"])
    return SoundsLike(**_with_tuples(value))


def _of_trial(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    moments = [asdict(each) for each in trial.moments]
    for each in moments:
        each.update({name: _known(each[name]) for name in _SECONDS})
    return {
        "moments": moments,
        "active": trial.active.tolist(),
        "near": trial.near.tolist(),
        "measures": [[_known(value) for value in row] for row in trial.measures.tolist()],
    }


def _trial(value: dict[str, Any] | None) -> Trial | None:
    if value is None:
        return None
    moments = []
    for each in value["moments"]:
        moments.append(Moment(**_with_tuples(each) | {name: _number(each[name]) for name in _SECONDS}))
    measures = np.array([[_number(item) for item in row] for row in value["measures"]], dtype=np.float64)
    return Trial(moments, _flags(value["active"]), _flags(value["near"]), measures)


def _with_tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}


def _flags(values: list[bool]) -> Bools:
    return np.array(values, dtype=np.bool_)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
