"""Are labels true? Judged on voices that neither chose them, nor scored them, nor set the false-discovery rate.

    python benchmarks/atlas_labels.py [--quick] [--model FOLDER]

An atlas of the MLP neurons and of TopK dictionaries (three seeds) is built over six of the eight voices of the mini
corpus and two thirds of its sounds; the other two voices and the other sounds are the third set. Said before looking:

- **right**: on the third set, at the threshold of the atlas, F1 for the label's class lies above chance (moved labels,
  p < 0.01), its 95 % interval above both the mean of chance and always saying so;
- **argmax** (stricter): among all classes of its kind, the label's class has the best F1 on the third set;
  **twin**: it is not the best, but has at least nine tenths of its skill (the near-twins /s/ and /z/, say).

Controls: tiers rotated within each clip, sounds dealt to other clips (what is labelled then is false); units that add
two features of different phones, equally strong or one at a third (both labels must be found), and the same features
alone (no second label must be found).
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import otoscope as oto
from otoscope.activations import ActivationStore
from otoscope.atlas import Atlas, build_atlas
from otoscope.audio import Clip, Corpus, Interval
from otoscope.dictionaries import Dictionary, Neurons
from otoscope.evaluation.by_feature import Block
from otoscope.evaluation.label_sets import label_sets
from otoscope.evaluation.labeller import Labeller, always_on_f1
from otoscope.evaluation.labelling import FIT, SCORE
from otoscope.evaluation.targets import Targets, measure
from otoscope.evaluation.traits import SPEAKER_KINDS, all_kinds
from otoscope.models import SpeechModel

RESULT = Path(__file__).resolve().parent / "results" / "atlas_labels.md"
SITES = ("encoder.3.mlp.post", "encoder.2.resid_post")
THIRD_VOICES = 2
TWIN = 0.9
MAX_P = 0.01
WEAK = 1 / 3
N_MIXED = 10


@dataclass(frozen=True)
class Judgement:
    """How labels fare on the third set."""

    features: int
    alive: int
    labelled: int
    decidable: int
    right: int
    argmax: int
    twins: int
    natures: dict[str, int]

    @property
    def precision(self) -> float:
        """Share of labels, among those that the third set can decide, that are right."""
        return self.right / max(self.decidable, 1)


def parted(corpus: Corpus, seed: int = 0) -> tuple[Corpus, Corpus]:
    """Return the corpus for the atlas and the third set: voices of their own, and every third sound."""
    voices = sorted({clip.speaker for clip in corpus if clip.speaker})
    away = set(np.random.default_rng(seed).permutation(voices)[:THIRD_VOICES].tolist())
    third = [c for i, c in enumerate(corpus) if (c.speaker in away if c.speaker else i % 3 == 0)]
    kept = {c.clip_id for c in third}
    return Corpus("mini", [c for c in corpus if c.clip_id not in kept]), Corpus("third", third)


def shuffled(corpus: Corpus, seed: int) -> Corpus:
    """Return the corpus with the tiers of spoken clips rotated by a second or more, and sounds' labels dealt anew."""
    rng = np.random.default_rng(seed)
    sounds = [clip for clip in corpus if not clip.tier("phones")]
    dealt = iter([sounds[i] for i in rng.permutation(len(sounds))])
    clips = []
    for clip in corpus:
        if not clip.tier("phones"):
            other = next(dealt)
            clips.append(dataclasses.replace(clip, attributes=other.attributes, tiers=other.tiers))
            continue
        end = clip.duration_s
        move = float(rng.uniform(min(1.0, end / 3), max(end - 1.0, 2 * end / 3)))
        tiers = {name: _rotated(tier, end, move) for name, tier in clip.tiers.items()}
        clips.append(dataclasses.replace(clip, tiers=tiers))
    return Corpus(corpus.name, clips)


def _rotated(tier: tuple[Interval, ...], end: float, move: float) -> tuple[Interval, ...]:
    """The intervals of a tier, moved on and round; what would be cut at the end is left out."""
    starts = [(each.start_s + move) % end for each in tier]
    moved = [Interval(s, s + each.end_s - each.start_s, each.label) for s, each in zip(starts, tier, strict=True)]
    return tuple(sorted((each for each in moved if each.end_s <= end), key=lambda each: each.start_s))


def labelled_share(atlas: Atlas) -> float:
    """Share of features active at all with a label that shuffling made false.

    Not who speaks, nor a pause, since a clip still begins with one.
    """
    table = atlas.features
    own = table["label"].notna() & ~table["label_kind"].isin((*SPEAKER_KINDS, "pause"))
    return float(own.sum() / max((table["n_active"] > 0).sum(), 1))


