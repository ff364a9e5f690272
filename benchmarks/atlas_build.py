"""Time the building of atlases, part by part and beside the ways of others, and watch its memory.

    python benchmarks/atlas_build.py [--quick] [--long N]

One pass of a model of whisper-tiny's size (random weights) makes two atlases: of a TopK dictionary (3,072 features,
32 active, random weights) and of the neurons of a layer. The clips are the bundled corpus's, joined to 30 s each with
their phones and words. Others do one of two things: run openai-whisper clip by clip, text included, save float32 arrays
and go through all of them for every feature, as FREUD does; or harvest once and go through the store once with numpy.
Memory is the most that a process of its own has held, with the bundled model over short clips; a second process only
opens the corpus. Times are CPU seconds of one process on one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from whisper_tiny import peak_mb, processor, save_checkpoint

RESULT = Path(__file__).resolve().parent / "results" / "atlas_build.md"
SITE, NEURON_SITE = "encoder.2.resid_post", "encoder.2.mlp.post"
N_FEATURES, K = 3072, 32
TEXT_TOKENS = 40
"""Tokens of text that FREUD's way decodes for each clip; its default of 224 takes twice the time."""
PROBED = 4
"""Features whose scans are timed; all others take as long."""
STEPS: dict[str, tuple[str, str]] = {
    "encoder": ("otoscope.models.loaded.LoadedModel", "forward"),
    "log-mel": ("otoscope.models.loaded.LoadedModel", "windows"),
    "dictionaries": ("otoscope.atlas.build.encoding", "_encoded"),
    "acoustic measures": ("otoscope.atlas.build.encoding", "frame_measures"),
    "floors and counts": ("otoscope.atlas.build.encoding", "frame_code"),
    "writing codes": ("otoscope.atlas.build.code_pass.CodeWriter", "_flush"),
    "indexing (transpose, statistics, labels, tables)": ("otoscope.atlas.build.building", "finish"),
}


def joined_corpus(n_clips: int) -> Any:
    """Clips of about 30 s: neighbours of the bundled corpus end to end, tiers shifted with them."""
    import otoscope as oto
    from otoscope.audio import Clip, Corpus, Interval

    clips: list[Clip] = []
    source = iter(list(oto.corpus("mini")) * 99)
    while len(clips) < n_clips:
        tiers: dict[str, list[Interval]] = defaultdict(list)
        sounds, at = [], 0.0
        while at < 27:
            piece = next(source)
            sounds.append(piece.decode())
            for name, tier in piece.tiers.items():
                tiers[name] += [Interval(at + each.start_s, at + each.end_s, each.label) for each in tier]
            at += len(sounds[-1]) / 16000
        samples = np.concatenate(sounds)[: 30 * 16000]
        kept = {name: tuple(each for each in tier if each.end_s <= 30) for name, tier in tiers.items()}
        number = len(clips)
        clips.append(
            Clip.from_samples(samples, 16000, clip_id=f"joined-{number:04d}", speaker=f"voice-{number % 8}", tiers=kept)
        )
    return Corpus("joined", clips)


def topk_dictionary(d: int) -> Any:
    """A TopK dictionary with random directions."""
    from otoscope.dictionaries import RandomBasis

    return RandomBasis(SITE, d, N_FEATURES, seed=0, k=K, name="topk")


