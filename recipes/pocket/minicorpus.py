"""Stage 5: the mini corpus bundled with otoscope: held-out synthetic speech and sounds with exact tiers."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from . import sounds, speech, voices
from .settings import Settings

N_ENGLISH, N_SPANISH, SOUND_VARIANTS = 450, 20, 6
N_CANDIDATES = 1000  # of the held-out sentences; the others are left for the evaluation
MAX_S = 5.6
PHONE_GOAL = 60  # occurrences wanted of every phone class
# libsndfile maps Opus' bit rate to a level: (1 - level) * 250 + 6 kbit/s a channel.
BIT_RATE_K = 20
COMPRESSION = 1 - (BIT_RATE_K - 6) / 250
LICENCE = "Audio made by the otoscope project with espeak-ng and NumPy; released under CC0 1.0"


@dataclass(eq=False)
class Clip:
    """One clip before it is written; `tiers` maps a tier name to its spans (seconds from the clip start)."""

    clip_id: str
    audio: np.ndarray
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    tiers: dict[str, tuple[speech.Span, ...]] = field(default_factory=dict)


def _shift(spans: tuple[speech.Span, ...], by_s: float) -> tuple[speech.Span, ...]:
    return tuple(speech.Span(round(s.start_s + by_s, 5), round(s.end_s + by_s, 5), s.label) for s in spans)


def spoken(rng: random.Random, text: str, voice: str, language: str) -> Clip:
    """An utterance with 0.08 to 0.4 s of silence before and about 0.1 s after it."""
    prosody = {"rate": rng.randint(135, 180), "pitch": rng.randint(30, 70), "pitch_range": rng.randint(30, 70)}
    said = speech.say(text, voice, **prosody)
    lead = rng.randint(4, 20) * 320
    audio = np.concatenate([np.zeros(lead, np.float32), said.audio, np.zeros(1600, np.float32)])
    lead_s = lead / speech.SAMPLE_RATE
    accent, variant = voice.split("+")
    attributes = {"kind": "speech", "accent": accent.split("/")[1].lower(), "variant": variant}
    attributes |= {name: str(value) for name, value in prosody.items()}
    tiers = {"words": _shift(said.words, lead_s), "phones": _shift(said.phones, lead_s)}
    return Clip("", audio, text, variant.lower(), language, attributes, tiers)


def _choose(candidates: list[Clip], n: int) -> list[Clip]:
    """Pick `n` clips greedily so that rare phones reach `PHONE_GOAL` occurrences, then in the drawn order."""
    have: Counter[str] = Counter()
    left, chosen = list(candidates), []
    counts = {id(c): Counter(p.label for p in c.tiers["phones"]) for c in candidates}

    def gain(clip: Clip) -> float:
        return sum(min(k, 2) * (PHONE_GOAL - have[p]) ** 2 for p, k in counts[id(clip)].items() if have[p] < PHONE_GOAL)

    while len(chosen) < n:
        best = max(left, key=gain)
        if gain(best) == 0:
            return chosen + left[: n - len(chosen)]
        left.remove(best)
        chosen.append(best)
        have.update(counts[id(best)])
    return chosen


def speech_clips(settings: Settings) -> list[Clip]:
    """Held-out sentences in held-out voices, a tenth of them in the held-out accent; then Spanish."""
    rng = random.Random(settings.seed)
    texts = json.loads((settings.build / "heldout.json").read_text())
    accents = tuple(sorted(set(voices.ACCENTS)))
    drawn = []
    for i, text in enumerate(texts["en"][:N_CANDIDATES]):
        accent = (
            voices.HELD_OUT_ACCENT if rng.random() < 0.1 else "gmw/en-US" if rng.random() < 0.4 else rng.choice(accents)
        )
        variant = voices.HELD_OUT_VARIANTS[i % len(voices.HELD_OUT_VARIANTS)]
        drawn.append(spoken(rng, text, f"{accent}+{variant}", "en"))
    english = _choose([c for c in drawn if len(c.audio) / speech.SAMPLE_RATE < MAX_S], N_ENGLISH)
    spanish = []
    for i, text in enumerate(texts["es"][:N_SPANISH]):
        variant = voices.HELD_OUT_VARIANTS[i % len(voices.HELD_OUT_VARIANTS)]
        spanish.append(spoken(rng, text, f"{voices.SPANISH[i % 2]}+{variant}", "es"))
    for prefix, clips in (("u", english), ("s", spanish)):
        for i, clip in enumerate(clips, 1):
            clip.clip_id = f"{prefix}{i:04d}-{clip.attributes['variant'].lower()}"
    return english + spanish


def sound_clips(settings: Settings) -> list[Clip]:
    """Synthesised sounds of 1.5 to 4 s, several variants of each class, each one `events` interval."""
    rng = np.random.default_rng((settings.seed, 1))  # other sounds than those of the training
    clips = []
    for name in sounds.GENERATORS:
        for i in range(SOUND_VARIANTS):
            audio = sounds.make_sound(name, rng, round(float(rng.uniform(1.5, 4.0)), 2))
            event = speech.Span(0.0, len(audio) / sounds.SAMPLE_RATE, name)
            slug = f"{name.replace('_', '-')}-{i + 1:02d}"
            clips.append(
                Clip(slug, audio, attributes={"kind": "sound", "sound_class": name}, tiers={"events": (event,)})
            )
    return clips


def write_corpus(folder: Path, name: str, clips: list[Clip]) -> None:
    """Write the otoscope corpus format (corpus.parquet, tiers.parquet, meta.json, audio/*.opus)."""
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "audio").mkdir(parents=True)
    rows, intervals = [], []
    for clip in clips:
        uri = f"audio/{clip.clip_id}.opus"
        soundfile.write(
            folder / uri, clip.audio, speech.SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
        )
        rows.append({
            "clip_id": clip.clip_id, "uri": uri, "start_s": 0.0, "end_s": len(clip.audio) / speech.SAMPLE_RATE,
            "text": clip.text, "speaker": clip.speaker, "language": clip.language,
            "attributes": list(clip.attributes.items()),
            "sha256": hashlib.sha256((folder / uri).read_bytes()).hexdigest(),
        })  # fmt: skip
        for tier, spans in clip.tiers.items():
            intervals += [
                {"clip_id": clip.clip_id, "tier": tier, "start_s": s.start_s, "end_s": s.end_s, "label": s.label}
                for s in spans
            ]
    text = pa.string()
    corpus = pa.schema([
        ("clip_id", text), ("uri", text), ("start_s", pa.float64()), ("end_s", pa.float64()), ("text", text),
        ("speaker", text), ("language", text), ("attributes", pa.map_(text, text)), ("sha256", text),
    ])  # fmt: skip
    tiers = pa.schema([
        ("clip_id", text), ("tier", text), ("start_s", pa.float64()), ("end_s", pa.float64()), ("label", text),
    ])  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, corpus), folder / "corpus.parquet", compression="zstd")
    pq.write_table(pa.Table.from_pylist(intervals, tiers), folder / "tiers.parquet", compression="zstd")
    meta = {"format": "otoscope-corpus", "version": 1, "name": name, "licence": LICENCE}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def largest_shift(folder: Path, clips: list[Clip]) -> int:
    """Largest shift in samples that the codec put on any spoken clip, by cross-correlation."""
    worst = 0
    for clip in clips:
        decoded, rate = soundfile.read(folder / f"audio/{clip.clip_id}.opus", dtype="float32")
        if rate != speech.SAMPLE_RATE or abs(len(decoded) - len(clip.audio)) > 1:
            raise RuntimeError(
                f"{clip.clip_id} came back as {len(decoded)} samples at {rate} Hz, wrote {len(clip.audio)}"
            )
        n = min(len(decoded), len(clip.audio))
        size = 2 * n
        product = np.fft.rfft(decoded[:n], size) * np.conj(np.fft.rfft(clip.audio[:n], size))
        lag = int(np.argmax(np.fft.irfft(product, size)))
        worst = max(worst, abs(lag if lag < n else lag - size))
    return worst


def run(settings: Settings) -> None:
    """Make the corpus in `assets/mini` and check that the codec did not shift the speech."""
    folder = settings.assets / "mini"
    spoken, other = speech_clips(settings), sound_clips(settings)
    write_corpus(folder, "mini", spoken + other)
    shift = largest_shift(folder, spoken)
    if shift > 1:
        raise RuntimeError(f"the codec shifted a clip by {shift} samples")
    phones = Counter(p.label for c in spoken if c.language == "en" for p in c.tiers["phones"])
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"mini: {len(spoken)} utterances, {len(other)} sounds, {size / 1e6:.2f} MB, codec shift {shift} samples")
    print(
        f"mini: {len(phones)} English phone classes, {sum(n >= 50 for n in phones.values())} of them at least 50 times"
    )
    print(f"mini: rarest {phones.most_common()[:-9:-1]}", flush=True)
