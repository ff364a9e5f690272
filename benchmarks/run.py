"""Run every benchmark, ours and peers in one process each, and print their tables (`make bench`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTEROP = HERE.parent / ".venv-interop" / "bin" / "python"
"""An environment with every peer (`make interop`)."""
BENCHMARKS = (
    "harvest.py",
    "harvest_to_disk.py",
    "cold_start.py",
    "attention_memory.py",
    "training_step.py",
    "selectivity.py",
    "speech_dictionaries.py",
    "shared_features.py",
    "edit_effect.py",
    "atlas_build.py",
    "notes_import.py",
    "atlas_labels.py",
)


def main() -> int:
    """Run the benchmarks one after another on one thread; return the number that failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    failed = []
    for name in BENCHMARKS:
        print(f"\n=== {name} ===", flush=True)
        python = str(INTEROP) if name == "training_step.py" and INTEROP.exists() else sys.executable
        if subprocess.run([python, str(HERE / name), *sys.argv[1:]], env=environment).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
