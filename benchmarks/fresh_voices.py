"""Speech of voices that took no part in anything: made by the recipe of the bundled model, when it is needed.

Decided before any label was judged on it:

- **voices**: espeak-ng's variants that neither the model's training nor the mini corpus has, one of each family of
  names, in an order drawn once (`random.Random(0).shuffle`). The first six that the model understands are taken: a
  voice with a word error above 0.3 in its sentences says nothing about labels; the next in the order speaks them.
- **sentences**: of the 1,500 kept out of training, the mini corpus had the first 1,000 to choose from; these are from
  the other 500, 25 for each voice, none of them twice. As in the mini corpus, those longer than 5.6 s are left out.
- **accents**: drawn as for the mini corpus from those of the training (`known`), from its rule with a tenth in the
  accent that the model never heard (`list`), or all in that accent (`accent`).
- **seed** 1. Audio goes through the mini corpus's codec; it is never kept, and differs a little from one process to
  the next, as espeak-ng does.

Seen after the voices were drawn: two of them are echoing copies of variants of the model's training (RicishayMax of
max, anikaRobot of anika). No label was ever chosen or tuned on either.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

from otoscope.audio import Clip, Corpus
from otoscope.evaluation.word_errors import spoken_form, word_errors
from otoscope.models import SpeechModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recipes.pocket import grammar, minicorpus, speech, voices
from recipes.pocket.settings import Settings

ORDER = (
    "AnxiousAndy", "UniRobot", "croak", "whisperf", "RicishayMax", "anikaRobot", "quincy", "iven", "robosoft",
    "whisper", "kaukovalta", "klatt5", "Mr serious", "Demonic", "announcer", "Tweaky", "Storm",
)  # fmt: skip
N_VOICES, N_SENTENCES, SEED = 6, 25, 1
MAX_WORD_ERROR = 0.3
UNHEARD_SHARE, AMERICAN_SHARE = 0.1, 0.4
"""Shares of accents in the mini corpus: never heard, and American among the others."""


@dataclass(frozen=True)
class Fresh:
    """Clips of one set of voices, with the word error of every voice that was tried, taken or not."""

    corpus: Corpus
    word_error: dict[str, float]
    refused: tuple[str, ...]


def fresh_sets(model: SpeechModel, folder: Path) -> dict[str, Fresh]:
    """Speak the three sets into `folder`: new voices, the model's held-out list, new voices in the unheard accent.

    Raises:
        ImportError: without espeak-ng (`pip install -e ".[pocket]"`).
        RuntimeError: the model understands too few of the new voices.
    """
    known = unused_sentences()
    new = understood(model, folder / "known", list(ORDER), known[:150], "known")
    taken = [each for each in ORDER if each in new.word_error and each not in new.refused]
    listed = understood(model, folder / "list", list(voices.HELD_OUT_VARIANTS), known[150:350], "list")
    accent = understood(model, folder / "accent", taken, known[350:], "accent")
    return {"known": new, "list": listed, "accent": accent}


def unused_sentences() -> list[str]:
    """Return the 500 English sentences of which neither training nor the mini corpus had any."""
    settings = Settings(Path(), Path(), Path())
    english, _ = grammar.draw_heldout(settings.seed, settings.n_heldout_english, settings.n_heldout_spanish)
    return english[minicorpus.N_CANDIDATES :]


def understood(model: SpeechModel, folder: Path, names: list[str], texts: list[str], accents: str) -> Fresh:
    """Let voices speak in turn, each 25 sentences, until all sentences are spoken or nobody is left.

    The sentences of a voice that is not understood go to the next one.
    """
    rng = random.Random(SEED)
    clips: list[Clip] = []
    rates: dict[str, float] = {}
    refused: list[str] = []
    parts = [texts[i : i + N_SENTENCES] for i in range(0, len(texts), N_SENTENCES)]
    for name in names:
        if not parts:
            break
        spoken = [minicorpus.spoken(rng, text, f"{_accent(rng, accents)}+{name}", "en") for text in parts[0]]
        spoken = [each for each in spoken if len(each.audio) / speech.SAMPLE_RATE < minicorpus.MAX_S]
        for i, each in enumerate(spoken):
            each.clip_id = f"{accents}-{len(rates):02d}-{i:02d}"
        own = folder / f"{len(rates):02d}"
        own.mkdir(parents=True)
        minicorpus.write_corpus(own, accents, spoken)
        if (shift := minicorpus.largest_shift(own, spoken)) > 1:
            raise RuntimeError(f"the codec shifted a clip by {shift} samples")
        corpus = Corpus.load(own)
        rates[name] = word_error(model, corpus)
        if rates[name] > MAX_WORD_ERROR:
            refused.append(name)
        else:
            clips += corpus
            parts.pop(0)
    if not clips:
        raise RuntimeError(f"the model understands none of {', '.join(names)}")
    return Fresh(Corpus(accents, clips), rates, tuple(refused))


def _accent(rng: random.Random, accents: str) -> str:
    if accents == "accent" or (accents == "list" and rng.random() < UNHEARD_SHARE):
        return voices.HELD_OUT_ACCENT
    return "gmw/en-US" if rng.random() < AMERICAN_SHARE else rng.choice(sorted(set(voices.ACCENTS)))


def word_error(model: SpeechModel, corpus: Corpus) -> float:
    """Errors of the model's transcripts per spoken word."""
    found = [word_errors(spoken_form(clip.text or ""), spoken_form(model.transcribe(clip).text)) for clip in corpus]
    return sum(each.total for each in found) / sum(each.length for each in found)
