"""Damaged recordings of every format give sound or a sentence: none crashes, hangs or eats memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from recording_formats import FORMATS, as_channels, multitone

PROGRAM = Path(__file__).with_name("damaged_recordings.py")
N_INPUTS = int(os.environ.get("OTOSCOPE_FUZZ_INPUTS", "2400"))
SEED = int(os.environ.get("OTOSCOPE_FUZZ_SEED", "0"))
# Each imports as much as it decodes; beside other workers one is enough.
N_PROCESSES = int(os.environ.get("OTOSCOPE_FUZZ_PROCESSES", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"))
SILENCE_S = 30.0  # an input that takes longer hangs
SLOWEST_S = 10.0  # on a busy machine; the usual one takes milliseconds
MOST_BYTES = 128 * 2**20  # beyond what was in use before

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are set and read as Linux does")


@dataclass
class Campaign:
    """What became of the inputs; those that failed are kept beside the originals."""

    folder: Path

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    most_bytes: int = 0

    def fail(self, case: dict[str, object], why: str, first: int) -> None:
        kept = Path(f"{self.folder}.failed.{SEED}.{case['number']}")
        with contextlib.suppress(OSError):
            shutil.copy(f"{self.folder}.input.{first}", kept)
        self.failures.append(f"{case} {why}; the input is {kept}")

    def add(self, case: dict[str, object], first: int, result: dict[str, object]) -> None:
        ended, took_s, grown = str(result["outcome"]), float(str(result["took_s"])), int(str(result["grown_bytes"]))
        self.slowest_s, self.most_bytes = max(self.slowest_s, took_s), max(self.most_bytes, grown)
        self.outcomes[ended if ended in ("sound", "refused") else "failure"] += 1
        if ended not in ("sound", "refused"):
            self.fail(case, ended, first)
        if took_s > SLOWEST_S or grown > MOST_BYTES:
            self.fail(case, f"took {took_s} s and {grown / 2**20:.0f} MB", first)


def run(folder: Path, first: int, count: int) -> Campaign:
    """Send inputs through a process; when it dies or falls silent, name the input and go on behind it."""
    campaign, last = Campaign(folder), first + count
    while first < last:
        words = [sys.executable, str(PROGRAM), str(folder), str(SEED), str(first), str(last - first)]
        case: dict[str, object] = {"number": first - 1, "what": "starting"}
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            watchdog = threading.Timer(120.0, process.kill)
            watchdog.start()
            for line in process.stdout:
                watchdog.cancel()
                told = json.loads(line)
                if "number" in told:
                    case = told
                else:
                    campaign.add(case, first, told)
                watchdog = threading.Timer(SILENCE_S, process.kill)
                watchdog.start()
            watchdog.cancel()
        if process.returncode == 0:
            return campaign
        campaign.outcomes["failure"] += 1
        campaign.fail(case, f"ended the process with {process.returncode} (-9: killed because it hung)", first)
        first = int(str(case["number"])) + 1
        if "starting" in str(case["what"]):
            break
    return campaign


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short intact recordings: of each format one mono and, where it can, one with more channels."""
    folder = tmp_path_factory.mktemp("originals")
    for form in FORMATS:
        rate_hz = 16000 if 16000 in form.rates_hz else form.rates_hz[0]
        for depth, write in form.depths.items():
            for channels in {1, form.channels[-1]} if depth in ("16", "lossy") else {1}:
                sound = as_channels(multitone(int(0.3 * rate_hz), rate_hz), channels)
                name = f"{form.name.replace('/', '-')}_{depth}_{channels}"
                (folder / name).write_bytes(write(sound, rate_hz))
    return folder


def test_damaged_recordings_give_sound_or_a_sentence(originals: Path) -> None:
    share = -(-N_INPUTS // N_PROCESSES)
    with ThreadPoolExecutor(N_PROCESSES) as pool:
        parts = list(pool.map(lambda i: run(originals, i * share, share), range(N_PROCESSES)))
    outcomes = sum((part.outcomes for part in parts), Counter[str]())
    print(dict(outcomes), max(p.slowest_s for p in parts), max(p.most_bytes for p in parts) / 2**20)
    failures = [failure for part in parts for failure in part.failures]
    assert not failures, "\n".join(failures[:20])
    assert outcomes.total() >= N_INPUTS
    assert outcomes["sound"] > N_INPUTS / 20, "the damage is so heavy that decoders are hardly reached"
    assert outcomes["refused"] > N_INPUTS / 20, "the damage is so light that nothing is refused"
