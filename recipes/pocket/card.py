"""The model card, written from measured figures."""

from __future__ import annotations

from typing import Any

from . import grammar, voices

_HEAD = """---
language: [en, es]
license: cc-by-sa-4.0
library_name: transformers
pipeline_tag: automatic-speech-recognition
tags: [whisper, interpretability]
---
# pocket: a {parameters:.2f} M-parameter Whisper to look inside

A Whisper (Hugging Face layout, d_model 128, 4 + 4 layers, 4 heads, 80 mels, 6-s window) trained from scratch by
`python -m recipes.pocket` in {minutes} minutes ({steps} steps of 32 clips, on two busy CPU cores). It hears
{words} English words of a small grammar, spoken digits, and about 60 Spanish words; it stays silent on sounds. It
is made for
interpretability: on synthetic speech every phone and word boundary is known. It is **not** a general speech recogniser.

```python
from transformers import WhisperForConditionalGeneration, WhisperProcessor
processor = WhisperProcessor.from_pretrained(folder)
model = WhisperForConditionalGeneration.from_pretrained(folder, dtype="float32")
features = processor(audio, sampling_rate=16000, return_tensors="pt").input_features
processor.batch_decode(model.generate(features, language="en", task="transcribe"), skip_special_tokens=True)
```

## Measured
Plain Hugging Face processor and greedy `generate` with forced language and task; brackets are 95 % intervals
(bootstrap over utterances for word error, Wilson for shares). "Held-out voices" are espeak-ng variants that
training never used; they are other settings of the same formant synthesiser, so this is an easier test than a new
human voice. The sentences are new, their words and templates are not. Digits have one held-out speaker: the
interval says nothing about other speakers.

| test | n | result |
|---|---|---|
"""

_AIDS = """
## What training planted
- A throw-away linear classifier of the phone at each 20-ms position read the encoder's output (real digits
  excepted). The weight of its loss fell linearly{aid}. Without such an aid a prototype took
  several times longer to start listening. So **phone information in the encoder's output was asked for**, not
  discovered; where in the encoder it is computed, in which units, and everything after the first third was not
  guided.
- No attention was guided: heads that follow the speech in time emerged by themselves. `alignment_heads` are the
  four cross-attention heads with the largest share of attention inside the word being predicted (± 40 ms):
"""

_LIMITS = """
## Training data
- Synthetic speech (espeak-ng 1.52): {voices} voice variants in {accents} English accents and 2 Spanish ones;
  sentences of a small grammar, digit strings, a fifth of them word salad.
- Real digits: Free Spoken Digit Dataset (Z. Jackson and contributors, CC BY-SA 4.0), four speakers; `{speaker}` was
  chosen as the held-out speaker before any result was seen.
- Sounds: two thirds of the recordings of ESC-10 (K. J. Piczak), of the Blanket sounds and of librosa's examples
  (CC0, CC BY, public domain), and synthesised sounds.
- Token sequences: `<|startoftranscript|><|en|><|transcribe|><|notimestamps|> text` (a fifth with timestamps
  instead, one segment a sentence); sounds have `<|nospeech|>` as the target after the start token and, behind a
  forced prefix, the end of the text.

## Limits
- Real digits are 8-kHz recordings of five men; four of them are all the human speech this model has ever heard.
- Words outside the vocabulary come out as vocabulary words.
- Timestamps and word times hold for its domain. One seed was trained.
"""


def _share(f: dict[str, Any], key: str = "rate") -> str:
    low, high = f["interval"]
    return f"{100 * f[key]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _rows(figures: dict[str, Any]) -> list[tuple[str, int, str]]:
    sentences, mini, digits, sounds = (figures[k] for k in ("sentences", "mini", "digits", "sounds"))
    speaker = figures["held_out_speaker"]
    language, refused = sentences["language token"], sentences["speech taken for no speech"]
    rows = [
        (
            "(a) held-out sentences, held-out voices: word error",
            sentences["clean"]["n"],
            _share(sentences["clean"], "wer"),
        ),
        ("bundled mini corpus, known accents: word error", mini["mini"]["n"], _share(mini["mini"], "wer")),
    ]
    for name in sentences:
        if "wer" in sentences[name] and name != "clean":
            rows.append((f"{name}: word error", sentences[name]["n"], _share(sentences[name], "wer")))
    rows += [
        ("right language after the start token", language["n"], _share(language)),
        ("speech taken for no speech", refused["n"], _share(refused)),
        (f"(b) real digits, held-out speaker {speaker}: errors", digits[speaker]["n"], _share(digits[speaker])),
    ]  # fmt: skip
    for name, figure in digits.items():
        if name not in (speaker, "confusions", "by_digit"):
            rows.append((f"real digits, training speaker {name}: errors", figure["n"], _share(figure)))
    for name, figure in sounds.items():
        if "fabricated" not in name:
            what = "" if "first" in name else ": empty transcript"
            rows.append((f"(c) {name}{what}", figure["n"], _share(figure)))
    untrained = figures["untrained"]
    rows.append(
        ("control, random weights, mini corpus: word error", untrained["mini"]["n"], _share(untrained["mini"], "wer"))
    )
    rows.append(("control, random weights, real digits: errors", untrained["digits"]["n"], _share(untrained["digits"])))
    return rows


def write(figures: dict[str, Any]) -> str:
    """The card in Markdown; every number in it comes from `figures`."""
    mini, digits = figures["mini"], figures["digits"]
    head = _HEAD.format(
        parameters=figures["parameters"] / 1e6,
        minutes=round(figures["minutes"]),
        steps=figures["steps"],
        words=len(grammar.VOCABULARY),
    )
    table = "".join(f"| {what} | {n} | {result} |\n" for what, n, result in _rows(figures))
    stamps, starts = mini["timestamps"], mini["word starts"]
    confusions = ", ".join(f"{t} → {s} {k}x" for t, s, k in digits["confusions"])
    by_digit = ", ".join(f"{word} {100 * rate:.0f} %" for word, rate in digits["by_digit"].items())
    times = (
        f"\nTimestamps (n = {stamps['n']}): median absolute error of the start {1000 * stamps['start_s']:.0f} ms, "
        f"of the end {1000 * stamps['end_s']:.0f} ms. Word starts from the alignment heads by dynamic time warping "
        f"(n = {starts['n']} words, the first of each clip left out): median {1000 * starts['median_s']:+.0f} ms, "
        f"median absolute {1000 * starts['median_absolute_s']:.0f} ms, "
        f"{100 * starts['within_100_ms']:.0f} % within 100 ms.\n\n"
        f"Digits of the held-out speaker, errors by word: {by_digit}. Most frequent confusions: {confusions}.\n"
    )
    mass = figures["mass_inside_words"]
    heads = "  " + "; ".join(f"layer {a} head {b}: {mass[a][b]:.2f}" for a, b in figures["alignment_heads"]) + ".\n"
    limits = _LIMITS.format(
        speaker=figures["held_out_speaker"], voices=len(voices.VARIANTS), accents=len(set(voices.ACCENTS))
    )
    return head + table + times + _AIDS.format(aid=figures["phone_aid"]) + heads + limits
