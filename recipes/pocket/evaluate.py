"""Stage 4: measure the exported folder through plain Hugging Face `generate`, and write the model card."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from . import align, card, grammar, sounds, speech, voices
from .settings import Settings
from .synthesise import digit_recordings, sound_recordings, telephone

RATE = speech.SAMPLE_RATE
N_SENTENCES, N_NOISY = 400, 200


class Listener:
    """A Hugging Face folder and what it writes for a list of recordings."""

    def __init__(self, folder: Path) -> None:
        self.processor = WhisperProcessor.from_pretrained(folder)
        self.model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def features(self, audios: list[np.ndarray]) -> torch.Tensor:
        return self.processor(audios, sampling_rate=RATE, return_tensors="pt").input_features

    def transcribe(self, audios: list[np.ndarray], language: str = "en") -> list[str]:
        """Texts with forced language and task, without timestamps."""
        said: list[str] = []
        for i in range(0, len(audios), 50):
            ids = self.model.generate(self.features(audios[i : i + 50]), language=language, task="transcribe")
            said += self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in said]

    def stamped(self, audios: list[np.ndarray], language: str = "en") -> list[list[int]]:
        """Token ids with timestamps."""
        rows: list[list[int]] = []
        for i in range(0, len(audios), 50):
            features = self.features(audios[i : i + 50])
            ids = self.model.generate(features, language=language, task="transcribe", return_timestamps=True)
            rows += ids.tolist()
        return rows

    @torch.no_grad()
    def first_token(self, audios: list[np.ndarray]) -> list[str]:
        """What follows `<|startoftranscript|>`: a language or `<|nospeech|>`."""
        said: list[str] = []
        start = self.model.generation_config.decoder_start_token_id
        for i in range(0, len(audios), 50):
            features = self.features(audios[i : i + 50])
            ids = torch.full((len(features), 1), start)
            best = self.model(input_features=features, decoder_input_ids=ids).logits[:, -1].argmax(-1)
            said += self.processor.tokenizer.convert_ids_to_tokens(best.tolist())
        return said


def bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0) -> list[float]:
    """95 % interval of a statistic over resampled rows."""
    rng = np.random.default_rng(seed)
    draws = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(1000)]
    return [float(q) for q in np.quantile(draws, [0.025, 0.975])]


def wilson(k: int, n: int) -> list[float]:
    """95 % interval of a proportion."""
    z, p = 1.96, k / n
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [max(0.0, float((centre - half) / (1 + z * z / n))), min(1.0, float((centre + half) / (1 + z * z / n)))]


def word_error(truth: list[str], said: list[str]) -> dict[str, object]:
    """Word error rate with a bootstrap interval over utterances."""
    rows = []
    for a, b in zip(truth, said, strict=True):
        out = jiwer.process_words(a, b)
        rows.append((out.substitutions + out.deletions + out.insertions, len(a.split())))
    counts = np.array(rows)
    rate = lambda c: float(c[:, 0].sum() / c[:, 1].sum())  # noqa: E731
    return {"n": len(truth), "wer": rate(counts), "interval": bootstrap(counts, rate)}


def proportion(k: int, n: int) -> dict[str, object]:
    return {"n": n, "rate": k / n, "interval": wilson(k, n)}


def add_noise(audio: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Pink noise at a signal-to-noise ratio (power over the whole clip)."""
    noise = sounds.coloured_noise(rng, len(audio), 1)
    noise *= np.sqrt(np.mean(audio**2)) / noise.std() * 10 ** (-snr_db / 20)
    return (audio + noise).astype(np.float32)


def measure_sentences(listener: Listener, settings: Settings) -> dict[str, object]:
    """(a) Held-out sentences in held-out voices, clean, noisy, through a telephone, in a held-out accent."""
    texts = json.loads((settings.build / "heldout.json").read_text())
    chosen = texts["en"][1000 : 1000 + N_SENTENCES]
    variant = lambda i: voices.HELD_OUT_VARIANTS[i % len(voices.HELD_OUT_VARIANTS)]  # noqa: E731
    clean = [
        speech.say(t, f"{voices.ACCENTS[i % len(voices.ACCENTS)]}+{variant(i)}").audio for i, t in enumerate(chosen)
    ]
    out: dict[str, object] = {"clean": word_error(chosen, listener.transcribe(clean))}
    rng = np.random.default_rng(settings.seed)
    for snr in (20, 10, 5, 0):
        noisy = [add_noise(a, snr, rng) for a in clean[:N_NOISY]]
        out[f"pink noise {snr} dB"] = word_error(chosen[:N_NOISY], listener.transcribe(noisy))
    lines = [telephone(a) for a in clean[:N_NOISY]]
    out["telephone (4 kHz)"] = word_error(chosen[:N_NOISY], listener.transcribe(lines))
    accent = [speech.say(t, f"{voices.HELD_OUT_ACCENT}+{variant(i)}").audio for i, t in enumerate(chosen[:N_NOISY])]
    out["accent en-029, never heard"] = word_error(chosen[:N_NOISY], listener.transcribe(accent))
    spanish = [speech.say(t, f"{voices.SPANISH[i % 2]}+{variant(i)}").audio for i, t in enumerate(texts["es"])]
    out["Spanish"] = word_error(texts["es"], listener.transcribe(spanish, "es"))
    first = listener.first_token(clean) + listener.first_token(spanish)
    truth = ["<|en|>"] * len(clean) + ["<|es|>"] * len(spanish)
    out["language token"] = proportion(sum(a == b for a, b in zip(first, truth, strict=True)), len(truth))
    out["speech taken for no speech"] = proportion(sum(t == "<|nospeech|>" for t in first), len(first))
    return out


