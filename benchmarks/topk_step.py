"""One TopK training step, ours and SAELens', alternating in one process on one core: frames per second, medians.

Both do their real step (forward, backward, gradient clipping, Adam, decoder constraint) on the same batches at the
size of whisper-tiny: d = 384, n = 3072, k = 32, 4,096 frames. Time is CPU time of the process, so that other programs
count less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from otoscope.dictionaries import TopK
from otoscope.dictionaries.training.learner import Batch, TrainingPlan
from otoscope.models.networks.arithmetic import multiplies

D, N, K, BATCH = 384, 3072, 32, 4096
RESULT = Path(__file__).parent / "results" / "topk_step.md"
Step = Callable[[Tensor], object]


def ours(*, shortlist: bool) -> Step:
    """Our step, without the reading of activations, as in the training loop."""
    from otoscope.dictionaries.training.optimiser import Optimiser

    learner = TopK(N, k=K).learner(TrainingPlan(D, 1_000_000, 10**12, 0, torch.device("cpu")))
    learner.shortlist = shortlist
    optimiser = Optimiser(learner, lr=4e-4)
    return lambda x: optimiser.step(Batch.of(x), 0, 4e-4)


def saelens(*, autocast: bool) -> Step:
    """SAELens' step: `training_forward_pass`, backward, clipping and Adam, as in its `SAETrainer._train_step`."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=N, k=K))
    adam = torch.optim.Adam(sae.parameters(), lr=4e-4, betas=(0.9, 0.999))
    since_fired = torch.zeros(N, dtype=torch.int64)

    def step(x: Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = sae.training_forward_pass(
                TrainStepInput(
                    sae_in=x,
                    coefficients={},
                    dead_neuron_mask=since_fired > 1_000_000,
                    n_training_steps=0,
                    is_logging_step=False,
                )
            )
            with torch.no_grad():
                fired = output.feature_acts.bool().float().sum(-2).bool()
                since_fired.add_(1).masked_fill_(fired, 0)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def measure(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, taken in turns after one warm-up."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(BATCH, D, generator=generator) for _ in range(4)]
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step(batches[round_ % len(batches)])
            if round_:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and leave the written table alone")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    steps = {"SAELens, float32": saelens(autocast=False), "SAELens, bfloat16 autocast": saelens(autocast=True)}
    steps["Otoscope, float32"] = ours(shortlist=False)
    if multiplies(torch.bfloat16):
        steps["Otoscope, candidates in bfloat16, values in float32"] = ours(shortlist=True)
    seconds = measure(steps, 5 if quick else 15)
    best = min(value for name, value in seconds.items() if name.startswith("SAELens"))
    lines = [
        f"TopK training step, d = {D}, n = {N}, k = {K}, batch {BATCH}, one core, torch {torch.__version__}.",
        "",
        "| step | ms | frames/s | against the better SAELens |",
        "|---|---|---|---|",
        *(f"| {name} | {s * 1e3:.0f} | {BATCH / s:,.0f} | {best / s:.2f} |" for name, s in seconds.items()),
    ]
    print("\n".join(lines))
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
