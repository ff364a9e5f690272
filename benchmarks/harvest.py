"""Time the harvest of encoder sites: mel and encoder of a 30-s clip, ours and the peers' in turn.

    python benchmarks/harvest.py [--quick]

All run the same random weights of whisper-tiny's size in one process on one thread. openai-whisper and Hugging Face
run their whole encoder, as harvesting with hooks on them does; ours stops at the site. Times are CPU time of the
process, so that other programs count less; medians, and medians of ratios within a round. The machine's own limit is
measured in the same rounds: what its libraries reach on one large matrix product.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import whisper
from torch import Tensor
from transformers import WhisperFeatureExtractor
from whisper_tiny import BLOCK, FOUR_SITES, SITE, openai_model, plain_model, processor, save_checkpoint, sound

import otoscope as oto
from otoscope.audio import log_mel
from otoscope.models import Dims
from otoscope.models.networks.arithmetic import product

RESULT = Path(__file__).resolve().parent / "results" / "harvest.md"
BASELINE = "openai-whisper"
_SIDE = 2048
LIMITS = {
    "matrix product fp32, torch": (torch.float32, torch.nn.functional.linear),
    "matrix product fp32, otoscope's choice": (torch.float32, product),
    "matrix product bf16, torch": (torch.bfloat16, torch.nn.functional.linear),
    "matrix product bf16, otoscope's choice": (torch.bfloat16, product),
}


def contestants(folder: Path) -> tuple[dict[str, Callable[[], object]], dict[str, Tensor], Dims]:
    """Return what to time, the activations of `SITE` that each of them computes, and the model's sizes."""
    samples = sound(30.0, 0)
    plain = plain_model(folder)
    openai = openai_model(plain)
    extractor = WhisperFeatureExtractor()
    exact, half = (oto.load_model(folder, dtype=dtype) for dtype in ("float32", "bfloat16"))

    def run_openai() -> Tensor:
        with torch.no_grad():
            return openai.encoder(whisper.audio.log_mel_spectrogram(samples)[None])

    def run_hugging_face() -> Tensor:
        features = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            return plain.model.encoder(features).last_hidden_state

    def run_ours(model: oto.SpeechModel, sites: list[str]) -> dict[str, Tensor]:
        mel = log_mel(samples, model.dims.n_mels, pad_to_samples=model.dims.window_samples)
        return model.encode(mel[None], sites)

    seen: dict[str, Tensor] = {}
    hook = openai.encoder.blocks[BLOCK].register_forward_hook(lambda _, args, out: seen.update({BASELINE: out}))
    run_openai()
    hook.remove()
    seen["otoscope fp32"] = run_ours(exact, [SITE])[SITE]
    seen["otoscope fp32, four sites"] = run_ours(exact, FOUR_SITES)[SITE]
    seen["otoscope bf16"] = run_ours(half, [SITE])[SITE].float()
    runs: dict[str, Callable[[], object]] = {
        BASELINE: run_openai,
        "Hugging Face, SDPA": run_hugging_face,
        "otoscope fp32": lambda: run_ours(exact, [SITE]),
        "otoscope fp32, four sites": lambda: run_ours(exact, FOUR_SITES),
        "otoscope bf16": lambda: run_ours(half, [SITE]),
    }
    with torch.no_grad():
        operands = {dtype: torch.randn(2, _SIDE, _SIDE).to(dtype) for dtype, _ in LIMITS.values()}
    for name, (dtype, multiply) in LIMITS.items():
        runs[name] = torch.no_grad()(lambda multiply=multiply, pair=operands[dtype]: multiply(*pair))
    return runs, seen, exact.dims


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each contestant in each round, one after another."""
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                times_ms[name].append(1000 * (time.process_time() - start))
    return times_ms


def flops(dims: Dims, n_blocks: int) -> float:
    """Count the multiplications and additions of the encoder's matrix products up to the end of a block."""
    t, d = dims.n_positions, dims.d_model
    convolutions = 2 * (2 * t * 3 * dims.n_mels * d + t * 3 * d * d)
    block = 2 * t * (4 * d * d + 2 * d * dims.d_mlp) + 4 * t * t * d
    return convolutions + n_blocks * block


def table(times_ms: dict[str, list[float]], seen: dict[str, Tensor], dims: Dims) -> str:
    """Return the Markdown table: medians, ratios within each round, errors at the site, and shares of the limit."""
    best = {name: 2 * _SIDE**3 / statistics.median(times_ms[name]) / 1e6 for name in LIMITS}
    limit = max(best.values())
    lines = [
        f"One thread of {processor()}, torch {torch.__version__}; a 30-s clip, whisper-tiny's size, random weights,",
        f"mel and encoder up to `{SITE}` (peers: the whole encoder); CPU time, {len(times_ms[BASELINE])} rounds.",
        "",
        "| | median ms | share of openai-whisper's time | times faster | relative error at the site | GFLOP/s "
        "| of the limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in times_ms if name not in LIMITS):
        times = times_ms[name]
        share = statistics.median(ours / theirs for ours, theirs in zip(times, times_ms[BASELINE], strict=True))
        error = "–"
        if name in seen:
            error = f"{float((seen[name] - seen[BASELINE]).norm() / seen[BASELINE].norm()):.1e}"
        done = flops(dims, BLOCK + 1 if name.startswith("otoscope") else dims.n_layers)
        rate = done / statistics.median(times) / 1e6
        lines.append(
            f"| {name} | {statistics.median(times):.0f} | {share:.2f} | {1 / share:.2f} | {error} | {rate:.0f} "
            f"| {rate / limit:.2f} |"
        )
    needed = flops(dims, BLOCK + 1)
    four = zip(times_ms["otoscope fp32, four sites"], times_ms["otoscope fp32"], strict=True)
    lines += [
        "",
        f"Four sites in one pass take {statistics.median(a / b for a, b in four):.2f} times the time of one. "
        f"The site needs {needed / 1e9:.1f} GFLOP, the whole encoder {flops(dims, dims.n_layers) / 1e9:.1f}; "
        f"{_SIDE} × {_SIDE} × {_SIDE} products on this machine:",
        "",
        "| | GFLOP/s |",
        "|---|---|",
        *(f"| {name} | {rate:.0f} |" for name, rate in best.items()),
        "",
        f"At the limit of {limit:.0f} GFLOP/s the site's products alone would take {needed / limit / 1e6:.0f} ms.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="5 rounds instead of 25, and leave the written table alone"
    )
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder))
        runs, seen, dims = contestants(Path(folder))
    text = table(measure(runs, 5 if quick else 25), seen, dims)
    print(text)
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
