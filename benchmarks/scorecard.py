"""Does a trained dictionary beat its baselines, and what does splicing it in cost, at every encoder layer?

    python benchmarks/scorecard.py [--quick] [--workspace FOLDER]

On the bundled model and corpus: a TopK dictionary as `otoscope demo` trains it (1,024 features, 16 active) for the
residual stream after every encoder layer, its scorecard (core set, all baselines) on voices that it was not trained on,
and all four spliced in at once. A baseline counts as beaten where the intervals do not touch. Times are wall times of
this machine; whatever ran beside it is in them.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import torch

import otoscope as oto
from otoscope.dictionaries import Dictionary
from otoscope.evaluation.measure import Measure
from otoscope.evaluation.scorecard import BASELINES, Parameters, Scorecard
from otoscope.evaluation.splice import SpliceEffect, splice_effect
from otoscope.workspace import DictionaryPlan, Workspace, corpus_stage, harvest_stage, held_out_split, train_stage
from otoscope.workspace.evaluating import evaluate_stage

RESULT = Path(__file__).resolve().parent / "results" / "scorecard.md"
FIGURES = {
    "coverage.any.above_chance": ("coverage, any, above chance", {"kind": "phone"}),
    "coverage.strongest.above_chance": ("coverage, strongest, above chance", {"kind": "phone"}),
    "probe.accuracy": ("5-sparse probes", {"kind": "phone", "k": "5"}),
}


def show(measure: Measure, percent: bool = True) -> str:
    """A figure with its interval."""
    scale, digits = (100, 1) if percent else (1, 3)
    value, low, high = (f"{scale * x:.{digits}f}" for x in (measure.value, measure.low, measure.high))
    return f"{value} [{low}, {high}]"


def harvest_layers(workspace: Workspace) -> list[str]:
    """Harvest all layers in one pass; return their sites."""
    model = workspace.model()
    corpus_stage(workspace, oto.corpus("mini"), "mini")
    sites = [f"encoder.{layer}.resid_post" for layer in range(model.dims.n_layers)]
    harvest_stage(workspace, model, "mini", sites, "mini")
    return sites


def scorecard_of(workspace: Workspace, layer: int, site: str, parameters: Parameters, *, quick: bool) -> Scorecard:
    """Train the dictionary of one layer and evaluate it."""
    plan = DictionaryPlan(f"sae-{layer}", site, steps=50 if quick else 800, batch_size=2048, lr=2e-3)
    train_stage(workspace, "mini", plan, clips=held_out_split(workspace, "mini").fit)
    return evaluate_stage(workspace, plan.name, parameters=parameters)


def beaten(card: Scorecard, figure: str, of: dict[str, str], baseline: str) -> str:
    """Whether the interval of the dictionary lies above that of a baseline."""
    own, other = card.find(figure, **of), card.find(figure, baseline, **of)
    return "yes" if own.low > other.high else "no, below" if own.high < other.low else "not told apart"


def table_of_figures(cards: dict[int, Scorecard]) -> list[str]:
    """One table for each figure: layers across, subjects down."""
    lines = []
    for figure, (title, of) in FIGURES.items():
        lines += [
            f"### {title}, %",
            "",
            "| | " + " | ".join(f"layer {n}" for n in cards) + " |",
            "|---" * (len(cards) + 1) + "|",
        ]
        for subject in ("trained", *BASELINES, *(["raw"] if figure.startswith("probe") else [])):
            row = []
            for card in cards.values():
                if subject == "raw":
                    row.append(show(card.find(figure, "raw", kind="phone", k="dense")))
                    continue
                measure = card.find(figure, subject, **of)
                verdict = "" if subject == "trained" else f" · {beaten(card, figure, of, subject)}"
                row.append(show(measure) + verdict)
            name = (
                "**trained**"
                if subject == "trained"
                else "dense probe of all activations"
                if subject == "raw"
                else BASELINES[subject].title
            )
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        lines.append("")
    return lines


def table_of_splices(cards: dict[int, Scorecard], together: SpliceEffect | None) -> list[str]:
    """What each splice costs."""
    head = ("", "FVU, %", "L0", "WER, %", "Δ WER, points", "Δ CER, points", "KL, nats", "loss recovered, %")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    first = next(iter(cards.values()))
    lines.append(f"| unedited | | | {show(first.find('splice.wer', 'none'))} | | | | |")
    for layer, card in cards.items():
        for subject in ("trained", "random", "pca", "frozen_decoder", "soft_frozen", "mean", "zero"):
            known = subject in ("mean", "zero")
            names = ("wer", "delta_wer", "delta_cer")
            row = ["" if known else show(card.find("reconstruction.fvu", subject))]
            row.append("" if known else f"{card.find('reconstruction.l0', subject).value:.1f}")
            row += [show(card.find(f"splice.{name}", subject)) for name in names]
            row.append(show(card.find("splice.kl", subject), percent=False))
            row.append("" if known else show(card.find("splice.loss_recovered", subject)))
            name = f"**layer {layer}**" if subject == "trained" else f"layer {layer}, {subject.replace('_', ' ')}"
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    if together is not None:
        found = {each.name: each for each in together.measures(["all"])}
        row = [show(found[f"splice.{name}"]) for name in ("wer", "delta_wer", "delta_cer")]
        row += [show(found["splice.kl"], percent=False), show(found["splice.loss_recovered"])]
        lines.append("| **all layers at once** | | | " + " | ".join(row) + " |")
    return lines


def all_at_once(workspace: Workspace, dictionaries: list[Dictionary], clips: int) -> SpliceEffect:
    """Splice every layer's dictionary in together, on the clips of the scorecards."""
    held = held_out_split(workspace, "mini").held_out
    corpus = workspace.corpus("mini")
    chosen = [corpus.get(held[number * len(held) // clips]) for number in range(clips)]
    return splice_effect(workspace.model(), {"all": dictionaries}, chosen, means=workspace.store("mini"))


def main() -> None:
    """Train, evaluate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one layer, short trainings")
    parser.add_argument("--workspace", help="keep everything here (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace.open(given.workspace or temporary, create=True)
        sites = harvest_layers(workspace)
        layers = [2] if given.quick else list(range(len(sites)))
        parameters = Parameters(splice_clips=8) if given.quick else Parameters()
        cards: dict[int, Scorecard] = {}
        for layer in layers:
            cards[layer] = scorecard_of(workspace, layer, sites[layer], parameters, quick=given.quick)
            write(report_lines(cards, None), quick=given.quick)
        if len(layers) > 1:
            dictionaries = [workspace.dictionary(f"sae-{layer}") for layer in layers]
            together = all_at_once(workspace, dictionaries, parameters.splice_clips or 0)
            write(report_lines(cards, together), quick=given.quick)


def write(lines: list[str], *, quick: bool) -> None:
    """Print what there is so far, and keep it."""
    print("\n".join(lines), flush=True)
    if not quick:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def report_lines(cards: dict[int, Scorecard], together: SpliceEffect | None) -> list[str]:
    """The page of results."""
    first = next(iter(cards.values()))
    held, code = first.provenance["held_out"], first.provenance["code"]
    lines = [
        "# Scorecards of pocket's encoder layers",
        "",
        f"`python benchmarks/scorecard.py` · {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {code['torch']}. TopK, 1,024 features, k = 16; {held['clips']} held-out clips "
        f"(no voice of theirs was trained on), intervals over",
        f"{held['intervals_over']}. *Yes* where the intervals do not touch.",
        "",
        "## Named features and probes",
        "",
        *table_of_figures(cards),
        "## Splices",
        "",
        *table_of_splices(cards, together),
        "",
        "## Time",
        "",
        "Seconds of the core set, by layer: on the clock (of processor time); a baseline that an earlier run had made "
        "counts 0.",
        "",
    ]
    names = list(first.provenance["seconds"])
    lines += ["| layer | " + " | ".join(names) + " | all |", "|---" * (len(names) + 2) + "|"]
    for layer, card in cards.items():
        seconds, cpu = card.provenance["seconds"], card.provenance["cpu_seconds"]
        cells = [f"{seconds[name]:.0f} ({cpu[name]:.0f})" for name in names]
        lines.append(f"| {layer} | {' | '.join(cells)} | {sum(seconds.values()):.0f} ({sum(cpu.values()):.0f}) |")
    return lines


if __name__ == "__main__":
    main()
