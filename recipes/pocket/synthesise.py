"""Stage 1: pools of log-mel spectrograms on disk (synthetic speech, real digits, sounds)."""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from . import grammar, mel, sounds, speech, voices
from .settings import WINDOW_FRAMES, Settings

MAX_SPEECH_FRAMES = 540
N_SYNTHETIC_SOUNDS = 2400


@dataclass
class Item:
    """One entry of a pool. Times are seconds from its first frame; `phones` one class per 20 ms, 0 is none."""

    offset: int
    n_frames: int
    text: str = ""
    language: str = ""
    kind: str = ""  # english | digits | spanish | real_digit | sound
    source: str = ""  # voice, speaker or sound class
    start_s: float = 0.0
    end_s: float = 0.0
    phones: list[int] = field(default_factory=list)


class PoolWriter:
    """Appends spectrograms; `close` writes `NAME.npy` (float16 [frames, 80]) and `NAME.json`."""

    def __init__(self, path: Path) -> None:
        self.path, self.chunks, self.items, self.n_frames = path, [], [], 0

    def add(self, log10_power: np.ndarray, **fields: object) -> None:
        n = len(log10_power) // 2 * 2
        self.chunks.append(log10_power[:n].astype(np.float16))
        self.items.append(Item(offset=self.n_frames, n_frames=n, **fields))
        self.n_frames += n

    def close(self) -> None:
        np.save(self.path.with_suffix(".npy"), np.concatenate(self.chunks))
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps([asdict(item) for item in self.items]))
        partial.rename(self.path.with_suffix(".json"))


