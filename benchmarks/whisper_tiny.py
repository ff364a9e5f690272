"""What the harvest benchmarks share: one random model of whisper-tiny's size as each contestant loads it, and clips."""

from __future__ import annotations

import platform
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch

if TYPE_CHECKING:  # each contestant's process loads its own package only: memory is measured
    import whisper
    from transformers import WhisperForConditionalGeneration

RATE_HZ = 16000
SITE, BLOCK = "encoder.2.resid_post", 2
FOUR_SITES = [SITE, "encoder.2.mlp.post", "encoder.1.resid_post", "encoder.0.mlp.out"]
"""The same depth, so that the passes are equally long."""
_OPENAI_NAMES = {
    "embed_positions.weight": "positional_embedding",
    "layers.": "blocks.",
    "self_attn_layer_norm": "attn_ln",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}


def save_checkpoint(folder: Path, **sizes: int) -> None:
    """Write the model as Hugging Face does, with weights large enough to do something; `sizes` of another Whisper."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**sizes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed_positions" not in name:
                weight.normal_(0.0, weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def plain_model(folder: Path) -> WhisperForConditionalGeneration:
    """Hugging Face's model, with its fused attention."""
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa").eval()


def openai_model(plain: WhisperForConditionalGeneration) -> whisper.model.Whisper:
    """openai-whisper's model with the same encoder."""
    import whisper

    model = whisper.model.Whisper(whisper.model.ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)).eval()
    state = {}
    for name, weight in plain.model.encoder.state_dict().items():
        name = f"ln_post{name.removeprefix('layer_norm')}" if name.startswith("layer_norm") else name
        for theirs, openai in _OPENAI_NAMES.items():
            name = name.replace(theirs, openai)
        state[name] = weight
    model.encoder.load_state_dict(state)
    return model


def sound(seconds: float, seed: int) -> np.ndarray:
    """Voiced syllables in noise: harmonics under an envelope of three beats a second, 16 kHz."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = 110 + 60 * rng.random() + 20 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 3 * time_s + 6 * rng.random()), 0, 1)
    return (0.05 * voice * envelope + 0.005 * rng.standard_normal(len(time_s))).astype(np.float32)


def write_clips(folder: Path, n: int, seconds: float = 30.0) -> list[Path]:
    """Write `n` clips as 16-bit FLAC, 16 kHz mono."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip-{i:04d}.flac" for i in range(n)]
    for i, path in enumerate(paths):
        soundfile.write(path, sound(seconds, i), RATE_HZ)
    return paths


def processor() -> str:
    """Return the processor's name, and its units for 16-bit products if it has any."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "a CPU")
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in info]
    return f"{name} ({', '.join(units) or 'no bf16 units'})"


def peak_mb() -> float:
    """Return the most memory this process has held (on Linux without that of the process which started it)."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
