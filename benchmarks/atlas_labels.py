"""Are labels true? Judged on voices that neither chose them, nor scored them, nor set the false-discovery rate.

    python benchmarks/atlas_labels.py [--quick] [--model FOLDER]

An atlas of the MLP neurons and of TopK dictionaries (three seeds) is built over six of the eight voices of the mini
corpus and two thirds of its sounds. Its labels are judged on four sets of other clips, each with the other sounds:

- **new**: six voices that nobody ever heard, made for this run (`fresh_voices.py`). No gate of labelling was chosen
  after looking at them: this is the row that counts.
- **new, accent**: those of them that the model still understands in an accent that it never heard.
- **list**: the model's held-out voices with new sentences; the atlas was built over six of these eight.
- **mini**: the other two voices of the mini corpus, on which the gates of labelling were tuned.

Said before looking:

- **right**: on the set, at the threshold of the atlas, F1 for the label's class lies above chance (moved labels,
  p < 0.01), its 95 % interval above both the mean of chance and always saying so;
- **argmax** (stricter): among all classes of its kind, the label's class has the best F1 on the set;
  **twin**: it is not the best, but has at least nine tenths of its skill (the near-twins /s/ and /z/, say).

A set decides about the labels whose class it has often enough. Brackets are Wilson's 95 % intervals; they count labels
as if they were independent, but many share a class and all share the voices. Controls: tiers rotated within each clip,
sounds dealt to other clips, of the atlas's clips (what is labelled then is false) and of the new ones (only pauses and
speech as such may be right then: a clip still begins with a pause and is spoken); and units that mean two things, or
one, because they were made so (`planted_pairs.py`).

Seen afterwards: a label of a pause says little, as with moved tiers most still are right; figures without them are in
the notes. With moved tiers one label of a place in the phrase was right, too, in each TopK dictionary.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fresh_voices import fresh_sets
from planted_pairs import planted_pairs

import otoscope as oto
from otoscope.activations import ActivationStore
from otoscope.atlas import Atlas, build_atlas
from otoscope.audio import Corpus, Interval
from otoscope.dictionaries import Dictionary, Neurons
from otoscope.evaluation.naming.by_feature import Block
from otoscope.evaluation.naming.discovery import RATE
from otoscope.evaluation.naming.label_sets import label_sets
from otoscope.evaluation.naming.labeller import Labeller, always_on_f1
from otoscope.evaluation.naming.labelling import FIT, SCORE
from otoscope.evaluation.naming.targets import Targets, measure
from otoscope.evaluation.naming.traits import SPEAKER_KINDS, all_kinds
from otoscope.models import SpeechModel

RESULT = Path(__file__).resolve().parent / "results" / "atlas_labels.md"
SITES = ("encoder.3.mlp.post", "encoder.2.resid_post")
THIRD_VOICES = 2
TWIN = 0.9
MAX_P = 0.01


@dataclass(frozen=True)
class Judgement:
    """How labels fare on the third set."""

    alive: int
    labelled: int
    decidable: int
    right: int
    argmax: int
    twins: int
    natures: dict[str, int]
    by_kind: dict[str, str]
    without_pauses: tuple[int, int]


@dataclass(frozen=True)
class ThirdSet:
    """Clips to judge on, their activations, and what is to be said of them."""

    corpus: Corpus
    store: ActivationStore
    note: str


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
    of_kind: dict[str, list[int]] = {}
    for i, (feature, k, c) in enumerate(rows):
        always = always_on_f1(as_scored.n_positive[k][SCORE])[c]
        good = figures["p_value"][i] < MAX_P and figures["f1_low"][i] > max(figures["chance"][i], always)
        own = skill[feature, as_fit.first_class[k] : as_fit.first_class[k + 1]]
        right += bool(good)
        of_kind.setdefault(sets[k].kind, []).append(int(good))
        argmax += bool(good and own[c] >= own.max())
        twins += bool(good and own.max() > own[c] >= TWIN * own.max())
    natures = table["nature"].value_counts().to_dict()
    alive = int((table["n_active"] > 0).sum())
    by_kind = {kind: f"{sum(each)}/{len(each)}" for kind, each in sorted(of_kind.items())}
    paused = of_kind.get("pause", [])
    rest = right - sum(paused), len(rows) - len(paused)
    return Judgement(alive, len(named), len(rows), right, argmax, twins, natures, by_kind, rest)


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


def dictionaries(store: ActivationStore, corpus: Corpus, seeds: int, steps: int) -> list[Dictionary]:
    """Return the neurons of the first site, and a TopK dictionary of the second for each seed."""
    clips = [clip.clip_id for clip in corpus]
    spec = oto.TopK(n_features=1024, k=16)
    trained = [
        oto.train(store, spec, site=SITES[1], steps=steps, seed=seed, clips=clips, progress=False)
        for seed in range(seeds)
    ]
    return [Neurons(SITES[0], store.d(SITES[0]), name="neurons"), *trained]


def third_sets(model: SpeechModel, mini: ActivationStore, third: Corpus, folder: Path) -> dict[str, ThirdSet]:
    """Return the sets on which labels are judged, the one that counts first."""
    sounds = [clip for clip in third if not clip.speaker]
    names = {"known": "new", "accent": "new, accent", "list": "list"}
    fresh = fresh_sets(model, folder / "fresh")
    sets = {}
    for key, name in names.items():
        corpus = Corpus(key, [*fresh[key].corpus, *sounds])
        store = oto.harvest(model, corpus, list(SITES), folder / f"store-{key}", progress=False)
        refused = f"; refused: {', '.join(fresh[key].refused)}" if fresh[key].refused else ""
        rates = ", ".join(f"{voice} {rate:.3f}" for voice, rate in fresh[key].word_error.items())
        sets[name] = ThirdSet(corpus, store, f"{name}: {len(fresh[key].corpus)} clips; word error: {rates}{refused}")
    sets["mini"] = ThirdSet(third, mini, f"mini: {len(third) - len(sounds)} clips")
    return sets


def row(name: str, where: str, found: Judgement) -> str:
    """One row of the table of judgements."""
    cells = [_share(n, found.decidable) for n in (found.right, found.argmax, found.argmax + found.twins)]
    return f"| {' | '.join([name, where, str(found.decidable), *cells])} |"


def _share(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{k / max(n, 1):.3f} [{low:.3f}–{high:.3f}]"


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share `k / n`."""
    z, n = 1.96, max(n, 1)
    share = k / n
    centre, half = share + z * z / (2 * n), z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, short training")
    parser.add_argument("--model", default="pocket")
    options = parser.parse_args()
    seeds, steps = (1, 300) if options.quick else (3, 800)
    began = time.process_time()
    model, corpus = oto.load_model(options.model), oto.corpus("mini")
    first, third = parted(corpus)
    atlases = ["| dictionary | features active | labelled | shuffled: labelled |", "|---|--:|--:|--:|"]
    judged = ["| dictionary | judged on | labels decided | right | argmax | or twin |", "|---|---|--:|--:|--:|--:|"]
    with tempfile.TemporaryDirectory() as folder:
        store = oto.harvest(model, corpus, list(SITES), Path(folder) / "store", progress=False)
        sets = third_sets(model, store, third, Path(folder))
        notes = [each.note for each in sets.values()]
        print("\n".join(notes), flush=True)
        for number, dictionary in enumerate(dictionaries(store, first, seeds, steps)):
            name = "neurons" if number == 0 else f"TopK, seed {number - 1}"
            atlas = build_atlas(store, dictionary, first, progress=False)
            for where, each in sets.items():
                found = judge(atlas, dictionary, each.store, each.corpus)
                judged.append(row(name, where, found))
                print(judged[-1], flush=True)
                if where == "new":
                    notes.append(f"{name}: {found.natures}; right of decided by kind: {found.by_kind}")
                    notes.append(f"{name}, without pauses: {_share(*found.without_pauses)}")
            moved = judge(atlas, dictionary, sets["new"].store, shuffled(sets["new"].corpus, 0))
            judged.append(row(name, "new, tiers moved", moved))
            notes.append(f"{name}, tiers moved: right of decided by kind: {moved.by_kind}")
            chance = [
                labelled_share(build_atlas(store, dictionary, shuffled(first, s), progress=False)) for s in range(seeds)
            ]
            by_chance = ", ".join(f"{share:.4f}" for share in chance)
            atlases.append(f"| {name} | {moved.alive} | {moved.labelled} | {by_chance} |")
            print("\n".join([judged[-1], atlases[-1]]), flush=True)
        pairs = planted_pairs(store, first, shuffled(first, 0), SITES[1], model)
    notes.append(f"stated rate {RATE}; {time.process_time() - began:.0f} s of CPU time")
    text = "\n".join([*judged, "", *atlases, "", *notes, "", *pairs.summary(), "", *pairs.table()])
    print(text)
    RESULT.write_text(f"# Labels on voices of their own\n\n{__doc__}\n\n{text}\n")


if __name__ == "__main__":
    main()