def phone_frames(phones: tuple[speech.Span, ...], n_frames: int) -> list[int]:
    """Class of the phone at each encoder position (20 ms apart): 1 + its index in `speech.PHONES`, 0 none."""
    out = [0] * ((n_frames + 1) // 2)
    for phone in phones:
        label = speech.PHONES.index(phone.label) + 1
        for i in range(int(np.ceil(phone.start_s / 0.02)), min(len(out), int(np.ceil(phone.end_s / 0.02)))):
            out[i] = label
    return out


def reverberate(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a synthetic room: noise decaying over 0.1 to 0.4 s, at -20 to -8 dB; the direct sound stays in place."""
    n = int(rng.uniform(0.1, 0.4) * mel.SAMPLE_RATE)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    tail *= 10 ** (rng.uniform(-20, -8) / 20) / np.sqrt((tail**2).sum())
    size = len(audio) + n
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)[: len(audio)]
    return (audio + wet).astype(np.float32)


def telephone(audio: np.ndarray) -> np.ndarray:
    """Remove everything above 4 kHz, as in recordings made at 8 kHz."""
    return soxr.resample(soxr.resample(audio, 16_000, 8_000), 8_000, 16_000)


def _write_speech_shard(path: Path, seed: int, n: int, heldout: frozenset[str]) -> int:
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    pool = PoolWriter(path)
    while len(pool.items) < n:
        kind = rng.choices(("english", "digits", "spanish"), (0.78, 0.14, 0.08))[0]
        text = {"english": grammar.english, "digits": grammar.digits, "spanish": grammar.spanish}[kind](rng)
        if text in heldout:
            continue
        voice = voices.draw(rng, voices.SPANISH if kind == "spanish" else voices.ACCENTS, voices.VARIANTS)
        said = speech.say(text, voice, **voices.prosody(rng))
        audio = reverberate(said.audio, noise) if rng.random() < 0.2 else said.audio
        if kind == "digits" and rng.random() < 0.6:
            audio = telephone(audio)
        log10_power = mel.log_power(audio)
        if len(log10_power) > MAX_SPEECH_FRAMES:
            continue
        phones = phone_frames(said.phones, len(log10_power) // 2 * 2)
        pool.add(
            log10_power, text=text, language="es" if kind == "spanish" else "en", kind=kind, source=voice,
            start_s=said.phones[0].start_s, end_s=said.phones[-1].end_s, phones=phones,
        )  # fmt: skip
    pool.close()
    return n


def digit_recordings(shared: Path) -> dict[str, list[tuple[Path, str]]]:
    """Recordings of the Free Spoken Digit Dataset: speaker → [(file, spoken word)]."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted((shared / "data/digits/fsdd").glob("*.flac")):
        digit, speaker, _ = path.stem.split("_")
        found.setdefault(speaker, []).append((path, grammar.DIGITS[int(digit)]))
    return found


def sound_recordings(shared: Path) -> tuple[list[Path], list[Path]]:
    """Real sounds for training and held out (about one third); parts of one source stay together."""
    train, heldout = [], []
    for path in sorted((shared / "data/sounds").rglob("*.flac")):
        if path.parent.parent.name == "esc10":
            clip = re.match(r"\d-(\d+)-", path.name)
            assert clip is not None, path
            source = int(clip.group(1))
        else:
            source = sum(path.stem.encode())
        (heldout if source % 3 == 0 else train).append(path)
    return train, heldout


def _write_digits(path: Path, settings: Settings) -> None:
    rng = np.random.default_rng(settings.seed)
    pool = PoolWriter(path)
    for speaker, recordings in digit_recordings(settings.shared).items():
        if speaker == settings.held_out_speaker:
            continue
        for file, word in recordings:
            audio, rate = soundfile.read(file, dtype="float32")
            audio = audio * (0.05 / max(1e-6, float(np.sqrt(np.mean(audio**2)))))
            for factor in (1.0, *rng.uniform(0.84, 1.2, size=4)):
                changed = soxr.resample(audio, rate * factor, rate)
                pool.add(
                    mel.log_power(changed), text=word, language="en", kind="real_digit", source=speaker,
                    end_s=len(changed) / rate,
                )  # fmt: skip
    pool.close()


def _write_sounds(path: Path, settings: Settings) -> None:
    rng = np.random.default_rng(settings.seed)
    pool = PoolWriter(path)
    for file in sound_recordings(settings.shared)[0]:
        audio, _ = soundfile.read(file, dtype="float32")
        pool.add(mel.log_power(audio), kind="sound", source="real")
    names = list(sounds.GENERATORS)
    for i in range(N_SYNTHETIC_SOUNDS):
        name = names[i % len(names)]
        audio = sounds.make_sound(name, rng, rng.uniform(1.0, WINDOW_FRAMES / 100))
        pool.add(mel.log_power(audio), kind="sound", source=name)
    pool.close()


def run(settings: Settings) -> None:
    """Write all pools under `build/pools`; finished files are kept."""
    folder = settings.build / "pools"
    folder.mkdir(parents=True, exist_ok=True)
    english, spanish = grammar.draw_heldout(settings.seed, settings.n_heldout_english, settings.n_heldout_spanish)
    (settings.build / "heldout.json").write_text(json.dumps({"en": english, "es": spanish}, ensure_ascii=False))
    heldout = frozenset(english + spanish)
    for name, write in (("digits", _write_digits), ("sounds", _write_sounds)):
        if not (folder / f"{name}.json").exists():
            write(folder / name, settings)
            print(f"synthesise: {name} done", flush=True)
    paths = [folder / f"speech-{i:03d}" for i in range(settings.n_shards)]
    todo = [(i, p) for i, p in enumerate(paths) if not p.with_suffix(".json").exists()]
    start = time.time()
    with ProcessPoolExecutor(2) as workers:
        jobs = [
            workers.submit(_write_speech_shard, p, settings.seed * 1000 + i, settings.utterances_per_shard, heldout)
            for i, p in todo
        ]
        for done, job in enumerate(jobs, 1):
            job.result()
            left = (time.time() - start) / done * (len(jobs) - done)
            print(f"synthesise: shard {done}/{len(jobs)}, {left:.0f} s left", flush=True)
