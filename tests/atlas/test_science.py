"""The claim of the README: inside pocket, units detect phones on voices they were not chosen on, and chance does not.

`benchmarks/selectivity.py` measures the same thing at full size and prints the tables.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from otoscope.audio import Corpus
from otoscope.models import SpeechModel

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "selectivity.py"


@pytest.fixture(scope="module")
def selectivity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("selectivity", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["selectivity"] = module
    spec.loader.exec_module(module)
    return module


def test_phones_have_units_that_detect_them_and_dictionaries_have_pure_features(
    selectivity: ModuleType, pocket: SpeechModel, mini: Corpus, tmp_path: Path
) -> None:
    sites = ["encoder.3.mlp.pre", "encoder.2.resid_post"]
    report = selectivity.measure(pocket, mini, tmp_path, sites=sites)
    assert len(report.phones) >= 40
    assert report.detected() >= 0.6 * len(report.phones)
    assert report.pure() >= 150
    assert report.detected_when_shifted() == 0
    assert report.pure_when_shifted() == 0


def test_random_weights_have_no_such_neuron(
    selectivity: ModuleType, pocket: SpeechModel, mini: Corpus, tmp_path: Path
) -> None:
    sites = ["encoder.0.resid_post", "encoder.1.mlp.pre", "encoder.2.resid_post", "encoder.3.mlp.pre"]
    report = selectivity.measure(pocket.random_weights(0), mini[::2], tmp_path, sites=sites, sae_steps=0)
    assert len(report.phones) >= 30
    assert report.detected() == 0
    assert np.nanmax(report.auroc[selectivity.ANY]) < selectivity.GOOD_AUROC
