"""One training step of each peer, as its own trainer does it: forward, backward, clipping, optimiser, constraints.

SAELens comes with the test extra. eai-sparsify and dictionary-learning live in an environment of their own
(`make interop`); a peer that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor], object]
LEARNING_RATE = 4e-4


def installed(package: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(package) is not None


def peers(architecture: str, d: int, n: int, k: int) -> dict[str, Callable[[], Step]]:
    """Return what makes the step of every installed peer, by name; `architecture`: "topk" or "l1"."""
    made: dict[str, Callable[[], Step]] = {}
    if installed("sae_lens"):
        for name, autocast in (("SAELens", False), ("SAELens, bfloat16 autocast", True)):
            made[name] = lambda autocast=autocast: _saelens(architecture, d, n, k, autocast=autocast)
    if installed("dictionary_learning"):
        made["dictionary_learning"] = lambda: _dictionary_learning(architecture, d, n, k)
    if installed("sparsify") and architecture == "topk":
        for name, autocast in (("sparsify", False), ("sparsify, bfloat16 autocast", True)):
            made[name] = lambda autocast=autocast: _sparsify(d, n, k, autocast=autocast)
    return made


def _saelens(architecture: str, d: int, n: int, k: int, *, autocast: bool) -> Step:
    """SAELens' `SAETrainer._train_step`: `training_forward_pass`, backward, clipping and Adam."""
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    sae: Any
    if architecture == "topk":
        sae = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=d, d_sae=n, k=k))
    else:
        sae = sae_lens.StandardTrainingSAE(sae_lens.StandardTrainingSAEConfig(d_in=d, d_sae=n))
    adam = torch.optim.Adam(sae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999))
    since_fired = torch.zeros(n, dtype=torch.int64)

    def step(x: Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = sae.training_forward_pass(
                TrainStepInput(
                    sae_in=x,
                    coefficients={"l1": 1.0} if architecture == "l1" else {},
                    dead_neuron_mask=since_fired > 1_000_000,
                    n_training_steps=0,
                    is_logging_step=False,
                )
            )
            with torch.no_grad():
                fired = output.feature_acts.bool().float().sum(-2).bool()
                since_fired.add_(1).masked_fill_(fired, 0)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def _dictionary_learning(architecture: str, d: int, n: int, k: int) -> Step:
    """dictionary_learning's own `update`; step 1, so that it does not start with a geometric median."""
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    same: dict[str, Any] = {"activation_dim": d, "dict_size": n, "layer": 0, "lm_name": "none", "device": "cpu"}
    trainer: Any
    if architecture == "topk":
        trainer = TopKTrainer(steps=1_000_000, k=k, **same)
    else:
        trainer = StandardTrainer(steps=1_000_000, **same)
    return lambda x: trainer.update(1, x)


def _sparsify(d: int, n: int, k: int, *, autocast: bool) -> Step:
    """The inner part of sparsify's `Trainer.fit` with its Adam option and no auxiliary loss (its default)."""
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    coder = SparseCoder(d, SparseCoderConfig(num_latents=n, k=k))
    adam = torch.optim.Adam(coder.parameters(), lr=LEARNING_RATE)
    since_fired = torch.zeros(n, dtype=torch.int64)
    did_fire = torch.zeros(n, dtype=torch.bool)

    def step(x: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = coder(x, total_variance=variance)
        did_fire[output.latent_indices.flatten()] = True
        float(output.fvu.detach())
        output.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        since_fired.add_(len(x)).masked_fill_(did_fire, 0)
        did_fire.zero_()

    return step
