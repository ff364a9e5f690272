"""`otoscope harvest`: run a corpus through the model and keep the activations of some sites."""

from __future__ import annotations

from typing import Annotated

import typer

from otoscope.cli.corpus import find_corpus
from otoscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SitesOption,
    WorkspaceOption,
)
from otoscope.cli.terminal import megabytes, out, print_json
from otoscope.errors import InputError


def run(
    corpus: Annotated[
        str,
        typer.Option("--corpus", "-c", metavar="CORPUS", help="In the workspace, bundled, a folder or a manifest."),
    ] = "mini",
    site: SitesOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the store (default: the corpus').")
    ] = None,
    stored: Annotated[
        str, typer.Option("--stored", metavar="DTYPE", help="Numbers on disk: float16 or bfloat16.")
    ] = "float16",
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Run a corpus through the model and keep activations.

    Run the same command again after an interruption: it goes on where it stopped.
    """
    if not site:
        raise InputError("Say which sites to harvest, e.g. --site encoder.2.resid_post (`otoscope sites` lists them).")
    if stored not in ("float16", "bfloat16"):
        raise InputError(f"--stored {stored!r} is not possible; choose float16 or bfloat16.")
    from otoscope.workspace import Workspace, as_name, corpus_stage, harvest_stage

    folder = Workspace.open(workspace, create=True, model=model)
    speech_model = folder.model(device=device, dtype=dtype)
    sites = [speech_model.site(text).name for text in site]
    clips = find_corpus(corpus, folder)
    saved = as_name(clips.name)
    if saved not in folder.names("corpora") or folder.corpus(saved).fingerprint != clips.fingerprint:
        corpus_stage(folder, clips, saved)
    outcome = harvest_stage(folder, speech_model, saved, sites, name or saved, dtype=stored, progress=True)
    store = folder.store(outcome.name)
    size = sum(file.stat().st_size for file in outcome.path.rglob("*") if file.is_file())
    if json:
        facts = {
            "frames": store.n_frames,
            "clips": len(store.clips),
            "sites": list(store.sites),
            "bytes": size,
        }
        print_json({**outcome.to_json(), **facts, "fingerprint": store.fingerprint})
    else:
        out().print(
            f"[green]✓[/] store [bold]{outcome.name}[/] {outcome.state}: {store.n_frames:,} frames "
            f"of {', '.join(sites)} ({megabytes(size)})",
            soft_wrap=True,
        )
