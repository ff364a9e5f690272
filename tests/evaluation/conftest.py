"""Shared by the tests of measurements: speech of which everything is known, and a dictionary trained on real frames."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from planted_speech import Speech, plant
from planted_words import Spoken, speak

import otoscope as oto

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "selectivity.py"


@pytest.fixture(scope="session")
def speech() -> Speech:
    return plant()


@pytest.fixture(scope="session")
def spoken() -> Spoken:
    return speak()


@pytest.fixture(scope="session")
def selectivity() -> ModuleType:
    """The program `benchmarks/selectivity.py`."""
    spec = importlib.util.spec_from_file_location("selectivity", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["selectivity"] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Learned:
    """What the bundled model hears in the clips of one language, and a dictionary of its middle layer."""

    corpus: oto.Corpus
    store: oto.ActivationStore
    sae: oto.Dictionary


@pytest.fixture(scope="session")
def learned(
    selectivity: ModuleType, pocket: oto.SpeechModel, mini: oto.Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Learned:
    """Made once for the tests of several files, which run in one worker (`TOGETHER` in tests/conftest.py)."""
    corpus = selectivity.spoken(mini)
    site = "encoder.2.resid_post"
    folder = tmp_path_factory.mktemp("learned") / "store"
    store = oto.harvest(pocket, corpus, sites=["encoder.3.mlp.pre", site], to=folder, progress=False)
    sae = oto.train(store, oto.TopK(1024, k=16), site=site, steps=800, batch_size=1024, lr=2e-3, progress=False)
    return Learned(corpus, store, sae)
