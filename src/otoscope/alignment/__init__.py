"""Alignment: when words and phones are spoken, for clips whose text is known, and how well that is told."""

from otoscope.alignment.alignment import Alignment as Alignment
from otoscope.alignment.classifier import FitSettings as FitSettings
from otoscope.alignment.corpus_alignment import align_corpus as align_corpus
from otoscope.alignment.ctc_alignment import align_ctc as align_ctc
from otoscope.alignment.features import FrameFeatures as FrameFeatures
from otoscope.alignment.fitting import Refit as Refit
from otoscope.alignment.fitting import adapt as adapt
from otoscope.alignment.fitting import fit_phone_model as fit_phone_model
from otoscope.alignment.fitting import flat_start as flat_start
from otoscope.alignment.heads import HeadChoice as HeadChoice
from otoscope.alignment.heads import HeadScore as HeadScore
from otoscope.alignment.heads import choose_heads as choose_heads
from otoscope.alignment.inventory import BASE as BASE
from otoscope.alignment.inventory import base_intervals as base_intervals
from otoscope.alignment.inventory import fold as fold
from otoscope.alignment.inventory import to_base as to_base
from otoscope.alignment.lexicon import Lexicon as Lexicon
from otoscope.alignment.lexicon import Pronunciation as Pronunciation
from otoscope.alignment.phone_model import PhoneModel as PhoneModel
from otoscope.alignment.phone_model import PhoneModelSettings as PhoneModelSettings
from otoscope.alignment.phones import align_phones as align_phones
from otoscope.alignment.quality import BoundaryReport as BoundaryReport
from otoscope.alignment.quality import boundary_report as boundary_report
from otoscope.alignment.quality import uniform_tier as uniform_tier
from otoscope.alignment.words import align_words as align_words
