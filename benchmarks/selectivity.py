"""Count the phones and features that are selective on held-out voices, and how many chance and random weights give.

    python benchmarks/selectivity.py [--quick] [--model FOLDER]

Pairs of unit and phone are chosen on one half of the voices and scored on the other. Units are the neurons of every
encoder layer (of the MLP before and after its GELU, which folds small negative values, and of the residual stream) and
the features of one TopK dictionary, trained as in `otoscope demo`. Controls: the same labels rotated by at least a
second within each clip, and the same architecture with random weights, for which a dictionary is trained anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import otoscope as oto
from otoscope.activations import ActivationStore
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.evaluation import best_units, circular_shift, held_out_purity, split_groups
from otoscope.models import SpeechModel

RESULT = Path(__file__).resolve().parent / "results" / "selectivity.md"
MIN_OCCURRENCES = 50
GOOD_AUROC = 0.9
PURE = 0.8
SAE_STEPS = 800
NEURON_SITES = ("mlp.pre", "mlp.post", "resid_post")
SAE, NEURONS, ANY = "sae", "neurons of any layer", "any unit"


@dataclass(frozen=True)
class PhoneFrames:
    """The phone-labelled frames of a store: which frames, their phone, shifted phone and half (0 choose, 1 score)."""

    rows: np.ndarray
    labels: np.ndarray
    shifted: np.ndarray
    half: np.ndarray
    phones: tuple[str, ...]
    frequent: np.ndarray


@dataclass
class Report:
    """What one model shows: per group of units, AUROC on the scoring half of each frequent phone's chosen unit."""

    phones: tuple[str, ...]
    auroc: dict[str, np.ndarray] = field(default_factory=dict)
    shifted: dict[str, np.ndarray] = field(default_factory=dict)
    purity: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shifted_purity: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def detected(self, group: str = ANY) -> int:
        """Phones with a unit of AUROC ≥ 0.9."""
        return int((self.auroc[group] >= GOOD_AUROC).sum())

    def detected_when_shifted(self, group: str = ANY) -> int:
        """The same with rotated labels."""
        return int((self.shifted[group] >= GOOD_AUROC).sum())

    def pure(self) -> int:
        """Dictionary features whose strongest twentieth is ≥ 80 % one phone."""
        return int((self.purity >= PURE).sum())

    def pure_when_shifted(self) -> int:
        """The same with rotated labels."""
        return int((self.shifted_purity >= PURE).sum())


def spoken(corpus: Corpus) -> Corpus:
    """The clips that have phones, of the language most of them are in.

    With two languages, a unit that knows the language would pass for a detector of the phones only one of them has;
    labels shifted within clips show it (Spanish e and a reach 0.93).
    """
    clips = [clip for clip in corpus if clip.tier("phones")]
    languages = [str(clip.language) for clip in clips]
    most = max(sorted(set(languages)), key=languages.count)
    return Corpus(corpus.name, [clip for clip, language in zip(clips, languages, strict=True) if language == most])


def phone_frames(corpus: Corpus, store: ActivationStore, seed: int = 0) -> PhoneFrames:
    """Label the frames of a store from the phone tiers; frame t stands at 0.02·t s."""
    occurrences: dict[str, int] = {}
    for clip in corpus:
        for each in clip.tier("phones"):
            occurrences[each.label] = occurrences.get(each.label, 0) + 1
    phones = tuple(sorted(occurrences))
    index = {phone: i for i, phone in enumerate(phones)}
    labels = np.full(store.n_frames, -1, dtype=np.int64)
    starts, counts = [], []
    for clip in corpus:
        offset, n_frames = store.clips[clip.clip_id]
        starts.append(offset)
        counts.append(n_frames)
        for each in clip.tier("phones"):
            first, last = (int(np.ceil(s / 0.02 - 1e-6)) for s in (each.start_s, each.end_s))
            labels[offset + first : offset + min(last, n_frames)] = index[each.label]
    shifted = circular_shift(labels, np.array(starts), seed=seed)
    half = np.repeat(split_groups([str(clip.speaker) for clip in corpus], counts, seed=seed), counts)
    rows = np.flatnonzero(labels >= 0)
    frequent = np.array([occurrences[phone] >= MIN_OCCURRENCES for phone in phones])
    return PhoneFrames(rows, labels[rows], shifted[rows], half[rows], phones, frequent)


def sites_of(model: SpeechModel) -> list[str]:
    """The neurons looked at, in every encoder layer."""
    return [f"encoder.{layer}.{kind}" for layer in range(model.dims.n_layers) for kind in NEURON_SITES]


