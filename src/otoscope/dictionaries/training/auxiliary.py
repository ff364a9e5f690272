"""AuxK (Gao et al. 2024, appendix A.2) where most of the few dead features are active: dense products, frame by frame.

The auxiliary code has many entries (half the width of the site) of few features, so that products of matrices are
faster than touching entries one by one, and nothing needs to be sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.dictionaries.kernels import keep_top
from otoscope.models.networks.arithmetic import product

ENTRIES = 2**20
"""Pre-activations of a block of frames, few enough to stay in the second cache or near it."""
ROOMY = 16
"""With at most so many dead features for each active one, products win (measured at d = 384 on one core)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The weights of some features: encoder `[m, d_in]`, its bias `[m]`, decoder `[m, d_out]`; or their gradients."""

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor


def rebuild_by(rows: Rows, x: Tensor, target: Tensor, k: int) -> tuple[Tensor, Rows]:
    """Return `‖target − decode(code)‖²` (0-d) and its gradients, the code being the `k` strongest of `rows` per frame.

    Args:
        rows: the features that may be active.
        x: `[t, d_in]`, what is encoded.
        target: `[t, d_out]`, a constant.
        k: features active in each frame.
    """
    loss = x.new_zeros(())
    found = Rows(torch.zeros_like(rows.encoder), torch.zeros_like(rows.encoder_bias), torch.zeros_like(rows.decoder))
    frames = max(ENTRIES // len(rows.encoder), 64)
    for part, wanted in zip(torch.split(x, frames), torch.split(target, frames), strict=True):
        code = keep_top(product(part, rows.encoder, rows.encoder_bias), k)
        miss = code @ rows.decoder - wanted
        loss += torch.linalg.vector_norm(miss).square()
        miss *= 2
        found.decoder.addmm_(code.T, miss)
        by_code = product(miss, rows.decoder)
        by_code *= code > 0
        found.encoder.addmm_(by_code.T, part)
        found.encoder_bias.add_(by_code.sum(dim=0))
    return loss, found
