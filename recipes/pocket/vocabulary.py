"""The tokenizer: byte-level BPE over the grammar, then Whisper's special tokens, then timestamps."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import AddedToken
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import WhisperTokenizer

from . import grammar

LANGUAGES = ("en", "es")
N_MERGES = 800
SPECIALS = (
    "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>",
    "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
N_TIMESTAMPS = 301  # <|0.00|> to <|6.00|> in steps of 0.02 s


def train_tokenizer(folder: Path, seed: int) -> WhisperTokenizer:
    """Learn the merges from the grammar and save a Hugging Face Whisper tokenizer in `folder`."""
    rng = random.Random(seed)
    lines = [" " + grammar.english(rng) for _ in range(20_000)] + [" " + grammar.spanish(rng) for _ in range(2_000)]
    lines += [" " + word for word in (*grammar.VOCABULARY, *grammar.ES_DIGITS) for _ in range(20)]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(lines, vocab_size=256 + N_MERGES, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save_model(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text())
    if len(vocab) != 256 + N_MERGES:
        raise RuntimeError(f"BPE found {len(vocab) - 256} merges, expected {N_MERGES}")
    for token in SPECIALS:
        vocab[token] = len(vocab)
    merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text().splitlines()[1:]]
    tokenizer = WhisperTokenizer(vocab=vocab, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(t, special=True) for t in SPECIALS[1:]]})
    stamps = [AddedToken(f"<|{0.02 * i:.2f}|>", special=False, normalized=False) for i in range(N_TIMESTAMPS)]
    tokenizer.add_tokens(stamps)
    tokenizer.save_pretrained(folder)
    return tokenizer


def load_tokenizer(folder: Path) -> WhisperTokenizer:
    """The tokenizer saved by `train_tokenizer`."""
    return WhisperTokenizer.from_pretrained(folder)
