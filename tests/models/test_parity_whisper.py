"""Whisper's sites hold the numbers that openai-whisper and Hugging Face compute there, encoder and decoder.

Random weights, at the real size of whisper-tiny and in the layout of large-v3 (128 mel bins, its vocabulary).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from torch import Tensor
from twins import LARGE_V3_LAYOUT, TINY, Twins, make_twins, random_openai, relative_error, save_openai, watch

import otoscope as oto
from otoscope.models import SITES, parse_site

BLOCKS = 1e-4
SITE = 1e-5


@pytest.fixture(scope="module", params=["tiny", "large-v3"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    sizes = {"tiny": TINY, "large-v3": LARGE_V3_LAYOUT}[request.param]
    return make_twins(tmp_path_factory.mktemp("twins"), sizes)


@pytest.fixture(scope="module")
def ours(twins: Twins) -> dict[str, Tensor]:
    """Every site."""
    return twins.ours.encode(twins.mel, [site.name for site in twins.ours.sites()], ids=twins.ids)


@pytest.fixture(scope="module")
def modules_of_openai(twins: Twins) -> dict[str, Tensor]:
    """What every module of openai-whisper's model makes."""
    made = watch(twins.openai, lambda: twins.openai(twins.mel, twins.ids))[1]
    return _frames_first(made) | {"logits": made[""]}


@pytest.fixture(scope="module")
def hugging_face(twins: Twins) -> tuple[dict[str, Tensor], dict[str, Tensor], object]:
    model = twins.hugging_face
    return watch(model, lambda: model(twins.mel, decoder_input_ids=twins.ids, output_attentions=True))


def _frames_first(made: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.transpose(1, 2) if "conv" in name else value for name, value in made.items()}


def test_the_mel_spectrogram_is_openais(twins: Twins) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000 * 7).astype(np.float32)
    noise *= np.linspace(0, 1, len(noise), dtype=np.float32)
    clip = oto.Clip.from_samples(noise, 16000)
    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(noise), n_mels=twins.openai.dims.n_mels)
    [window] = twins.ours.windows(clip)
    assert window.input.shape == theirs.shape
    assert (window.input - theirs).abs().max() < 1e-5


def test_every_block_and_the_logits_equal_openai_whisper(
    twins: Twins, ours: dict[str, Tensor], modules_of_openai: dict[str, Tensor]
) -> None:
    sizes = twins.openai.dims
    pairs = {f"encoder.{layer}.resid_post": f"encoder.blocks.{layer}" for layer in range(sizes.n_audio_layer)}
    pairs |= {f"decoder.{layer}.resid_post": f"decoder.blocks.{layer}" for layer in range(sizes.n_text_layer)}
    pairs |= {"encoder.ln_post": "encoder", "decoder.ln_post": "decoder.ln", "logits": "logits"}
    errors = {site: float((ours[site] - modules_of_openai[module]).abs().max()) for site, module in pairs.items()}
    assert max(errors.values()) < BLOCKS, errors


def test_every_site_equals_hugging_face(
    ours: dict[str, Tensor], twins: Twins, hugging_face: tuple[dict[str, Tensor], dict[str, Tensor], object]
) -> None:
    theirs = _sites_of(hugging_face, twins)
    assert set(theirs) == set(ours)
    errors = {name: relative_error(ours[name], theirs[name]) for name in ours}
    wrong = {name: error for name, error in errors.items() if not error < SITE}
    assert not wrong
    vectors = [value for name, value in ours.items() if not twins.ours.site(name).is_map]
    assert all(value.std() > 1e-3 for value in vectors), "a site that hardly varies proves nothing"


