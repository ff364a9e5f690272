"""How many features do encoder and decoder share, and how many would they share by chance?

    python benchmarks/shared_features.py [--quick] [--results FILE]

One crosscoder reads, for each text token, the decoder where it read that token and the encoder frames that the token
attended to (`otoscope.activations.tokens`). It learns from half of the voices of the mini corpus. A feature is shared
where 30 to 70 % of its decoder norm lies in either site. The control has the encoder rows of other tokens, so that
nothing is shared but what all tokens have in common; both are scored on the voices they did not learn from.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from selectivity import spoken

import otoscope as oto
from otoscope.activations import TokenStore, token_activations
from otoscope.dictionaries import Crosscoder, CrosscoderDictionary
from otoscope.evaluation import split_groups

RESULT = Path(__file__).resolve().parent / "results" / "shared_features.md"
SITES = ("encoder.3.resid_post", "decoder.3.resid_post")
SPEC = Crosscoder(256, k=8)
SEEDS = 3


def left_over(dictionary: CrosscoderDictionary, store: TokenStore, clips: list[str]) -> list[float]:
    """FVU of each site on some clips."""
    x = torch.cat([torch.cat([torch.from_numpy(store.clip(site, clip)) for site in SITES], 1) for clip in clips])
    wrong = dictionary.split(dictionary.reconstruct(x) - x)
    spread = dictionary.split(x - x.mean(dim=0))
    return [float(wrong[site].square().sum() / spread[site].square().sum()) for site in SITES]


def measure(store: TokenStore, clips: list[str], others: list[str], steps: int, seeds: int) -> list[list[float]]:
    """For each seed: living features; which share of them is shared, the encoder's, the decoder's; both FVUs."""
    rows = []
    for seed in range(seeds):
        made = oto.train(
            store, SPEC, sites=SITES, steps=steps, batch_size=512, lr=3e-3, clips=clips, seed=seed, progress=False
        )
        assert isinstance(made, CrosscoderDictionary)
        x = torch.cat([store.frames[site] for site in SITES], dim=1)
        living = (made.encode(x).dense() > 0).any(dim=0)
        owners = made.owners()[living]
        shares = [float((owners == which).float().mean()) for which in (-1, 0, 1)]
        rows.append([float(living.sum()), *shares, *left_over(made, store, others)])
    return rows


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps")
    parser.add_argument("--results", type=Path, default=RESULT, help="where to write the table")
    options = parser.parse_args()
    cpu = time.process_time()
    corpus = spoken(oto.corpus("mini"))
    store = token_activations(oto.load_model("pocket"), corpus, SITES, progress=False)
    half = split_groups([str(clip.speaker) for clip in corpus], [store.clips[c.clip_id][1] for c in corpus], seed=0)
    clips, others = ([c.clip_id for c, h in zip(corpus, half, strict=True) if h == side] for side in (0, 1))
    steps, seeds = (100, 1) if options.quick else (1000, SEEDS)
    lines = [
        "# Features that encoder and decoder share",
        "",
        f"Pocket, {' and '.join(SITES)}, {store.n_frames:,} text tokens of {len(corpus)} English clips of the mini "
        f"corpus, learned from 4 voices. Crosscoder of {SPEC.n_features} features, k = {SPEC.k}, {steps} steps of 512 "
        "tokens. Mean (and range) over seeds; FVU on the other 4 voices.",
        "",
        "| encoder rows | living features | shared | encoder's own | decoder's own | FVU encoder | FVU decoder |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, source in (("of the same token", store), ("of another token (control)", store.unpaired())):
        columns = np.array(measure(source, clips, others, steps, seeds)).T
        cells = [f"{columns[0].mean():.0f}"]
        cells += [f"{c.mean():.0%} ({c.min():.0%}–{c.max():.0%})" for c in columns[1:4]]
        cells += [f"{c.mean():.3f} ({c.min():.3f}–{c.max():.3f})" for c in columns[4:]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join([*lines, "", f"{time.process_time() - cpu:.0f} s of CPU."]) + "\n"
    print(table)
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
