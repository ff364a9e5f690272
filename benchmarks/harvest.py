"""Time the harvest of one encoder site: mel and encoder of a 30-s clip, ours and the peers' in turn.

    python benchmarks/harvest.py [--quick]

All run the same random weights of whisper-tiny's size in one process on one thread. openai-whisper and Hugging Face
run their whole encoder, as harvesting with hooks on them does; ours stops at the site. Medians; compare ratios of
one run, absolute times drift.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import whisper
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from otoscope.audio import log_mel
from otoscope.models import SpeechModel
from otoscope.models.families.whisper import tap

SITE = "encoder.2.resid_post"
BLOCK = 2
RESULT = Path(__file__).resolve().parent / "results" / "harvest.md"
BASELINE = "openai-whisper"
OPENAI_NAMES = {
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


def plain_model() -> WhisperForConditionalGeneration:
    """Hugging Face's model of whisper-tiny's size, with weights large enough to do something."""
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig()).eval()
    with torch.no_grad():
        for name, weight in model.model.encoder.named_parameters():
            if weight.ndim > 1 and "embed_positions" not in name:
                weight.normal_(0.0, weight[0].numel() ** -0.5)
    return model


def openai_model(plain: WhisperForConditionalGeneration) -> whisper.model.Whisper:
    """openai-whisper's model with the same encoder."""
    model = whisper.model.Whisper(whisper.model.ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)).eval()
    state = {}
    for name, weight in plain.model.encoder.state_dict().items():
        name = f"ln_post{name.removeprefix('layer_norm')}" if name.startswith("layer_norm") else name
        for theirs, openai in OPENAI_NAMES.items():
            name = name.replace(theirs, openai)
        state[name] = weight
    model.encoder.load_state_dict(state)
    return model


def contestants(samples: np.ndarray) -> tuple[dict[str, Callable[[], object]], dict[str, Tensor]]:
    """Return what to time, and the activations of `SITE` that each of them computes."""
    plain = plain_model()
    openai = openai_model(plain)
    extractor = WhisperFeatureExtractor()
    exact = SpeechModel("fp32", None, tap(copy.deepcopy(plain)), None)
    half = SpeechModel("bf16", None, tap(copy.deepcopy(plain).to(torch.bfloat16)), None)

    def run_openai() -> Tensor:
        with torch.no_grad():
            return openai.encoder(whisper.audio.log_mel_spectrogram(samples)[None])

    def run_hugging_face() -> Tensor:
        features = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            return plain.model.encoder(features).last_hidden_state

    def run_ours(model: SpeechModel) -> Tensor:
        mel = log_mel(samples, model.dims.n_mels, pad_to_samples=model.dims.window_samples)
        return model.encode(mel[None], [SITE])[SITE].float()

    seen: dict[str, Tensor] = {}
    hook = openai.encoder.blocks[BLOCK].register_forward_hook(lambda _, args, out: seen.update({BASELINE: out}))
    run_openai()
    hook.remove()
    seen["otoscope fp32"] = run_ours(exact)
    seen["otoscope bf16"] = run_ours(half)
    return {
        BASELINE: run_openai,
        "Hugging Face, SDPA": run_hugging_face,
        "otoscope fp32": lambda: run_ours(exact),
        "otoscope bf16": lambda: run_ours(half),
    }, seen


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of each contestant in each round, one after another."""
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:
                times_ms[name].append(1000 * (time.perf_counter() - start))
    return times_ms


def table(times_ms: dict[str, list[float]], seen: dict[str, Tensor]) -> str:
    """Return the Markdown table: medians, ratios within each round, and errors at the site."""
    lines = [
        f"One thread of {processor()}, torch {torch.__version__}; a 30-s clip, whisper-tiny's size, random weights,",
        f"mel and encoder up to `{SITE}` (peers: the whole encoder); {len(times_ms[BASELINE])} rounds.",
        "",
        "| | median ms | share of openai-whisper's time | times faster | relative error at the site |",
        "|---|---|---|---|---|",
    ]
    for name, times in times_ms.items():
        share = statistics.median(ours / theirs for ours, theirs in zip(times, times_ms[BASELINE], strict=True))
        error = "–"
        if name in seen:
            error = f"{float((seen[name] - seen[BASELINE]).norm() / seen[BASELINE].norm()):.1e}"
        lines.append(f"| {name} | {statistics.median(times):.0f} | {share:.2f} | {1 / share:.2f} | {error} |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Return the processor's name, with bf16 units if it has them."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "a CPU")
    return f"{name} ({'with' if 'avx512_bf16' in info or 'amx_bf16' in info else 'without'} bf16 units)"


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 25")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    samples = 0.1 * np.random.default_rng(0).standard_normal(480_000).astype(np.float32)
    runs, seen = contestants(samples)
    text = table(measure(runs, 5 if quick else 25), seen)
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
