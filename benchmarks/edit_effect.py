"""Does switching a feature off change the words it stands for? The best feature of each of several phones.

    python benchmarks/edit_effect.py [--quick] [--workspace DIR]

For each phone, the SAE feature that detects it best is scaled to 0 while the mini corpus is transcribed. Words with the
phone are compared with the other words of the same clip; the control makes an equally large change, in the same
frames, along the directions of four other features. Means over clips with 95 % intervals (bootstrap over clips).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from otoscope.evaluation import Effect, beyond_control, more_than_control, necessity
from otoscope.workspace import Workspace, default_plan, run_pipeline

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "edit_effect.md"
N_PHONES, N_CLIPS = 10, 60


def best_features(atlas, n_phones: int) -> list[tuple[str, int, float]]:
    """The phones detected best, each with its best feature and that feature's F1 on held-out voices."""
    phones = atlas.labels[atlas.labels["kind"] == "phone"]["label"]
    found = [(phone, atlas.find(label=phone, kind="phone", limit=1)) for phone in phones]
    rows = [(phone, int(best.index[0]), float(best["f1"].iloc[0])) for phone, best in found if len(best)]
    return sorted(rows, key=lambda row: -row[2])[:n_phones]


def row(factor: float, phone: str, feature: str, n_clips: int, edit: Effect, control: Effect) -> str:
    """One line of the table."""
    figures = (edit.log_prob, control.log_prob, edit.changed, control.changed)
    return f"| × {factor:g} | {phone} | {feature} | {n_clips} | " + " | ".join(str(each) for each in figures) + " |"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two phones")
    parser.add_argument("--workspace", default=HERE.parent / "build" / "bench-workspace", help="made when missing")
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace, create=True)
    run_pipeline(workspace, default_plan(workspace.model()), progress=True)
    atlas = workspace.atlas("sae-2")
    model, dictionary, corpus = workspace.model(), workspace.dictionary("sae-2"), workspace.corpus("mini")
    lines = [
        "| edit | phone | feature | F1 | clips | Δ log p | control | Δ share changed | control |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes: list[str] = []
    phones = best_features(atlas, 2 if arguments.quick else N_PHONES)
    for factor in (0.0, -1.0):
        results = []
        for phone, feature, f1 in phones:
            clips = [clip for clip in corpus if any(p.label == phone for p in clip.tier("phones"))][:N_CLIPS]
            result = necessity(model, dictionary, feature, clips, phone, factor=factor)
            results.append(result)
            lines.append(row(factor, phone, f"sae-2:{feature} | {f1:.2f}", result.n_clips, result.edit, result.control))
            print(lines[-1], flush=True)
        edit = Effect.of(np.concatenate([result.per_clip for result in results]), seed=0)
        control = Effect.of(np.concatenate([result.control_per_clip.mean(axis=0) for result in results]), seed=0)
        lines.append(row(factor, "all", "| ", sum(r.n_clips for r in results), edit, control))
        notes.append(
            f"× {factor:g}: beyond the control in the same clip {beyond_control(results)}; words with the phone lose "
            f"more than under a control in a share of {more_than_control(results)} (chance 0.5)."
        )
        print(lines[-1], notes[-1], sep="\n", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    intro = "Drop of log p (natural) and share of words written differently: words with the phone minus the others."
    RESULT.write_text(
        "\n".join(
            ["# The effect of switching a feature off", "", intro, "", *lines, "", *(f"- {note}" for note in notes), ""]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