def measure_mini(listener: Listener, settings: Settings) -> dict[str, object]:
    """The bundled mini corpus, as anyone can repeat it: words, timestamps and word starts by attention."""
    folder = settings.assets / "mini"
    clips = [c for c in pq.read_table(folder / "corpus.parquet").to_pylist() if c["language"] == "en"]
    audios = [soundfile.read(folder / c["uri"], dtype="float32")[0] for c in clips]
    words: dict[str, list[speech.Span]] = {}
    for row in pq.read_table(folder / "tiers.parquet").to_pylist():
        if row["tier"] == "words":
            words.setdefault(row["clip_id"], []).append(speech.Span(row["start_s"], row["end_s"], row["label"]))
    known = [dict(c["attributes"])["accent"] != "en-029" for c in clips]
    said = listener.transcribe(audios)
    pick = lambda values: [v for v, k in zip(values, known, strict=True) if k]  # noqa: E731
    out: dict[str, object] = {
        "mini": word_error(pick([c["text"] for c in clips]), pick(said)),
        "mini, all accents": word_error([c["text"] for c in clips], said),
    }
    zero = listener.model.generation_config.no_timestamps_token_id + 1
    errors = []
    for row, clip in zip(listener.stamped(audios), clips, strict=True):
        stamps = [(t - zero) * 0.02 for t in row if t >= zero]
        if len(stamps) >= 2:
            truth = words[clip["clip_id"]]
            errors.append((stamps[0] - truth[0].start_s, stamps[-1] - truth[-1].end_s))
    absolute = np.median(np.abs(errors), 0)
    out["timestamps"] = {"n": len(errors), "start_s": float(absolute[0]), "end_s": float(absolute[1])}
    items = [align.AlignedSpeech(a, tuple(words[c["clip_id"]])) for a, c in zip(audios[:200], clips[:200], strict=True)]
    heads = [(layer, head) for layer, head in listener.model.generation_config.alignment_heads]
    starts = align.start_errors(listener.model, listener.processor, items, heads)
    out["word starts"] = {
        "n": len(starts), "median_s": float(np.median(starts)), "median_absolute_s": float(np.median(np.abs(starts))),
        "within_100_ms": float(np.mean(np.abs(starts) < 0.1)),
    }  # fmt: skip
    return out


def measure_digits(
    listener: Listener, settings: Settings, speakers: tuple[str, ...] | None = None
) -> dict[str, object]:
    """(b) Single real digits of the speaker who was kept out of training; the exact word or an error."""
    recordings = digit_recordings(settings.shared)
    out: dict[str, object] = {}
    for speaker in speakers or sorted(recordings):
        audios = [soundfile.read(path, dtype="float32")[0] for path, _ in recordings[speaker]]
        truth = [word for _, word in recordings[speaker]]
        said = listener.transcribe(audios)
        wrong = Counter((t, s) for t, s in zip(truth, said, strict=True) if t != s)
        out[speaker] = proportion(sum(wrong.values()), len(truth))
        if speaker == settings.held_out_speaker:
            out["confusions"] = [[t, s or "(nothing)", k] for (t, s), k in wrong.most_common(8)]
            out["by_digit"] = {
                w: sum(k for (t, _), k in wrong.items() if t == w) / truth.count(w) for w in grammar.DIGITS
            }
    return out


def measure_sounds(listener: Listener, settings: Settings) -> dict[str, object]:
    """(c) Recordings that were kept out of training, synthesised sounds and silence: empty transcripts."""
    rng = np.random.default_rng((settings.seed, 2))
    real = [
        (p.parent.name, soundfile.read(p, dtype="float32")[0][: 6 * RATE]) for p in sound_recordings(settings.shared)[1]
    ]
    made = [(n, sounds.make_sound(n, rng, float(rng.uniform(1, 6)))) for n in sounds.GENERATORS for _ in range(6)]
    out: dict[str, object] = {}
    for name, clips in (("held-out recordings", real), ("synthesised", made)):
        said = listener.transcribe([a for _, a in clips])
        out[name] = proportion(sum(not s for s in said), len(clips))
        first = listener.first_token([a for _, a in clips])
        out[f"{name}: no-speech token first"] = proportion(sum(t == "<|nospeech|>" for t in first), len(clips))
        out[f"{name}, fabricated"] = [[n, s] for (n, _), s in zip(clips, said, strict=True) if s][:10]
    return out


def run(settings: Settings) -> None:
    """Measure the exported model and an untrained twin; write figures.json and the model card."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    listener, untrained = Listener(settings.assets / "pocket"), Listener(settings.build / "random")
    figures: dict[str, object] = json.loads((settings.build / "facts.json").read_text())
    figures["held_out_speaker"] = settings.held_out_speaker
    for name, measure in (
        ("sentences", measure_sentences),
        ("mini", measure_mini),
        ("digits", measure_digits),
        ("sounds", measure_sounds),
    ):
        figures[name] = measure(listener, settings)
        print(f"evaluate: {name} {json.dumps(figures[name], ensure_ascii=False)}", flush=True)
    speaker = settings.held_out_speaker
    figures["untrained"] = {
        "mini": measure_mini(untrained, settings)["mini"],
        "digits": measure_digits(untrained, settings, (speaker,))[speaker],
    }
    (settings.build / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False))
    (settings.assets / "pocket/README.md").write_text(card.write(figures))
