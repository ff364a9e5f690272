"""Time the building of atlases, part by part and beside the ways of others, and watch its memory.

    python benchmarks/atlas_build.py [--quick] [--long N] [--memory]

A model of whisper-tiny's size (random weights) makes the atlas of a TopK dictionary (3,072 features, 32 active, random
directions), alone and in one pass with that of a layer's neurons. The clips are the bundled corpus's, joined to 30 s
each with their phones and words. Others do one of two things: run openai-whisper clip by clip, text included, save
float32 codes and go through all files for every feature, as FREUD does; or let our harvest write activations to disk
and go through the store, once for all features or, with dense codes on disk, once for each. Fewer clips are enough for
them, as all they do takes as long for each clip. Times are CPU seconds of one process on one core.
The encoder's share is measured for more sizes of models and of clips.

Memory is the most that a process of its own has held while it indexes two dictionaries on the bundled model's first
layer over 100 short clips, and over N (`--long`, 10,000 unless said otherwise: 7 minutes); another process only
opens the corpus. What the process made (anonymous memory) is told from pages of files that are mapped, which the system
takes back when it needs room. Blocks of features are indexed by as many threads as there are cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from atlas_memory import memory, memory_table, short_corpus
from whisper_tiny import processor, save_checkpoint

RESULT = Path(__file__).resolve().parent / "results" / "atlas_build.md"
SITE, NEURON_SITE = "encoder.2.resid_post", "encoder.2.mlp.post"
N_FEATURES, K = 3072, 32
TEXT_TOKENS = 40
"""Tokens of text that FREUD's way decodes for each clip; its default of 224 takes twice the time."""
PROBED = 4
"""Features whose scans are timed; all others take as long."""
OTHERS_CLIPS = 6
"""Clips that others go through."""


def _widths(d: int, layers: int, heads: int) -> dict[str, int]:
    """Sizes of an encoder, and of a decoder of one layer."""
    ends = ("encoder", "decoder")
    return {
        "d_model": d,
        "encoder_layers": layers,
        "decoder_layers": 1,
        **{f"{end}_attention_heads": heads for end in ends},
        **{f"{end}_ffn_dim": 4 * d for end in ends},
    }


LARGER = {
    "base": (_widths(512, 6, 8), "encoder.3.resid_post"),
    "small": (_widths(768, 12, 12), "encoder.6.resid_post"),
}
"""Widths and depths of larger encoders, and the site in their middle; TopK of eight features for each unit."""
SHORT_S = 12
"""Seconds of an utterance of read speech (LibriSpeech's mean); Whisper's encoder hears 30 s of it all the same."""
SHARES = (
    ("ours", "tiny", 120, 30), ("ours", "tiny", 512, SHORT_S), ("ours", "base", 40, 30), ("ours", "small", 40, 30),
    ("with_neurons", "tiny", 512, SHORT_S), ("with_neurons", "tiny", 480, 30), ("with_neurons", "small", 40, SHORT_S),
)  # fmt: skip
"""What the encoder's share is measured of: atlases, model, clips, seconds of each."""
_ENCODING = "otoscope.atlas.building.encoding"
STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "encoder": (("otoscope.models.loaded.LoadedModel", "forward"),),
    "log-mel": (("otoscope.models.loaded.LoadedModel", "windows"),),
    "dictionaries": ((_ENCODING, "encoded"),),
    "acoustic measures": ((_ENCODING, "frame_measures"),),
    "finding floors": tuple(("otoscope.atlas.building.floors.FloorFinder", name) for name in ("add", "add_sides")),
    "counts, and what is above floors": ((_ENCODING, "frame_code"), (_ENCODING, "sides_code")),
    "writing codes": (("otoscope.atlas.building.code_pass.CodeWriter", "append"),),
    "indexing (transpose, statistics, labels, tables)": (("otoscope.atlas.building.atlases", "finish"),),
}


def joined_corpus(n_clips: int, seconds: int = 30) -> Any:
    """Clips of about so many seconds: neighbours of the bundled corpus end to end, tiers shifted with them."""
    import otoscope as oto
    from otoscope.audio import Clip, Corpus, Interval

    clips: list[Clip] = []
    source = iter(list(oto.corpus("mini")) * 99)
    while len(clips) < n_clips:
        tiers: dict[str, list[Interval]] = defaultdict(list)
        sounds, at = [], 0.0
        while at < 0.9 * seconds:
            piece = next(source)
            sounds.append(piece.decode())
            for name, tier in piece.tiers.items():
                tiers[name] += [Interval(at + each.start_s, at + each.end_s, each.label) for each in tier]
            at += len(sounds[-1]) / 16000
        samples = np.concatenate(sounds)[: seconds * 16000]
        kept = {name: tuple(each for each in tier if each.end_s <= seconds) for name, tier in tiers.items()}
        number = len(clips)
        clips.append(
            Clip.from_samples(samples, 16000, clip_id=f"joined-{number:04d}", speaker=f"voice-{number % 8}", tiers=kept)
        )
    return Corpus("joined", clips)


