"""Every family harvests alike: models that hear samples, clips of any lengths, frames where the model's clock says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import HubertConfig, Wav2Vec2Config, WavLMConfig

import otoscope as oto
from otoscope.activations import harvest
from otoscope.audio import Corpus
from otoscope.errors import InputError
from otoscope.models import Clock, SpeechModel, untrained_model

SITES = ["encoder.1.resid_post", "encoder.0.mlp.post"]


@pytest.fixture(scope="module", params=[Wav2Vec2Config, HubertConfig, WavLMConfig])
def listener(request: pytest.FixtureRequest) -> SpeechModel:
    """A small model that hears samples."""
    config = request.param(
        conv_dim=[16] * 7,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return untrained_model(config.to_dict())


def test_models_that_hear_samples_store_every_frame_of_clips_of_any_length(
    listener: SpeechModel, tones: Corpus, tmp_path: Path
) -> None:
    audible = Corpus("audible", [clip for clip in tones if clip.duration_s > 0.03])
    store = harvest(listener, audible, SITES, tmp_path / "s", shard_frames=150, batch_size=4, progress=False)
    for clip in audible:
        computed = listener.run(clip, SITES)
        for site in SITES:
            assert store.clip(site, clip.clip_id).shape == computed[site].shape
            np.testing.assert_allclose(store.clip(site, clip.clip_id), computed[site].numpy(), rtol=2e-3, atol=2e-3)


def test_a_clip_too_short_for_the_front_end_is_named(listener: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tone-8"):
        harvest(listener, tones, SITES, tmp_path / "s", progress=False)


def test_a_store_knows_its_family_and_when_its_frames_are(
    listener: SpeechModel, pocket: SpeechModel, tones: Corpus, tmp_path: Path
) -> None:
    for model, offset_s in ((listener, 0.0125), (pocket, 0.0)):
        store = harvest(model, tones[1:3], SITES, tmp_path / model.dims.family, progress=False)
        assert store.meta["family"] == model.dims.family
        assert store.clock == model.clock == Clock(0.02, offset_s)


def test_a_store_from_before_clocks_were_written_has_whispers(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path
) -> None:
    store = harvest(pocket, tones[:1], SITES, tmp_path / "s", progress=False)
    meta = json.loads((store.folder / "meta.json").read_text())
    del meta["clock"], meta["family"]
    (store.folder / "meta.json").write_text(json.dumps(meta))
    assert oto.ActivationStore.open(store.folder).clock == Clock()


@pytest.mark.parametrize(
    "site", ["decoder.1.resid_post", "decoder.0.cross.z", "decoder.embed", "decoder.1.mlp.post", "logits"]
)
def test_sites_of_the_text_are_refused_before_any_work(
    pocket: SpeechModel, tones: Corpus, tmp_path: Path, site: str
) -> None:
    with pytest.raises(InputError, match=r"a row per token and a store one per frame.*model\.run"):
        harvest(pocket, tones, [site], tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_a_first_activation_loads_nothing_that_it_does_not_need(pocket: SpeechModel) -> None:
    program = """
import sys
import numpy as np
import otoscope as oto

model = oto.load_model(sys.argv[1])
clip = oto.Clip.from_samples(np.ones(16000) / 8, 16000)
model.run(clip, ["encoder.2.resid_post"])
heavy = "transformers torch._dynamo sympy pandas pyarrow numba scipy huggingface_hub tokenizers"
print(*(set(heavy.split()) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, str(pocket.folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_memory_does_not_grow_with_the_corpus(pocket: SpeechModel, tones: Corpus, tmp_path: Path) -> None:
    program = """
import re, resource, sys
from pathlib import Path
from otoscope.activations import harvest
from otoscope.audio import Corpus
from otoscope.models import load_model

def peak_mb():
    if Path("/proc/self/status").is_file():  # getrusage would count the process that started this one
        return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)

folder, corpus, target = sys.argv[1:]
model, clips = load_model(folder), Corpus.load(corpus)
sites = [f"encoder.{layer}.mlp.post" for layer in range(3)]
for name in "ab":  # a process's second harvest holds some more than its first, of however few clips
    harvest(model, clips[:12], sites, target + "/" + name, progress=False)
before = peak_mb()
harvest(model, clips, sites, target + "/c", progress=False)
print(peak_mb() - before)
"""
    long = Corpus("long", [oto.Clip.from_samples(np.tile(c.samples(), 20)[:96000], 16000, clip_id=f"{c.clip_id}-{i}")
                           for i in range(20) for c in tones[:6]])  # fmt: skip
    long.save(tmp_path / "corpus")
    stored_mb = 3 * 512 * 2 * 120 * 300 / 2**20
    arguments = [str(pocket.folder), str(tmp_path / "corpus"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stored_mb > 100
    assert float(done.stdout) < 0.3 * stored_mb