def judge(atlas: Atlas, dictionary: Dictionary, store: ActivationStore, third: Corpus) -> Judgement:
    """Try the labels of an atlas on the third set."""
    counts = [store.clips[clip.clip_id][1] for clip in third]
    sets = label_sets(third, counts, np.arange(len(third), dtype=np.uint8) % 2, atlas.clock, all_kinds(third))
    sets = [each for each in sets if each.kind not in SPEAKER_KINDS]
    block = _entries(dictionary, store, third)
    of_frame = np.repeat(np.arange(len(third), dtype=np.int32), counts)
    as_scored = Labeller.of(sets, of_frame, np.full(len(third), SCORE, np.uint8), seed=1)
    as_fit = Labeller.of(sets, of_frame, np.full(len(third), FIT, np.uint8), seed=1)
    skill, _ = as_fit.chosen(block)
    column = {(each.kind, name): (k, c) for k, each in enumerate(sets) for c, name in enumerate(each.classes)}
    table = atlas.features
    named = table[table["label"].notna()]
    targets, rows = Targets(), []
    for feature, row in named.iterrows():
        found = column.get((row["label_kind"], row["label"]))
        if found is not None:
            targets.add(int(feature), found[0], (found[1],), float(row["threshold"]))
            rows.append((int(feature), *found))
    figures = measure(as_scored.labelling, block, targets)
    right = argmax = twins = 0
    for i, (feature, k, c) in enumerate(rows):
        always = always_on_f1(as_scored.n_positive[k][SCORE])[c]
        good = figures["p_value"][i] < MAX_P and figures["f1_low"][i] > max(figures["chance"][i], always)
        own = skill[feature, as_fit.first_class[k] : as_fit.first_class[k + 1]]
        right += bool(good)
        argmax += bool(good and own[c] >= own.max())
        twins += bool(good and own.max() > own[c] >= TWIN * own.max())
    natures = table["nature"].value_counts().to_dict()
    alive = int((table["n_active"] > 0).sum())
    return Judgement(len(atlas), alive, len(named), len(rows), right, argmax, twins, natures)


def _entries(dictionary: Dictionary, store: ActivationStore, corpus: Corpus) -> Block:
    frames, features, values, at = [], [], [], 0
    for clip in corpus:
        x = np.concatenate([store.clip(site, clip.clip_id) for site in dictionary.sites], axis=1)
        with torch.inference_mode():
            code = dictionary.encode(torch.from_numpy(x))
        strength, index = code.values.float().numpy(), code.indices.numpy()
        row, column = np.nonzero(strength > 0)
        frames.append(at + row)
        features.append(index[row, column])
        values.append(strength[row, column])
        at += len(x)
    owner = np.concatenate(features)
    order = np.argsort(owner, kind="stable")
    indptr = np.searchsorted(owner[order], np.arange(dictionary.n_features + 1)).astype(np.int64)
    joined = np.concatenate(frames)[order].astype(np.uint32), np.concatenate(values)[order].astype(np.float32)
    return Block(0, indptr, *joined)


@dataclass(frozen=True)
class Mixed:
    """Stands in for a model whose units are sums of features, or single ones."""

    model: SpeechModel
    frames: dict[str, np.ndarray]
    name: str = "mixed"
    weights_hash: str = "0" * 64
    dtype: torch.dtype = torch.float32

    @property
    def dims(self) -> Any:
        """Those of the model that was mixed."""
        return self.model.dims

    def site(self, text: str) -> Any:
        """The site of a name."""
        return self.model.site(text)

    def width(self, site: str) -> int:
        """Number of units."""
        return next(iter(self.frames.values())).shape[1]

    def run(self, clip: Clip, read: list[str]) -> dict[str, torch.Tensor]:
        """The values of all units in a clip."""
        return {read[0]: torch.from_numpy(self.frames[clip.clip_id])}


@dataclass(frozen=True)
class Polysemy:
    """Units made of two features, and the same features alone."""

    both: int
    bands_apart: int
    units: int
    single: int
    single_with_second: int
    details: tuple[str, ...]