def measure(
    model: SpeechModel, corpus: Corpus, folder: Path, *, sites: list[str] | None = None, sae_steps: int = SAE_STEPS
) -> Report:
    """Harvest, train a dictionary on the middle layer (unless `sae_steps` is 0), and score all units for all phones."""
    corpus = spoken(corpus)
    store = oto.harvest(model, corpus, sites or sites_of(model), folder / "store", progress=False)
    middle = f"encoder.{model.dims.n_layers // 2}.resid_post"
    spec = oto.TopK(1024, k=16)
    sae = sae_steps and oto.train(store, spec, site=middle, steps=sae_steps, batch_size=2048, lr=2e-3, progress=False)
    return score(corpus, store, sae or None)


def score(corpus: Corpus, store: ActivationStore, sae: Dictionary | None) -> Report:
    """Score the units of every site of a store, and the features of a dictionary, for all phones of its clips."""
    groups = (*store.sites, SAE) if sae else store.sites
    frames = phone_frames(corpus, store)
    report = Report(tuple(p for p, often in zip(frames.phones, frames.frequent, strict=True) if often))
    chosen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for group in groups:
        values = features(sae, store, frames.rows) if group == SAE else store.read(group)[frames.rows]
        real, moved = best_units(values, [frames.labels, frames.shifted], frames.half, len(frames.phones))
        report.auroc[group], report.shifted[group] = real.scored[frames.frequent], moved.scored[frames.frequent]
        chosen[group] = real.chosen[frames.frequent], moved.chosen[frames.frequent]
        if group == SAE:
            report.purity = held_out_purity(values, frames.labels, frames.half)
            report.shifted_purity = held_out_purity(values, frames.shifted, frames.half)
    for name, members in ((NEURONS, store.sites), (ANY, groups)):
        for which, scored in enumerate((report.auroc, report.shifted)):
            winner = np.nan_to_num(np.stack([chosen[group][which] for group in members]), nan=-1.0).argmax(axis=0)
            scored[name] = np.stack([scored[group] for group in members])[winner, np.arange(len(winner))]
    return report


def features(dictionary: Dictionary, store: ActivationStore, rows: np.ndarray) -> np.ndarray:
    """The features `[t, n]` of some frames of a store."""
    frames = torch.from_numpy(store.read(dictionary.site)[rows])
    with torch.inference_mode():
        return np.concatenate([dictionary.encode(part).dense().numpy() for part in frames.split(4096)])


def markdown(real: Report, random: Report, seconds: float) -> str:
    """The tables of `benchmarks/results/selectivity.md`."""
    n = len(real.phones)
    lines = [
        "# Selectivity on held-out voices",
        "",
        f"Phones occurring ≥ {MIN_OCCURRENCES} times in the English clips of the mini corpus: {n}. Pairs of unit and "
        "phone are chosen on one half of the voices and scored on the other. "
        f"Dictionary: TopK 1024/16 on the middle layer, {SAE_STEPS} steps, trained anew on the random weights. "
        f"{seconds:.0f} s.",
        "",
        "| | pocket | labels shifted ≥ 1 s | random weights |",
        "|---|---|---|---|",
        f"| phones with a unit of AUROC ≥ {GOOD_AUROC}, any layer | **{real.detected()} of {n}** "
        f"({real.detected() / n:.0%}) | {real.detected_when_shifted()} | {random.detected()} |",
        f"| the same, neurons only | {real.detected(NEURONS)} | {real.detected_when_shifted(NEURONS)} "
        f"| {random.detected(NEURONS)} |",
        f"| SAE features with top-5 % purity ≥ {PURE} | **{real.pure()}** | {real.pure_when_shifted()} "
        f"| {random.pure()} |",
        f"| highest AUROC of a phone | {np.nanmax(real.auroc[ANY]):.3f} | {np.nanmax(real.shifted[ANY]):.3f} "
        f"| {np.nanmax(random.auroc[ANY]):.3f} |",
        "",
        "| units | phones ≥ 0.9 | random weights |",
        "|---|---|---|",
    ]
    for group in real.auroc:
        lines.append(
            f"| {group} | {real.detected(group)} | {random.detected(group) if group in random.auroc else '–'} |"
        )
    ranked = sorted(zip(real.auroc[ANY], real.phones, strict=True), reverse=True)
    lines += ["", "AUROC of each phone: " + ", ".join(f"{phone} {score:.2f}" for score, phone in ranked) + "."]
    found = [phone for phone, score in zip(random.phones, random.auroc[ANY], strict=True) if score >= GOOD_AUROC]
    if found:
        lines += ["", f"Found with random weights, all by the dictionary trained on them: {', '.join(found)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure pocket and its random twin, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the dictionary of the random weights")
    parser.add_argument("--model", default="pocket", help="model name or folder")
    options = parser.parse_args()
    model, corpus = oto.load_model(options.model), oto.corpus("mini")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        real = measure(model, corpus, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        steps = 0 if options.quick else SAE_STEPS
        random = measure(model.random_weights(0), corpus, Path(folder), sae_steps=steps)
    table = markdown(real, random, time.perf_counter() - start)
    print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
