"""Words, letters and phones by CTC models: where the model itself hears them, chosen among pronunciations."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import otoscope as oto
from otoscope.alignment import Lexicon, align_corpus, align_ctc
from otoscope.errors import InputError
from otoscope.models.text.letters import LetterTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from speech_checkpoints import KINDS, save_checkpoint

SECOND = oto.Clip.from_samples(np.random.default_rng(0).normal(size=16000) * 0.1, 16000, clip_id="second")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> oto.SpeechModel:
    """A small random wav2vec2 with a CTC head over a few letters."""
    return oto.load_model(save_checkpoint(tmp_path_factory.mktemp("ctc"), KINDS["wav2vec2-base"]))


def test_the_models_own_reading_lies_where_its_letters_are(letters: oto.SpeechModel) -> None:
    written = letters.transcribe(SECOND)
    words = written.text.split()
    assert len(words) >= 1
    found = align_ctc(letters, SECOND, written.text)
    assert [word.label for word in found.words] == [word.lower() for word in words]
    starts = [token.start_s for token in written.tokens if token.text.strip() and token.text != "|"]
    assert found.words[0].start_s == pytest.approx(starts[0], abs=0.0201)
    assert found.phones == ()
    assert found.margin == pytest.approx(0.0, abs=0.05)  # a "|" before the first word is not in the text


def test_a_letter_that_the_model_does_not_know_is_named(letters: oto.SpeechModel) -> None:
    with pytest.raises(InputError, match="no letter 'z'"):
        align_ctc(letters, SECOND, "tea zone")
    mute = oto.Corpus("c", [replace(SECOND, text="zone")])
    aligned = align_corpus(mute, letters, tiers=["words"])
    assert "no letter 'z'" in aligned.problems[0].reason


def test_letters_give_no_phones_and_whisper_no_letters(letters: oto.SpeechModel, pocket: oto.SpeechModel) -> None:
    corpus = oto.Corpus("c", [oto.Clip.from_samples(SECOND.samples(), 16000, text="tea")])
    with pytest.raises(InputError, match="hears letters, not phones"):
        align_corpus(corpus, letters)
    with pytest.raises(InputError, match="no CTC head"):
        align_ctc(pocket, SECOND, "tea")


@dataclass
class PlantedRun:
    """Logits put where the test wants them, 50 frames a second."""

    logits: torch.Tensor

    def __getitem__(self, site: str) -> torch.Tensor:
        return self.logits

    def times_s(self, site: str) -> np.ndarray:
        return np.arange(len(self.logits)) * 0.02 + 0.0125


@dataclass
class PlantedModel:
    """A CTC model of phones that hears what the test planted."""

    tokenizer: LetterTokenizer
    heard: list[int]
    name: str = "planted"

    def run(self, clip: oto.Clip, read: list[str]) -> PlantedRun:
        logits = torch.zeros(len(self.heard), len(self.tokenizer.vocabulary))
        logits[torch.arange(len(self.heard)), torch.tensor(self.heard)] = 6.0
        return PlantedRun(logits)


PHONES = ["<pad>", "<s>", "</s>", "<unk>", "ð", "ə", "iː", "k", "æ", "t", "tʃ"]


def test_planted_phones_are_recovered_and_the_spoken_pronunciation_is_chosen() -> None:
    tokenizer = LetterTokenizer(
        {phone: number for number, phone in enumerate(PHONES)},
        between_words=None,
        special=("<s>", "</s>", "<unk>"),
        phones=True,
    )
    # blank ×5, ð ×2, iː ×3, blank ×4, k, blank ×2, æ ×3, t ×2, blank ×3
    heard = [0] * 5 + [4] * 2 + [6] * 3 + [0] * 4 + [7] + [0] * 2 + [8] * 3 + [9] * 2 + [0] * 3
    lexicon = Lexicon({"the": [("ð", "ə"), ("ð", "i")], "cat": [("k", "æ", "t")]})
    clip = oto.Clip.from_samples(np.zeros(8000, np.float32), 16000, text="The cat.")
    found = align_ctc(PlantedModel(tokenizer, heard), clip, lexicon=lexicon)  # type: ignore[arg-type]
    assert [each.label for each in found.phones] == ["ð", "i", "k", "æ", "t"]
    edges = [0.1025, 0.1425, 0.2025, 0.2825, 0.3225, 0.4025, 0.4425]
    assert [each.start_s for each in found.phones] == pytest.approx([edges[i] for i in (0, 1, 3, 4, 5)])
    assert [each.end_s for each in found.phones] == pytest.approx([edges[i] for i in (1, 2, 4, 5, 6)])
    spans = [(word.label, word.start_s, word.end_s) for word in found.words]
    assert spans == [
        ("the", pytest.approx(0.1025), pytest.approx(0.2025)),
        ("cat", pytest.approx(0.2825), pytest.approx(0.4425)),
    ]
    with pytest.raises(InputError, match="give a lexicon"):
        align_ctc(PlantedModel(tokenizer, heard), clip)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no pronunciation of dog"):
        align_ctc(PlantedModel(tokenizer, heard), clip, "dog", lexicon)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not know the phone ʒ"):
        align_ctc(PlantedModel(tokenizer, heard), clip, "cat", Lexicon({"cat": [("ʒ",)]}))  # type: ignore[arg-type]
