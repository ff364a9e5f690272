"""`otoscope features`: everything an atlas knows about one feature, or a dictionary's best features."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import err, escape, number, out, print_json, share, sparkline, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas import Atlas, FeatureEntry
    from otoscope.workspace import Address, Workspace

N_RELATIVES = 5


def run(
    feature: Annotated[
        str,
        typer.Argument(help="A feature (sae-2:30), or a dictionary to list its best (sae-2).", metavar="FEATURE"),
    ],
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many labels and examples to show.")] = 8,
    like: Annotated[
        str | None, typer.Option("--like", metavar="NAME", help="The same feature in the atlas of another dictionary.")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a feature responds to, with evidence.

    A sentence, ranked labels, bands of values, statistics, relatives and examples; a dictionary's name lists its best
    features.
    """
    folder = open_workspace(workspace)
    if ":" not in feature:
        if like is not None:
            raise InputError(f"--like needs one feature, for example `otoscope features {feature}:30 --like {like}`.")
        _list(folder.atlas(feature), feature, top, json)
        return
    from otoscope.workspace import Address

    address = Address.parse(feature)
    atlas = folder.atlas(address.dictionary)
    folder.dictionary_of(address.dictionary).feature(address.index)
    if like is not None:
        _match(folder, atlas, address, like, json)
        return
    facts = gather(folder, atlas, address.dictionary, address.index, top)
    if json:
        print_json(facts)
        return
    show(facts)
    if (told := folder.interpretations(address.dictionary)) is not None:
        for problem in told.problems:
            err().print(f"[yellow]{escape(problem)}[/]", soft_wrap=True)


