"""The bundled model through plain Hugging Face: what its card claims, beside a control that must fail."""

from __future__ import annotations

from pathlib import Path

import jiwer
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' notices about masks and padding
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt",
         "preprocessor_config.json", "processor_config.json", "tokenizer_config.json", "README.md")  # fmt: skip


class Ear:
    """The exported folder, loaded once."""

    def __init__(self, folder: Path) -> None:
        self.processor = WhisperProcessor.from_pretrained(folder)
        self.model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def features(self, audios: list[np.ndarray]) -> torch.Tensor:
        return self.processor(audios, sampling_rate=16_000, return_tensors="pt").input_features

    def ids(self, audios: list[np.ndarray], language: str = "en", **options: object) -> torch.Tensor:
        return self.model.generate(self.features(audios), language=language, task="transcribe", **options)

    def transcribe(self, audios: list[np.ndarray], language: str = "en") -> list[str]:
        texts = self.processor.batch_decode(self.ids(audios, language), skip_special_tokens=True)
        return [text.strip() for text in texts]

    @torch.no_grad()
    def first_token(self, audios: list[np.ndarray]) -> list[str]:
        start = torch.full((len(audios), 1), self.model.generation_config.decoder_start_token_id)
        logits = self.model(input_features=self.features(audios), decoder_input_ids=start).logits[:, -1]
        return self.processor.tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist())


@pytest.fixture(scope="module")
def ear(assets: Path) -> Ear:
    return Ear(assets / "pocket")


def read(assets: Path, language: str | None, n: int) -> tuple[list[np.ndarray], list[str]]:
    """Audio and texts of `n` mini clips of a language, spread over the corpus, in known accents (None: sounds)."""
    rows = [r for r in pq.read_table(assets / "mini/corpus.parquet").to_pylist() if r["language"] == language]
    rows = [r for r in rows if dict(r["attributes"]).get("accent") != "en-029"]
    rows = rows[:: len(rows) // n][:n]
    return [soundfile.read(assets / "mini" / r["uri"], dtype="float32")[0] for r in rows], [r["text"] for r in rows]


def test_the_folder_is_complete_and_small(assets: Path) -> None:
    assert all((assets / "pocket" / name).is_file() for name in FILES)
    assert sum(p.stat().st_size for p in (assets / "pocket").iterdir()) < 6e6


def test_special_tokens_are_in_whispers_order(ear: Ear) -> None:
    names = (
        "endoftext startoftranscript en es translate transcribe startoflm startofprev nospeech notimestamps 0.00 0.02"
    )
    tokens = [f"<|{name}|>" for name in names.split()]
    ids = ear.processor.tokenizer.convert_tokens_to_ids(tokens)
    assert ids == list(range(ids[0], ids[0] + len(tokens)))
    assert ear.processor.tokenizer.convert_tokens_to_ids("<|6.00|>") == ear.model.config.vocab_size - 1
    assert len(ear.model.generation_config.alignment_heads) == 4


def test_it_transcribes_voices_it_never_heard_and_random_weights_do_not(assets: Path, ear: Ear) -> None:
    audios, texts = read(assets, "en", 60)
    assert jiwer.wer(texts, ear.transcribe(audios)) < 0.08
    torch.manual_seed(0)
    untrained = Ear.__new__(Ear)
    untrained.processor = ear.processor
    untrained.model = WhisperForConditionalGeneration(ear.model.config).eval()
    untrained.model.generation_config = ear.model.generation_config
    assert jiwer.wer(texts[:20], untrained.transcribe(audios[:20])) > 0.9


def test_it_tells_english_spanish_and_no_speech_apart(assets: Path, ear: Ear) -> None:
    spanish, texts = read(assets, "es", 20)
    sounds, _ = read(assets, None, 40)
    assert jiwer.wer(texts, ear.transcribe(spanish, "es")) < 0.15
    assert ear.first_token(spanish).count("<|es|>") >= 19
    assert ear.first_token(read(assets, "en", 20)[0]).count("<|en|>") >= 19
    assert ear.first_token(sounds).count("<|nospeech|>") >= 36


def test_sounds_and_silence_have_an_empty_transcript(assets: Path, ear: Ear) -> None:
    said = ear.transcribe(read(assets, None, 40)[0])
    assert said.count("") >= 36
    assert ear.transcribe([np.zeros(48_000, np.float32)]) == [""]


def test_timestamps_frame_the_sentence(assets: Path, ear: Ear) -> None:
    audios, _ = read(assets, "en", 20)
    zero = ear.model.generation_config.no_timestamps_token_id + 1
    good = 0
    for row, audio in zip(ear.ids(audios, return_timestamps=True).tolist(), audios, strict=True):
        stamps = [(t - zero) * 0.02 for t in row if t >= zero]
        loud = np.flatnonzero(np.abs(audio) > 0.01) / 16_000
        good += len(stamps) >= 2 and abs(stamps[0] - loud[0]) < 0.15 and abs(stamps[-1] - loud[-1]) < 0.3
    assert good >= 16


def test_it_hears_real_digits_of_the_held_out_speaker(ear: Ear, shared: Path) -> None:
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    files = [shared / f"data/digits/fsdd/{d}_jackson_{n:02d}.flac" for d in range(10) for n in range(5)]
    said = ear.transcribe([soundfile.read(f, dtype="float32")[0] for f in files])
    right = sum(s == words[int(f.name[0])] for s, f in zip(said, files, strict=True))
    assert right >= 40, f"{right} of 50 right"
