"""`otoscope dictionary`: list, show, import, export, publish and fetch dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, WorkspaceOption, open_workspace, workspace_if_any
from otoscope.cli.terminal import escape, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.dictionaries import Dictionary
    from otoscope.workspace import Workspace

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", invoke_without_command=True
)

SourceArgument = Annotated[
    str, typer.Argument(help="A dictionary of the workspace, a folder or a file.", metavar="DICTIONARY")
]
RepoArgument = Annotated[str, typer.Argument(help="A repository of the Hub, user/name.", metavar="REPO")]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="How to call it here (default: after its source).")
]
PathOption = Annotated[str | None, typer.Option("--path", metavar="PATH", help="The folder in the repository.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="FORMAT", help="Its format, if not to be found out (`otoscope dictionary formats`)."
    ),
]
SiteOption = Annotated[
    str | None,
    typer.Option("--site", "-s", metavar="SITE", help="Where its activations come from, if it does not say."),
]
KOption = Annotated[
    int | None, typer.Option("--k", metavar="K", help="Features active in each frame, if it does not say.")
]
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", metavar="X", help="Above which features are active, if it does not say.")
]
NormalisationOption = Annotated[
    str | None,
    typer.Option(
        "--normalisation",
        metavar="HOW",
        help="What is done to every frame first: none, unit_norm, constant_norm, layer_norm.",
    ),
]


@app.callback()
def dictionaries(ctx: typer.Context, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List, show, import, export, publish and fetch dictionaries."""
    if ctx.invoked_subcommand is None:
        list_dictionaries(workspace, json)
    elif workspace is not None or json:
        raise InputError(
            f"Put the options after the second word: otoscope dictionary {ctx.invoked_subcommand} … --json."
        )


