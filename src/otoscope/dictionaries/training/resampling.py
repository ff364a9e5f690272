"""Bringing dead features back: neuron resampling of Bricken et al. 2023, "Towards Monosemanticity", appendix.

A dead feature is given a new start on a frame that is rebuilt badly.
"""

from __future__ import annotations

import torch
from torch import Tensor

ENCODER_SHARE = 0.2
_TINY = 1e-12


def resample(
    weights: dict[str, Tensor], dead: Tensor, frames: Tensor, errors: Tensor, generator: torch.Generator
) -> Tensor:
    """Rewrite dead features in place and return which, `[r]` int64.

    Frames are drawn without replacement, with a probability that grows as the square of their loss. The feature's
    decoder row becomes the frame (its distance from the bias of the output) at length 1; its encoder row the same at a
    fifth of the mean length of the living features' encoder rows; its bias 0. At most one feature per frame is
    resampled; the others wait for the next time.

    Args:
        weights: `encoder` `[n, d]`, `encoder_bias` `[n]`, `decoder` `[n, d]`, `decoder_bias` `[d]`.
        dead: features to rewrite, `[r]` int64.
        frames: `[t, d]`.
        errors: `[t]`, squared error of each frame, the loss of the paper.
        generator: source of the draw, on the CPU.
    """
    chances = errors.double().square().cpu()
    count = min(len(dead), int(chances.count_nonzero()))
    if not count:
        return dead[:0]
    drawn = torch.multinomial(chances / chances.sum(), count, generator=generator).to(frames.device)
    rows = dead[:count]
    alive = torch.ones(len(weights["encoder"]), dtype=torch.bool, device=dead.device)
    alive[dead] = False
    lengths = weights["encoder"].norm(dim=1)
    length = lengths[alive].mean() if bool(alive.any()) else lengths.mean()
    directions = torch.nn.functional.normalize(frames[drawn] - weights["decoder_bias"], dim=1, eps=_TINY)
    weights["encoder"][rows] = ENCODER_SHARE * length * directions
    weights["encoder_bias"][rows] = 0
    weights["decoder"][rows] = directions
    return rows
