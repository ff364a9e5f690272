"""Many dictionaries of a workspace in one pass over the activations, each with a record of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from otoscope.errors import InputError
from otoscope.progress import ProgressReport
from otoscope.workspace.layout import Workspace
from otoscope.workspace.plan import DictionaryPlan
from otoscope.workspace.stages import StageOutcome, run_stages, train_inputs

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore, EncoderStream
    from otoscope.dictionaries.training.logs import Tracker


def sweep_stage(
    workspace: Workspace,
    store: str | ActivationStore | EncoderStream,
    plans: Sequence[DictionaryPlan],
    *,
    seed: int = 0,
    clips: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    device: str | None = None,
    trackers: Sequence[Tracker] = (),
    progress: bool | ProgressReport = True,
) -> list[StageOutcome]:
    """Train all planned dictionaries on the same batches; each is the one that `train_stage` makes alone.

    What is finished is reused, what was stopped goes on, and only the others are trained. Arguments are
    those of `train_stage`.

    Raises:
        InputError: two plans have one name, one is of a baseline, sites do not fit, or they cannot share their batches.
    """
    from otoscope.dictionaries import TrainingRun, train_many
    from otoscope.dictionaries.training.sources import sites_for

    by_name: dict[str, DictionaryPlan] = {}
    for plan in plans:
        if plan.name in by_name:
            raise InputError(f"Two dictionaries would have the name {plan.name!r}; give each its own.")
        if not plan.is_trained:
            raise InputError(f"A dictionary of kind {plan.kind} is not trained; make {plan.name!r} on its own.")
        by_name[plan.name] = plan
    source = workspace.store(store) if isinstance(store, str) else store
    for plan in plans:
        sites_for(source, plan.spec(), plan.sites or (plan.site,))
    stages = {
        name: (train_inputs(source, plan, seed, clips), workspace.path("dictionaries", name))
        for name, plan in by_name.items()
    }

    def work(names: list[str]) -> None:
        runs = [
            TrainingRun(
                by_name[name].spec(),
                by_name[name].sites or (by_name[name].site,),
                to=stages[name][1],
                settings=by_name[name].training_settings(seed),
            )
            for name in names
        ]
        train_many(source, runs, clips=clips, held_out=held_out, device=device, trackers=trackers, progress=progress)

    return run_stages(workspace, "train", stages, work)
