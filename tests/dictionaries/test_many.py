"""Many dictionaries on the same batches: each is the one trained alone, and frames are read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from memory_store import MemoryStore, frames_of

from otoscope.activations.shuffle import FrameBatch
from otoscope.dictionaries import Settings, TopK, TrainingRun, train, train_many
from otoscope.dictionaries.architectures.topk import TopKLearner
from otoscope.dictionaries.training.centring import geometric_median
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.errors import InputError

LOW, HIGH = "encoder.1.resid_post", "encoder.2.resid_post"
SETTINGS = Settings(steps=25, batch_size=128, lr=3e-3)


@pytest.fixture(scope="module")
def two_sites() -> MemoryStore:
    low, high = frames_of(2000, d=12, n=16, k=2, seed=1)[0], frames_of(2000, d=20, n=24, k=3, seed=2)[0]
    return MemoryStore({LOW: low, HIGH: high})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@dataclass(frozen=True)
class InFours(TopK):
    """TopK that asks for segments of four frames, and keeps what it was shown."""

    shown: ClassVar[list[Batch]] = []

    @property
    def segment(self) -> int:
        return 4

    def learner(self, plan: TrainingPlan) -> TopKLearner:
        shown = self.shown

        class Watching(TopKLearner):
            def gradients(self, batch: Batch, step: int) -> Any:
                shown.append(batch)
                return super().gradients(batch, step)

        return Watching(self, plan)


RUNS = {
    "low": TrainingRun(TopK(32, k=2), LOW),
    "high": TrainingRun(TopK(32, k=2), HIGH),
    "sparser": TrainingRun(TopK(32, k=1), HIGH),
    "another seed": TrainingRun(TopK(32, k=2), HIGH, seed=7),
    "faster": TrainingRun(TopK(32, k=2), LOW, lr=1e-2),
    "in segments": TrainingRun(InFours(32, k=2), LOW),
}


def test_each_is_bit_for_bit_the_one_trained_alone(two_sites: MemoryStore, tmp_path: Path) -> None:
    runs = [TrainingRun(run.spec, run.sites, run.seed, run.lr, tmp_path / "many" / name) for name, run in RUNS.items()]
    train_many(two_sites, runs, settings=SETTINGS, progress=False)
    for name, run in RUNS.items():
        assert isinstance(run.sites, str)
        settings = SETTINGS.changed(seed=run.seed, lr=run.lr)
        train(two_sites, run.spec, site=run.sites, settings=settings, to=tmp_path / "alone" / name, progress=False)
        assert files(tmp_path / "many" / name) == files(tmp_path / "alone" / name), name
    every = [files(tmp_path / "many" / name)["sae_weights.safetensors"] for name in RUNS]
    assert len(set(every)) == len(RUNS), "the control: no two of them are the same"


def test_frames_are_read_once_however_many_learn_from_them(two_sites: MemoryStore) -> None:
    class Counting(MemoryStore):
        read = 0

        def batches(self, sites: list[str], batch_size: int, **options: Any) -> Iterator[FrameBatch]:
            for batch in super().batches(sites, batch_size, **options):
                self.read += len(batch)
                yield batch

    counted = Counting(two_sites.by_site)
    train_many(counted, [RUNS[name] for name in ("low", "high", "sparser")], settings=SETTINGS, progress=False)
    assert SETTINGS.steps is not None
    assert counted.read <= SETTINGS.steps * SETTINGS.batch_size


def test_members_that_are_done_or_ahead_wait_for_the_others(two_sites: MemoryStore, tmp_path: Path) -> None:
    def some(names: list[str], folder: str) -> list[TrainingRun]:
        return [TrainingRun(RUNS[name].spec, RUNS[name].sites, to=tmp_path / folder / name) for name in names]

    def stop(stage: str, done: int, total: int) -> None:
        if done == 17:
            raise TimeoutError

    names = ["low", "high", "sparser", "in segments"]
    train_many(two_sites, some(names, "whole"), settings=SETTINGS, progress=False)
    train_many(two_sites, some(["low"], "cut"), settings=SETTINGS, progress=False)
    for ahead in ("high", "in segments"):
        with pytest.raises(TimeoutError):
            train_many(two_sites, some([ahead], "cut"), settings=SETTINGS, progress=stop)
    train_many(two_sites, some(names, "cut"), settings=SETTINGS, progress=False)
    for name in names:
        assert files(tmp_path / "cut" / name) == files(tmp_path / "whole" / name), name


def test_the_ends_of_clips_are_masked_after_centring(two_sites: MemoryStore) -> None:
    odd = MemoryStore({LOW: two_sites.by_site[LOW][:1998]}, clips=54)  # clips of 37 frames: nine segments and one frame
    InFours.shown.clear()
    train(odd, InFours(32, k=2), settings=Settings(steps=12, batch_size=180), progress=False)
    insides = [batch.inside for batch in InFours.shown]
    ends = 0
    for batch, inside in zip(InFours.shown, insides, strict=True):
        assert batch.segment == 4
        assert inside is not None
        assert batch.x[~inside].count_nonzero() == 0, "zeros in centred units, not the mean's negative"
        assert bool((batch.x[inside] != 0).any(dim=1).all())
        ends += int((~inside).sum())
    assert ends == 54 * 3


def test_settings_reach_the_learner(two_sites: MemoryStore) -> None:
    seen: dict[str, TrainingPlan] = {}

    class Watching(TopK):
        def learner(self, plan: TrainingPlan) -> TopKLearner:
            seen["plan"] = plan
            return super().learner(plan)

    median = Settings(steps=2, batch_size=64, centring="geometric-median", dtype="bfloat16", seed=3)
    train(two_sites, Watching(16, k=2), site=LOW, settings=median, progress=False)
    plan = seen["plan"]
    x = two_sites.by_site[LOW]
    scaled = (x - torch.from_numpy(two_sites.mean(LOW)).float()) * two_sites.scale(LOW)
    assert plan.start is not None
    torch.testing.assert_close(plan.start, geometric_median(scaled), rtol=1e-4, atol=1e-5)
    assert (plan.dtype, plan.seed, plan.steps, plan.d_in) == (torch.bfloat16, 3, 2, 12)


def test_the_geometric_median_withstands_outliers_and_the_mean_does_not() -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    x[:40] += 100
    assert float(geometric_median(x).norm()) < 0.5
    assert float(x.mean(dim=0).norm()) > 10
    distances = [float((x - point).norm(dim=1).sum()) for point in (geometric_median(x), x.median(dim=0).values)]
    assert distances[0] < distances[1], "and it is better than the median of each unit"


def test_without_centring_and_scaling_it_learns_on_raw_activations(two_sites: MemoryStore) -> None:
    shown: list[torch.Tensor] = []

    class Watching(TopK):
        def learner(self, plan: TrainingPlan) -> TopKLearner:
            made = super().learner(plan)
            gradients = made.gradients
            made.gradients = lambda batch, step: (shown.append(batch.x), gradients(batch, step))[1]  # type: ignore
            return made

    raw = two_sites.by_site[LOW]
    first = next(two_sites.batches([LOW], 64, seed=0, epoch=0)).frames[LOW]
    for settings, expected in (
        (Settings(centring="none", scaling=False), first),
        (Settings(scaling=False), first - raw.mean(dim=0)),
        (Settings(centring="none"), first * (12 / raw.square().sum(dim=1).mean()).sqrt()),
    ):
        shown.clear()
        train(two_sites, Watching(16, k=2), site=LOW, settings=settings, steps=1, batch_size=64, progress=False)
        torch.testing.assert_close(shown[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["unit_norm", "layer_norm"])
def test_frames_can_be_normalised_one_by_one(two_sites: MemoryStore, how: Any) -> None:
    settings = Settings(steps=300, batch_size=256, lr=1e-2, normalisation=how)
    made = train(two_sites, TopK(32, k=3), site=LOW, settings=settings, progress=False)
    x = two_sites.by_site[LOW]
    gains = torch.linspace(0.5, 4, len(x))[:, None]
    code, louder = made.encode(x), made.encode(x * gains)
    assert torch.equal(code.indices, louder.indices), "how loud a frame is does not matter"
    error = (x * gains - made.decode(louder)).square().sum() / (x * gains).square().sum()
    assert float(error) < 0.1


def test_held_out_clips_are_scored_during_training(two_sites: MemoryStore, tmp_path: Path) -> None:
    import json

    clips = list(two_sites.clips)
    run = TrainingRun(TopK(32, k=2), LOW, to=tmp_path / "sae")
    settings = Settings(steps=100, batch_size=128, lr=5e-3, evaluate_every=25)
    train_many(two_sites, [run], settings=settings, clips=clips[:6], held_out=clips[6:], progress=False)
    lines = [json.loads(line) for line in (tmp_path / "sae" / "metrics.jsonl").read_text("utf-8").splitlines()]
    scores = {line["step"]: line["held_out_fvu"] for line in lines if "held_out_fvu" in line}
    assert list(scores) == [25, 50, 75, 100]
    assert scores[100] < scores[25]
    x = two_sites.by_site[LOW][[*range(1500, 2000)]]
    from otoscope.dictionaries import load_dictionary

    made = load_dictionary(tmp_path / "sae")
    error = (x - made.decode(made.encode(x))).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert scores[100] == pytest.approx(float(error), rel=1e-3)


def test_what_cannot_be_is_refused(two_sites: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same folder"):
        train_many(two_sites, [TrainingRun(TopK(8, k=1), LOW, to=tmp_path / "a")] * 2, settings=SETTINGS)
    with pytest.raises(InputError, match="reads one site, got 2"):
        train(two_sites, TopK(8, k=1), sites=[LOW, HIGH], progress=False)
    with pytest.raises(InputError, match="site= or with sites="):
        train(two_sites, TopK(8, k=1), site=LOW, sites=[LOW], progress=False)
    for values, message in (
        ({"schedule": "lineal"}, "schedule must be one of linear, cosine, constant, got 'lineal'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be above 0, got -1.0"),
        ({"decay": 1.5}, "decay is a share"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(**values)  # type: ignore[arg-type]
