"""Time the first activation of a 5-s clip from a cold process: whole processes, ours and openai-whisper's in turn.

    python benchmarks/cold_start.py [--quick]

Both load random weights of whisper-tiny's size from a local file (ours from a Hugging Face folder and from the same
`.pt` file), hear one FLAC clip and hold the output of encoder block 2. All files are in the page cache and compiled to
byte code before the first round. The last row is the command line: `otoscope harvest` of that clip to disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from whisper_tiny import SITE, openai_model, plain_model, processor, save_checkpoint, write_clips

RESULT = Path(__file__).resolve().parent / "results" / "cold_start.md"
BASELINE = "openai-whisper, .pt"
OURS = f"""
import sys
import otoscope as oto
model = oto.load_model(sys.argv[1])
print(model.run(oto.Clip.from_file(sys.argv[2]), ["{SITE}"])["{SITE}"].shape)
"""
THEIRS = """
import sys
import soundfile, torch, whisper
model = whisper.load_model(sys.argv[1])
seen = {}
model.encoder.blocks[2].register_forward_hook(lambda module, args, out: seen.update(out=out))
audio, _ = soundfile.read(sys.argv[2], dtype="float32")
with torch.no_grad():
    model.encoder(whisper.log_mel_spectrogram(whisper.pad_or_trim(audio))[None])
print(seen["out"].shape)
"""
COMMAND = "from otoscope.cli import main; main()"


def write_openai(checkpoint: Path, path: Path) -> None:
    """Write the model in openai-whisper's format, its weights in float32 like the folder's."""
    model = openai_model(plain_model(checkpoint))
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, path)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what to run."""
    checkpoint, weights = folder / "tiny", folder / "tiny.pt"
    save_checkpoint(checkpoint)
    write_openai(checkpoint, weights)
    clip = str(write_clips(folder / "clips", 1, seconds=5.0)[0])
    run = [sys.executable, "-c"]
    return {
        BASELINE: [*run, THEIRS, str(weights), clip],
        "otoscope, folder": [*run, OURS, str(checkpoint), clip],
        "otoscope, .pt": [*run, OURS, str(weights), clip],
        "`otoscope harvest`, folder": [
            *run, COMMAND, "harvest", "--model", str(checkpoint), "--corpus", str(folder / "clips"),
            "--site", SITE, "--workspace",
        ],
    }  # fmt: skip


def measured(command: list[str]) -> tuple[float, float]:
    """Run a process from start to end; return wall and CPU milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * wall_s, 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15; leave the written table alone")
    quick = parser.parse_args().quick
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        contestants = commands(Path(name))
        n_rounds = 3 if quick else 15
        for number in range(-1, n_rounds):
            for label, command in contestants.items():
                fresh = [str(Path(name) / f"workspace{number}")] if command[-1] == "--workspace" else []
                found = measured([*command, *fresh])
                if number >= 0:
                    times.setdefault(label, []).append(found)
    lines = [
        f"One thread of {processor()}, torch {torch.__version__}; from the start of the process to its end,",
        f"{n_rounds} rounds, medians.",
        "",
        "| | ms | CPU ms | share of openai-whisper's time | CPU time |",
        "|---|---|---|---|---|",
    ]
    for label, found in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        pairs = list(zip(found, times[BASELINE], strict=True))
        shares = [statistics.median(ours[i] / theirs[i] for ours, theirs in pairs) for i in (0, 1)]
        lines.append(f"| {label} | {wall:,.0f} | {cpu:,.0f} | {shares[0]:.2f} | {shares[1]:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
