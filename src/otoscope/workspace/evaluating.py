"""The scorecard of a dictionary in a workspace: its store, corpus and held-out clips are found by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from otoscope.errors import InputError
from otoscope.progress import ProgressReport
from otoscope.workspace.layout import Workspace
from otoscope.workspace.stages import only_one_at_work

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore
    from otoscope.dictionaries import Dictionary
    from otoscope.evaluation.scorecard import Parameters, Scorecard

CACHE = ".baselines"
"""Folder, beside the scorecards, where trained baselines are kept for all of them."""


def evaluate_stage(
    workspace: Workspace,
    dictionary: str,
    *,
    store: str | None = None,
    baselines: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    seeds: int = 0,
    parameters: Parameters | None = None,
    device: str | None = None,
    progress: bool | ProgressReport = True,
) -> Scorecard:
    """Make the scorecard of a dictionary on the clips that the workspace holds out; arguments are those of `evaluate`.

    What an earlier call measured on the same inputs is reused, section by section.

    Raises:
        InputError: unknown names, or no store with the dictionary's sites.
        OtoscopeError: another process works in this workspace.
    """
    from otoscope.evaluation.scorecard import evaluate
    from otoscope.workspace.pipeline import held_out_split

    features = workspace.dictionary(dictionary)
    source = _store(workspace, features, store)
    corpus = str(source.meta["corpus"])
    held = held_out_split(workspace, corpus)
    folder = workspace.path("scorecards", dictionary)
    with only_one_at_work(workspace):
        return evaluate(
            features,
            source,
            workspace.model(device=device),
            workspace.corpus(corpus),
            held_out=None if held.fit == held.held_out else held.held_out,
            baselines=baselines,
            sections=sections,
            seeds=seeds,
            parameters=parameters,
            to=folder,
            cache=folder.parent / CACHE,
            progress=progress,
        )


def _store(workspace: Workspace, dictionary: Dictionary, name: str | None) -> ActivationStore:
    """The store named, or the first that holds every site of the dictionary."""
    if name is not None:
        return workspace.store(name)
    wanted = {*dictionary.sites, dictionary.target_site}
    for known in workspace.names("stores"):
        if wanted <= set(workspace.store(known).sites):
            return workspace.store(known)
    raise InputError(
        f"No store of the workspace {workspace.folder} holds {', '.join(sorted(wanted))}, which {dictionary.name!r} "
        "reads; `otoscope harvest` makes one."
    )
