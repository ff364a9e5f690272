"""HuBERT, base to extra large, with and without a CTC head (Hsu et al. 2021): wav2vec 2.0's network, another task."""

from __future__ import annotations

from dataclasses import replace

from otoscope.models.families import wav2vec2

FAMILY = replace(wav2vec2.FAMILY, name="hubert")
