"""Stage 3: write the trained model as a plain Hugging Face Whisper folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

from . import align, network, speech, voices
from .data import Vocabulary
from .settings import MAX_TOKENS, Settings
from .vocabulary import LANGUAGES, SPECIALS, load_tokenizer

N_ALIGNMENT_HEADS = 4
N_HEAD_SENTENCES = 60


def feature_extractor() -> WhisperFeatureExtractor:
    """Whisper's front end with a 6-s window."""
    return WhisperFeatureExtractor(feature_size=80, sampling_rate=16_000, hop_length=160, chunk_length=6, n_fft=400)


def generation_settings(vocabulary: Vocabulary, heads: list[tuple[int, int]]) -> dict[str, object]:
    """What `generate` needs to know about the special tokens."""
    token = vocabulary.tokenizer.convert_tokens_to_ids
    return {
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": vocabulary.language[code] for code in LANGUAGES},
        "task_to_id": {"transcribe": vocabulary.transcribe, "translate": token("<|translate|>")},
        "no_timestamps_token_id": vocabulary.notimestamps,
        "decoder_start_token_id": vocabulary.sot,
        "bos_token_id": vocabulary.end,
        "eos_token_id": vocabulary.end,
        "pad_token_id": vocabulary.end,
        "prev_sot_token_id": token("<|startofprev|>"),
        "max_length": MAX_TOKENS,
        "max_initial_timestamp_index": None,
        "return_timestamps": False,
        "task": "transcribe",  # so that `generate` without arguments detects the language and transcribes
        "alignment_heads": [list(head) for head in heads],
    }


def find_alignment_heads(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, settings: Settings
) -> tuple[list[tuple[int, int]], list[list[float]]]:
    """The cross-attention heads with most mass inside the predicted word, and the table [layer][head]."""
    texts = json.loads((settings.build / "heldout.json").read_text())["en"][-N_HEAD_SENTENCES:]
    items = []
    for i, text in enumerate(texts):
        said = speech.say(text, f"{voices.ACCENTS[i % len(voices.ACCENTS)]}+{voices.HELD_OUT_VARIANTS[i % 8]}")
        items.append(align.AlignedSpeech(said.audio, said.words))
    mass = align.mass_inside_words(model, processor, items)
    order = sorted(((layer, head) for layer in range(4) for head in range(4)), key=lambda lh: -mass[lh])
    return order[:N_ALIGNMENT_HEADS], mass.round(3).tolist()


def _complete_for_older_readers(folder: Path, tokenizer_folder: Path) -> None:
    """Add the files and keys that transformers 4 and other readers of Whisper folders expect."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, folder / name)
    feature_extractor().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("extra_special_tokens", None)
    config |= {"additional_special_tokens": list(SPECIALS[1:]), "errors": "replace"}
    path.write_text(json.dumps(config, indent=1) + "\n")


def export_model(
    model: WhisperForConditionalGeneration, folder: Path, settings: Settings, heads: list[tuple[int, int]]
) -> None:
    """Write config, fp16 weights, tokenizer, front end and generation settings to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(settings.build / "tokenizer")
    model.generation_config = GenerationConfig(**generation_settings(Vocabulary(tokenizer), heads))
    model.half().save_pretrained(folder)
    model.float()
    WhisperProcessor(feature_extractor(), tokenizer).save_pretrained(folder)
    _complete_for_older_readers(folder, settings.build / "tokenizer")
    for path in folder.iterdir():
        path.chmod(0o644)


def run(settings: Settings) -> None:
    """Export the checkpoint to `assets/pocket` and its untrained twin to `build/random`."""
    tokenizer = load_tokenizer(settings.build / "tokenizer")
    model = network.build_model(len(tokenizer), Vocabulary(tokenizer).end, settings.seed)
    state = torch.load(settings.build / "checkpoint.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    model.eval()
    processor = WhisperProcessor(feature_extractor(), tokenizer)
    heads, table = find_alignment_heads(model, processor, settings)
    export_model(model, settings.assets / "pocket", settings, heads)
    untrained = network.build_model(len(tokenizer), Vocabulary(tokenizer).end, settings.seed)
    export_model(untrained, settings.build / "random", settings, heads)
    facts = {
        "minutes": round(state["seconds"] / 60, 1),
        "steps": state["step"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "alignment_heads": heads,
        "mass_inside_words": table,
        "phone_aid": f" from 1 to 0 over the first {int(settings.phone_aid_share * state['step'])} steps",
    }
    (settings.build / "facts.json").write_text(json.dumps(facts))
    size = sum(p.stat().st_size for p in (settings.assets / "pocket").iterdir())
    print(f"export: {settings.assets / 'pocket'}, {size / 1e6:.2f} MB, alignment heads {heads}", flush=True)
