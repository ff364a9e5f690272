"""What a pipeline shall make: which dictionaries of which sites, over which corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from otoscope.errors import InputError
from otoscope.workspace.layout import DEFAULT_MODEL

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

DICTIONARY_KINDS = ("topk", "neurons", "random")


@dataclass(frozen=True)
class DictionaryPlan:
    """One dictionary to make and index.

    Raises:
        InputError: there is no such kind.
    """

    name: str
    site: str
    kind: str = "topk"
    """"topk" (trained), "neurons" (every unit, both signs) or "random" (a control)."""
    n_features: int = 1024
    """Size of the dictionary; neurons have two features for each unit whatever stands here."""
    k: int = 16
    """Active features per frame."""
    steps: int | None = None
    """Training steps; None for the trainer's default."""
    batch_size: int = 4096
    """Frames in each training step."""
    lr: float | None = None
    """Peak learning rate; None for the trainer's default."""

    def __post_init__(self) -> None:
        if self.kind not in DICTIONARY_KINDS:
            raise InputError(f"{self.kind!r} is not a kind of dictionary; choose one of {', '.join(DICTIONARY_KINDS)}.")

    def settings(self) -> dict[str, Any]:
        """Return what decides the dictionary, its name apart."""
        used = {
            "topk": ("site", "kind", "n_features", "k", "steps", "batch_size", "lr"),
            "random": ("site", "kind", "n_features", "k"),
            "neurons": ("site", "kind"),
        }[self.kind]
        return {key: value for key, value in asdict(self).items() if key in used}


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
        return tuple(dict.fromkeys(dictionary.site for dictionary in self.dictionaries))


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