def topk_dictionary(d: int, site: str = SITE) -> Any:
    """A TopK dictionary with random directions, eight for each unit."""
    from otoscope.dictionaries import RandomBasis

    return RandomBasis(site, d, 8 * d, seed=0, k=K, name="topk")


def timed(spent: dict[str, float]) -> None:
    """Have the steps add what they take to `spent`."""
    import importlib

    within: list[str] = []

    def wrap(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def measured(*args: Any, **options: Any) -> Any:
            if within:  # a step of a step
                return work(*args, **options)
            within.append(name)
            start = time.process_time()
            try:
                return work(*args, **options)
            finally:
                spent[name] += time.process_time() - start
                within.pop()

        return measured

    for name, place, attribute in ((name, *each) for name, places in STEPS.items() for each in places):
        try:
            owner = importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, cls = place.rpartition(".")
            owner = getattr(importlib.import_module(module), cls)
        setattr(owner, attribute, wrap(getattr(owner, attribute), name))


def ours(checkpoint: Path, n_clips: int, folder: Path, *, neurons: bool = False) -> dict[str, float]:
    """Build the atlas of the TopK dictionary, with `neurons` two in one pass; return the CPU seconds of every step."""
    import otoscope as oto
    from otoscope.atlas import build_atlases
    from otoscope.dictionaries import Neurons

    model, corpus = oto.load_model(checkpoint), oto.corpus(folder / "corpus")[:n_clips]
    site = LARGER[checkpoint.name][1] if checkpoint.name in LARGER else SITE
    dictionaries: list[Any] = [topk_dictionary(model.width(site), site)]
    if neurons:
        neurons_of = site.replace("resid_post", "mlp.post")
        dictionaries.append(Neurons(neurons_of, model.width(neurons_of), name="neurons"))
    number = range(len(dictionaries))
    build_atlases(model, dictionaries, corpus[:2], [folder / f"warm-{i}" for i in number], progress=False)  # compiles
    spent: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    timed(spent)
    start = time.process_time()
    build_atlases(model, dictionaries, corpus, [folder / f"atlas-{i}" for i in number], progress=False)
    return {**spent, "all": time.process_time() - start}


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
    scanned = scan_by_feature(paths)
    return {"harvest": harvested, "scans": scanned, "all": harvested + scanned}


def scan_by_feature(paths: Sequence[Path]) -> float:
    """CPU seconds of loading all files for every feature: counts, means and the ten clips with the highest peaks."""
    start = time.process_time()
    for feature in range(PROBED):
        peaks, count, total = [], 0, 0.0
        for path in paths:
            column = np.load(path)[:, feature]
            peaks.append((float(column.max()), int(column.argmax()), path.stem))
            count += int((column > 0).sum())
            total += float(column.sum())
        sorted(peaks, reverse=True)[:10]
    return (time.process_time() - start) / PROBED * N_FEATURES


def harvest_and_scan(checkpoint: Path, n_clips: int, folder: Path) -> dict[str, float]:
    """Our own harvest to disk, then numpy: one pass over the store for all features, and dense codes on disk scanned
    for every feature."""
    import otoscope as oto

    model, corpus = oto.load_model(checkpoint), oto.corpus(folder / "corpus")[:n_clips]
    dictionary = topk_dictionary(384)
    oto.harvest(model, corpus[:1], [SITE], folder / "warm", progress=False)
    start = time.process_time()
    store = oto.harvest(model, corpus, [SITE], folder / "store", progress=False)
    harvested = time.process_time() - start
    start = time.process_time()
    count, total, peaks = np.zeros(N_FEATURES), np.zeros(N_FEATURES), []
    for clip_id in store.clips:
        code = dense_code(dictionary, store, clip_id)
        count += (code > 0).sum(axis=0)
        total += code.sum(axis=0)
        peaks.append(code.max(axis=0))
    np.argsort(-np.stack(peaks), axis=0)[:10]
    scanned = time.process_time() - start
    start = time.process_time()
    paths = [folder / f"{clip_id}.npy" for clip_id in store.clips]
    for path in paths:
        np.save(path, dense_code(dictionary, store, path.stem))
    saved = time.process_time() - start
    by_feature = scan_by_feature(paths)
    return {"harvest": harvested, "once": harvested + scanned, "all": harvested + saved + by_feature}


def dense_code(dictionary: Any, store: Any, clip_id: str) -> np.ndarray:
    """The code `[t, n]` of a harvested clip."""
    import torch

    with torch.inference_mode():
        found: np.ndarray = dictionary.encode(torch.from_numpy(store.clip(SITE, clip_id))).dense().numpy()
    return found


OURS = ("ours", "with_neurons")
WORKERS: dict[str, Callable[..., dict[str, float]]] = {
    "ours": ours,
    "with_neurons": functools.partial(ours, neurons=True),
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
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # work of several threads would take longer on each
        with tempfile.TemporaryDirectory() as folder:
            joined_corpus(int(words[2]), int(words[3])).save(Path(folder) / "corpus")
            found = WORKERS[words[0]](Path(words[1]), int(words[2]), Path(folder))
    print(json.dumps(found))


def table(found: dict[str, dict[str, float]], n_clips: int) -> str:
    """Return the Markdown tables of times."""
    lines = [
        f"One thread of {processor()}; {n_clips} clips of 30 s; whisper-tiny's size, random weights; "
        f"TopK n = {N_FEATURES:,}, k = {K} on `{SITE}` (the pass ends there), neurons of `{NEURON_SITE}`. "
        "CPU time on one core; a process each.",
        "",
        "| step | TopK, CPU s | share | TopK and neurons in one pass, CPU s | share |",
        "|---|---|---|---|---|",
    ]
    columns = []
    for name in ("ours", "with_neurons"):
        spent, everything = found[name], found[name]["all"]
        rest = everything - sum(spent[step] for step in STEPS)
        rows = {**{step: spent[step] for step in STEPS}, "decoding audio, and the rest": rest, "all": everything}
        columns.append({step: f"{seconds:.2f} | {seconds / everything:.1%}" for step, seconds in rows.items()})
    lines += [f"| {step} | {columns[0][step]} | {columns[1][step]} |" for step in columns[0]]
    alone = found["ours"]["all"] / n_clips
    freud, naive = (
        {k: v / OTHERS_CLIPS for k, v in found[name].items()} for name in ("freuds_way", "harvest_and_scan")
    )
    extrapolated = f"(each feature takes as long: extrapolated from {PROBED})"
    others = [
        ("otoscope: codes, postings, statistics, relations, labels with their chance", alone),
        ("our harvest to disk", naive["harvest"]),
        ("… and one numpy pass for all features: counts, means, peaks", naive["once"]),
        (f"… or dense codes on disk, and a scan of all files for every feature {extrapolated}", naive["all"]),
        (f"openai-whisper with {TEXT_TOKENS} tokens of text, float32 codes on disk", freud["harvest"]),
        (f"… and a scan of all files for every feature {extrapolated}: as FREUD", freud["all"]),
    ]
    lines += ["", f"| TopK alone; others over {OTHERS_CLIPS} clips | CPU s per clip | times ours |", "|---|---|---|"]
    lines += [f"| {name} | {seconds:.3f} | {seconds / alone:.2f} |" for name, seconds in others]
    return "\n".join(lines) + "\n"


def table_of_shares(found: Sequence[tuple[tuple[str, str, int, int], dict[str, float]]]) -> str:
    """Return the Markdown table of the encoder's share, for models and clips of several sizes."""
    lines = [
        "",
        "| atlases of | model | clips | of seconds | CPU s per clip | encoder and log-mel | and the dictionaries |",
        "|---|---|---|---|---|---|---|",
    ]
    for (what, name, n_clips, seconds), spent in found:
        model = spent["encoder"] + spent["log-mel"]
        shares = f"{model / spent['all']:.1%} | {(model + spent['dictionaries']) / spent['all']:.1%}"
        atlases = "TopK" if what == "ours" else "TopK and neurons"
        lines.append(
            f"| {atlases} | whisper-{name} | {n_clips} | {seconds} | {spent['all'] / n_clips:.3f} | {shares} |"
        )
    return "\n".join(lines) + "\n"


def measured_times(most: int) -> str:
    """Time all ways, each in a process of its own, over at most so many clips, and return their tables."""
    with tempfile.TemporaryDirectory() as folder:
        for name, widths in (("tiny", {}), *((name, widths) for name, (widths, _) in LARGER.items())):
            save_checkpoint(Path(folder) / name, **widths)
        tiny, n_clips = Path(folder) / "tiny", min(most, 120)
        found = {name: in_process(name, tiny, n_clips if name in OURS else OTHERS_CLIPS, 30) for name in WORKERS}
        shares = []
        for what, name, wanted, seconds in SHARES:
            case = what, name, min(wanted, most), seconds
            known = found["ours"] if case == ("ours", "tiny", n_clips, 30) else None
            shares.append((case, known or in_process(what, Path(folder) / name, *case[2:])))
    return table(found, n_clips) + table_of_shares(shares)


def measured_memory(sizes: Sequence[int]) -> str:
    """Measure the memory of building over so many clips, and return the table."""
    held: dict[tuple[str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            short_corpus(size, Path(folder))
            if not held:
                in_process("memory", "build", size, folder)  # compiles, and keeps that for the next
            for what in ("corpus", "build"):
                held[what, size] = in_process("memory", what, size, folder)
    return memory_table(held)


def main() -> None:
    """Measure, print the tables and write them."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few clips, no memory; leave the written table alone")
    parser.add_argument("--long", type=int, default=10_000, help="clips of the long corpus (default: 10,000)")
    parser.add_argument("--memory", action="store_true", help="memory only; keep the written times")
    options = parser.parse_args()
    if options.memory:
        times = RESULT.read_text(encoding="utf-8").partition("\n| peak memory")[0]
    else:
        times = measured_times(OTHERS_CLIPS if options.quick else 10_000)
    text = times if options.quick else f"{times}\n{measured_memory((100, options.long))}"
    print(text)
    if not options.quick:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