@app.command("list")
def list_dictionaries(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the dictionaries of the workspace."""
    folder = open_workspace(workspace)
    rows = [_facts(folder.dictionary(name)) for name in folder.names("dictionaries")]
    if json:
        print_json(rows)
        return
    listing = table("dictionary", "architecture", "trained as", "reads", "features>", "width>")
    for row in rows:
        kinds = (row["architecture"], row["trained_as"] or "")
        listing.add_row(f"[bold]{row['name']}[/]", *kinds, row["reads"], f"{row['features']:,}", str(row["width"]))
    out().print(listing)


@app.command("show")
def show(source: SourceArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show what a dictionary is, whoever trained it."""
    facts = _facts(_open(source, workspace_if_any(workspace)))
    if json:
        print_json(facts)
        return
    out().print(f"[bold]{escape(str(facts.pop('name')))}[/]")
    for name, value in facts.items():
        if value not in (None, "", []):
            shown = "; ".join(value) if isinstance(value, list) else str(value)
            out().print(f" {name.replace('_', ' '):14}[dim]·[/] {escape(shown)}", soft_wrap=True)


@app.command("formats")
def formats(json: JsonOption = False) -> None:
    """List the formats that are read and written."""
    from otoscope.dictionaries.formats.opening import FORMATS

    rows = [{"format": row.name, "what": row.title, "written": row.save is not None} for row in FORMATS.values()]
    if json:
        print_json(rows)
        return
    listing = table("format", "what it is", "read", "written")
    for row in rows:
        listing.add_row(f"[bold]{row['format']}[/]", str(row["what"]), "✓", "✓" if row["written"] else "")
    out().print(listing)


@app.command("import")
def import_dictionary(
    path: Annotated[Path, typer.Argument(help="A folder, a file of weights or a training run.", metavar="PATH")],
    name: NameOption = None,
    format: FormatOption = None,
    site: SiteOption = None,
    k: KOption = None,
    threshold: ThresholdOption = None,
    normalisation: NormalisationOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a dictionary that another program trained into the workspace; nothing in its files is ever run."""
    from otoscope.dictionaries import load_dictionary

    folder = open_workspace(workspace)
    given = _given(site, k, threshold, normalisation)
    _keep(folder, load_dictionary(path, format, **given), name, json)


@app.command("export")
def export_dictionary(
    source: SourceArgument,
    folder: Annotated[Path, typer.Argument(help="The folder to write.", metavar="FOLDER")],
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="saelens, dictionary_learning or neuronpedia.")
    ] = "saelens",
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write a dictionary for another program.

    With an atlas of the same name, SAELens also gets how often each feature is active, and neuronpedia its dashboards.
    """
    from otoscope.dictionaries import save_as

    if folder.exists():
        raise InputError(f"{folder} exists; give a folder that does not.")
    if format == "neuronpedia":
        _export_dashboards(open_workspace(workspace), source, folder, json)
        return
    place = workspace_if_any(workspace)
    dictionary = _open(source, place)
    density = _density(dictionary, place) if format == "saelens" else None
    save_as(dictionary, folder, format, density=density)
    if json:
        print_json({"folder": folder, "format": format})
        return
    out().print(f"[green]✓[/] {escape(dictionary.name)} in {folder}, as {format} has it", soft_wrap=True)


@app.command("push")
def push_dictionary(
    source: SourceArgument,
    repo: RepoArgument,
    path: PathOption = None,
    licence: Annotated[str, typer.Option("--licence", metavar="LICENCE", help="As the Hub names it.")] = "mit",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    scorecard: Annotated[
        Path | None, typer.Option("--scorecard", metavar="FILE", help="A scorecard.json to publish with it.")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a dictionary on the Hugging Face Hub, with a page that says what it is."""
    from otoscope.dictionaries import push

    dictionary = _open(source, workspace_if_any(workspace))
    address = push(dictionary, repo, path, licence=licence, private=private, scorecard=scorecard)
    if json:
        print_json({"address": address})
        return
    out().print(f"[green]✓[/] {address}", soft_wrap=True)


@app.command("pull")
def pull_dictionary(
    repo: RepoArgument,
    path: PathOption = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="NAME", help="A branch, tag or commit (default: the newest).")
    ] = None,
    name: NameOption = None,
    format: FormatOption = None,
    site: SiteOption = None,
    k: KOption = None,
    threshold: ThresholdOption = None,
    normalisation: NormalisationOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a dictionary of the Hugging Face Hub into the workspace."""
    from otoscope.dictionaries import pull

    folder = open_workspace(workspace)
    given = _given(site, k, threshold, normalisation)
    _keep(folder, pull(repo, path, revision=revision, format=format, **given), name, json)


def _given(site: str | None, k: int | None, threshold: float | None, normalisation: str | None) -> dict[str, Any]:
    return {"site": site, "k": k, "threshold": threshold, "normalisation": normalisation}


def _open(source: str, workspace: Workspace | None) -> Dictionary:
    """Open a dictionary by its name in the workspace, else by its path."""
    from otoscope.dictionaries import load_dictionary

    if workspace is not None and source in workspace.names("dictionaries"):
        return workspace.dictionary(source)
    if workspace is not None and not Path(source).exists() and "/" not in source:
        return workspace.dictionary(source)  # which refuses, with the nearest names
    return load_dictionary(source)


def _export_dashboards(workspace: Workspace, name: str, folder: Path, json: bool) -> None:
    from otoscope.atlas.exports.neuronpedia import export_neuronpedia

    atlas = workspace.atlas(name)
    place = export_neuronpedia(atlas, workspace.dictionary_of(name), workspace.corpus_of(name), folder)
    if json:
        print_json({"folder": place, "format": "neuronpedia"})
        return
    out().print(f"[green]✓[/] dashboards of {escape(name)} in {place}", soft_wrap=True)


def _keep(workspace: Workspace, dictionary: Dictionary, name: str | None, json: bool) -> None:
    """Save a dictionary in the workspace, if it fits its model and its name is free."""
    from otoscope.workspace import as_name

    _check_fit(workspace, dictionary)
    name = name or as_name(dictionary.name)
    place = workspace.path("dictionaries", name)
    if place.exists():
        raise InputError(f"The workspace has a dictionary {name!r} already; choose another --name.")
    dictionary.save(place)
    facts = _facts(workspace.dictionary(name))
    if json:
        print_json(facts)
        return
    was = f", from {facts['imported']}" if facts["imported"] else ""
    out().print(
        f"[green]✓[/] dictionary [bold]{name}[/]: {facts['features']:,} features of {facts['reads']}{was}",
        soft_wrap=True,
    )
    for note in facts["notes"]:
        out().print(f"  {escape(note)}", soft_wrap=True)


def _check_fit(workspace: Workspace, dictionary: Dictionary) -> None:
    from otoscope.models.loading.checkpoint import describe_checkpoint
    from otoscope.models.sites import parse_site

    if not dictionary.site:
        raise InputError(f"The files of {dictionary.name!r} do not say where its activations come from; give --site.")
    dims = describe_checkpoint(workspace.model_name).dims
    widths = [parse_site(site, dims).width(dims) for site in dictionary.sites]
    if sum(widths) != dictionary.d_in:
        raise InputError(
            f"The dictionary reads activations {dictionary.d_in} wide, but {' + '.join(dictionary.sites)} of the "
            f"workspace's model {workspace.model_name} is {sum(widths)} wide; it was made for another model or site."
        )


def _density(dictionary: Dictionary, workspace: Workspace | None) -> Any:
    """How often each feature is active, `[n]`, if the workspace has an atlas that says so."""
    if workspace is None or dictionary.name not in workspace.names("atlases"):
        return None
    import torch

    return torch.as_tensor(workspace.atlas(dictionary.name).features["density"].to_numpy())


def _facts(dictionary: Dictionary) -> dict[str, Any]:
    from otoscope.dictionaries.formats.model_card import model_name

    imported = dictionary.metadata.get("imported") or {}
    training = dictionary.metadata.get("training") or {}
    threshold = getattr(dictionary, "threshold", None)
    return {
        "name": dictionary.name,
        "architecture": dictionary.kind,
        "trained_as": (training.get("spec") or {}).get("kind"),
        "reads": " + ".join(dictionary.sites),
        "rebuilds": dictionary.target_site if dictionary.target_site != dictionary.site else None,
        "features": dictionary.n_features,
        "width": dictionary.d_in,
        "k": getattr(dictionary, "k", None),
        "threshold": None if threshold is None else float(threshold.mean()),
        "normalisation": getattr(dictionary, "normalisation", "none"),
        "model": model_name(dictionary) or None,
        "imported": imported.get("format"),
        "notes": list(imported.get("notes") or []),
        "fingerprint": dictionary.fingerprint,
    }
