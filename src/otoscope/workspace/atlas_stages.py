"""Stages that make atlases: of one dictionary or several in one pass, of a part of a corpus, and joined from parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.progress import ProgressReport
from otoscope.workspace.layout import Workspace
from otoscope.workspace.stages import StageOutcome, run_stage, run_stages

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore
    from otoscope.audio import Corpus
    from otoscope.dictionaries import Dictionary
    from otoscope.models import SpeechModel

    Source = ActivationStore | SpeechModel

PARTS = "parts"
"""Folder of a workspace for parts of atlases, `<name>-<part>-of-<parts>`."""


def atlas_stage(
    workspace: Workspace,
    store: str | None,
    dictionary: str,
    corpus: str,
    name: str,
    *,
    seed: int = 0,
    progress: bool | ProgressReport = True,
) -> StageOutcome:
    """Build the atlas `name` of a dictionary over a corpus, from a store or (None) from the workspace's model."""
    return atlas_stages(workspace, store, {name: dictionary}, corpus, seed=seed, progress=progress)[0]


def atlas_stages(
    workspace: Workspace,
    store: str | None,
    dictionaries: Mapping[str, str],
    corpus: str,
    *,
    seed: int = 0,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> list[StageOutcome]:
    """Build the atlases of several dictionaries, given by the names of their atlases, in one pass over a corpus.

    Frames come from a store or (None) from the workspace's model. An atlas whose corpus changed lends its codes to the
    new one. With `wait`, wait for whoever works in the workspace instead of refusing.
    """
    from otoscope.atlas import build_atlases

    source, clips = _source(workspace, store), workspace.corpus(corpus)
    features = {name: workspace.dictionary(dictionary) for name, dictionary in dictionaries.items()}
    stages = {
        name: (_inputs(_source_name(source), each, clips, name, seed), workspace.path("atlases", name))
        for name, each in features.items()
    }

    def work(names: list[str]) -> None:
        chosen = [features[name] for name in names]
        to = [stages[name][1] for name in names]
        build_atlases(source, chosen, clips, to, names=names, seed=seed, progress=progress, wait=wait)

    return run_stages(workspace, "atlas", stages, work, replaces=True, wait=wait)


def part_stages(
    workspace: Workspace,
    store: str | None,
    dictionaries: Mapping[str, str],
    corpus: str,
    part: int,
    of: int,
    *,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> list[StageOutcome]:
    """Encode part `part` of `of` parts of a corpus for several atlases, given by their names, in one pass.

    The parts lie in `parts/<name>-<part>-of-<of>`; `merge_stage` joins them.
    """
    from otoscope.atlas import build_parts, clips_of_part

    source, clips = _source(workspace, store), workspace.corpus(corpus)
    own = clips_of_part(clips, part, of)
    features = {name: workspace.dictionary(dictionary) for name, dictionary in dictionaries.items()}
    stages = {
        f"{name}-{part}-of-{of}": (
            {**_inputs(_source_name(source), each, clips, name, 0), "part": [part, of]},
            workspace.folder / PARTS / f"{name}-{part}-of-{of}",
        )
        for name, each in features.items()
    }
    by_stage = dict(zip(stages, features.values(), strict=True))

    def work(names: list[str]) -> None:
        chosen, to = [by_stage[name] for name in names], [stages[name][1] for name in names]
        build_parts(source, chosen, clips, own, to, progress=progress, wait=wait)

    return run_stages(workspace, "atlas-part", stages, work, replaces=True, wait=wait)


def merge_stage(
    workspace: Workspace,
    parts: Sequence[Path],
    dictionary: str,
    corpus: str,
    name: str,
    *,
    seed: int = 0,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> StageOutcome:
    """Join parts or atlases to the atlas `name` over a corpus: what `atlas_stage` would make of it.

    Raises:
        InputError: parts that do not belong together, or clips that none of them has.
    """
    from otoscope.atlas import merge_atlases
    from otoscope.atlas.building import part_facts

    features, clips = workspace.dictionary(dictionary), workspace.corpus(corpus)

    def work(folder: Path) -> None:
        merge_atlases(parts, features, clips, folder, name=name, seed=seed, progress=progress, wait=wait)

    inputs = _inputs(part_facts(parts[0])["source"], features, clips, name, seed)
    return run_stage(workspace, "atlas", name, inputs, workspace.path("atlases", name), work, replaces=True, wait=wait)


def _source(workspace: Workspace, store: str | None) -> Source:
    return workspace.model() if store is None else workspace.store(store)


def _source_name(source: Source) -> str:
    from otoscope.atlas.building import source_name

    return source_name(source)


def _inputs(source: str, dictionary: Dictionary, clips: Corpus, name: str, seed: int) -> dict[str, Any]:
    """Return all that decides the bytes of an atlas."""
    from otoscope.atlas.building.floors import PILOT_FRAMES, SHARE
    from otoscope.atlas.format import VERSION
    from otoscope.evaluation.naming.labeller import N_SHIFTS

    return {
        "source": source,
        "dictionary": dictionary.fingerprint,
        "dictionary_name": dictionary.name,
        "corpus": clips.fingerprint,
        "corpus_name": clips.name,
        "name": name,
        "seed": seed,
        "n_shifts": N_SHIFTS,
        "floors": [SHARE, PILOT_FRAMES],
        "version": VERSION,
    }
