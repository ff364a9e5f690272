"""What a pipeline shall make: which dictionaries of which sites, over which corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from otoscope.errors import InputError, nearest
from otoscope.workspace.layout import DEFAULT_MODEL

if TYPE_CHECKING:
    from otoscope.dictionaries.training.config import TrainingConfig
    from otoscope.dictionaries.training.learner import Spec
    from otoscope.dictionaries.training.settings import Settings
    from otoscope.models import SpeechModel

BASELINES = ("neurons", "random", "pca")
"""Dictionaries that are not trained: every unit with both signs, random directions, principal components."""


def dictionary_kinds() -> tuple[str, ...]:
    """Return every kind of dictionary that can be made: all architectures, and the baselines."""
    from otoscope.dictionaries.registry import architectures

    return (*architectures(), *BASELINES)


@dataclass(frozen=True)
class DictionaryPlan:
    """One dictionary to make and index.

    Raises:
        InputError: there is no such kind, or a setting does not fit it.
    """

    name: str
    site: str
    kind: str = "topk"
    """An architecture ("topk", "batchtopk", "l1"…), or a baseline: "neurons", "random" or "pca"."""
    n_features: int = 1024
    """Size of the dictionary; neurons have two features for each unit whatever stands here."""
    k: int = 16
    """Active features per frame, where the architecture has a fixed number."""
    steps: int | None = None
    """Training steps; None for the trainer's default."""
    batch_size: int = 4096
    """Frames in each training step."""
    lr: float | None = None
    """Peak learning rate; None for the trainer's default."""
    sites: tuple[str, ...] = ()
    """All sites, for architectures that read several (for transcoders: input and output); empty: only `site`."""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the architecture, by field; they go before `n_features` and `k`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Further training settings, by field; they go before `steps`, `batch_size` and `lr`."""

    def __post_init__(self) -> None:
        if self.kind in BASELINES:
            return
        kinds = dictionary_kinds()
        if self.kind not in kinds:
            close = nearest(self.kind, kinds) or f"; choose one of {', '.join(kinds)}."
            raise InputError(f"{self.kind!r} is not a kind of dictionary{close}")
        self.spec()

    @property
    def is_trained(self) -> bool:
        """Whether it is learned from activations step by step."""
        return self.kind not in BASELINES

    def config(self) -> TrainingConfig:
        """Return what a trained dictionary is made with."""
        from otoscope.dictionaries.training.config import TrainingConfig

        basis = TrainingConfig("topk", {"n_features": self.n_features, "k": self.k}, self._training())
        return basis.changed(TrainingConfig(self.kind, self.architecture, self.training))

    def _training(self) -> dict[str, Any]:
        given = {"steps": self.steps, "batch_size": self.batch_size, "lr": self.lr}
        return {name: value for name, value in given.items() if value is not None}

    def spec(self) -> Spec:
        """Return the architecture of a trained dictionary."""
        return self.config().spec()

    def training_settings(self, seed: int = 0) -> Settings:
        """Return how it is trained; `seed` counts where none is given among the settings."""
        config = self.config()
        return replace(config, training={"seed": seed, **config.training}).settings()

    def settings(self) -> dict[str, Any]:
        """Return what decides the dictionary, its name apart."""
        if self.is_trained:
            training = {name: value for name, value in self.training_settings().record().items() if name != "seed"}
            own_seed = {"seed": self.training["seed"]} if "seed" in self.training else {}
            sites = list(self.sites or (self.site,))
            return {"sites": sites, "kind": self.kind, "spec": self.spec().settings(), **training, **own_seed}
        used = {"neurons": ("site", "kind"), "random": ("site", "kind", "n_features", "k")}
        return {name: getattr(self, name) for name in used.get(self.kind, ("site", "kind", "k"))}


@dataclass(frozen=True)
class Plan:
    """What the pipeline shall make. `default_plan` gives the one of `otoscope demo`."""

    dictionaries: tuple[DictionaryPlan, ...]
    corpus: str = "mini"
    """Name of a bundled corpus, or a folder or manifest of recordings."""
    model: str = DEFAULT_MODEL
    seed: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites to harvest, each once."""
        return tuple(dict.fromkeys(site for plan in self.dictionaries for site in (plan.sites or (plan.site,))))


def default_plan(model: SpeechModel, corpus: str = "mini", corpus_name: str = "mini", seed: int = 0) -> Plan:
    """The demo's plan: a TopK dictionary of the middle layer's stream, and the neurons of the last layer.

    For pocket that is `sae-2` (`encoder.2.resid_post`) and `neurons-3` (`encoder.3.mlp.post`); over another corpus than
    `mini` the names carry the corpus, so that one workspace holds both. The short training (a million and a half
    frames, at a rate above the default) is enough for a corpus of minutes: half the time of the trainer's defaults.
    """
    middle, last = model.dims.n_layers // 2, model.dims.n_layers - 1
    tail = "" if corpus_name == "mini" else f"-{corpus_name}"
    stream = DictionaryPlan(f"sae-{middle}{tail}", f"encoder.{middle}.resid_post", steps=800, batch_size=2048, lr=2e-3)
    neurons = DictionaryPlan(f"neurons-{last}{tail}", f"encoder.{last}.mlp.post", kind="neurons")
    return Plan((stream, neurons), corpus=corpus, model=model.name, seed=seed)
