"""English clips of the bundled corpus, some voices to fit on and others to test on, and phone models fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import otoscope as oto
from otoscope.alignment import FitSettings, FrameFeatures, Lexicon, PhoneModel, PhoneModelSettings, fit_phone_model

HELD_OUT = frozenset({"m7", "annie"})
QUICK = FitSettings(epochs=3)


@dataclass(frozen=True)
class Voices:
    """Clips by voice: none of the voices tested on is fitted on."""

    fit: list[oto.Clip]
    test: list[oto.Clip]


@pytest.fixture(scope="session")
def voices(mini: oto.Corpus) -> Voices:
    """Sixty clips to fit on and twenty-four of two other voices, with words and phones of known times."""
    spoken = [clip for clip in mini if clip.tier("phones") and clip.language != "es"]
    others = [clip for clip in spoken if clip.speaker in HELD_OUT]
    return Voices([clip for clip in spoken if clip.speaker not in HELD_OUT][::5][:60], others[::4][:24])


@pytest.fixture(scope="session")
def lexicon(mini: oto.Corpus) -> Lexicon:
    """How the words of the bundled corpus are said."""
    return Lexicon.from_clips([clip for clip in mini if clip.tier("phones") and clip.language != "es"])


@pytest.fixture(scope="session")
def phone_model(voices: Voices) -> PhoneModel:
    """A phone model that looks at the spectrogram."""
    return fit_phone_model(voices.fit, fit=QUICK)


@pytest.fixture(scope="session")
def encoder_settings() -> PhoneModelSettings:
    """A phone model that looks at the bundled model's second layer."""
    return PhoneModelSettings(FrameFeatures(("encoder.1.resid_post",)))