def _sites_of(watched: tuple[dict[str, Tensor], dict[str, Tensor], object], twins: Twins) -> dict[str, Tensor]:
    """All sites, from what Hugging Face's modules are given and make."""
    given, made, result = watched
    sizes = twins.openai.dims
    sites = {
        "mel": twins.mel.transpose(1, 2),
        "encoder.conv1": made["model.encoder.conv1"].transpose(1, 2),
        "encoder.conv2": made["model.encoder.conv2"].transpose(1, 2),
        "encoder.embed": given["model.encoder.layers.0"],
        "encoder.ln_post": made["model.encoder.layer_norm"],
        "decoder.tokens": made["model.decoder.embed_tokens"],
        "decoder.embed": given["model.decoder.layers.0"],
        "decoder.ln_post": made["model.decoder.layer_norm"],
        "logits": made["proj_out"],
    }
    for stack, n_layers in (("encoder", sizes.n_audio_layer), ("decoder", sizes.n_text_layer)):
        n_heads = sizes.n_audio_head if stack == "encoder" else sizes.n_text_head
        patterns = getattr(result, f"{stack}_attentions")
        for layer in range(n_layers):
            there = f"model.{stack}.layers.{layer}"
            stream = given[there]
            kinds = {"resid_pre": stream}
            kinds |= _attention(f"{there}.self_attn", "attn", given, made, patterns[layer], n_heads, stack == "decoder")
            kinds["resid_mid"] = stream = stream + kinds["attn.out"]
            if stack == "decoder":
                pattern = result.cross_attentions[layer]
                kinds |= _attention(f"{there}.encoder_attn", "cross", given, made, pattern, n_heads, False)
                kinds["resid_cross"] = stream + kinds["cross.out"]
            kinds |= {
                "mlp.in": made[f"{there}.final_layer_norm"],
                "mlp.pre": made[f"{there}.fc1"],
                "mlp.post": made[f"{there}.activation_fn"],
                "mlp.out": made[f"{there}.fc2"],
                "resid_post": made[there],
            }
            sites |= {f"{stack}.{layer}.{kind}": value for kind, value in kinds.items()}
    return sites


