"""Time what annotators wait for with 10,000 notes: importing, exporting, searching, opening a feature, adding one more.

    python benchmarks/notes_import.py [--quick]

Every round begins with a file that does not exist yet, so that nothing is known already; every note that counts as
written is on disk (fsync). The notes are as long as real ones: a label or a comment, half of them with a moment.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path

from otoscope.atlas.notes import Evidence, FeatureKey, Notes, Revision

RESULT = Path(__file__).resolve().parent / "results" / "notes_import.md"
N_NOTES, N_FEATURES = 10_000, 4096
WORDS = "voiced nasal fricative before a front vowel onset of syllable loud creak silence burst ŋ weak"


def write_export(path: Path, n: int, seed: int) -> None:
    """Write an export of `n` notes by five people."""
    chance, made = random.Random(seed), []
    for i in range(n):
        key = FeatureKey("sae-2", "ab" * 32, chance.randrange(N_FEATURES))
        at = f"2026-11-{1 + i % 28:02d}T{i % 24:02d}:{i % 60:02d}:{i % 60:02d}.{i:06d}Z"
        who, start_s = f"annotator {i % 5}", round(chance.uniform(0, 3), 3)
        why = (Evidence(f"u{i % 500:04d}", start_s, start_s + 0.2),) if i % 2 else ()
        kind, length = ("label", 3) if i % 3 else ("comment", 25)
        text, note = " ".join(chance.choices(WORDS.split(), k=length)), uuid.UUID(int=chance.getrandbits(128)).hex
        made.append(Revision(note, key, kind, who, at, who, at, text, confidence=0.75, evidence=why))
    path.write_text("".join(f"{each.line()}\n" for each in made), "utf-8")


def one_round(folder: Path, export: Path, other: Path, took: defaultdict[str, list[tuple[float, float]]]) -> None:
    """Do everything once with a new file."""
    notes = Notes(folder / "notes.sqlite")

    def timed(what: str, act: object) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        act()  # type: ignore[operator]
        took[what].append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)))

    key = FeatureKey("sae-2", "ab" * 32, 17)
    timed(f"import {N_NOTES:,} notes into a new file", lambda: notes.import_jsonl(export))
    timed("import the same file again", lambda: notes.import_jsonl(export))
    timed(f"import {N_NOTES:,} other notes beside them", lambda: notes.import_jsonl(other))
    timed(f"export {2 * N_NOTES:,} notes", lambda: notes.export_jsonl(folder / "out.jsonl"))
    timed("the notes of one feature", lambda: notes.of(key))
    timed("search a frequent word (1,000 found)", lambda: notes.search("nas"))
    timed("search a rare pair of words", lambda: notes.search("creak ŋ weak silence", limit=20))
    timed("add a note", lambda: notes.add(key, "label", "nasal", author="Ann"))
    timed("agreement of five annotators, with interval", notes.agreement)
    notes.close()


def row(what: str, took: list[tuple[float, float]]) -> str:
    """Return a line of the table: median and fastest time on the wall, median of the processor's."""
    wall, cpu = zip(*took, strict=True)
    return f"| {what} | {statistics.median(wall):,.1f} | {min(wall):,.1f} | {statistics.median(cpu):,.1f} |"


def main() -> int:
    """Run the rounds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds instead of seven; writes no table")
    quick = parser.parse_args().quick
    took: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as root:
        export, other = Path(root) / "export.jsonl", Path(root) / "other.jsonl"
        write_export(export, N_NOTES, seed=0)
        write_export(other, N_NOTES, seed=1)
        size = export.stat().st_size / 1e6
        for i in range(2 if quick else 7):
            (Path(root) / str(i)).mkdir()
            one_round(Path(root) / str(i), export, other, took)
    lines = [
        f"{N_NOTES:,} notes ({size:.1f} MB of JSON lines); {platform.machine()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; {len(next(iter(took.values())))} rounds, each with new files; "
        f"{os.getloadavg()[0]:.0f} programs wanted the {os.cpu_count()} processors at the end.",
        "",
        "| | median, ms | fastest, ms | CPU, ms |",
        "|---|---|---|---|",
        *(row(what, each) for what, each in took.items()),
    ]
    print("\n".join(lines))
    if not quick:
        RESULT.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
