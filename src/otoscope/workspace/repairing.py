"""Damaged atlases of a workspace, repaired with what the workspace holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otoscope.errors import OtoscopeError
from otoscope.progress import ProgressReport
from otoscope.workspace.layout import Workspace

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore
    from otoscope.atlas.building.repairing import Materials, Outcome
    from otoscope.models import SpeechModel


def atlas_folders(workspace: Workspace) -> list[str]:
    """Names of all atlases, those too whose `meta.json` is missing."""
    folder = workspace.path("atlases", "any").parent
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".") if folder.is_dir() else []


def repair(workspace: Workspace, name: str, progress: bool | ProgressReport = False) -> list[Outcome]:
    """Repair an atlas of the workspace, and say what became of each damaged file.

    Raises:
        OtoscopeError: it is no atlas of this version, is being built, or has to be built again.
    """
    from otoscope.atlas.building.repairing import repair_atlas

    return repair_atlas(workspace.path("atlases", name), lambda meta: _materials(workspace, meta), progress)


def _materials(workspace: Workspace, meta: dict[str, Any]) -> Materials:
    """Find what an atlas was built from."""
    from otoscope.atlas.building.repairing import Materials

    dictionary = workspace.dictionary(str(meta["dictionary"]["name"]))
    corpus = workspace.corpus(str(meta["corpus"]["name"]))

    def activations() -> ActivationStore | SpeechModel:
        from otoscope.atlas.building.sources import frame_stream

        for name in workspace.names("stores"):
            store = workspace.store(name)
            try:
                if frame_stream(store, [dictionary], corpus).fingerprint == meta["source"]:
                    return store
            except OtoscopeError:  # of another site or other clips
                continue
        return workspace.model()

    return Materials(dictionary, corpus, activations)
