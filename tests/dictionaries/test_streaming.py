"""Training straight from the encoder: the dictionary of a harvested store, without a store, and resumable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from otoscope.activations import harvest
from otoscope.activations.streaming import EncoderStream, stream
from otoscope.audio import Corpus
from otoscope.dictionaries import Settings, TopK, TrainingRun, train, train_many
from otoscope.errors import InputError
from otoscope.models import SpeechModel

LOW, HIGH = "encoder.1.resid_post", "encoder.2.resid_post"
SPEC = TopK(64, k=4)
SETTINGS = Settings(steps=20, batch_size=256, lr=3e-3)


@pytest.fixture(scope="module")
def clips(mini: Corpus) -> Corpus:
    return mini.select([clip.clip_id for clip in mini[:20]])


@pytest.fixture(scope="module")
def held(pocket: SpeechModel, clips: Corpus) -> EncoderStream:
    """All of it in memory."""
    return stream(pocket, clips, [LOW, HIGH], progress=False)


@pytest.fixture(scope="module")
def passing(pocket: SpeechModel, clips: Corpus) -> EncoderStream:
    """Nothing in memory but a small buffer."""
    return stream(pocket, clips, [LOW, HIGH], cache_bytes=0, pool_frames=700, progress=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_learns_what_a_store_teaches(
    pocket: SpeechModel, clips: Corpus, held: EncoderStream, tmp_path: Path
) -> None:
    store = harvest(pocket, clips, [HIGH], tmp_path / "store", progress=False)
    assert dict(held.clips) == dict(store.clips)
    some = next(iter(held.clips))
    assert torch.allclose(torch.from_numpy(held.clip(HIGH, some)), torch.from_numpy(store.clip(HIGH, some)), atol=2e-2)
    streamed = train(held, SPEC, site=HIGH, settings=SETTINGS, progress=False)
    stored = train(store, SPEC, site=HIGH, settings=SETTINGS, progress=False)
    cosine = torch.nn.functional.cosine_similarity(streamed.tensors()["W_dec"], stored.tensors()["W_dec"])
    assert float(cosine.min()) > 0.99
    other = train(store, SPEC, site=HIGH, settings=SETTINGS, seed=1, progress=False)
    cosine = torch.nn.functional.cosine_similarity(streamed.tensors()["W_dec"], other.tensors()["W_dec"])
    assert float(cosine.mean()) < 0.5, "the control: another seed learns other directions"


def test_memory_changes_when_the_encoder_runs_and_nothing_else(
    pocket: SpeechModel, clips: Corpus, passing: EncoderStream
) -> None:
    kept = stream(pocket, clips, [LOW, HIGH], pool_frames=700, progress=False)
    assert dict(kept.clips) == dict(passing.clips)
    assert torch.equal(torch.from_numpy(kept.mean(LOW)), torch.from_numpy(passing.mean(LOW)))
    both = (source.batches([LOW, HIGH], 300, seed=1, epoch=2, segment=4) for source in (kept, passing))
    for one, other in zip(*both, strict=True):
        assert torch.equal(one.frames[HIGH], other.frames[HIGH])
        assert torch.equal(one.frames[LOW], other.frames[LOW])


def test_every_frame_comes_once_and_is_mixed_across_clips(passing: EncoderStream) -> None:
    where = {
        tuple(frame[:4].tolist()): clip
        for clip in passing.clips
        for frame in torch.from_numpy(passing.clip(HIGH, clip))
    }
    batches = [batch.frames[HIGH] for batch in passing.batches([HIGH], 128, seed=0, epoch=0)]
    assert sum(map(len, batches)) == passing.n_frames
    assert {tuple(frame[:4].tolist()) for batch in batches for frame in batch} == set(where)
    mixed = {where[tuple(frame[:4].tolist())] for frame in batches[0]}
    assert len(mixed) >= 6, f"the first batch holds frames of {len(mixed)} clips"


def test_a_stopped_run_goes_on_to_the_same_bytes(passing: EncoderStream, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 13:
            raise TimeoutError

    for name, progress in (("whole", False), ("cut", stop)):
        runs = [TrainingRun(SPEC, site, to=tmp_path / name / site) for site in (LOW, HIGH)]
        fit = list(passing.clips)[:15]
        if name == "cut":
            with pytest.raises(TimeoutError):
                train_many(passing, runs, settings=SETTINGS, clips=fit, progress=progress)
        train_many(passing, runs, settings=SETTINGS, clips=fit, progress=False)
    for site in (LOW, HIGH):
        assert files(tmp_path / "cut" / site) == files(tmp_path / "whole" / site)


def test_wrong_requests_are_refused(pocket: SpeechModel, clips: Corpus, held: EncoderStream) -> None:
    with pytest.raises(InputError, match=r"no site 'encoder\.3\.resid_post'"):
        train(held, SPEC, site="encoder.3.resid_post", progress=False)
    with pytest.raises(InputError, match="float16 or bfloat16"):
        stream(pocket, clips, [LOW], dtype="float32")
    with pytest.raises(InputError, match="no clip 'nobody'"):
        held.clip(LOW, "nobody")
