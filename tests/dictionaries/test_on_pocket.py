"""On real activations of the bundled model: training beats random directions, and edits keep the error."""

from __future__ import annotations

import pytest
import torch

from otoscope.activations import ActivationStore, harvest
from otoscope.dictionaries import RandomBasis, TopK, TopKDictionary, load_dictionary, train
from otoscope.evaluation import reconstruction

SITE = "encoder.2.resid_post"


@pytest.fixture(scope="module")
def speech(pocket, mini, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    folder = tmp_path_factory.mktemp("stores") / "some"
    return harvest(pocket, mini.select([clip.clip_id for clip in mini[:40]]), [SITE], folder, progress=False)


@pytest.fixture(scope="module")
def sae(speech: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> TopKDictionary:
    folder = tmp_path_factory.mktemp("dictionaries") / "sae-2"
    clips = list(speech.clips)[:32]
    train(speech, TopK(256, k=12), steps=300, batch_size=1024, lr=4e-3, clips=clips, to=folder, progress=False)
    loaded = load_dictionary(folder)
    assert isinstance(loaded, TopKDictionary)
    return loaded


def test_unseen_clips_are_rebuilt_far_better_than_by_random_directions(speech, sae) -> None:
    held_out = list(speech.clips)[32:]
    mean = torch.from_numpy(speech.mean(SITE)).float()
    control = RandomBasis(SITE, sae.d_in, sae.n_features, seed=0, k=sae.k, mean=mean)
    ours, random = reconstruction(sae, speech, held_out), reconstruction(control, speech, held_out)
    assert ours.fvu < 0.15
    assert random.fvu > 3 * ours.fvu
    assert ours.l0 <= 12
    assert ours.dead_share < 0.3


def test_scaling_a_feature_by_one_changes_nothing_and_zeroing_removes_just_it(pocket, mini, sae) -> None:
    clip = mini[0]
    h = pocket.run(clip, read=[SITE])[SITE]
    code = sae.encode(h)
    strongest = int(code.indices[code.values.argmax() // sae.k, code.values.argmax() % sae.k])
    feature = sae.feature(strongest)
    same = pocket.run(clip, read=[SITE], edits=[feature.scale(1)])[SITE]
    assert torch.allclose(same, h, atol=1e-4)
    without = pocket.run(clip, read=[SITE], edits=[feature.zero()])[SITE]
    expected = h - code.feature(strongest)[:, None] * feature.direction
    assert torch.allclose(without, expected, atol=1e-3)
    assert float((h - without).abs().max()) > 0.1
