"""What every family must pass, whoever wrote its adapter: `docs/families.md` says how to run it on a new one."""

from __future__ import annotations

import torch
from speech_checkpoints import expected_sites, module_outputs
from torch import Tensor, nn

import otoscope as oto
from otoscope.models import SITES


def all_sites(model: oto.SpeechModel) -> list[str]:
    return [str(site) for site in model.sites()]


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-4, msg=lambda text, at=name: f"{at}: {text}")


def check_sites(model: oto.SpeechModel, theirs: nn.Module, samples: Tensor) -> None:
    """The model has the sites that Hugging Face's model computes, no other, with the same numbers."""
    expected = expected_sites(theirs, samples)
    assert set(all_sites(model)) == set(expected)
    assert min(float(value.std()) for value in expected.values()) > 1e-3, "a site is nearly constant"
    assert_close(model.encode(samples, all_sites(model)), expected)


def check_names(model: oto.SpeechModel, theirs: nn.Module, samples: Tensor) -> int:
    """Each module path of Hugging Face that a site understands reads what that module returns; how many there are."""
    outputs = module_outputs(theirs, samples)
    checked = 0
    for row in SITES:
        for alias in row.aliases:
            name = alias.name.replace(".L", ".1")
            foreign = not alias.fits(model.dims)
            if foreign or row.missing_from(model.dims) or name not in outputs:
                continue
            ours = model.encode(samples, [name])[row.at(1 if row.layered else None)]
            value = outputs[name]
            assert_close({name: ours}, {name: value if value.shape == ours.shape else value.mT})
            checked += 1
    return checked


def check_identities(model: oto.SpeechModel, values: dict[str, Tensor], stack: str = "encoder") -> None:
    """`pattern @ v == z` and the sums of the residual stream, for blocks that normalise before or after."""
    decoder = stack == "decoder"
    post_norm = not decoder and model.dims.norm == "post"
    for layer in range(model.dims.n_decoder_layers if decoder else model.dims.n_layers):
        at = {name.removeprefix(f"{stack}.{layer}."): value for name, value in values.items()}
        for attention in ["attn", "cross"] if decoder else ["attn"]:
            pattern, v = at[f"{attention}.pattern"], at[f"{attention}.v"]
            by_head = v.unflatten(-1, (pattern.shape[1], -1)).transpose(1, 2)
            z = (pattern @ by_head).transpose(1, 2).flatten(2)
            same(z, at[f"{attention}.z"])
            same(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
            same(at[f"{attention}.scores"].softmax(-1), pattern)
        same(at["resid_pre"] + at["attn.out"], at["resid_mid"])
        if decoder:
            same(at["resid_mid"] + at["cross.out"], at["resid_cross"])
        before = at["mlp.in"] if post_norm else at["resid_cross"] if decoder else at["resid_mid"]
        same(before + at["mlp.out"], at["resid_sum" if post_norm else "resid_post"])


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
