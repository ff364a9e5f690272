"""The claim of the README: inside pocket, units detect phones on voices they were not chosen on, and chance does not.

`benchmarks/selectivity.py` measures the same thing at full size and prints the tables.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conftest import Learned

    from otoscope.audio import Corpus
    from otoscope.models import SpeechModel


def test_phones_have_units_that_detect_them_and_dictionaries_have_pure_features(
    selectivity: ModuleType, learned: Learned
) -> None:
    report = selectivity.score(learned.corpus, learned.store, learned.sae)
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
