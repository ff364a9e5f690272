"""Clips, corpora, decoding, log-mel and windows."""

from otoscope.audio.clip import Clip as Clip
from otoscope.audio.clip import Interval as Interval
from otoscope.audio.containers import AudioInfo as AudioInfo
from otoscope.audio.corpus import Corpus as Corpus
from otoscope.audio.corpus import corpus as corpus
from otoscope.audio.decoding import MAX_CLIP_S as MAX_CLIP_S
from otoscope.audio.decoding import SAMPLE_RATE_HZ as SAMPLE_RATE_HZ
from otoscope.audio.decoding import decode as decode
from otoscope.audio.decoding import probe as probe
from otoscope.audio.labels import read_labels as read_labels
from otoscope.audio.labels import write_labels as write_labels
from otoscope.audio.mel import HOP as HOP
from otoscope.audio.mel import N_FFT as N_FFT
from otoscope.audio.mel import log_mel as log_mel
from otoscope.audio.mel import mel_filters as mel_filters
from otoscope.audio.problems import Problem as Problem