def _attention(
    there: str,
    kind: str,
    given: dict[str, Tensor],
    made: dict[str, Tensor],
    pattern: Tensor,
    n_heads: int,
    causal: bool,
) -> dict[str, Tensor]:
    q, k, v = (made[f"{there}.{name}_proj"] for name in "qkv")
    scores = by_heads(q, n_heads) @ by_heads(k, n_heads).transpose(2, 3) * (q.shape[-1] // n_heads) ** -0.5
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    values = {"q": q, "k": k, "v": v, "scores": scores, "pattern": pattern}
    values |= {"z": given[f"{there}.out_proj"], "out": made[f"{there}.out_proj"]}
    return {f"{kind}.{name}": value for name, value in values.items()}


def by_heads(flat: Tensor, n_heads: int) -> Tensor:
    """`[b, t, d]` → `[b, h, t, d / h]`."""
    return flat.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def test_whatever_module_of_openai_whisper_has_a_name_here_is_read_as_what_it_computes(
    twins: Twins, ours: dict[str, Tensor], modules_of_openai: dict[str, Tensor]
) -> None:
    assert len(_compared(modules_of_openai, twins, ours)) > 30


def test_whatever_module_of_hugging_face_has_a_name_here_is_read_as_what_it_computes(
    twins: Twins, ours: dict[str, Tensor], hugging_face: tuple[dict[str, Tensor], dict[str, Tensor], object]
) -> None:
    made = _frames_first(hugging_face[1])
    compared = _compared(made, twins, ours)
    assert len(compared) > 30
    for path, site in compared.items():
        assert twins.ours.site(path.removeprefix("model.")).name == site


def _compared(made: dict[str, Tensor], twins: Twins, ours: dict[str, Tensor]) -> dict[str, str]:
    """Compare each module whose path is understood with the site that it is taken for; return those sites."""
    understood = {}
    for path in made:
        try:
            understood[path] = twins.ours.site(path).name
        except oto.InputError:
            continue
    wrong = {path: site for path, site in understood.items() if not relative_error(ours[site], made[path]) < BLOCKS}
    assert not wrong
    return understood


def test_no_alias_is_unknown_to_the_program_it_is_named_after(
    twins: Twins,
    modules_of_openai: dict[str, Tensor],
    hugging_face: tuple[dict[str, Tensor], dict[str, Tensor], object],
) -> None:
    """With the two tests above: every alias of the table is read and compared, in every layer."""
    paths = {*modules_of_openai, *hugging_face[1], *(name.removeprefix("model.") for name in hugging_face[1])}
    dims = twins.ours.dims
    nobodys = []
    for row in SITES:
        for alias in row.aliases if not row.missing_from(dims) else ():
            if "hook_" in alias.name or not alias.fits(dims):
                continue
            n_layers = dims.n_decoder_layers if row.stack == "decoder" else dims.n_layers
            names = [re.sub(r"\.L(?=\.|$)", f".{layer}", alias.name) for layer in range(n_layers)]
            nobodys += [name for name in names if name not in paths]
            assert all(
                parse_site(name, dims).base == row.at(i if row.layered else None) for i, name in enumerate(names)
            )
    assert not nobodys


@pytest.mark.parametrize(
    ("theirs", "site"),
    [
        ("blocks.1.hook_resid_pre", "encoder.1.resid_pre"),
        ("blocks.1.hook_resid_mid", "encoder.1.resid_mid"),
        ("blocks.1.hook_resid_post", "encoder.1.resid_post"),
        ("blocks.1.attn.hook_z[2]", "encoder.1.attn.z[2]"),
        ("encoder.blocks.0.attn.hook_pattern", "encoder.0.attn.pattern"),
        ("decoder.blocks.0.attn.hook_attn_scores", "decoder.0.attn.scores"),
        ("decoder.blocks.1.mlp.hook_post", "decoder.1.mlp.post"),
        ("decoder.blocks.1.hook_mlp_out", "decoder.1.mlp.out"),
    ],
)
def test_transformer_lens_names_are_understood(theirs: str, site: str, tiny: oto.SpeechModel) -> None:
    assert tiny.site(theirs).name == site


@pytest.mark.parametrize("attention", ["encoder.1.attn", "decoder.1.attn", "decoder.1.cross"])
def test_a_wrong_head_layout_is_noticed(ours: dict[str, Tensor], twins: Twins, attention: str) -> None:
    """The control: heads interleaved instead of side by side do not satisfy the identity that side by side do."""
    pattern, v, z = (ours[f"{attention}.{kind}"] for kind in ("pattern", "v", "z"))
    n_heads = pattern.shape[1]
    interleaved = v.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)
    assert relative_error((pattern @ by_heads(v, n_heads)).transpose(1, 2).flatten(2), z) < SITE
    assert relative_error((pattern @ interleaved).transpose(1, 2).flatten(2), z) > 0.01


def test_a_file_of_openai_whisper_and_a_folder_of_hugging_face_are_the_same_model(
    twins: Twins, ours: dict[str, Tensor]
) -> None:
    from_file = oto.load_model(twins.file)
    names = [site.name for site in from_file.sites() if not site.is_map]
    again = from_file.encode(twins.mel, names, ids=twins.ids)
    assert from_file.dims == twins.ours.dims
    assert [name for name in names if not torch.equal(ours[name], again[name])] == []
    assert from_file.tokenizer is not None
    assert twins.ours.tokenizer is not None, "a fine-tune without tokenizer files has that of all models of its size"
    assert from_file.tokenizer.vocabulary == twins.ours.tokenizer.vocabulary
    assert from_file.weights_hash == oto.load_model(twins.file, dtype="bfloat16").weights_hash
    assert from_file.weights_hash != twins.ours.weights_hash


def test_weights_under_each_others_names_are_noticed(
    twins: Twins, modules_of_openai: dict[str, Tensor], tmp_path: Path
) -> None:
    """The control: with two norms of a block exchanged the file loads, but the block is no longer openai's."""
    swapped = random_openai(twins.openai.dims, seed=0)
    block = swapped.encoder.blocks[0]
    block.attn_ln, block.mlp_ln = block.mlp_ln, block.attn_ln
    save_openai(swapped, tmp_path / "swapped.pt")
    site = "encoder.0.resid_post"
    value = oto.load_model(tmp_path / "swapped.pt").encode(twins.mel, [site])[site]
    assert (value - modules_of_openai["encoder.blocks.0"]).abs().max() > 100 * BLOCKS
