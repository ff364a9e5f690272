"""`otoscope features`: everything an atlas knows about one feature, or a dictionary's best features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import number, out, print_json, share, sparkline, table

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.workspace import Workspace


def run(
    feature: Annotated[
        str,
        typer.Argument(help="A feature (sae-2:30), or a dictionary to list its best (sae-2).", metavar="FEATURE"),
    ],
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many labels and examples to show.")] = 8,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a feature responds to, with evidence.

    Ranked labels, statistics, histogram and examples; a dictionary's name lists its best features.
    """
    folder = open_workspace(workspace)
    if ":" not in feature:
        _list(folder.atlas(feature), feature, top, json)
        return
    from otoscope.workspace import Address

    address = Address.parse(feature)
    atlas = folder.atlas(address.dictionary)
    folder.dictionary_of(address.dictionary).feature(address.index)
    facts = gather(folder, atlas, address.dictionary, address.index, top)
    if json:
        print_json(facts)
    else:
        show(facts)


def gather(folder: Workspace, atlas: Atlas, name: str, index: int, top: int) -> dict[str, Any]:
    """Collect what the atlas says about one feature."""
    entry = atlas[index]
    dictionary = folder.dictionary_of(name)
    corpus = folder.corpus_of(name)
    edges, counts = entry.histogram
    return {
        "feature": f"{name}:{index}",
        "unit": dictionary.unit_label(index),
        "site": str(dictionary.site),
        "stats": {str(key): value for key, value in dict(entry.stats).items()},
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
        "labels": entry.labels.head(top).to_dict("records"),
        "examples": [
            {
                "clip_id": example.clip_id,
                "time_s": float(example.time_s),
                "value": float(example.value),
                "heard": _heard(corpus, example.clip_id, float(example.time_s)),
            }
            for example in entry.examples(kind="top", top=top)
        ],
    }


def _heard(corpus: Any, clip_id: str, time_s: float) -> str:
    """The phone in its word (or the sound class) at a moment of a clip."""
    clip = corpus.get(clip_id)
    found = {
        tier: next((i.label for i in clip.tier(tier) if i.start_s <= time_s < i.end_s), "")
        for tier in ("phones", "words", "events")
    }
    phone = f"/{found['phones']}/" if found["phones"] else ""
    parts = [phone, found["words"], found["events"] or clip.attributes.get("sound_class", "")]
    return " ".join(part for part in parts if part)


def show(facts: dict[str, Any]) -> None:
    """Print one feature, for people."""
    console, stats = out(), facts["stats"]
    unit = "" if facts["feature"].endswith(f":{facts['unit']}") else f" (unit {facts['unit']})"
    console.print(f"[bold cyan]{facts['feature']}[/]{unit} of {facts['site']}")
    if stats.get("dead"):
        console.print("[yellow]This feature is dead: it is active in no frame of the corpus.[/]")
        return
    console.print(
        f"active in {share(stats.get('density'))} of the frames, mean {number(stats.get('mean'))}, "
        f"max {number(stats.get('max'))}"
    )
    edges = facts["histogram"]["edges"]
    if edges:
        line = sparkline(facts["histogram"]["counts"])
        console.print(f"[dim]{number(edges[0])}[/] [green]{line}[/] [dim]{number(edges[-1])}  (counts, log scale)[/]")
    if facts["labels"]:
        listing = table("detects", "kind", "F1>", "95 %>", "AP>", "AUROC>", "precision>", "recall>", "chance>", "p>")
        for row in facts["labels"]:
            listing.add_row(
                f"[bold]{row['label']}[/]",
                str(row["kind"]),
                number(row["f1"]),
                f"[dim]{number(row['f1_low'])}–{number(row['f1_high'])}[/]",
                number(row["ap"]),
                number(row["auroc"]),
                number(row["precision"]),
                number(row["recall"]),
                number(row["chance"]),
                f"{row['p_value']:.2g}" if row["p_value"] == row["p_value"] else "–",
            )
        console.print(listing)
    else:
        console.print("[dim]No labels: the corpus has no tiers, or the feature is active too seldom.[/]")
    examples = table("example", "at>", "value>", "heard")
    for example in facts["examples"]:
        examples.add_row(example["clip_id"], f"{example['time_s']:.2f} s", number(example["value"]), example["heard"])
    console.print(examples)


def _list(atlas: Atlas, name: str, top: int, json: bool) -> None:
    found = atlas.find(sort="f1", limit=top)
    rows = [
        {"feature": f"{name}:{index}", **row} for index, row in zip(found.index, found.to_dict("records"), strict=True)
    ]
    if json:
        print_json(rows)
        return
    listing = table("feature", "label", "kind", "F1>", "AP>", "density>", "max>")
    for row in rows:
        listing.add_row(
            f"[bold cyan]{row['feature']}[/]",
            str(row["label"] or ""),
            str(row["label_kind"] or ""),
            number(row["f1"]),
            number(row["ap"]),
            share(row["density"]),
            number(row["max"]),
        )
    out().print(listing)
