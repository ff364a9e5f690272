"""Whisper's special tokens and rules of decoding, as openai-whisper derives them from the size of the vocabulary.

Checkpoints of Hugging Face carry them in `generation_config.json`; `.pt` files and old checkpoints say nothing.
"""

from __future__ import annotations

import re
from typing import Any

from otoscope.models.text.tokenizer import Tokenizer

_CODES = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy
sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo
uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue
"""
LANGUAGES = tuple(_CODES.split())
"""Codes of the languages in the order of their tokens; Cantonese came with large-v3."""

ENGLISH_VOCABULARY = 51864
"""Tokens of the English-only models; the others have one more, and those of large-v3 two."""

_TIMESTAMPS = 1501
_N_LANGUAGES = {ENGLISH_VOCABULARY: 99, ENGLISH_VOCABULARY + 1: 99, ENGLISH_VOCABULARY + 2: 100}

_MARKS = """ "#()*+/:;<=>@[\\]^_`{|}~「」『』"""
_RUNS = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
_MUSIC = "♩♪♫♬♭♮♯"


def special_tokens(n_vocab: int) -> dict[str, int]:
    """Return the special tokens of a Whisper vocabulary of `n_vocab` tokens; empty where the size is not one of
    OpenAI's."""
    if n_vocab not in _N_LANGUAGES:
        return {}
    names = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES[: _N_LANGUAGES[n_vocab]]),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
        *(f"<|{step * 0.02:.2f}|>" for step in range(_TIMESTAMPS)),
    ]
    return {name: n_vocab - len(names) + place for place, name in enumerate(names)}


def decoding_rules(tokenizer: Tokenizer, n_vocab: int, *, openai: bool) -> dict[str, Any]:
    """Return, in the words of a `generation_config.json`, what the names of the special tokens tell; with `openai`,
    also which tokens openai-whisper never writes."""
    known = tokenizer.vocabulary
    start = known.get("<|startoftranscript|>")
    end = known.get("<|endoftext|>")
    if start is None or end is None:
        return {}
    multilingual = n_vocab != ENGLISH_VOCABULARY
    rules: dict[str, Any] = {
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "is_multilingual": multilingual,
        "no_timestamps_token_id": known.get("<|notimestamps|>"),
        "prev_sot_token_id": known.get("<|startofprev|>"),
    }
    if multilingual:
        languages = {f"<|{code}|>" for code in LANGUAGES}
        named = {
            name: index for name, index in known.items() if name in languages or re.fullmatch(r"<\|\w{2}\|>", name)
        }
        rules["lang_to_id"] = dict(sorted(named.items(), key=lambda item: item[1]))
        tasks = {task: known.get(f"<|{task}|>") for task in ("transcribe", "translate")}
        rules["task_to_id"] = {task: index for task, index in tasks.items() if index is not None}
    if openai:
        never = ("transcribe", "translate", "startoftranscript", "startofprev", "startoflm", "nospeech", "nocaptions")
        markers = (known.get(f"<|{name}|>") for name in never)
        rules["suppress_tokens"] = sorted({*non_speech_tokens(tokenizer), *(index for index in markers if index)})
        rules["begin_suppress_tokens"] = [*tokenizer.encode(" "), end]
        rules["max_initial_timestamp_index"] = 50  # a second
    return {name: value for name, value in rules.items() if value is not None}


def non_speech_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens of speaker tags, brackets and music, which stand for nothing that is said.

    As in openai-whisper: hyphens and quotes are kept inside words but not at the beginning of one, and of symbols
    made of several tokens only the musical ones are barred, by their first token.
    """
    found = {tokenizer.encode(text)[0] for text in (" -", " '")}
    for symbol in [*_MARKS.strip(), *_RUNS.split(), *_MUSIC]:
        for ids in (tokenizer.encode(symbol), tokenizer.encode(f" {symbol}")):
            if len(ids) == 1 or symbol in _MUSIC:
                found.add(ids[0])
    return tuple(sorted(found))
