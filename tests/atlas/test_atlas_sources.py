"""Where frames come from makes no difference: a store, or the model itself; synthetic speech or real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otoscope.activations import harvest
from otoscope.atlas import build_atlas
from otoscope.audio import Corpus
from otoscope.dictionaries import Neurons
from otoscope.errors import InputError
from otoscope.models import SpeechModel

SITE = "encoder.1.mlp.post"


def test_a_store_and_its_model_give_one_atlas(pocket: SpeechModel, mini: Corpus, tmp_path: Path) -> None:
    clips = mini[::50]
    neurons = Neurons(SITE, pocket.width(SITE))
    store = harvest(pocket, clips, [SITE], tmp_path / "store", progress=False)
    stored = build_atlas(store, neurons, clips, tmp_path / "a", progress=False)
    direct = build_atlas(pocket, neurons, clips, tmp_path / "b", progress=False)
    assert stored.meta["model"] == direct.meta["model"]
    assert stored.meta["n_frames"] == direct.meta["n_frames"] == store.n_frames
    for column in ("density", "max", "mean"):
        np.testing.assert_allclose(stored.features[column], direct.features[column], rtol=0.02, atol=2e-3)
    best = stored.features["max"].idxmax()
    assert stored[best].examples("top", 1)[0].clip_id == direct[best].examples("top", 1)[0].clip_id


def test_a_store_that_lacks_what_is_asked_for_is_refused(pocket: SpeechModel, mini: Corpus, tmp_path: Path) -> None:
    store = harvest(pocket, mini[:2], [SITE], tmp_path / "store", progress=False)
    with pytest.raises(InputError, match=r"lacks 1 of the 3 clips"):
        build_atlas(store, Neurons(SITE, 512), mini[:3], tmp_path / "a", progress=False)
    with pytest.raises(InputError, match=f"holds only {SITE}"):
        build_atlas(store, Neurons("encoder.2.mlp.post", 512), mini[:2], tmp_path / "a", progress=False)


@pytest.mark.shared
def test_an_atlas_of_real_digits_can_be_searched_by_word(pocket: SpeechModel, shared: Path) -> None:
    """Digits fill their clips: labels are dealt between clips and judged on speakers that chose nothing."""
    digits = Corpus.from_folder(shared / "data" / "digits")
    kept = digits.select([clip.clip_id for clip in digits][::8])
    site = "encoder.3.resid_post"
    atlas = build_atlas(pocket, Neurons(site, pocket.width(site)), kept, progress=False)
    assert atlas.meta["held_out"] == "speakers"
    assert set(atlas.labels["kind"]) == {"word"}
    found = atlas.find("six")
    assert len(found) > 0
    assert (found["f1"] > found["chance"]).iloc[0]
