"""Making a scorecard: baselines, then every section, each saved as soon as it is done and reused ever after."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import otoscope
from otoscope.activations import ActivationStore
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.evaluation.frames import LabelledFrames
from otoscope.evaluation.scorecard.baselines import BASELINES, Recipe, check_baselines, further_seeds
from otoscope.evaluation.scorecard.card import TRAINED, Row, Scorecard, Subject
from otoscope.evaluation.scorecard.sections import (
    CONDITIONS,
    SECTIONS,
    Candidate,
    Parameters,
    Section,
    Setting,
    measuring_code,
)
from otoscope.models import SpeechModel
from otoscope.progress import ProgressReport, track
from otoscope.storage import read_json, write_json

FORMAT, VERSION = "otoscope-scorecard-section", 1
CACHE = ".baselines"


def evaluate(
    dictionary: Dictionary,
    store: ActivationStore,
    model: SpeechModel,
    corpus: Corpus,
    *,
    held_out: Collection[str] | None = None,
    baselines: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    seeds: int | Sequence[Dictionary] = 0,
    parameters: Parameters | None = None,
    to: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool | ProgressReport = True,
) -> Scorecard:
    """Measure everything about a dictionary, beside the baselines that it has to beat.

    With `to`, every section is saved when it is done; the same call goes on after an interruption and measures again
    only what has changed.

    Args:
        dictionary: what is evaluated; it should not have seen the held-out clips.
        store: activations of its site over the corpus.
        model: what they come from.
        corpus: clips with texts and tiers, as many as there are.
        held_out: ids of the clips that figures are measured on; None: all, which flatters what was trained on them.
        baselines: names from `BASELINES`; None: all.
        sections: names from `SECTIONS`; None: those of the core set, or all where `parameters.full`.
        seeds: how many more dictionaries to train from other seeds for stability (2 or more), or those themselves.
        parameters: what decides the figures.
        to: folder of the scorecard: `scorecard.json`, `.parquet` and `.html`.
        cache: folder where trained baselines are kept; None: beside `to`, for all scorecards there.
        progress: True for bars, False for silence, or a function to report to.

    Raises:
        InputError: unknown section, baseline or clip, or a store that does not fit the dictionary.
    """
    parameters = parameters or Parameters()
    _check(dictionary, store, corpus, held_out)
    chosen = _chosen(sections, parameters, seeds)
    names = tuple(BASELINES) if baselines is None else check_baselines(baselines)
    with _cache_folder(to, cache) as kept:
        work = _Work(dictionary, store, model, corpus, held_out, parameters, kept, progress)
        candidates = [work.candidate(TRAINED, dictionary, store), *work.baselines(names)]
        others = work.seeds(seeds) if any(section.needs_seeds for section in chosen) else []
        setting = work.setting(others)
        folder = None if to is None else Path(to)
        pieces = [piece for section in chosen for piece in _pieces(section, candidates, setting, folder)]
        for piece in pieces:
            piece.measure(setting)
        card = work.card(candidates, pieces, others)
    if folder is not None:
        card.save(folder)
    return card


@dataclass(frozen=True)
class Took:
    """How long something took: on the clock, and of this process's processor time (all threads)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def until_now(cls) -> Took:
        """Return the readings of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Took) -> Took:
        """Return what went by since `start`."""
        return Took(round(self.seconds - start.seconds, 3), round(self.cpu_seconds - start.cpu_seconds, 3))

    def __add__(self, other: Took) -> Took:
        return Took(round(self.seconds + other.seconds, 3), round(self.cpu_seconds + other.cpu_seconds, 3))


@dataclass
class _Piece:
    """One section for some candidates, as it is measured and saved."""

    section: Section
    candidates: Sequence[Candidate]
    key: str
    path: Path | None
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    took: Took = field(default_factory=lambda: Took())

    def measure(self, setting: Setting) -> None:
        """Take the figures from the file of an earlier run, or measure and save them."""
        if self._reuse():
            return
        roles = ", ".join(each.role for each in self.candidates)
        start = Took.until_now()
        notes: list[str] = []
        if self.section.together:
            figures = self.section.measure(replace(setting, notes=notes), self.candidates)
        else:
            with track(f"{self.section.name} {roles}", 1, setting.progress, unit="parts") as advance:
                figures = self.section.measure(replace(setting, notes=notes), self.candidates)
                advance(1)
        self.rows = [Row(self.section.name, role, figure) for role, found in figures.items() for figure in found]
        self.notes, self.took = notes, Took.until_now().since(start)
        if self.path is not None:
            head = {"format": FORMAT, "version": VERSION, "key": self.key, **asdict(self.took)}
            write_json(self.path, {**head, "notes": notes, "rows": [row.to_json() for row in self.rows]})

    def _reuse(self) -> bool:
        if self.path is None or not self.path.is_file():
            return False
        try:
            kept = read_json(self.path, format=FORMAT, version=VERSION)
        except OtoscopeError:
            return False
        if kept["key"] != self.key:
            return False
        self.rows = [Row.from_json(row) for row in kept["rows"]]
        self.notes, self.took = list(kept["notes"]), Took(float(kept["seconds"]), float(kept["cpu_seconds"]))
        return True


def _pieces(
    section: Section, candidates: Sequence[Candidate], setting: Setting, folder: Path | None
) -> Iterator[_Piece]:
    measured = [each for each in candidates if section.of_baselines or each.role == TRAINED]
    for group in [measured] if section.together else [[each] for each in measured]:
        given = asdict(setting.parameters)
        made_from = {
            "code": measuring_code(),
            "section": section.name,
            "subjects": [[each.role, each.dictionary.fingerprint, each.store.fingerprint] for each in group],
            "corpus": setting.corpus.fingerprint,
            "held_out": sorted(setting.held_out),
            "fit": sorted(setting.fit),
            "model": setting.model.weights_hash,
            "seeds": [each.fingerprint for each in setting.seeds] if section.needs_seeds else [],
            "parameters": {name: given[name] for name in section.uses},
        }
        role = "all" if section.together else group[0].role
        path = None if folder is None else folder / "sections" / f"{section.name}.{role}.json"
        yield _Piece(section, group, _digest(made_from), path)


class _Work:
    """What making one scorecard needs to know."""

    def __init__(
        self,
        dictionary: Dictionary,
        store: ActivationStore,
        model: SpeechModel,
        corpus: Corpus,
        held_out: Collection[str] | None,
        parameters: Parameters,
        cache: Path,
        progress: bool | ProgressReport,
    ) -> None:
        self.dictionary, self.store, self.model, self.corpus = dictionary, store, model, corpus
        self.parameters, self.progress = parameters, progress
        clips = [clip.clip_id for clip in corpus if clip.clip_id in store.clips]
        away = set(clips if held_out is None else held_out)
        self.held_out = [clip for clip in clips if clip in away]
        self.fit = [clip for clip in clips if clip not in away] or clips
        self.took: dict[str, Took] = {}
        self.notes: list[str] = []
        self.frames: dict[str, tuple[LabelledFrames, LabelledFrames]] = {}
        active = getattr(dictionary, "k", None) or _active(dictionary, store, self.fit)
        self.recipe = Recipe(dictionary, store, model, corpus, self.fit, active, parameters.seed, cache, progress)

    def candidate(self, role: str, dictionary: Dictionary, store: ActivationStore) -> Candidate:
        """Return a subject with its labelled frames."""
        known = store.fingerprint
        if known not in self.frames:
            test = None if self.held_out == self.fit else self.held_out
            every, seed = list(dict.fromkeys([*self.fit, *self.held_out])), self.parameters.seed
            voices = LabelledFrames.of(store, self.corpus, every, test=test, seed=seed)
            self.frames[known] = voices, LabelledFrames.of(store, self.corpus, self.held_out, seed=seed)
        voices, held_out = self.frames[known]
        return Candidate(role, dictionary, store, voices, held_out, own_model=store is self.store)

    def baselines(self, names: Sequence[str]) -> list[Candidate]:
        """Make the baselines, or take those that were kept."""
        plain = len(self.dictionary.sites) == 1 and self.dictionary.target_site == self.dictionary.site
        if names and not plain:
            self.notes.append("No baselines: they are made for dictionaries that rebuild the one site they read")
            return []
        found = []
        for name in names:
            start = Took.until_now()
            made = BASELINES[name].make(self.recipe)
            self.took[f"baseline {name}"] = Took.until_now().since(start)
            found.append(self.candidate(name, made.dictionary, made.store))
        return found

    def seeds(self, seeds: int | Sequence[Dictionary]) -> list[Dictionary]:
        """Train the dictionary from other seeds, or take those given."""
        start = Took.until_now()
        found = further_seeds(self.recipe, seeds) if isinstance(seeds, int) else list(seeds)
        self.took["further seeds"] = Took.until_now().since(start)
        return found

    def setting(self, seeds: Sequence[Dictionary]) -> Setting:
        """Return what all subjects share."""
        return Setting(
            self.model, self.store, self.corpus, self.held_out, self.fit, self.parameters, tuple(seeds), self.progress
        )

    def card(self, candidates: Sequence[Candidate], pieces: Sequence[_Piece], seeds: Sequence[Dictionary]) -> Scorecard:
        """Put the scorecard together."""
        rows = tuple(row for piece in pieces for row in piece.rows)
        present = {row.subject for row in rows}
        subjects = [Subject(TRAINED, self.dictionary.name)]
        subjects += [Subject(each.role, BASELINES[each.role].title) for each in candidates[1:]]
        subjects += [Subject(role, title) for role, title in CONDITIONS.items() if role in present]
        took = dict(self.took)
        for piece in pieces:
            took[piece.section.name] = took.get(piece.section.name, Took()) + piece.took
        notes = [*self.notes, *_seen_before(self.dictionary, self.fit), *(n for piece in pieces for n in piece.notes)]
        provenance = self._provenance(candidates, seeds, took)
        return Scorecard(rows, tuple(subjects), provenance, tuple(dict.fromkeys(notes)))

    def _provenance(
        self, candidates: Sequence[Candidate], seeds: Sequence[Dictionary], took: Mapping[str, Took]
    ) -> dict[str, Any]:
        own = self.dictionary
        frames = candidates[0].held_out
        return {
            "model": {"name": self.model.name, "weights_hash": self.model.weights_hash},
            "corpus": {"name": self.corpus.name, "fingerprint": self.corpus.fingerprint, "clips": len(self.corpus)},
            "store": {"fingerprint": self.store.fingerprint, "frames": self.store.n_frames},
            "dictionary": {
                "name": own.name,
                "kind": own.kind,
                "site": own.site,
                "n_features": own.n_features,
                "fingerprint": own.fingerprint,
                "training": own.metadata.get("training"),
            },
            "baselines": {each.role: each.dictionary.fingerprint for each in candidates[1:]},
            "further_seeds": [each.fingerprint for each in seeds],
            "held_out": {
                "clips": len(self.held_out),
                "frames": len(frames),
                "apart_in": candidates[0].voices.held_out,
                "intervals_over": frames.cluster_unit,
                "sha256": _digest(sorted(self.held_out)),
            },
            "parameters": asdict(self.parameters),
            "code": {
                "otoscope": otoscope.__version__,
                "measures": measuring_code(),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            "seconds": {name: each.seconds for name, each in took.items()},
            "cpu_seconds": {name: each.cpu_seconds for name, each in took.items()},
        }


def _chosen(names: Sequence[str] | None, parameters: Parameters, seeds: int | Sequence[Dictionary]) -> list[Section]:
    """The sections that are measured."""
    several = (seeds if isinstance(seeds, int) else len(seeds)) >= 2
    if names is None:
        return [each for each in SECTIONS.values() if (several if each.needs_seeds else each.core or parameters.full)]
    for name in names:
        if name not in SECTIONS:
            known = nearest(name, SECTIONS) or f"; there are {', '.join(SECTIONS)}."
            raise InputError(f"A scorecard has no section {name!r}{known}")
        if SECTIONS[name].needs_seeds and not several:
            raise InputError(f"The section {name!r} compares seeds: ask for two more or more (seeds=2, --seeds 3).")
    return [each for name, each in SECTIONS.items() if name in names]


def _check(dictionary: Dictionary, store: ActivationStore, corpus: Corpus, held_out: Collection[str] | None) -> None:
    for site in {*dictionary.sites, dictionary.target_site}:
        if site not in store.sites:
            raise InputError(
                f"The dictionary {dictionary.name!r} reads {site}, which the store lacks; "
                f"it has {', '.join(store.sites)}."
            )
    known = {clip.clip_id for clip in corpus} & set(store.clips)
    if not known:
        raise InputError(f"The store holds no clip of the corpus {corpus.name!r}.")
    if held_out is not None:
        if not held_out:
            raise InputError("Figures are measured on held-out clips, but none is given.")
        if unknown := sorted(set(held_out) - known):
            raise InputError(
                f"Held-out clip {unknown[0]!r} is not in the store and the corpus{nearest(unknown[0], known)}"
            )


def _active(dictionary: Dictionary, store: ActivationStore, clips: Sequence[str]) -> int:
    """The usual number of active features in a frame, of dictionaries that do not fix it."""
    from otoscope.evaluation.reconstruction import reconstruction

    return max(1, round(reconstruction(dictionary, store, clips[:32]).l0))


def _seen_before(dictionary: Dictionary, fit: Sequence[str]) -> list[str]:
    """What must be said about the clips that the dictionary was trained on."""
    training = dictionary.metadata.get("training")
    if not isinstance(training, Mapping):
        return []
    clips = training.get("clips")
    if clips is None:
        return ["The dictionary was trained on all clips of its store, the held-out ones among them"]
    same = hashlib.sha256("\n".join(sorted(fit)).encode()).hexdigest()
    if isinstance(clips, Mapping) and clips.get("sha256") != same:
        return ["The dictionary was trained on another choice of clips, so that it may know held-out ones"]
    return []


@contextmanager
def _cache_folder(to: str | os.PathLike[str] | None, cache: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Where trained baselines are kept; without a folder, only as long as this call lasts."""
    if cache is not None or to is not None:
        yield Path(cache) if cache is not None else Path(str(to)).parent / CACHE
        return
    with tempfile.TemporaryDirectory(prefix="otoscope-") as folder:
        yield Path(folder)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
