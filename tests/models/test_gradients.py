"""Gradients at sites, attention maps included: equal to finite differences and to Hugging Face's eager attention."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration

import otoscope as oto
from otoscope.models import Edit

TEXT = "we were behind"
PATTERN, CROSS = "encoder.1.attn.pattern", "decoder.2.cross.pattern"


@pytest.fixture(scope="module")
def clip(mini: oto.Corpus) -> oto.Clip:
    return next(clip for clip in mini if clip.text)


@pytest.fixture(scope="module")
def precise(pocket: oto.SpeechModel) -> oto.SpeechModel:
    """The bundled model in 64-bit arithmetic."""
    return oto.SpeechModel(replace(pocket.checkpoint, module=copy.deepcopy(pocket.module).double()))


def wavy(x: Tensor) -> Tensor:
    """A sum in which every value counts differently."""
    weights = torch.linspace(0, 7, x.numel(), dtype=x.dtype, device=x.device).cos()
    return (x.flatten() * weights).sum()


@pytest.mark.parametrize(
    ("site", "of", "at"),
    [
        (PATTERN, "encoder.ln_post", (2, 30, 31)),
        ("encoder.1.attn.scores", "encoder.ln_post", (0, 7, 100)),
        (CROSS, "decoder.ln_post", (1, 3, 40)),
        ("decoder.1.attn.pattern", "decoder.ln_post", (3, 5, 2)),
        ("encoder.0.mlp.post", "encoder.ln_post", (20, 5)),
        ("decoder.0.resid_mid", "decoder.ln_post", (2, 17)),
    ],
)
def test_gradients_equal_finite_differences(
    site: str, of: str, at: tuple[int, ...], precise: oto.SpeechModel, clip: oto.Clip
) -> None:
    found = precise.gradients(clip, (of, wavy), [site], text=TEXT, language="en")
    assert found.gradients[site].dtype == torch.float64
    assert found.gradients[site].shape == found.values[site].shape

    def nudged(by: float) -> float:
        head = f"[{at[0]}]" if len(at) == 3 else ""
        rows = {"tokens": (at[-2], at[-2] + 1)} if of.startswith("decoder") else {"frames": (at[-2], at[-2] + 1)}
        edit = Edit.add(site + head, by, units=[at[-1]], **rows)
        return precise.gradients(clip, (of, wavy), [of], edits=[edit], text=TEXT, language="en").value

    step = 1e-4
    slope = (nudged(step) - nudged(-step)) / (2 * step)
    assert float(found.gradients[site][at]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    assert slope != 0


def test_gradients_of_all_patterns_equal_those_of_eager_attention(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    theirs = WhisperForConditionalGeneration.from_pretrained(
        pocket.folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    window = pocket.windows(clip)[0]
    positions = pocket.run(clip, ["decoder.embed"], text=TEXT, language="en").positions
    ids = torch.tensor([[position.id for position in positions]])
    out = theirs(input_features=window.input[None], decoder_input_ids=ids, output_attentions=True)
    maps = [*out.encoder_attentions, *out.decoder_attentions, *out.cross_attentions]
    expected = torch.autograd.grad(wavy(out.logits[0]), maps)

    n = pocket.dims.n_layers
    sites = [f"encoder.{i}.attn.pattern" for i in range(n)]
    sites += [f"decoder.{i}.attn.pattern" for i in range(n)] + [f"decoder.{i}.cross.pattern" for i in range(n)]
    found = pocket.gradients(clip, ("logits", wavy), sites, text=TEXT, language="en")
    for site, theirs_here in zip(sites, expected, strict=True):
        ours = found.gradients[site]
        there = theirs_here[0, :, : ours.shape[1], : ours.shape[2]]
        visible = torch.ones_like(ours).tril() if site.startswith("decoder") and ".attn" in site else 1.0
        assert torch.allclose(ours * visible, there * visible, atol=float(there.abs().max()) * 1e-3)
        assert float(there.abs().max()) > 0
    assert found.value == pytest.approx(float(wavy(out.logits[0].detach())), rel=1e-4)


def test_an_objective_may_be_a_function_of_all_that_is_read(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    sites = ["encoder.1.mlp.post", "encoder.2.resid_post"]
    found = pocket.gradients(
        clip, lambda v: (v["encoder.blocks.2"][10] * v[sites[0]][10, :128]).sum(), sites[:1], read=sites
    )
    assert found.value == pytest.approx(
        float((found.values[sites[1]][10] * found.values[sites[0]][10, :128]).sum()), rel=1e-4
    )
    assert found.gradients[sites[0]].any()
    assert list(found.gradients) == sites[:1]


def test_what_the_number_does_not_depend_on_has_gradient_zero(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    found = pocket.gradients(clip, "encoder.1.resid_post", ["encoder.2.mlp.post", "encoder.0.mlp.post"])
    assert not found.gradients["encoder.2.mlp.post"].any()
    assert found.gradients["encoder.0.mlp.post"].any()


def test_one_head_asked_for_gives_the_gradient_of_that_head(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    of = ("encoder.2.resid_post", wavy)
    whole = pocket.gradients(clip, of, [PATTERN, "encoder.1.attn.z"]).gradients
    part = pocket.gradients(clip, of, [f"{PATTERN}[2]", "encoder.1.attn.z[2]"]).gradients
    assert torch.equal(part[f"{PATTERN}[2]"], whole[PATTERN][2])
    assert torch.equal(part["encoder.1.attn.z[2]"], whole["encoder.1.attn.z"][:, 64:96])


def test_edits_come_before_the_gradient(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    """With head 1 silenced downstream, nothing depends on its pattern any more."""
    of = ("encoder.2.resid_post", wavy)
    edits = [Edit.knock_out("encoder.1.attn[1]"), Edit.limit("encoder.2.mlp.post", low=0.0)]
    found = pocket.gradients(clip, of, [PATTERN], edits=edits).gradients[PATTERN]
    assert [bool(head.any()) for head in found] == [True, False, True, True]


def test_gradients_leave_nothing_behind(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    before = pocket.run(clip, ["logits"], text=TEXT, language="en")["logits"]
    pocket.gradients(clip, "logits", ["encoder.0.resid_pre"], text=TEXT, language="en")
    assert all(weight.grad is None and not weight.requires_grad for weight in pocket.module.parameters())
    after = pocket.run(clip, ["logits"], text=TEXT, language="en")["logits"]
    assert torch.equal(before, after)
    assert not after.requires_grad


def test_gradients_in_one_thread_do_not_touch_runs_in_another(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    of, wrt = ("encoder.2.resid_post", wavy), ["encoder.1.mlp.post"]
    alone = pocket.gradients(clip, of, wrt).gradients[wrt[0]]
    run_alone = pocket.run(clip, ["encoder.2.resid_post"])["encoder.2.resid_post"]
    slopes: list[Tensor] = []
    runs: list[Tensor] = []
    threads = [
        threading.Thread(
            target=lambda: slopes.extend(pocket.gradients(clip, of, wrt).gradients[wrt[0]] for _ in range(3))
        ),
        threading.Thread(
            target=lambda: runs.extend(
                pocket.run(clip, ["encoder.2.resid_post"])["encoder.2.resid_post"] for _ in range(6)
            )
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slopes) == 3
    assert len(runs) == 6
    assert all(torch.equal(slope, alone) for slope in slopes)
    assert all(torch.equal(run, run_alone) and not run.requires_grad for run in runs)


def test_what_has_no_gradient_is_refused(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    site = "encoder.1.resid_post"
    with pytest.raises(oto.InputError, match="one number"):
        pocket.gradients(clip, (site, lambda x: x), [site])
    with pytest.raises(oto.InputError, match="depends on none"):
        pocket.gradients(clip, (site, lambda x: x.detach().sum()), [site])
    with pytest.raises(oto.InputError, match="at least one site"):
        pocket.gradients(clip, site, [])
    long = oto.Clip.from_samples(torch.zeros(16000 * 7).numpy() + 0.1, 16000, clip_id="long")
    with pytest.raises(oto.InputError, match="a gradient exists within one window"):
        pocket.gradients(long, site, [site])
