"""A corpus of the planted world that can be heard, and reading of what was exported as web pages."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from planted_world import World

from otoscope.atlas.exports.site import COLUMNS
from otoscope.audio import Clip, Corpus

LICENCE = "CC BY 4.0"


def audible(world: World) -> Corpus:
    """The same clips, of noise instead of silence; the first says whose it is."""
    clips = []
    for i, clip in enumerate(world.corpus):
        noise = np.random.default_rng(i).normal(size=len(clip.samples())).astype(np.float32) * 0.1
        credit = {"licence": LICENCE, "attribution": "Jane <b>Doe</b>"} if i % 2 == 0 else {}
        clips.append(
            Clip.from_samples(
                noise,
                16000,
                clip_id=clip.clip_id,
                speaker=clip.speaker,
                text=clip.text and f"clip {i}",
                tiers=clip.tiers,
                attributes={**clip.attributes, **credit},
            )
        )
    return Corpus("planted", clips)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def rows_of(folder: Path) -> dict[str, np.ndarray]:
    """The table of features, column by column, from all of its files."""
    said = read_json(folder / "data" / "site.json")
    parts: dict[str, list[np.ndarray]] = {name: [] for name, _ in COLUMNS}
    for number, path in enumerate(sorted((folder / "data" / "rows").iterdir())):
        n = min(said["rows"], said["n_features"] - number * said["rows"])
        content = path.read_bytes()
        for i, (name, kind) in enumerate(COLUMNS):
            parts[name].append(np.frombuffer(content, kind, n, i * 4 * n))
    return {name: np.concatenate(found) for name, found in parts.items()}


def pages_of(folder: Path) -> dict[int, dict[str, Any]]:
    """All pages of features."""
    found: dict[int, dict[str, Any]] = {}
    for path in (folder / "data" / "features").rglob("*.json"):
        found |= {int(feature): page for feature, page in read_json(path).items()}
    return found


def lane_of(moment: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(moment["lane"]), np.uint8)
