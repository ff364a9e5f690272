"""The workspace: one folder that holds the corpora, stores, dictionaries and atlases made with one model."""

from otoscope.workspace.atlas_stages import atlas_stage, atlas_stages, merge_stage, part_stages
from otoscope.workspace.layout import KINDS, Address, Workspace, as_name
from otoscope.workspace.pipeline import Split, Summary, dictionary_figures, held_out_split, run_pipeline
from otoscope.workspace.plan import BASELINES, DictionaryPlan, Plan, default_plan, dictionary_kinds
from otoscope.workspace.stages import StageOutcome, corpus_stage, harvest_stage, train_stage
from otoscope.workspace.sweeping import sweep_stage

__all__ = [
    "BASELINES",
    "KINDS",
    "Address",
    "DictionaryPlan",
    "Plan",
    "Split",
    "StageOutcome",
    "Summary",
    "Workspace",
    "as_name",
    "atlas_stage",
    "atlas_stages",
    "corpus_stage",
    "default_plan",
    "dictionary_figures",
    "dictionary_kinds",
    "harvest_stage",
    "held_out_split",
    "merge_stage",
    "part_stages",
    "run_pipeline",
    "sweep_stage",
    "train_stage",
]
