"""The workspace: one folder that holds the corpora, stores, dictionaries and atlases made with one model."""

from otoscope.workspace.layout import KINDS, Address, Workspace, as_name
from otoscope.workspace.pipeline import Split, Summary, dictionary_figures, held_out_split, run_pipeline
from otoscope.workspace.plan import DICTIONARY_KINDS, DictionaryPlan, Plan, default_plan
from otoscope.workspace.stages import StageOutcome, atlas_stage, corpus_stage, harvest_stage, train_stage

__all__ = [
    "DICTIONARY_KINDS",
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
    "corpus_stage",
    "default_plan",
    "dictionary_figures",
    "harvest_stage",
    "held_out_split",
    "run_pipeline",
    "train_stage",
]
