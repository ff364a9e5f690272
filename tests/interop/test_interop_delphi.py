"""EleutherAI's delphi opens the cache that an atlas is exported as, and hands its explainers the frames we meant.

Run by `make interop`. delphi's search for hard negatives (faiss, sentence-transformers) is not part of this: stand-ins
are enough for its import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "atlas"))
from planted_world import DEAD, MORNING, SIREN, M, World, plant

from otoscope.atlas import Atlas, build_atlas
from otoscope.atlas.exports.delphi import PAUSE, SOUND, export_delphi
from otoscope.models import Clock

LENGTH = 64


@pytest.fixture(scope="module", autouse=True)
def _stand_ins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, wanted in (("faiss", ()), ("sentence_transformers", ("SentenceTransformer",))):
            module = ModuleType(name)
            for each in wanted:
                setattr(module, each, type(each, (), {}))
            patch.setitem(sys.modules, name, module)
        yield


@pytest.fixture(scope="module")
def world() -> World:
    return plant()


@pytest.fixture(scope="module")
def atlas(world: World, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder = tmp_path_factory.mktemp("atlas") / "units"
    return build_atlas(world.model, world.dictionary, world.corpus, folder, progress=False)


@pytest.fixture(scope="module")
def written(atlas: Atlas, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_delphi(atlas, world.corpus, tmp_path_factory.mktemp("delphi") / "cache", length=LENGTH, splits=3)


def test_their_buffers_hold_every_entry_of_the_atlas(written: Path, atlas: Atlas) -> None:
    from delphi.latents.loader import TensorBuffer

    n_entries = 0
    for file in written.glob("*.safetensors"):
        buffer = TensorBuffer(str(file), written.name)
        assert buffer.tokens is not None
        latents, locations, activations = buffer.load_data_per_latent()
        for latent, where, values in zip(latents.tolist(), locations, activations, strict=True):
            entries = atlas.postings[latent]
            assert np.allclose(values.float().numpy(), entries.values, rtol=1e-3, atol=1e-6)
            clip = atlas.clips.of(entries.frames)
            within = entries.frames - atlas.clips.starts[clip]
            rows = -(-np.diff(atlas.clips.bounds) // LENGTH)
            first = np.concatenate(([0], np.cumsum(rows)))[clip]
            assert np.array_equal(where[:, 0].numpy(), first + within // LENGTH)
            assert np.array_equal(where[:, 1].numpy(), within % LENGTH)
            n_entries += len(values)
    assert n_entries == len(atlas.postings)


def test_their_dataset_shows_an_explainer_the_phones_a_feature_fires_in(written: Path) -> None:
    from delphi.config import ConstructorConfig, SamplerConfig
    from delphi.latents import LatentDataset

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(written / "tokenizer.json"))
    dataset = LatentDataset(
        raw_dir=written.parent,
        modules=[written.name],
        sampler_cfg=SamplerConfig(n_examples_train=10, n_examples_test=10, train_type="top"),
        constructor_cfg=ConstructorConfig(example_ctx_len=16, min_examples=5, n_non_activating=5),
        tokenizer=tokenizer,
    )
    said = {}
    for record in dataset:
        peaks = [each.tokens[int(each.activations.argmax())] for each in record.train]
        at_peak = [tokenizer.decode([int(token)]).strip() for token in peaks]
        said[record.latent.latent_index] = at_peak
    assert DEAD not in said
    assert set(said[M]) == {"m"}
    assert set(said[SIREN]) == {SOUND}, "sirens have no phones"
    assert len(set(said[MORNING])) > 1, "the control: a word is not one phone"


def test_their_tokenizer_reads_ours(written: Path, world: World) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(written / "tokenizer.json"))
    from safetensors.numpy import load_file

    tokens = load_file(next(written.glob("0_*.safetensors")))["tokens"]
    clip, clock = world.corpus[0], Clock(0.02, 0.0)
    names = tokenizer.batch_decode(tokens[:3].reshape(-1)[: len(world.model.frames[clip.clip_id])].reshape(-1, 1))
    for frame, name in enumerate(names):
        time_s = clock.time_s(frame)
        phone = next((p.label for p in clip.tier("phones") if p.start_s <= time_s < p.end_s), PAUSE)
        assert name.strip() == phone