def polysemy(
    atlas: Atlas, dictionary: Dictionary, store: ActivationStore, corpus: Corpus, model: SpeechModel
) -> Polysemy:
    """Add features two by two, and see whether both labels are found, and none where there is one."""
    table = atlas.features
    phones = table[(table["label_kind"] == "phone") & (table["n_labels"] == 1)].sort_values("f1", ascending=False)
    phones = phones.drop_duplicates("label").head(2 * N_MIXED)
    phones = phones[[not atlas[i].unions for i in phones.index]] if len(phones) > 8 else phones
    chosen, labels = phones.index.to_numpy(), phones["label"].tolist()
    half = len(chosen) // 2
    pairs = list(zip(range(half), range(len(chosen) - half, len(chosen)), strict=True))
    scale = table.loc[chosen, "q90"].to_numpy()
    frames = {}
    for clip in corpus:
        x = np.concatenate([store.clip(site, clip.clip_id) for site in dictionary.sites], axis=1)
        with torch.inference_mode():
            code = dictionary.encode(torch.from_numpy(x))
        dense = np.zeros((len(x), dictionary.n_features), dtype=np.float32)
        np.put_along_axis(dense, code.indices.numpy(), code.values.float().numpy(), axis=1)
        own = np.maximum(dense[:, chosen] / scale, 0)
        mixed = [own[:, a] + (1.0 if i % 2 else WEAK) * own[:, b] for i, (a, b) in enumerate(pairs)]
        frames[clip.clip_id] = np.concatenate([np.stack(mixed, axis=1), own], axis=1).astype(np.float32)
    units = Neurons(str(dictionary.site), len(pairs) + len(chosen), name="mixed")
    of_units = build_atlas(Mixed(model, frames), units, corpus, progress=False)
    both, apart, details = 0, 0, []
    for i, (a, b) in enumerate(pairs):
        bands = of_units[i].bands
        found = {label: band for band in bands for label in band.labels}
        both += {labels[a], labels[b]} <= set(found)
        if {labels[a], labels[b]} <= set(found) and not i % 2:
            apart += found[labels[b]].high < np.inf
        details.append(f"/{labels[a]}/ + {'' if i % 2 else '⅓ '}/{labels[b]}/: {of_units[i].sentence}")
    second = sum(len(of_units[len(pairs) + j].bands) > 1 for j in range(len(chosen)))
    details += [f"/{labels[j]}/ alone: {of_units[len(pairs) + j].sentence}" for j in range(len(chosen))]
    return Polysemy(both, apart, len(pairs), len(chosen), second, tuple(details))


def dictionaries(store: ActivationStore, corpus: Corpus, seeds: int, steps: int) -> list[Dictionary]:
    """Return the neurons of the first site, and a TopK dictionary of the second for each seed."""
    clips = [clip.clip_id for clip in corpus]
    spec = oto.TopK(n_features=1024, k=16)
    trained = [
        oto.train(store, spec, site=SITES[1], steps=steps, seed=seed, clips=clips, progress=False)
        for seed in range(seeds)
    ]
    return [Neurons(SITES[0], store.d(SITES[0]), name="neurons"), *trained]


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, short training")
    parser.add_argument("--model", default="pocket")
    options = parser.parse_args()
    seeds, steps = (1, 300) if options.quick else (3, 800)
    model, corpus = oto.load_model(options.model), oto.corpus("mini")
    first, third = parted(corpus)
    lines = [
        "| dictionary | features active | labelled | right | argmax | or twin | shuffled: labelled |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        store = oto.harvest(model, corpus, list(SITES), Path(folder) / "store", progress=False)
        for number, dictionary in enumerate(dictionaries(store, first, seeds, steps)):
            began = time.perf_counter()
            atlas = build_atlas(store, dictionary, first, progress=False)
            seconds = time.perf_counter() - began
            found = judge(atlas, dictionary, store, third)
            chance = [
                labelled_share(build_atlas(store, dictionary, shuffled(first, s), progress=False)) for s in range(seeds)
            ]
            name = "neurons" if number == 0 else f"TopK, seed {number - 1}"
            n = max(found.decidable, 1)
            shares = [found.precision, found.argmax / n, (found.argmax + found.twins) / n]
            figures = [f"{found.right}/{found.decidable} = {shares[0]:.3f}", f"{shares[1]:.3f}", f"{shares[2]:.3f}"]
            by_chance = ", ".join(f"{share:.4f}" for share in chance)
            lines.append(f"| {' | '.join([name, str(found.alive), str(found.labelled), *figures, by_chance])} |")
            notes.append(f"{name}: {found.natures}; atlas in {seconds:.1f} s")
            if number == 1:
                mixed = polysemy(atlas, dictionary, store, first, model)
                notes += [
                    f"two features added: both labels in {mixed.both} of {mixed.units}",
                    f"the weaker one's band ends above in {mixed.bands_apart} of {(mixed.units + 1) // 2}",
                    f"one feature alone: a second label in {mixed.single_with_second} of {mixed.single}",
                ]
                notes += [f"    {each}" for each in mixed.details]
    text = "\n".join([*lines, "", *notes])
    print(text)
    RESULT.write_text(f"# Labels on voices of their own\n\n{__doc__}\n\n{text}\n")


if __name__ == "__main__":
    main()