def timed(spent: dict[str, float]) -> None:
    """Have the steps add what they take to `spent`."""
    import importlib

    def wrap(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def measured(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return work(*args, **options)
            finally:
                spent[name] += time.process_time() - start

        return measured

    for name, (place, attribute) in STEPS.items():
        try:
            owner = importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, cls = place.rpartition(".")
            owner = getattr(importlib.import_module(module), cls)
        setattr(owner, attribute, wrap(getattr(owner, attribute), name))


def ours(checkpoint: Path, n_clips: int, folder: Path) -> dict[str, float]:
    """Build both atlases in one pass; return the CPU seconds of every step and of all."""
    import otoscope as oto
    from otoscope.atlas import build_atlases
    from otoscope.dictionaries import Neurons

    model, corpus = oto.load_model(checkpoint), oto.corpus(folder / "corpus")[:n_clips]
    dictionaries = [topk_dictionary(384), Neurons(NEURON_SITE, model.width(NEURON_SITE), name="neurons")]
    build_atlases(model, dictionaries, corpus[:2], [folder / "w1", folder / "w2"], progress=False)  # compiles
    spent: dict[str, float] = defaultdict(float)
    timed(spent)
    start = time.process_time()
    build_atlases(model, dictionaries, corpus, [folder / "a1", folder / "a2"], progress=False)
    return {**spent, "all": time.process_time() - start}


def ours_without_neurons(checkpoint: Path, n_clips: int, folder: Path) -> dict[str, float]:
    """Build the atlas of the TopK dictionary alone: what the others are compared with."""
    import otoscope as oto
    from otoscope.atlas import build_atlas

    model, corpus = oto.load_model(checkpoint), oto.corpus(folder / "corpus")[:n_clips]
    build_atlas(model, topk_dictionary(384), corpus[:2], folder / "w3", progress=False)
    start = time.process_time()
    build_atlas(model, topk_dictionary(384), corpus, folder / "a3", progress=False)
    return {"all": time.process_time() - start}


def freuds_way(checkpoint: Path, n_clips: int, folder: Path) -> dict[str, float]:
    """openai-whisper on each clip, text included; dense codes saved as float32; all files scanned for every feature."""
    import torch
    import whisper
    from whisper_tiny import openai_model, plain_model

    import otoscope as oto

    corpus, dictionary = oto.corpus(folder / "corpus")[:n_clips], topk_dictionary(384)
    model = openai_model(plain_model(checkpoint))
    seen: list[torch.Tensor] = []
    model.encoder.blocks[2].register_forward_hook(lambda _, args, out: seen.append(out[0]))
    options = whisper.DecodingOptions(language="en", fp16=False, sample_len=TEXT_TOKENS)
    start = time.process_time()
    paths = []
    for clip in corpus:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(clip.decode()))
        with torch.inference_mode():
            whisper.decode(model, mel, options)
            code = dictionary.encode(seen[0].float().clone()).dense().numpy()
        seen.clear()
        paths.append(folder / f"{clip.clip_id}.npy")
        np.save(paths[-1], code)
    harvested = time.process_time() - start
    start = time.process_time()
    for feature in range(PROBED):
        peaks, count, total = [], 0, 0.0
        for path in paths:
            column = np.load(path)[:, feature]
            peaks.append((float(column.max()), int(column.argmax()), path.stem))
            count += int((column > 0).sum())
            total += float(column.sum())
        sorted(peaks, reverse=True)[:10]
    scanned = (time.process_time() - start) / PROBED * N_FEATURES
    return {"harvest": harvested, "scans": scanned, "all": harvested + scanned}


def harvest_and_scan(checkpoint: Path, n_clips: int, folder: Path) -> dict[str, float]:
    """Our own harvest to disk, then one pass of numpy over the store: counts, means, maxima and ten peaks each."""
    import torch

    import otoscope as oto

    model, corpus = oto.load_model(checkpoint), oto.corpus(folder / "corpus")[:n_clips]
    dictionary = topk_dictionary(384)
    start = time.process_time()
    store = oto.harvest(model, corpus, [SITE], folder / "store", progress=False)
    harvested = time.process_time() - start
    start = time.process_time()
    count, total, peaks = np.zeros(N_FEATURES), np.zeros(N_FEATURES), []
    for clip_id in store.clips:
        code = dictionary.encode(torch.from_numpy(store.clip(SITE, clip_id))).dense().numpy()
        count += (code > 0).sum(axis=0)
        total += code.sum(axis=0)
        peaks.append(code.max(axis=0))
    np.argsort(-np.stack(peaks), axis=0)[:10]
    scanned = time.process_time() - start
    return {"harvest": harvested, "scan": scanned, "all": harvested + scanned}


def memory(what: str, n_clips: int, folder: Path) -> dict[str, float]:
    """Peak memory of building over `n_clips` short clips, or of only opening their corpus."""
    import otoscope as oto
    from otoscope.atlas import build_atlases
    from otoscope.dictionaries import Neurons, RandomBasis

    corpus = oto.corpus(folder / f"short-{n_clips}")
    if what == "corpus":
        return {"mb": peak_mb(), "clips": len(corpus)}
    model = oto.load_model("pocket")
    sparse = RandomBasis("encoder.2.resid_post", 128, 1024, seed=0, k=16, name="sparse")
    both = [sparse, Neurons("encoder.2.mlp.post", 512, name="neurons")]
    stages: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        stages[stage] = peak_mb()

    with tempfile.TemporaryDirectory() as to:
        build_atlases(model, both, corpus, [Path(to) / "a", Path(to) / "b"], progress=report)
    return {"mb": peak_mb(), **stages}


def short_corpus(n_clips: int, folder: Path) -> None:
    """Save a corpus of `n_clips`: the bundled clips again and again under new ids."""
    import otoscope as oto
    from otoscope.audio import Corpus

    mini = oto.corpus("mini")
    clips = [dataclasses.replace(mini[i % len(mini)], clip_id=f"c{i:06d}") for i in range(n_clips)]
    Corpus("short", clips).save(folder / f"short-{n_clips}")


WORKERS = {
    "ours": ours,
    "ours_without_neurons": ours_without_neurons,
    "freuds_way": freuds_way,
    "harvest_and_scan": harvest_and_scan,
}


def in_process(*words: object) -> dict[str, float]:
    """Run one worker in a process of its own."""
    command = [sys.executable, __file__, "--worker", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(words: Sequence[str]) -> None:
    """Be a worker: print what was measured."""
    import torch

    torch.set_num_threads(1)
    if words[0] == "memory":
        found = memory(words[1], int(words[2]), Path(words[3]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            joined_corpus(int(words[2])).save(Path(folder) / "corpus")
            found = WORKERS[words[0]](Path(words[1]), int(words[2]), Path(folder))
    print(json.dumps(found))


def table(found: dict[str, dict[str, float]], held: dict[tuple[str, int], dict[str, float]], n_clips: int) -> str:
    """Return the Markdown tables."""
    steps, everything = found["ours"], found["ours"]["all"]
    lines = [
        f"One thread of {processor()}; {n_clips} clips of 30 s; whisper-tiny's size, random weights; "
        f"TopK n = {N_FEATURES:,}, k = {K} on `{SITE}` and the neurons of `{NEURON_SITE}` in one pass. "
        "CPU time; a process each.",
        "",
        "| step | CPU s | share |",
        "|---|---|---|",
    ]
    rest = everything - sum(steps[name] for name in STEPS)
    rows = [*((name, steps[name]) for name in STEPS), ("decoding audio, and the rest", rest), ("all", everything)]
    lines += [f"| {name} | {seconds:.2f} | {seconds / everything:.1%} |" for name, seconds in rows]
    alone = found["ours_without_neurons"]["all"]
    lines += ["", "| TopK dictionary alone | CPU s per clip | times ours |", "|---|---|---|"]
    freud, naive = found["freuds_way"], found["harvest_and_scan"]
    others = [
        ("otoscope: codes, postings, statistics, labels with their chance", alone),
        (f"openai-whisper with {TEXT_TOKENS} tokens of text, float32 on disk", freud["harvest"]),
        ("… and a scan of all files for every feature (extrapolated from "
         f"{PROBED} features): statistics and top examples only", freud["all"]),
        ("our harvest to disk", naive["harvest"]),
        ("… and one numpy scan for all features: counts, means, peaks only", naive["all"]),
    ]  # fmt: skip
    lines += [f"| {name} | {seconds / n_clips:.3f} | {seconds / alone:.2f} |" for name, seconds in others]
    if held:
        sizes = sorted({size for _, size in held})
        lines += [
            "",
            f"| peak memory, MB | {' | '.join(f'{size:,} clips' for size in sizes)} |",
            "|---|" + "---|" * len(sizes),
        ]
        names = {"corpus": "only opening the corpus", "mb": "building two atlases, all"}
        stages = [stage for stage in held["build", sizes[0]] if stage != "mb"]
        lines.append(
            f"| {names['corpus']} | " + " | ".join(f"{held['corpus', size]['mb']:.0f}" for size in sizes) + " |"
        )
        for stage in [*stages, "mb"]:
            cells = " | ".join(f"{held['build', size][stage]:.0f}" for size in sizes)
            lines.append(f"| {names.get(stage, f'… up to the end of “{stage}”')} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the tables and write them."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few clips, no memory; leave the written table alone")
    parser.add_argument("--long", type=int, default=10_000, help="clips of the long corpus (default: 10,000)")
    options = parser.parse_args()
    n_clips = 6 if options.quick else 40
    held: dict[tuple[str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny"
        save_checkpoint(checkpoint)
        found = {name: in_process(name, checkpoint, n_clips) for name in WORKERS}
        for size in () if options.quick else (100, options.long):
            short_corpus(size, Path(folder))
            for what in ("corpus", "build"):
                held[what, size] = in_process("memory", what, size, folder)
    text = table(found, held, n_clips)
    print(text)
    if not options.quick:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
