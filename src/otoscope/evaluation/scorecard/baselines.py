"""What a dictionary has to beat, made at its own size and sparsity and kept, so that a second scorecard reuses them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from otoscope.activations import ActivationStore, harvest
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary, Neurons, RandomBasis, TopK, load_dictionary, train
from otoscope.dictionaries.baselines.pca import PCA
from otoscope.dictionaries.registry import architecture
from otoscope.dictionaries.training.learner import Spec
from otoscope.dictionaries.training.settings import Settings
from otoscope.errors import InputError, nearest
from otoscope.models import SpeechModel
from otoscope.progress import ProgressReport

VERSION = 1
"""Kept baselines of another version are made anew."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """What baselines are made from.

    Attributes:
        dictionary: whose size, sparsity and training they take over.
        store, model, corpus: its activations, and what they come from.
        fit_clips: ids of the clips to fit on.
        active: features active in a frame, for baselines that keep the strongest ones.
        seed: of everything random.
        cache: where trained baselines are kept.
        progress: as in `train`.
    """

    dictionary: Dictionary
    store: ActivationStore
    model: SpeechModel
    corpus: Corpus
    fit_clips: Sequence[str]
    active: int
    seed: int
    cache: Path
    progress: bool | ProgressReport

    @property
    def training(self) -> Mapping[str, Any]:
        """How the dictionary was trained, as far as it says."""
        kept = self.dictionary.metadata.get("training")
        return kept if isinstance(kept, Mapping) else {}

    def spec(self) -> Spec:
        """Return the dictionary's own architecture and settings, or TopK of its size where it does not say."""
        kept = self.training.get("spec")
        if not isinstance(kept, Mapping):
            return TopK(n_features=self.dictionary.n_features, k=self.active)
        cls: Any = architecture(str(kept["kind"]))
        return cls(**_of_fields(cls, kept))  # type: ignore[no-any-return]

    def train(self, store: ActivationStore, spec: Spec, name: str, seed: int) -> Dictionary:
        """Train `spec` as the dictionary was trained, or return what an earlier call kept."""
        own = {**_of_fields(Settings, self.training), "betas": None, "seed": seed}
        settings = Settings(**own)
        made_from = [
            store.fingerprint,
            self.dictionary.site,
            spec.settings(),
            settings.record(),
            sorted(self.fit_clips),
        ]
        folder = self.cache / f"{name}-{_digest(made_from)}"
        if (folder / "cfg.json").is_file():
            return load_dictionary(folder)
        site, clips = self.dictionary.site, list(self.fit_clips)
        return train(store, spec, site=site, settings=settings, to=folder, clips=clips, progress=self.progress)


@dataclass(frozen=True)
class Made:
    """A baseline: a dictionary, and the activations it reads (another model's, for random weights)."""

    dictionary: Dictionary
    store: ActivationStore


@dataclass(frozen=True)
class Baseline:
    """A kind of baseline: what it is called, why it is there, and how it is made."""

    title: str
    why: str
    make: Callable[[Recipe], Made]


def _neurons(recipe: Recipe) -> Made:
    site = recipe.dictionary.site
    return Made(Neurons(site, recipe.dictionary.d_in), recipe.store)


def _random(recipe: Recipe) -> Made:
    own, store = recipe.dictionary, recipe.store
    mean = torch.as_tensor(store.mean(own.site), dtype=torch.float32)
    basis = RandomBasis(own.site, own.d_in, own.n_features, recipe.seed, min(recipe.active, own.n_features), mean=mean)
    return Made(basis, store)


def _pca(recipe: Recipe) -> Made:
    own = recipe.dictionary
    fitted = PCA.fit(recipe.store, own.site, k=min(recipe.active, own.d_in), clips=recipe.fit_clips)
    return Made(fitted, recipe.store)


def _frozen(kind: str) -> Callable[[Recipe], Made]:
    def make(recipe: Recipe) -> Made:
        settings: dict[str, Any] = {"n_features": recipe.dictionary.n_features, "k": recipe.active}
        return Made(recipe.train(recipe.store, architecture(kind)(**settings), kind, recipe.seed), recipe.store)

    return make


def _random_weights(recipe: Recipe) -> Made:
    model = recipe.model.random_weights(recipe.seed)
    # One pass over the corpus serves the scorecards of all sites of the store.
    made_from = [model.weights_hash, recipe.corpus.audio_fingerprint, recipe.store.sites]
    folder = recipe.cache / f"random-weights-{_digest(made_from)}"
    store = harvest(model, recipe.corpus, recipe.store.sites, folder, progress=recipe.progress)
    return Made(recipe.train(store, recipe.spec(), "random_weights", recipe.seed), store)


BASELINES: Mapping[str, Baseline] = {
    "neurons": Baseline("Neurons", "the units of the site, both signs", _neurons),
    "random": Baseline("Random directions", "as many unit vectors, the strongest k kept", _random),
    "pca": Baseline("PCA", "principal components, both signs, the strongest k kept", _pca),
    "frozen_decoder": Baseline(
        "Frozen decoder", "the decoder stays random, the encoder is trained", _frozen("frozen_decoder")
    ),
    "soft_frozen": Baseline(
        "Soft-frozen decoder", "the decoder may leave its random start only a little", _frozen("soft_frozen")
    ),
    "random_weights": Baseline(
        "Random weights", "the same training on the same model with random weights", _random_weights
    ),
}
"""In the order of the page; each is made at the dictionary's size and sparsity, where these apply."""


def check_baselines(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raises:
        InputError: one is not a baseline.
    """
    for name in names:
        if name not in BASELINES:
            known = nearest(name, BASELINES) or f"; known are {', '.join(BASELINES)}."
            raise InputError(f"There is no baseline {name!r}{known}")
    return tuple(dict.fromkeys(names))


def further_seeds(recipe: Recipe, count: int) -> list[Dictionary]:
    """Train the dictionary's own architecture `count` times more, from other seeds."""
    first = int(recipe.training.get("seed", 0)) + 1
    return [recipe.train(recipe.store, recipe.spec(), "seed", first + number) for number in range(count)]


def _of_fields(cls: Any, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a record, read from JSON, says about the fields of a dataclass."""
    known = {field.name for field in fields(cls)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items() if key in known}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, value], sort_keys=True, default=str).encode()).hexdigest()[:12]
