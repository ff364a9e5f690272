"""`otoscope train`: make a dictionary from harvested activations, or straight from the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import CorpusOption, DeviceOption, JsonOption, SitesOption, WorkspaceOption, open_workspace
from otoscope.cli.terminal import err, number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore, EncoderStream
    from otoscope.dictionaries.training.config import TrainingConfig
    from otoscope.dictionaries.training.logs import Tracker
    from otoscope.dictionaries.training.sweep import SweepPoint
    from otoscope.workspace import DictionaryPlan, StageOutcome, Workspace

USUAL = {"n_features": 1024, "k": 16}
"""Sizes for a corpus of minutes, where neither an option nor a file says another."""


def run(
    store: Annotated[
        str | None, typer.Option("--store", metavar="NAME", help="The store (default: the only one).")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Run the model instead of reading a store; needs --site.")
    ] = False,
    corpus: CorpusOption = None,
    sites: SitesOption = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="An architecture (default: topk), or neurons, random or pca."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings from a TOML or YAML file.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="FIELD=V,V", help="A dictionary for each value of a field; repeatable."),
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Settings of a published run.")] = None,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="List the presets and stop.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as a config file and stop.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name (default: such as sae-2).")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all-clips", help="Train on all clips, without held-out ones to score on.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Write the metrics for TensorBoard, too.")
    ] = None,
    wandb: Annotated[
        str | None, typer.Option("--wandb", metavar="PROJECT", help="Send the metrics to Weights & Biases, too.")
    ] = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    given: Mapping[str, str | bool] | None = None,
) -> None:
    """Train a sparse dictionary; score it on held-out speakers.

    Options go before the file of --config, and that before --preset. With --kind neurons, random or pca, save such a
    dictionary instead. Where an architecture reads several sites, repeat --site (for transcoders: input, output).

    --sweep trains many on the same batches, for every combination of values: of fields of an architecture, of kind,
    site (A+B for two that are read together), seed, lr and other training settings that leave the batches as they are.

    Run the same command again after an interruption: it goes on where it stopped.
    """
    from otoscope.dictionaries.training.sweep import sweep_points
    from otoscope.workspace import dictionary_figures, held_out_split, sweep_stage, train_stage

    if list_presets:
        _list_presets(json)
        return
    asked, given = sites or (), given or {}
    chosen = None if kind in _baselines() and not sweep else _config(kind, config, preset, given, asked, sweep or ())
    points = sweep_points(chosen) if chosen is not None and chosen.sweep else []
    if print_config:
        if chosen is None:
            raise InputError(f"A dictionary of kind {kind} is not trained; it has no config file.")
        print(chosen.toml(), end="")
        return
    folder = open_workspace(workspace)
    wanted: list[tuple[Sequence[str], TrainingConfig | None]] = [(asked, chosen)]
    if points:
        wanted = [(point.choices.get("site", asked), point.config) for point in points]
    source, store, read = _source(folder, store, stream, corpus, wanted, device)
    if chosen is not None and chosen.model not in ("", source.meta["model"]):
        err().print(f"The settings were made for {chosen.model}; this is {source.meta['model']}.", soft_wrap=True)
    held = held_out_split(folder, str(source.meta["corpus"]))
    how: dict[str, Any] = {
        "seed": int(given.get("seed", 0)),
        "clips": None if everything else held.fit,
        "held_out": None if everything else held.held_out,
        "device": device,
        "trackers": _trackers(tensorboard, wandb),
    }
    if points:
        outcomes = sweep_stage(folder, source, _plans(folder, points, read, name), **how)
    else:
        outcomes = [train_stage(folder, source, _plan(chosen, kind or "topk", given, read[0], name), **how)]
    figures = [dictionary_figures(folder, store, folder.dictionary(outcome.name), held) for outcome in outcomes]
    if points:
        _say_all(outcomes, figures, points, json)
    elif json:
        print_json({**outcomes[0].to_json(), **figures[0]})
    else:
        _say(outcomes[0], figures[0], read[0])


def with_settings() -> Callable[..., None]:
    """Return `run` with an option for every setting of every architecture and of training."""
    from otoscope.cli.settings import with_settings_options

    return with_settings_options(run)


def _baselines() -> tuple[str, ...]:
    from otoscope.workspace import BASELINES

    return BASELINES


def _config(
    kind: str | None,
    config: Path | None,
    preset: str | None,
    given: Mapping[str, Any],
    sites: Sequence[str],
    sweep: Sequence[str],
) -> TrainingConfig:
    """Put together what the preset, the file and the options say, and check it."""
    from otoscope.cli.settings import read_sweep
    from otoscope.dictionaries.training import config as files
    from otoscope.dictionaries.training.settings import FIELDS

    chosen = files.preset(preset) if preset else files.TrainingConfig(architecture=USUAL)
    if config is not None:
        chosen = chosen.changed(files.read_config(config))
    training = {name: value for name, value in given.items() if name in FIELDS}
    of_kind = {name: value for name, value in given.items() if name not in FIELDS}
    options = files.TrainingConfig(kind or "", of_kind, training, sites=tuple(sites), sweep=read_sweep(sweep))
    chosen = chosen.changed(options)
    if not chosen.sweep:
        chosen.spec()
        chosen.settings()
    return chosen


def _plan(
    chosen: TrainingConfig | None,
    kind: str,
    given: Mapping[str, Any],
    sites: Sequence[str],
    name: str | None,
) -> DictionaryPlan:
    """Return what is to be made of which sites."""
    from otoscope.workspace import DictionaryPlan, as_name

    layer = next((part for part in sites[0].split(".") if part.isdecimal()), "")
    if chosen is None:
        size, active = (int(given.get(field, usual)) for field, usual in USUAL.items())
        return DictionaryPlan(name or as_name(f"{kind}-{layer}"), sites[0], kind, size, active)
    kind = chosen.spec_class.kind
    name = name or as_name(f"{'sae' if kind == 'topk' else kind.replace('_', '-')}-{layer}")
    return DictionaryPlan(
        name,
        sites[0],
        kind,
        sites=tuple(sites) if len(sites) > 1 else (),
        architecture=dict(chosen.architecture),
        training=dict(chosen.training),
    )


def _plans(
    folder: Workspace, points: Sequence[SweepPoint], sites: Sequence[Sequence[str]], name: str | None
) -> list[DictionaryPlan]:
    """Return what is to be made of the points of a sweep; `name` is what their names begin with."""
    from otoscope.workspace import as_name

    if name is not None:
        folder.path("dictionaries", name)
    return [
        _plan(point.config, "", {}, names, as_name(point.name(names, name)))
        for point, names in zip(points, sites, strict=True)
    ]


def _sites(folder: Workspace, asked: Sequence[str], chosen: TrainingConfig | None, known: Sequence[str]) -> list[str]:
    """Return the sites to read: those asked for, those of the config, or all of the store if that leaves no choice."""
    if len(asked) > 1 and chosen is not None and chosen.spec_class.reads == "one":
        kind, joined = chosen.spec_class.kind, ",".join(asked)
        raise InputError(
            f"A {kind} dictionary reads one site, got {len(asked)}; for one of each write --sweep site={joined}."
        )
    if asked:
        return [str(folder.model().site(site)) for site in asked]
    if chosen is not None and chosen.sites:
        missing = [site for site in chosen.sites if known and site not in known]
        if missing:
            has = ", ".join(known)
            raise InputError(
                f"The settings read {missing[0]}, which the store does not have ({has}); choose with --site."
            )
        return list(chosen.sites)
    if not known:
        raise InputError("Say which site to read with --site; `otoscope sites` lists them.")
    if chosen is not None and chosen.spec_class.reads == "several":
        return list(known)
    return [only([str(site) for site in known], "site", "--site")]


def _source(
    folder: Workspace,
    store: str | None,
    stream: bool,
    corpus: str | None,
    wanted: Sequence[tuple[Sequence[str], TrainingConfig | None]],
    device: str | None,
) -> tuple[ActivationStore | EncoderStream, str | None, list[list[str]]]:
    """Return where frames come from, the store's name (None for a stream), and the sites of each dictionary wanted."""
    if not stream:
        store = store or only(folder.names("stores"), "store", "--store")
        source = folder.store(store)
        return source, store, [_sites(folder, sites, chosen, source.sites) for sites, chosen in wanted]
    from otoscope.activations import stream as open_stream

    read = [_sites(folder, sites, chosen, ()) for sites, chosen in wanted]
    clips = folder.corpus(corpus or only(folder.names("corpora"), "corpus", "--corpus"))
    every = list(dict.fromkeys(site for sites in read for site in sites))
    return open_stream(folder.model(device=device), clips, every), None, read


