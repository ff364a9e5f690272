"""UniSpeech-SAT, base and large, with and without a CTC head (Chen et al. 2021): wav2vec 2.0's network, taught with
speakers in mind."""

from __future__ import annotations

from dataclasses import replace

from otoscope.models.families import wav2vec2

FAMILY = replace(wav2vec2.FAMILY, name="unispeech-sat")
