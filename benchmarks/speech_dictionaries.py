"""Compare dictionaries of one frame and of several on phones, at equal size and sparsity, on voices not trained on.

    python benchmarks/speech_dictionaries.py [--quick] [--results FILE] [--work FOLDER]

Dictionaries of pocket's middle layer learn from half of the voices of the mini corpus, on the same batches. For each
phone the best feature and its threshold are chosen on those voices and scored on the others: F1 over frames, and over
phone tokens (the strongest value within each). Stability is the share of living features whose partner in another
seed's dictionary (Hungarian assignment) has a decoder cosine above 0.7; a copy shifted in time counts as the same.
Also: what the auxiliary loss does for dead features, at 8 features per unit.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from selectivity import spoken

import otoscope as oto
from otoscope.dictionaries import Dictionary, Settings, TopK, TrainingRun, train_many
from otoscope.dictionaries.architectures.batch_topk import BatchTopK
from otoscope.dictionaries.architectures.multi_frame import MultiFrame
from otoscope.dictionaries.architectures.temporal import Temporal
from otoscope.dictionaries.thresholded import ThresholdDictionary
from otoscope.dictionaries.training.learner import Spec
from otoscope.evaluation.frames import FIT, TEST, LabelledFrames
from otoscope.evaluation.measure import clustered_interval
from otoscope.evaluation.reconstruction import reconstruction

RESULT = Path(__file__).resolve().parent / "results" / "speech_dictionaries.md"
SITE = "encoder.2.resid_post"
N, K, WIDTH = 1024, 16, 5
SEEDS = 3
SAME = 0.7
SPECS: dict[str, Spec] = {
    "TopK": TopK(N, k=K),
    "BatchTopK": BatchTopK(N, k=K),
    "temporal": Temporal(N, k=K),
    f"multi-frame, {N} × {WIDTH} frames": MultiFrame(N, k=K, width=WIDTH),
    f"multi-frame, {N // WIDTH} × {WIDTH} frames": MultiFrame(N // WIDTH, k=K, width=WIDTH),
}
WITHOUT_AUX = TopK(N, k=K, aux_coefficient=0.0)


@dataclass(frozen=True, eq=False)
class Score:
    """What one dictionary reaches on the other voices; `counts [clips, 2, phones, 2]`: twice the hits, and hits
    plus misses plus false alarms plus hits, over frames and over phone tokens."""

    fvu: float
    l0: float
    dead: float
    counts: np.ndarray
    rows: np.ndarray


def at_equal_l0(dictionary: Dictionary, frames: LabelledFrames) -> Dictionary:
    """Set the threshold so that `K` features are active per frame on the voices trained on."""
    if not isinstance(dictionary, ThresholdDictionary):
        return dictionary
    loose = dictionary.with_threshold(0.6 * dictionary.threshold)
    fit = frames.half_of_frame == FIT
    values = np.sort(frames.code(loose)[fit].data)[::-1]
    return dictionary.with_threshold(float(values[K * int(fit.sum())]))


def best_thresholds(code: csr_matrix, classes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """For each class, the feature and the threshold of the highest F1 on rows `code [t, n]` of `classes [t]`."""
    columns = code.tocsc()
    totals = np.bincount(classes, minlength=n_classes)
    best, feature, threshold = np.zeros(n_classes), np.zeros(n_classes, dtype=int), np.full(n_classes, np.inf)
    for index in range(code.shape[1]):
        span = slice(columns.indptr[index], columns.indptr[index + 1])
        values = columns.data[span]
        if not len(values):
            continue
        order = np.argsort(-values, kind="stable")
        values, own = values[order], classes[columns.indices[span]][order]
        last = np.append(values[1:] != values[:-1], True)  # a threshold lies between different values
        hits = np.cumsum(own[:, None] == np.arange(n_classes), axis=0)[last]
        f1 = 2 * hits / (np.flatnonzero(last)[:, None] + 1 + totals)
        at = f1.argmax(axis=0)
        top = f1[at, np.arange(n_classes)]
        levels = np.append(values[last], 0.0)
        better = top > best
        best[better], feature[better] = top[better], index
        threshold[better] = ((levels[at] + levels[at + 1]) / 2)[better]
    return feature, threshold


def clip_counts(
    code: csr_matrix, classes: np.ndarray, clips: np.ndarray, feature: np.ndarray, threshold: np.ndarray
) -> np.ndarray:
    """Numerator and denominator of F1 in each clip, `[clips, phones, 2]`."""
    found = code[:, feature].toarray() > threshold
    truth = classes[:, None] == np.arange(len(feature))
    own = np.unique(clips, return_inverse=True)[1]
    result = np.zeros((own.max() + 1, len(feature), 2))
    np.add.at(result, own, np.stack([2.0 * (found & truth), found.astype(float) + truth], axis=2))
    return result


def by_token(code: csr_matrix, token: np.ndarray) -> csr_matrix:
    """The strongest value of each feature within each phone token, `[tokens, n]`; `token [t]` numbers them."""
    entries = code.tocoo()
    place = token[entries.row].astype(np.int64) * code.shape[1] + entries.col
    order = np.lexsort((-entries.data, place))
    places, first = np.unique(place[order], return_index=True)
    rows, columns = np.divmod(places, code.shape[1])
    return csr_matrix((entries.data[order][first], (rows, columns)), shape=(int(token.max()) + 1, code.shape[1]))


def score(dictionary: Dictionary, frames: LabelledFrames) -> Score:
    """Score one dictionary."""
    code = frames.code(dictionary)
    labels = frames.label_set("phone")
    n = len(labels.classes)
    everywhere = labels.frame_class
    starts = np.append(True, (np.diff(everywhere) != 0) | (np.diff(frames.clip_of_frame) != 0))
    number = np.cumsum(starts) - 1
    tables = []
    for pooled in (False, True):
        halves = []
        for half in (FIT, TEST):
            at = np.flatnonzero((everywhere >= 0) & (everywhere < n) & (frames.half_of_frame == half))
            part, classes, clips = code[at], everywhere[at].astype(int), frames.clip_of_frame[at]
            if pooled:
                first, token = np.unique(number[at], return_index=True, return_inverse=True)[1:]
                part, classes, clips = by_token(part, token), classes[first], clips[first]
            halves.append((part, classes, clips))
        feature, threshold = best_thresholds(*halves[0][:2], n)
        tables.append(clip_counts(*halves[1], feature, threshold))
    held_out = reconstruction(
        dictionary, frames.store, [c for c, h in zip(frames.clips, frames.half, strict=True) if h]
    )
    fired = np.asarray((code[frames.half_of_frame == FIT] > 0).sum(axis=0)).ravel()
    rows = dictionary.decoder[torch.from_numpy(fired > 0)].numpy()  # type: ignore[attr-defined]
    return Score(held_out.fvu, held_out.l0, float((fired == 0).mean()), np.stack(tables, axis=1), rows)


def shared_rows(a: np.ndarray, b: np.ndarray, d: int) -> float:
    """Share of the rows of the smaller set whose partner is nearly parallel, at any shift by whole frames."""
    cosine = np.full((len(a), len(b)), -1.0)
    lags = a.shape[1] // d
    for shift in range(-lags + 1, lags):
        moved = np.zeros_like(b)
        source = slice(max(0, -shift) * d, (lags - max(0, shift)) * d)
        moved[:, max(0, shift) * d : (lags - max(0, -shift)) * d] = b[:, source]
        cosine = np.maximum(cosine, a @ moved.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1))
    rows, columns = linear_sum_assignment(-cosine)
    return float((cosine[rows, columns] > SAME).mean())


def mean_f1(sums: np.ndarray) -> np.ndarray:
    """Mean F1 over seeds and phones, `[draws]`, from sums `[draws, seeds · phones · 2]`."""
    pairs = sums.reshape(len(sums), -1, 2)
    return np.asarray(np.nanmean(pairs[:, :, 0] / pairs[:, :, 1], axis=1))


def f1_with_interval(scores: list[Score], pooled: int, beside: list[Score] | None = None) -> tuple[float, ...]:
    """Mean F1 (or its difference from that of `beside`) and its interval over clips of the other voices."""
    flat = [
        np.concatenate([s.counts[:, pooled].reshape(len(s.counts), -1) for s in some], axis=1)
        for some in (scores, beside or [])
        if some
    ]
    size = flat[0].shape[1]

    def statistic(sums: np.ndarray) -> np.ndarray:
        own = mean_f1(sums[:, :size])
        return own if beside is None else own - mean_f1(sums[:, size:])

    both = np.concatenate(flat, axis=1)
    return (float(statistic(both.sum(axis=0, keepdims=True))[0]), *clustered_interval(both, statistic))


def mean_and_spread(values: list[float], form: str) -> str:
    """Mean and range over seeds."""
    return f"{np.mean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def row_of(name: str, scores: list[Score], beside: list[Score], d: int) -> str:
    """One line of the table."""
    pairs = [shared_rows(a.rows, b.rows, d) for a, b in itertools.combinations(scores, 2)]
    cells = [
        name,
        mean_and_spread([s.l0 for s in scores], ".1f"),
        mean_and_spread([s.fvu for s in scores], ".3f"),
        mean_and_spread([s.dead for s in scores], ".1%"),
    ]
    for pooled in (0, 1):
        value, low, high = f1_with_interval(scores, pooled)
        cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
        if scores is not beside:
            value, low, high = f1_with_interval(scores, pooled, beside)
            cells[-1] += f"; {value:+.3f} [{low:+.3f}, {high:+.3f}]"
    cells.append(mean_and_spread(pairs, ".0%") if pairs else "–")
    return "| " + " | ".join(cells) + " |"


def measure(folder: Path, *, steps: int, seeds: int) -> str:
    """Train and score everything; return the tables."""
    start, cpu = time.perf_counter(), time.process_time()
    model, corpus = oto.load_model("pocket"), spoken(oto.corpus("mini"))
    store = oto.harvest(model, corpus, [SITE], folder / "store", progress=False)
    frames = LabelledFrames.of(store, corpus)
    fit = [clip for clip, half in zip(frames.clips, frames.half, strict=True) if half == FIT]
    settings = Settings(steps=steps, batch_size=1024, lr=3e-3)
    named = [(name, spec, seed) for name, spec in SPECS.items() for seed in range(seeds)]
    named += [("without", WITHOUT_AUX, seed) for seed in range(seeds)]
    runs = [
        TrainingRun(spec, SITE, seed=seed, lr=slower(spec, settings.lr or 0), to=folder / f"{spec.kind}-{number}")
        for number, (_, spec, seed) in enumerate(named)
    ]
    made = train_many(store, runs, settings=settings, clips=fit)
    scores: dict[str, list[Score]] = {}
    for (name, _, _), dictionary in zip(named, made, strict=True):
        scores.setdefault(name, []).append(score(at_equal_l0(dictionary, frames), frames))
    without = scores.pop("without")
    uncentred = dead_without_centring(store, frames, fit, steps)
    d = store.d(SITE)
    lines = [
        "# Dictionaries for speech",
        "",
        f"Pocket, {SITE} (d = {d}), English clips of the mini corpus: {len(fit)} clips of 4 voices to learn and choose "
        f"on, {len(frames.clips) - len(fit)} of 4 others to score on; {len(frames.label_set('phone').classes)} phones; "
        f"{steps} steps of 1,024 frames, {seeds} seeds, k = {K}. Thresholds of BatchTopK and temporal dictionaries are "
        f"set so that {K} features are active on the voices learned from. Ranges are over seeds, intervals 95 % over "
        "clips; the second figure of F1 is the paired difference from TopK. "
        f"{time.process_time() - cpu:.0f} s of CPU, {time.perf_counter() - start:.0f} s.",
        "",
        "| | L0 | FVU | dead | F1, frames | F1, phone tokens | stable over seeds |",
        "|---|---|---|---|---|---|---|",
        *(row_of(name, some, scores["TopK"], d) for name, some in scores.items()),
        "",
        f"## The auxiliary loss (TopK, {N} features = 8 d)",
        "",
        "| | dead with AuxK | without | FVU with | without |",
        "|---|---|---|---|---|",
        "| "
        + " | ".join(
            [
                "activations centred",
                *(mean_and_spread([s.dead for s in some], ".1%") for some in (scores["TopK"], without)),
                *(mean_and_spread([s.fvu for s in some], ".4f") for some in (scores["TopK"], without)),
            ]
        )
        + " |",
        f"| not centred, one seed | {uncentred[0].dead:.1%} | {uncentred[1].dead:.1%} | {uncentred[0].fvu:.4f} "
        f"| {uncentred[1].fvu:.4f} |",
        "",
        "Dead: active in no frame of the voices learned from.",
    ]
    return "\n".join(lines) + "\n"


def slower(spec: Spec, lr: float) -> float:
    """Return the learning rate for an atom of several frames: its row is longer, so that equal steps turn it more."""
    return lr / WIDTH**0.5 if isinstance(spec, MultiFrame) else lr


def dead_without_centring(store: object, frames: LabelledFrames, fit: list[str], steps: int) -> list[Score]:
    """TopK with and without the auxiliary loss on activations as they are, whose mean kills features at the start."""
    settings = Settings(steps=steps, batch_size=1024, lr=3e-3, centring="none")
    runs = [TrainingRun(spec, SITE) for spec in (SPECS["TopK"], WITHOUT_AUX)]
    return [score(made, frames) for made in train_many(store, runs, settings=settings, clips=fit)]  # type: ignore[arg-type]


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds and few steps")
    parser.add_argument("--results", type=Path, default=RESULT, help="where to write the tables")
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps of every dictionary")
    parser.add_argument("--work", type=Path, help="folder to keep store and dictionaries in, and to go on in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(
            options.work or Path(folder),
            steps=60 if options.quick else options.steps,
            seeds=2 if options.quick else SEEDS,
        )
    print(table)
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