def _trackers(tensorboard: Path | None, wandb: str | None) -> list[Tracker]:
    from otoscope.dictionaries.training.logs import TensorBoard, WeightsAndBiases

    made: list[Tracker] = [TensorBoard(tensorboard)] if tensorboard else []
    return made + ([WeightsAndBiases(wandb)] if wandb else [])


def _say(outcome: StageOutcome, figures: Mapping[str, Any], sites: Sequence[str]) -> None:
    """Print what was made, in a line."""
    quality = ""
    if "fvu" in figures:
        of = f" on {figures['held_out']['clips']} clips of held-out {figures['held_out']['by']}"
        quality = (
            f": FVU {number(figures['fvu'], 3)}, L0 {number(figures['l0'], 1)}, {share(figures['dead_share'])} dead{of}"
        )
    out().print(
        f"[green]✓[/] dictionary [bold]{outcome.name}[/] {outcome.state}: {figures['n_features']:,} features "
        f"of {', '.join(sites)}{quality}",
        soft_wrap=True,
    )


def _say_all(
    outcomes: Sequence[StageOutcome],
    figures: Sequence[Mapping[str, Any]],
    points: Sequence[SweepPoint],
    json: bool,
) -> None:
    """Print what a sweep made, in a table."""
    if json:
        rows = zip(outcomes, points, figures, strict=True)
        made = [{**outcome.to_json(), "choices": point.choices, **of_it} for outcome, point, of_it in rows]
        print_json({"dictionaries": made})
        return
    listed = table("dictionary", "", "features>", "FVU>", "L0>", "dead>")
    for outcome, one in zip(outcomes, figures, strict=True):
        quality = number(one.get("fvu"), 3), number(one.get("l0"), 1), share(one.get("dead_share"))
        listed.add_row(outcome.name, outcome.state, f"{one['n_features']:,}", *quality)
    out().print(listed)
    reused = sum(outcome.reused for outcome in outcomes)
    held = figures[0]["held_out"]
    out().print(
        f"[green]✓[/] {len(outcomes)} dictionaries, {len(outcomes) - reused} trained in one pass and {reused} reused; "
        f"scored on {held['clips']} clips of held-out {held['by']}",
        soft_wrap=True,
    )


def _list_presets(json: bool) -> None:
    from otoscope.dictionaries.training.config import presets

    if json:
        print_json({name: {**vars(config), "sites": list(config.sites)} for name, config in presets().items()})
        return
    for name, config in presets().items():
        out().print(f"[bold]{name}[/]  {config.title}", soft_wrap=True)
        out().print(f"  {config.source}", soft_wrap=True, markup=False)
        for gap in config.unknown:
            out().print(f"  not known: {gap}", soft_wrap=True, markup=False)


def only(names: list[str], noun: str, option: str) -> str:
    """Return the only one of `names`.

    Raises:
        InputError: there are none, or several.
    """
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"The workspace has no {noun} yet; `otoscope harvest` makes one.")
    raise InputError(f"There are several {noun}s ({', '.join(names)}); choose one with {option}.")
