"""Otoscope looks inside speech models: harvest, dictionaries, atlas, edits. The public API on one screen."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    # audio: clips and corpora
    "Clip": "otoscope.audio",
    "Interval": "otoscope.audio",
    "Corpus": "otoscope.audio",
    "corpus": "otoscope.audio",
    "log_mel": "otoscope.audio",
    "download": "otoscope.audio.downloads",
    # models: sites, runs, edits
    "load_model": "otoscope.models",
    "SpeechModel": "otoscope.models",
    "Site": "otoscope.models",
    "Edit": "otoscope.models",
    # activations
    "harvest": "otoscope.activations",
    "ActivationStore": "otoscope.activations",
    "stream": "otoscope.activations",
    "token_activations": "otoscope.activations",
    # dictionaries
    "Dictionary": "otoscope.dictionaries",
    "SparseCode": "otoscope.dictionaries",
    "Neurons": "otoscope.dictionaries",
    "RandomBasis": "otoscope.dictionaries",
    "PCA": "otoscope.dictionaries",
    "FrozenDecoder": "otoscope.dictionaries",
    "SoftFrozenDecoder": "otoscope.dictionaries",
    "TopK": "otoscope.dictionaries",
    "BatchTopK": "otoscope.dictionaries",
    "Matryoshka": "otoscope.dictionaries",
    "Temporal": "otoscope.dictionaries",
    "MultiFrame": "otoscope.dictionaries",
    "Transcoder": "otoscope.dictionaries",
    "Crosscoder": "otoscope.dictionaries",
    "L1": "otoscope.dictionaries",
    "JumpReLU": "otoscope.dictionaries",
    "Gated": "otoscope.dictionaries",
    "train": "otoscope.dictionaries",
    "train_many": "otoscope.dictionaries",
    "TrainingRun": "otoscope.dictionaries",
    "Settings": "otoscope.dictionaries",
    "load_dictionary": "otoscope.dictionaries",
    "save_as": "otoscope.dictionaries",
    "push": "otoscope.dictionaries",
    "pull": "otoscope.dictionaries",
    # evaluation
    "evaluate": "otoscope.evaluation.scorecard",
    "Scorecard": "otoscope.evaluation.scorecard",
    # atlas
    "build_atlas": "otoscope.atlas",
    "Atlas": "otoscope.atlas",
    # everything of a project in one folder
    "Workspace": "otoscope.workspace",
    # errors
    "OtoscopeError": "otoscope.errors",
    "InputError": "otoscope.errors",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore as ActivationStore
    from otoscope.activations import harvest as harvest
    from otoscope.activations import stream as stream
    from otoscope.activations import token_activations as token_activations
    from otoscope.atlas import Atlas as Atlas
    from otoscope.atlas import build_atlas as build_atlas
    from otoscope.audio import Clip as Clip
    from otoscope.audio import Corpus as Corpus
    from otoscope.audio import Interval as Interval
    from otoscope.audio import log_mel as log_mel
    from otoscope.audio.corpus import corpus as corpus
    from otoscope.audio.downloads import download as download
    from otoscope.dictionaries import L1 as L1
    from otoscope.dictionaries import PCA as PCA
    from otoscope.dictionaries import BatchTopK as BatchTopK
    from otoscope.dictionaries import Crosscoder as Crosscoder
    from otoscope.dictionaries import Dictionary as Dictionary
    from otoscope.dictionaries import FrozenDecoder as FrozenDecoder
    from otoscope.dictionaries import Gated as Gated
    from otoscope.dictionaries import JumpReLU as JumpReLU
    from otoscope.dictionaries import Matryoshka as Matryoshka
    from otoscope.dictionaries import MultiFrame as MultiFrame
    from otoscope.dictionaries import Neurons as Neurons
    from otoscope.dictionaries import RandomBasis as RandomBasis
    from otoscope.dictionaries import Settings as Settings
    from otoscope.dictionaries import SoftFrozenDecoder as SoftFrozenDecoder
    from otoscope.dictionaries import SparseCode as SparseCode
    from otoscope.dictionaries import Temporal as Temporal
    from otoscope.dictionaries import TopK as TopK
    from otoscope.dictionaries import TrainingRun as TrainingRun
    from otoscope.dictionaries import Transcoder as Transcoder
    from otoscope.dictionaries import load_dictionary as load_dictionary
    from otoscope.dictionaries import pull as pull
    from otoscope.dictionaries import push as push
    from otoscope.dictionaries import save_as as save_as
    from otoscope.dictionaries import train as train
    from otoscope.dictionaries import train_many as train_many
    from otoscope.errors import InputError as InputError
    from otoscope.errors import OtoscopeError as OtoscopeError
    from otoscope.evaluation.scorecard import Scorecard as Scorecard
    from otoscope.evaluation.scorecard import evaluate as evaluate
    from otoscope.models import Edit as Edit
    from otoscope.models import Site as Site
    from otoscope.models import SpeechModel as SpeechModel
    from otoscope.models import load_model as load_model
    from otoscope.workspace import Workspace as Workspace


def __getattr__(name: str) -> Any:
    """Import the room of a public name on first use, so that `import otoscope` does not load torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'otoscope' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
