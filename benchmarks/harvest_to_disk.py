"""Time whole harvests, FLAC files to activations on disk, and their memory: each in a process of its own, in turn.

    python benchmarks/harvest_to_disk.py [--quick]

All use the same random weights of whisper-tiny's size on one thread and keep 16-bit activations of one encoder site.
The peer is what people write with Hugging Face: `soundfile`, `WhisperFeatureExtractor`, the encoder with its fused
attention and a forward hook, `numpy.save` per clip. Times leave out imports and loading; they are CPU time of the
process, threads that decode included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from whisper_tiny import BLOCK, FOUR_SITES, SITE, peak_mb, processor, save_checkpoint, write_clips

RESULT = Path(__file__).resolve().parent / "results" / "harvest_to_disk.md"
BASELINE = "Hugging Face, SDPA, batch 1"
CONTESTANTS = {
    BASELINE: ("hugging_face", 1),
    "Hugging Face, SDPA, batch 16": ("hugging_face", 16),
    "otoscope fp32": ("otoscope", "float32", [SITE]),
    "otoscope fp32, four sites": ("otoscope", "float32", FOUR_SITES),
    "otoscope bf16": ("otoscope", "bfloat16", [SITE]),
}


def hugging_face(checkpoint: Path, clips: list[Path], target: Path, batch_size: int) -> tuple[float, float]:
    """Harvest with forward hooks; return CPU and wall seconds."""
    import numpy as np
    import soundfile
    import torch
    from transformers import WhisperFeatureExtractor
    from whisper_tiny import plain_model

    encoder = plain_model(checkpoint).model.encoder
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
    seen: list[torch.Tensor] = []
    encoder.layers[BLOCK].register_forward_hook(
        lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    start = time.process_time(), time.perf_counter()
    for first in range(0, len(clips), batch_size):
        batch = clips[first : first + batch_size]
        sounds = [soundfile.read(path, dtype="float32")[0] for path in batch]
        features = extractor(sounds, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            encoder(features)
        for path, frames in zip(batch, seen.pop().view(len(batch), -1, 384).half().numpy(), strict=True):
            np.save(target / f"{path.stem}.npy", frames)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def otoscope(checkpoint: Path, clips: list[Path], target: Path, dtype: str, sites: list[str]) -> tuple[float, float]:
    """Harvest with otoscope; return CPU and wall seconds."""
    import pandas  # noqa: F401 (pyarrow loads it when a store is finished)

    import otoscope as oto

    model = oto.load_model(checkpoint, dtype=dtype)
    corpus = oto.corpus(clips[0].parent)[: len(clips)]
    start = time.process_time(), time.perf_counter()
    oto.harvest(model, corpus, sites, target / "store", progress=False)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def work(name: str, checkpoint: Path, clips: Path, n_clips: int) -> None:
    """One process of one contestant: print its times and peak memory."""
    import torch

    torch.set_num_threads(1)
    kind, *options = CONTESTANTS[name]
    harvest = {"hugging_face": hugging_face, "otoscope": otoscope}[kind]
    with tempfile.TemporaryDirectory() as target:
        cpu_s, wall_s = harvest(checkpoint, sorted(clips.iterdir())[:n_clips], Path(target), *options)
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s, "peak_mb": peak_mb()}))


def measured(name: str, checkpoint: Path, clips: Path, n_clips: int) -> dict[str, float]:
    """Run one contestant in a process of its own."""
    command = [sys.executable, __file__, "--worker", name, str(checkpoint), str(clips), str(n_clips)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(
    rounds: list[dict[str, dict[str, float]]], growth: dict[str, dict[int, float]], n_clips: int, n_long: int
) -> str:
    """Return the Markdown tables: time per clip and memory."""
    lines = [
        f"One thread of {processor()}; {n_clips} clips of 30 s, 16-bit FLAC, to `{SITE}` on disk in 16-bit floats,",
        f"whisper-tiny's size, random weights; a process each, in turn, {len(rounds)} rounds, medians.",
        "",
        "| | CPU ms per clip | share of Hugging Face's time (batch 1) | peak memory MB |",
        "|---|---|---|---|",
    ]
    for name in CONTESTANTS:
        per_clip_ms = statistics.median(1000 * found[name]["cpu_s"] / n_clips for found in rounds)
        share = statistics.median(found[name]["cpu_s"] / found[BASELINE]["cpu_s"] for found in rounds)
        peak = statistics.median(found[name]["peak_mb"] for found in rounds)
        lines.append(f"| {name} | {per_clip_ms:.0f} | {share:.2f} | {peak:.0f} |")
    pairs = [(f["otoscope fp32, four sites"]["cpu_s"], f["otoscope fp32"]["cpu_s"]) for f in rounds]
    lines += [
        "",
        f"Four sites in one pass take {statistics.median(a / b for a, b in pairs):.2f} times the time of one.",
    ]
    if growth:
        lines += ["", f"| peak memory, MB | {n_clips} clips | {n_long} clips |", "|---|---|---|"]
        lines += [f"| {name} | {peaks[n_clips]:.0f} | {peaks[n_long]:.0f} |" for name, peaks in growth.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the tables and write them."""
    if sys.argv[1:2] == ["--worker"]:
        name, checkpoint, clips, n_clips = sys.argv[2:]
        work(name, Path(checkpoint), Path(clips), int(n_clips))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 round, no long corpus; leave the written table alone")
    quick = parser.parse_args().quick
    n_clips, n_long = 16, 160
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, clips = Path(folder) / "tiny", Path(folder) / "clips"
        save_checkpoint(checkpoint)
        write_clips(clips, n_clips if quick else n_long)
        rounds = [
            {name: measured(name, checkpoint, clips, n_clips) for name in CONTESTANTS} for _ in range(1 if quick else 3)
        ]
        growth = {} if quick else {
            name: {n: measured(name, checkpoint, clips, n)["peak_mb"] for n in (n_clips, n_long)}
            for name in ("otoscope fp32", "otoscope fp32, four sites")
        }  # fmt: skip
    text = table(rounds, growth, n_clips, n_long)
    print(text)
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
