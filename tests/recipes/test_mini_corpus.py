"""The bundled corpus: small, complete, and with times that can be trusted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

HELD_OUT = {"f4", "m5", "m7", "Annie", "paul", "linda", "grandpa", "steph2"}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def clips(assets: Path) -> list[Row]:
    rows = pq.read_table(assets / "mini/corpus.parquet").to_pylist()
    return [{**row, "attributes": dict(row["attributes"])} for row in rows]


@pytest.fixture(scope="module")
def tiers(assets: Path) -> dict[tuple[str, str], list[Row]]:
    out: dict[tuple[str, str], list[Row]] = {}
    for row in pq.read_table(assets / "mini/tiers.parquet").to_pylist():
        out.setdefault((row["clip_id"], row["tier"]), []).append(row)
    return out


def test_it_is_small_and_says_what_it_is(assets: Path) -> None:
    meta = json.loads((assets / "mini/meta.json").read_text())
    assert (meta["format"], meta["version"], meta["name"]) == ("otoscope-corpus", 1, "mini")
    assert sum(p.stat().st_size for p in (assets / "mini").rglob("*") if p.is_file()) < 4.5e6


def test_clips_decode_to_their_length_and_checksum(assets: Path, clips: list[Row]) -> None:
    assert len({c["clip_id"] for c in clips}) == len(clips) >= 570
    for clip in clips:
        path = assets / "mini" / clip["uri"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == clip["sha256"]
        info = soundfile.info(path)
        assert info.samplerate == 16_000
        assert info.frames / 16_000 == pytest.approx(clip["end_s"], abs=1e-4)
        assert clip["end_s"] < 6.0


def test_every_speaker_is_held_out_of_training(clips: list[Row]) -> None:
    speech = [c for c in clips if c["attributes"]["kind"] == "speech"]
    assert {c["attributes"]["variant"] for c in speech} == HELD_OUT
    assert all(c["speaker"] == c["attributes"]["variant"].lower() for c in speech)  # one voice in all its accents
    assert Counter(c["language"] for c in speech) == {"en": 450, "es": 20}
    assert sum(c["attributes"]["accent"] == "en-029" for c in speech) >= 20


def test_words_spell_the_text_and_tiers_are_in_order(clips: list[Row], tiers: dict[tuple[str, str], list[Row]]) -> None:
    for clip in clips:
        for name in ("words", "phones") if clip["text"] else ("events",):
            spans = tiers[clip["clip_id"], name]
            edges = [t for s in spans for t in (s["start_s"], s["end_s"])]
            assert edges == sorted(edges)
            assert edges[0] >= 0
            assert edges[-1] <= clip["end_s"] + 1e-6
            assert all(s["end_s"] > s["start_s"] for s in spans)
        if clip["text"]:
            assert " ".join(s["label"] for s in tiers[clip["clip_id"], "words"]) == clip["text"]


def test_phone_classes_are_many_and_frequent(clips: list[Row], tiers: dict[tuple[str, str], list[Row]]) -> None:
    english = {c["clip_id"] for c in clips if c["language"] == "en"}
    counts = Counter(
        s["label"] for (clip, tier), spans in tiers.items() if tier == "phones" and clip in english for s in spans
    )
    assert sum(n >= 50 for n in counts.values()) >= 40
    assert not any(mark in label for label in counts for mark in "ˈˌ',_")


def test_phone_times_fall_on_the_sound(assets: Path, clips: list[Row], tiers: dict[tuple[str, str], list[Row]]) -> None:
    """Stressed-vowel frames are much louder than the lead-in; labels moved by half a second are not."""
    inside, moved = [], []
    for clip in [c for c in clips if c["language"] == "en"][:60]:
        audio, rate = soundfile.read(assets / "mini" / clip["uri"])
        start = tiers[clip["clip_id"], "phones"][0]["start_s"]
        level = lambda a, b: np.sqrt(np.mean(audio[int(a * rate) : int(b * rate)] ** 2))  # noqa: B023, E731
        inside.append(level(start, start + 0.25))
        moved.append(level(max(0.0, start - 0.06), start - 0.01))
    assert np.median(np.array(inside) / np.maximum(moved, 1e-9)) > 20


def test_sounds_have_a_class_and_one_event(clips: list[Row], tiers: dict[tuple[str, str], list[Row]]) -> None:
    sounds = [c for c in clips if c["attributes"]["kind"] == "sound"]
    classes = Counter(c["attributes"]["sound_class"] for c in sounds)
    assert len(classes) >= 12
    assert min(classes.values()) >= 5
    for clip in sounds:
        (event,) = tiers[clip["clip_id"], "events"]
        assert event["label"] == clip["attributes"]["sound_class"]
        assert clip["text"] is None
        assert clip["speaker"] is None
