"""What reading costs and leaves alone: heads, early exit, half precision (equality of values: see the parity tests)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import otoscope as oto


@pytest.fixture(scope="module")
def ours(tiny: oto.SpeechModel, mel: Tensor) -> dict[str, Tensor]:
    """Every site of the encoder, with the attention maps of one layer."""
    sites = [site for site in tiny.sites() if not site.needs_text(tiny.dims)]
    return tiny.encode(mel, [site.name for site in sites if site.layer == 2 or not site.is_map])


def test_one_head_is_its_slice_of_the_site(ours: dict[str, Tensor], tiny: oto.SpeechModel, mel: Tensor) -> None:
    read = ["encoder.2.attn.z[4]", "encoder.2.attn.pattern[4]"]
    one = tiny.encode(mel, read)
    width = tiny.dims.d_head
    assert torch.equal(one[read[0]], ours["encoder.2.attn.z"][..., 4 * width : 5 * width])
    assert torch.equal(one[read[1]], ours["encoder.2.attn.pattern"][:, 4])
    assert tiny.width(read[0]) == width


def test_reading_changes_nothing(tiny: oto.SpeechModel, mel: Tensor, ours: dict[str, Tensor]) -> None:
    """Attention maps are materialised only when read, and the numbers after them are the same to the bit."""
    alone = tiny.encode(mel, ["encoder.ln_post"])["encoder.ln_post"]
    assert torch.equal(alone, ours["encoder.ln_post"])


@pytest.mark.parametrize(
    ("read", "blocks"),
    [
        (["encoder.conv2"], []),
        (["encoder.1.mlp.post", "encoder.0.attn.z"], [0, 1]),
        (["encoder.2.attn.pattern[0]"], [0, 1, 2]),
    ],
)
def test_the_forward_pass_stops_at_the_deepest_site(
    read: list[str], blocks: list[int], tiny: oto.SpeechModel, mel: Tensor
) -> None:
    reached: list[int | str] = []
    stages = {**dict(enumerate(tiny.module.encoder.blocks)), "decoder": tiny.module.decoder}
    handles = [
        stage.register_forward_pre_hook(lambda *_, name=name: reached.append(name)) for name, stage in stages.items()
    ]
    tiny.encode(mel, read)
    for handle in handles:
        handle.remove()
    assert reached == blocks


def test_half_precision_stays_within_a_hundredth(tiny: oto.SpeechModel, tiny_folder: Path, mel: Tensor) -> None:
    site = "encoder.2.resid_post"
    exact = tiny.encode(mel, [site])[site]
    half = oto.load_model(tiny_folder, dtype="bfloat16").encode(mel, [site])[site]
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 0.01
