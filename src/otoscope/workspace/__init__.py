"""The workspace: one folder that holds the corpora, stores, dictionaries and atlases made with one model."""

from otoscope.workspace.layout import KINDS, Address, Workspace, as_name
from otoscope.workspace.pipeline import DictionaryPlan, Plan, Summary, default_plan, run_pipeline
from otoscope.workspace.stages import StageOutcome, atlas_stage, corpus_stage, harvest_stage, train_stage

__all__ = [
    "KINDS",
    "Address",
    "DictionaryPlan",
    "Plan",
    "StageOutcome",
    "Summary",
    "Workspace",
    "as_name",
    "atlas_stage",
    "corpus_stage",
    "default_plan",
    "harvest_stage",
    "run_pipeline",
    "train_stage",
]
