"""Dictionaries: sets of directions read out of one site, and how to train, save and open them."""

from __future__ import annotations

from otoscope.dictionaries.architectures.batch_topk import BatchTopK
from otoscope.dictionaries.architectures.crosscoder import Crosscoder, CrosscoderDictionary
from otoscope.dictionaries.architectures.gated import Gated, GatedDictionary
from otoscope.dictionaries.architectures.jumprelu import JumpReLU
from otoscope.dictionaries.architectures.l1 import L1
from otoscope.dictionaries.architectures.matryoshka import Matryoshka
from otoscope.dictionaries.architectures.multi_frame import MultiFrame, MultiFrameDictionary
from otoscope.dictionaries.architectures.temporal import Temporal
from otoscope.dictionaries.architectures.topk import TopK, TopKDictionary
from otoscope.dictionaries.architectures.transcoder import TopKTranscoder, Transcoder
from otoscope.dictionaries.baselines.frozen_decoder import FrozenDecoder, SoftFrozenDecoder
from otoscope.dictionaries.baselines.neurons import Neurons
from otoscope.dictionaries.baselines.pca import PCA
from otoscope.dictionaries.baselines.random_basis import RandomBasis
from otoscope.dictionaries.dictionary import Dictionary, Feature
from otoscope.dictionaries.formats.hub import pull, push
from otoscope.dictionaries.formats.opening import load_dictionary, save_as
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.dictionaries.thresholded import ReluDictionary, ThresholdDictionary
from otoscope.dictionaries.training.config import TrainingConfig, preset, read_config
from otoscope.dictionaries.training.logs import TensorBoard, WeightsAndBiases
from otoscope.dictionaries.training.loop import train, train_many
from otoscope.dictionaries.training.runs import TrainingRun
from otoscope.dictionaries.training.settings import Settings

__all__ = [
    "L1",
    "PCA",
    "BatchTopK",
    "Crosscoder",
    "CrosscoderDictionary",
    "Dictionary",
    "Feature",
    "FrozenDecoder",
    "Gated",
    "GatedDictionary",
    "JumpReLU",
    "Matryoshka",
    "MultiFrame",
    "MultiFrameDictionary",
    "Neurons",
    "RandomBasis",
    "ReluDictionary",
    "Settings",
    "SoftFrozenDecoder",
    "SparseCode",
    "Temporal",
    "TensorBoard",
    "ThresholdDictionary",
    "TopK",
    "TopKDictionary",
    "TopKTranscoder",
    "TrainingConfig",
    "TrainingRun",
    "Transcoder",
    "WeightsAndBiases",
    "load_dictionary",
    "preset",
    "pull",
    "push",
    "read_config",
    "save_as",
    "train",
    "train_many",
]
