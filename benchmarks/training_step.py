"""One training step of a dictionary, ours and the peers', alternating in one process on one core.

Everybody does a real step (forward, backward, clipping where they clip, Adam, unit decoder rows) on the same batches of
4,096 made-up frames. Time is CPU time of the process, so that other programs count less; medians. eai-sparsify and
dictionary-learning are installed by `make interop`: run this with `.venv-interop/bin/python`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")  # its other decoder runs on GPUs only

import torch
from torch import Tensor
from training_peers import LEARNING_RATE, Step, peers
from whisper_tiny import processor

from otoscope.dictionaries import L1, TopK
from otoscope.dictionaries.kernels import encode
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.dictionaries.training.optimiser import Optimiser
from otoscope.dictionaries.training.sparse_step import SparseSpec
from otoscope.models.networks.arithmetic import multiplies

BATCH = 4096
RESULT = Path(__file__).parent / "results" / "training_step.md"


@dataclass(frozen=True)
class Case:
    """One size: an architecture of `n` features on a site of width `d`."""

    architecture: str
    d: int
    n: int
    k: int = 32
    rounds: int = 9

    @property
    def products(self) -> int:
        """Dense products of a step: the encoder; for a dense code also the decoder and three gradients."""
        return 1 if self.architecture == "topk" else 5

    @property
    def title(self) -> str:
        """What stands above the table."""
        if self.architecture == "topk":
            return f"TopK, d = {self.d}, n = {self.n:,}, k = {self.k}"
        return f"L1 (untied), d = {self.d}, n = {self.n:,}, about half of the code active"


CASES = (
    Case("topk", 384, 3072),
    Case("topk", 1280, 40_960, rounds=3),
    Case("l1", 384, 200),
    Case("l1", 384, 3072),
)


def ours(case: Case, *, rough: bool = True, shortlist: bool = False, dead: float = 0.0) -> Step:
    """Our step, without the reading of activations, as in the training loop.

    Args:
        case: architecture and size.
        rough: let 8-bit integers rule out features; False: float32 only.
        shortlist: candidates in bfloat16.
        dead: share of the features that is silent, and learns by AuxK.
    """
    spec = TopK(case.n, k=case.k) if case.architecture == "topk" else L1(case.n)
    learner = spec.learner(TrainingPlan(case.d, 1_000_000, 10**12, 0, torch.device("cpu")))
    silent = int(case.n * dead)
    if isinstance(spec, SparseSpec):
        learner.shortlist = shortlist
        learner.parameters["encoder_bias"][:silent] = -2.0
    optimiser = Optimiser(learner)
    pays = encode._filter_pays

    def step(x: Tensor) -> None:
        if dead:
            learner.state["silent_frames"][:silent] = 10**9
        encode._filter_pays = pays if rough else lambda *_: False
        optimiser.step(Batch.of(x), 500_000, LEARNING_RATE)
        encode._filter_pays = pays

    return step


def steps_of(case: Case) -> dict[str, Callable[[], Step]]:
    """Return what makes every step of a case, by name."""
    made = peers(case.architecture, case.d, case.n, case.k)
    if case.architecture != "topk":
        return made | {"Otoscope": lambda: ours(case)}
    made["Otoscope, float32 products only"] = lambda: ours(case, rough=False)
    if multiplies(torch.bfloat16):
        made["Otoscope, candidates in bfloat16"] = lambda: ours(case, rough=False, shortlist=True)
    if multiplies(torch.int8):
        made["Otoscope (8-bit integers rule out, float32 decides)"] = lambda: ours(case)
    made["Otoscope, a tenth of the features dead (AuxK)"] = lambda: ours(case, dead=0.1)
    return made


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, taken in turns after one warm-up."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(BATCH, case.d, generator=generator) for _ in range(4)]
    steps = {name: make() for name, make in steps_of(case).items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step(batches[round_ % len(batches)])
            if round_:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak(dtype: torch.dtype) -> float:
    """Return the operations a second of one large product of matrices."""
    a, b = (torch.randint(-9, 9, (1024, 2048), dtype=torch.int8).to(dtype) for _ in range(2))
    multiply = torch._int_mm if dtype is torch.int8 else torch.mm
    seconds = []
    for _ in range(8):
        start = time.process_time()
        multiply(a, b.T)
        seconds.append(time.process_time() - start)
    return 2 * 1024 * 1024 * 2048 / min(seconds)


def table(case: Case, rounds: int) -> list[str]:
    """Return the measured table of one case as Markdown."""
    before = peak(torch.float32)
    seconds = measure(case, rounds)
    fastest = (before + peak(torch.float32)) / 2
    others = {name: value for name, value in seconds.items() if not name.startswith("Otoscope")}
    exact = {name: value for name, value in others.items() if "bfloat16" not in name}
    work = case.products * 2 * BATCH * case.n * case.d
    lines = [
        f"## {case.title}",
        "",
        f"Matrix products reach {fastest / 1e9:.0f} GFLOP/s in float32"
        + (f" and {peak(torch.int8) / 1e9:.0f} Gop/s in 8-bit integers" if multiplies(torch.int8) else "")
        + f". A step needs {work / 1e9:.1f} GFLOP of dense products.",
        "",
        "| step | ms | frames/s | share of float32 peak | against SAELens | against the fastest peer in float32 |",
        "|---|---|---|---|---|---|",
    ]
    for name, value in seconds.items():
        ratios = [
            f"{base / value:.2f}" if base else "–" for base in (others.get("SAELens"), min(exact.values(), default=0))
        ]
        share = work / value / fastest
        lines.append(f"| {name} | {value * 1e3:.0f} | {BATCH / value:,.0f} | {share:.0%} | {' | '.join(ratios)} |")
    return [*lines, ""]


def main() -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds; leave the written table alone")
    parser.add_argument("--rounds", type=int, help="rounds of every size, in place of 9 (3 for the large one)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"One thread of {processor()}, torch {torch.__version__}; one training step of {BATCH:,} frames, CPU time,",
        "float32 unless said otherwise. Compare ratios within one table.",
        "",
    ]
    for case in CASES:
        if not (given.quick and case.n > 10_000):
            measured = table(case, given.rounds or (3 if given.quick else case.rounds))
            print("\n".join(measured), flush=True)
            lines += measured
    if not given.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
