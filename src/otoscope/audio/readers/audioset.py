"""AudioSet: tables of ten-second segments of videos with their labels, an ontology, and cut recordings.

Source: research.google.com/audioset/download.html (segments), download_strong.html (times inside segments), and
github.com/audioset/ontology.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.audio.clip import Clip, Interval, unique_ids
from otoscope.audio.labels.formats import read_text
from otoscope.audio.problems import Problems
from otoscope.audio.readers.reader import Reader, chosen_splits
from otoscope.audio.readers.rows import lines, rows
from otoscope.audio.readers.tree import Tree, inside, stem
from otoscope.errors import InputError

SPEECH = "/m/09x0r"
"""The class Speech; what is below it in the ontology (conversation, narration…) is speech, too."""
_SPEECH_WITHOUT_ONTOLOGY = frozenset({SPEECH, "/m/05zppz", "/m/02zsn", "/m/0ytgt", "/m/01h8n0", "/m/02qldy"})
_HEAD = "# YTID, start_seconds, end_seconds, positive_labels"


@dataclass(frozen=True)
class _Segment:
    video: str
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    where: str


def _tables(tree: Tree) -> dict[str, str]:
    """Return the segment tables by split, known by the comment at their head."""
    found = {}
    for name in tree.list().files:
        if name.lower().endswith(".csv") and "segments" in name.lower():
            head = [line for number, line in lines(tree.path / name, Problems()) if number <= 3]
            if any(line.replace(" ", "").startswith(_HEAD.replace(" ", "")) for line in head):
                found[name.lower().removesuffix(".csv").removesuffix("_segments")] = name
    return found


def _recognise(tree: Tree) -> bool:
    return not tree.is_file and any("segments" in name for name in tree.list().files) and bool(_tables(tree))


def _read(tree: Tree, split: str | None, problems: Problems) -> list[Clip]:
    """Read the segments whose recordings are there.

    A recording is a cut segment named `{ytid}`, `Y{ytid}`, `{ytid}_{start_ms}`, `{ytid}_{start_ms}_{end_ms}` or the
    same in seconds, anywhere below the folder. The labels of a segment hold for all of it (tier `events`), unless
    `*_strong.tsv` gives their times.
    """
    tables = _tables(tree)
    if not tables:
        raise InputError(f"{tree.path} has no segment table of AudioSet (*_segments.csv that begins with {_HEAD!r}).")
    names, speech = _ontology(tree, problems)
    recordings = _recordings(tree)
    strong = _strong(tree, names, problems)
    drafts = []
    for part in chosen_splits(split, tables, tree.path):
        for segment in _segments(tree.path / tables[part], problems):
            path = next((recordings[name] for name in _names(segment) if name in recordings), None)
            if path is None:
                problems.add(segment.where, f"no recording of {segment.video!r} below {tree.path}", segment.video)
                continue
            drafts.append((segment, part, path))
    ids = unique_ids([f"{segment.video}_{segment.start_s:g}" for segment, _, _ in drafts])
    return [_clip(tree, clip_id, draft, names, speech, strong) for clip_id, draft in zip(ids, drafts, strict=True)]


def _clip(
    tree: Tree,
    clip_id: str,
    draft: tuple[_Segment, str, str],
    names: Mapping[str, str],
    speech: frozenset[str],
    strong: Mapping[str, list[Interval]],
) -> Clip:
    segment, split, path = draft
    labels = [names.get(label, label) for label in segment.labels]
    length_s = segment.end_s - segment.start_s
    timed = strong.get(f"{segment.video}_{round(segment.start_s * 1000)}")
    events = tuple(timed) if timed else tuple(Interval(0.0, length_s, label) for label in labels)
    attributes = {"split": split, "labels": "; ".join(labels)}
    if labels:
        attributes["sound_class"] = "speech" if speech & {*segment.labels} else labels[0]
    return Clip(
        clip_id, path, attributes=attributes, tiers={"events": events} if events else {}, source=tree.path / path
    )


def _segments(table: Path, problems: Problems) -> Iterator[_Segment]:
    for number, line in lines(table, problems):
        if line.startswith("#"):
            continue
        with problems.item(f"{table}, line {number}"):
            cells = next(csv.reader([line], skipinitialspace=True))
            try:
                video, start_s, end_s, labels = cells[0], float(cells[1]), float(cells[2]), cells[3]
            except (ValueError, IndexError):
                raise InputError(f"it is not YTID, start, end and labels: {line[:60]!r}") from None
            if not 0 <= start_s < end_s:
                raise InputError(f"a segment must end after it starts, not {start_s:g} to {end_s:g} s")
            mids = tuple(label.strip() for label in labels.split(",") if label.strip())
            yield _Segment(video, start_s, end_s, mids, f"{table}, line {number}")


def _names(segment: _Segment) -> Iterator[str]:
    """Yield the names under which people keep the recording of a segment, the most exact first."""
    start_ms, end_ms = round(segment.start_s * 1000), round(segment.end_s * 1000)
    start_s, end_s = f"{segment.start_s:g}", f"{segment.end_s:g}"
    for video in (segment.video, f"Y{segment.video}"):
        yield f"{video}_{start_ms}_{end_ms}"
        yield f"{video}_{start_s}_{end_s}"
        yield f"{video}_{segment.start_s:.3f}_{segment.end_s:.3f}"
        yield f"{video}_{start_ms}"
        yield f"{video}_{start_s}"
        yield video


def _recordings(tree: Tree) -> dict[str, str]:
    return {stem(name): inside(folder, name) for folder, name in tree.sounds()}


def _ontology(tree: Tree, problems: Problems) -> tuple[dict[str, str], frozenset[str]]:
    """Return the names of the classes, and those that are speech."""
    for path in (tree.path / "ontology.json", tree.path / "ontology" / "ontology.json"):
        if not path.is_file():
            continue
        with problems.item(path):
            try:
                nodes: list[dict[str, Any]] = json.loads(read_text(path))
                below = {node["id"]: [*node.get("child_ids", ())] for node in nodes}
                return {node["id"]: str(node["name"]) for node in nodes}, _below(SPEECH, below)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"it is not the ontology of AudioSet ({error})") from None
    table = tree.path / "class_labels_indices.csv"
    if table.is_file():
        found = {row.get("mid", ""): row.get("display_name", "") for _, row in rows(table, problems)}
        return found, _SPEECH_WITHOUT_ONTOLOGY
    return {}, _SPEECH_WITHOUT_ONTOLOGY


def _below(top: str, below: Mapping[str, list[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += below.get(node, [])
    return frozenset(found)


def _strong(tree: Tree, names: Mapping[str, str], problems: Problems) -> dict[str, list[Interval]]:
    """Read the times of events inside segments, where they are there; the key is `{ytid}_{start_ms}`."""
    found: dict[str, list[Interval]] = {}
    for name in tree.list().files:
        if not name.endswith("_strong.tsv"):
            continue
        for where, row in rows(tree.path / name, problems, delimiter="\t", quoted=False):
            with problems.item(where):
                try:
                    start_s, end_s = float(row["start_time_seconds"]), float(row["end_time_seconds"])
                    segment, label = row["segment_id"], row["label"]
                except (KeyError, ValueError):
                    raise InputError(
                        f"it is not segment_id, start, end and label: {'  '.join(row.values())[:60]!r}"
                    ) from None
                if not 0 <= start_s <= end_s:
                    raise InputError(f"an event must end after it starts, not {start_s:g} to {end_s:g} s")
                found.setdefault(segment, []).append(Interval(start_s, end_s, names.get(label, label)))
    return found


READER = Reader(
    "audioset",
    "AudioSet",
    "*_segments.csv with its three comment lines, ontology.json, cut recordings below",
    recognise=_recognise,
    read=_read,
)