def gather(folder: Workspace, atlas: Atlas, name: str, index: int, top: int) -> dict[str, Any]:
    """Collect what the atlas says about one feature."""
    entry = atlas[index]
    dictionary = folder.dictionary_of(name)
    corpus = folder.corpus_of(name)
    edges, counts = entry.histogram
    told = folder.interpretations(name)
    return {
        "feature": f"{name}:{index}",
        "unit": dictionary.unit_label(index),
        "site": str(dictionary.site),
        "sentence": entry.sentence,
        "nature": entry.stats["nature"],
        "stats": {str(key): value for key, value in dict(entry.stats).items()},
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
        "labels": entry.labels.head(top).to_dict("records"),
        "bands": [asdict(band) for band in entry.bands],
        "unions": [asdict(band) for band in entry.unions],
        "acoustics": {name: asdict(heard) for name, heard in entry.acoustics.items()},
        "interpretation": None if told is None else told.shown(index),
        "neighbours": _neighbours(entry, name),
        "cofiring": [
            {
                "feature": f"{name}:{each.feature}",
                "label": _label(atlas, each.feature),
                "pmi": each.pmi,
                "share": each.share,
            }
            for each in entry.cofiring()
        ],
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


def _neighbours(entry: FeatureEntry, name: str) -> list[dict[str, Any]]:
    """The features with the nearest directions; none where the dictionary is too wide for the atlas to keep them."""
    try:
        found = entry.neighbours()
    except InputError:
        return []
    return [
        {"feature": f"{name}:{each.feature}", "label": _label(entry.atlas, each.feature), "cosine": each.cosine}
        for each in found
    ]


def _label(atlas: Atlas, feature: int) -> str | None:
    stats = atlas[feature].stats
    return f"/{stats['label']}/" if stats["label_kind"] == "phone" else stats["label"]


def _match(folder: Workspace, atlas: Atlas, address: Address, other: str, json: bool) -> None:
    """Print the feature of another atlas that is most like one."""
    from otoscope.atlas.search.matching import match_features

    there = folder.atlas(other)
    found = match_features(
        atlas, folder.dictionary_of(address.dictionary), there, folder.dictionary_of(other), features=[address.index]
    )
    [row] = found.rows()
    partner = int(row["partner"])
    if json:
        match = None if partner < 0 else f"{other}:{partner}"
        print_json({**row, "feature": str(address), "partner": match, "frames": found.n_frames, "clips": found.n_clips})
        return
    if partner < 0:
        out().print(f"Nothing in {other} resembles {address} (over {found.n_clips} common clips).")
        return
    out().print(
        f"[bold cyan]{other}:{partner}[/] {escape(there[partner].sentence)}\n"
        f"correlation {number(row['correlation'])}, cosine {number(row['cosine'])}, they share {share(row['iou'])} of "
        f"their active frames; {'each is the best match of the other' if row['mutual'] else 'it has a better match'} "
        f"[dim]({found.n_clips} common clips, {found.n_frames:,} frames)[/]",
        soft_wrap=True,
    )


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
    out().print(escape(facts["sentence"]), soft_wrap=True)
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
        if stats.get("label_share", 1.0) < 1:
            console.print(f"[dim]learned from {share(stats['label_share'])} of all frames, as it fires so often[/]")
    else:
        console.print("[dim]No labels: the corpus has no tiers, or the feature is active too seldom.[/]")
    _show_bands(facts)
    _show_interpretation(facts)
    _show_relatives(facts)
    examples = table("example", "at>", "value>", "heard")
    for example in facts["examples"]:
        examples.add_row(example["clip_id"], f"{example['time_s']:.2f} s", number(example["value"]), example["heard"])
    console.print(examples)


def _show_bands(facts: dict[str, Any]) -> None:
    """Print labels that hold in bands of values, where there are several, and unions."""
    bands = facts["bands"] if len(facts["bands"]) > 1 else []
    if not bands and not facts["unions"]:
        return
    listing = table("by value", "kind", "above>", "up to>", "F1>", "95 %>", "chance>")
    for row in [*bands, *facts["unions"]]:
        listing.add_row(
            f"[bold]{escape(' and '.join(row['labels']))}[/]",
            row["kind"],
            number(row["low"]),
            number(row["high"]),
            number(row["f1"]),
            f"[dim]{number(row['f1_low'])}–{number(row['f1_high'])}[/]",
            number(row["chance"]),
        )
    out().print(listing)


def _show_interpretation(facts: dict[str, Any]) -> None:
    """Print what `otoscope interpret` has found, a rung a line, if it has."""
    told = facts["interpretation"]
    if told is None or not told["rungs"]:
        return
    listing = table("interpretation", "says", "verdict", "how it did")
    for rung in told["rungs"]:
        by = f" [dim]{escape(rung['model'])}[/]" if rung["model"] else ""
        color = {"supported": "green", "not supported": "yellow"}.get(rung["verdict"], "dim")
        verdict = f"[{color}]{rung['verdict']}[/]" if rung["explanation"] else ""
        why = f"{rung['why'][:1].upper()}{rung['why'][1:]}." if rung["why"] else ""
        said = " ".join(part for part in (rung["trial"], why, _asked(rung)) if part)
        says = f"{rung['name']}: {rung['explanation']}" if rung["model"] else rung["explanation"]
        listing.add_row(f"{rung['method']}{by}", escape(says), verdict, f"[dim]{escape(said)}[/]")
    out().print(listing)


def _asked(rung: dict[str, Any]) -> str:
    """Say where and when a language model was asked, as far as that is known."""
    where = f"at {rung['endpoint']}" if rung["endpoint"] else ""
    when = f"on {rung['asked_at'][:10]} {rung['asked_at'][11:16]} UTC" if rung["asked_at"] else ""
    return f"Asked {' '.join(part for part in (where, when) if part)}." if where or when else ""


def _show_relatives(facts: dict[str, Any]) -> None:
    """Print the nearest directions and the features that fire together with one, a line each."""
    near = [(row, number(row["cosine"])) for row in facts["neighbours"]]
    partners = [(row, share(row["share"])) for row in facts["cofiring"]]
    for title, rows in (("near", near), ("fires with", partners)):
        if rows:
            names = [
                f"{row['feature']} {escape(row['label'] or '–')} [dim]{figure}[/]" for row, figure in rows[:N_RELATIVES]
            ]
            out().print(f"[dim]{title}:[/] {', '.join(names)}", soft_wrap=True)


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
