"""How much memory do the statistics of all attention heads take on a 30-s clip, at the size of large-v3?

    python benchmarks/attention_memory.py [--quick] [--threads N]

A process of its own makes a model of that size with random 16-bit weights, measures every head of the encoder (32 x 20
maps of 1500 x 1500), of the decoder and of its attention to the sound, and reports its peak resident memory. Beside it
stands what the maps themselves would take. `--quick` has one layer each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "attention_memory.md"
LIMIT_GB = 4.0
LARGE_V3 = {
    "model_type": "whisper",
    "d_model": 1280,
    "encoder_layers": 32,
    "decoder_layers": 32,
    "encoder_attention_heads": 20,
    "decoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "vocab_size": 51866,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}
TEXT = "we were behind the bakery with the strange plumber on saturday and " * 3


def peak_gb() -> float:
    """Peak resident memory of this process so far, in 10^9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(n_layers: int, threads: int) -> dict[str, float]:
    """Make the model and measure its heads; return memory, times and counts."""
    import numpy as np
    import torch

    import otoscope as oto
    from otoscope.models.families import find_family
    from otoscope.models.loading.checkpoint import build
    from otoscope.models.untrained import randomise

    torch.set_num_threads(threads)
    pocket = oto.load_model("pocket")  # lends its tokenizer and rules
    imported = peak_gb()
    config = {**LARGE_V3, "encoder_layers": n_layers, "decoder_layers": n_layers}
    dims, module = build(find_family("whisper"), config)
    module.to(torch.bfloat16).to_empty(device="cpu")
    randomise(module, 0)
    model = oto.SpeechModel(replace(pocket.checkpoint, name="large-v3-size", dims=dims, module=module, path=None))
    loaded = peak_gb()
    sound = np.random.default_rng(0).standard_normal(16000 * 30).astype(np.float32)
    clip = oto.Clip.from_samples(0.1 * sound, 16000, clip_id="noise")
    start = time.perf_counter()
    statistics = model.head_statistics(clip, text=lambda clip: TEXT)
    seconds = time.perf_counter() - start
    table = statistics.table()
    assert len(table) == 2 * 3 * n_layers * 20, len(table)
    assert bool(table["entropy"].between(0, np.log(1500)).all())
    weights = sum(weight.numel() * weight.element_size() for weight in module.parameters()) / 1e9
    return {"imported": imported, "loaded": loaded, "peak": peak_gb(), "weights": weights, "seconds": seconds}


def main() -> None:
    """Measure in a process of its own, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one layer instead of 32; writes no table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.threads)))
        return
    n_layers = 1 if options.quick else 32
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(n_layers)]
    done = subprocess.run(
        [*command, "--threads", str(options.threads)], env=os.environ, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    n_heads = 3 * n_layers * 20
    maps = n_layers * 20 * 1500**2 * 4 / 1e9
    lines = [
        "| what | GB |",
        "|---|---|",
        f"| weights of {n_layers} + {n_layers} layers, bfloat16 | {found['weights']:.2f} |",
        f"| peak after importing the package | {found['imported']:.2f} |",
        f"| peak after making the model | {found['loaded']:.2f} |",
        f"| **peak after the statistics of {n_heads} heads** | **{found['peak']:.2f}** |",
        f"| what the encoder's maps alone would take in float32 | {maps:.2f} |",
        "",
        f"Statistics: {found['seconds']:.0f} s on {options.threads} thread(s); limit {LIMIT_GB:g} GB: "
        f"{'held' if found['peak'] < LIMIT_GB else 'NOT held'}.",
    ]
    text = "\n".join(lines)
    print(text)
    if not options.quick:
        RESULT.write_text(f"# Memory of head statistics at large-v3 size\n\n{text}\n")
    if found["peak"] >= LIMIT_GB:
        sys.exit(1)


if __name__ == "__main__":
    main()
