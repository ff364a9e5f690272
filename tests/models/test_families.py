"""Every family against Hugging Face at every site, and the identities that hold whatever the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conformance import all_sites, assert_close, check_identities, check_names, check_sites
from safetensors.torch import load_file, save_file
from speech_checkpoints import KINDS, expected_sites, plain, save_checkpoint
from torch import Tensor, nn
from transformers import AutoConfig, Wav2Vec2ForPreTraining

import otoscope as oto
from otoscope.models import Edit, untrained_model
from otoscope.models.networks.relative_positions import Distances, Gated


class Checked(NamedTuple):
    """A checkpoint loaded twice: here, and by Hugging Face."""

    folder: Path
    model: oto.SpeechModel
    theirs: nn.Module


@pytest.fixture(scope="module", params=KINDS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder = save_checkpoint(tmp_path_factory.mktemp(request.param), KINDS[request.param])
    return Checked(folder, oto.load_model(folder), plain(folder))


@pytest.fixture(scope="module", params=["wav2vec2-base", "wav2vec2-large", "wavlm-large"])
def one_of_each_norm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> oto.SpeechModel:
    return oto.load_model(save_checkpoint(tmp_path_factory.mktemp(request.param), KINDS[request.param]))


def sound(n_samples: int, n_rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, n_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n_samples", [4000, 24000])
def test_every_site_is_what_hugging_face_computes(family: Checked, n_samples: int) -> None:
    check_sites(family.model, family.theirs, sound(n_samples, 2))


def test_hugging_faces_names_read_what_those_modules_compute(family: Checked) -> None:
    assert check_names(family.model, family.theirs, sound(8000)) > 30


def test_identities_hold_in_every_layer(family: Checked) -> None:
    check_identities(family.model, family.model.encode(sound(16000), all_sites(family.model)))


def test_whisper_obeys_the_same_identities(tiny: oto.SpeechModel, pocket: oto.SpeechModel, mel: Tensor) -> None:
    for model, given in ((tiny, mel), (pocket, mel[:, :, : 2 * pocket.dims.n_positions])):
        values = model.encode(given, all_sites(model), ids=torch.arange(5, 11)[None])
        check_identities(model, values)
        check_identities(model, values, "decoder")


def test_a_model_that_mixes_up_its_heads_fails_them(one_of_each_norm: oto.SpeechModel) -> None:
    """Heads interleaved instead of side by side: as if column 0 were head 0, column 1 head 1 and so on."""
    model = one_of_each_norm
    values = model.encode(sound(16000), all_sites(model))
    h = model.dims.n_heads
    mixed = {
        name: value.unflatten(-1, (-1, h)).transpose(-1, -2).flatten(-2) if name.endswith("attn.v") else value
        for name, value in values.items()
    }
    with pytest.raises(AssertionError):
        check_identities(model, mixed)


@pytest.mark.parametrize("kind", ["wav2vec2-base", "wav2vec2-large", "wavlm-large"])
def test_a_model_that_takes_the_other_norm_for_its_own_fails(tmp_path: Path, kind: str) -> None:
    """The weights have the same names in both arrangements, so only the numbers can tell."""
    folder = save_checkpoint(tmp_path, KINDS[kind])
    expected = expected_sites(plain(folder), sound(8000))
    change_config(folder, do_stable_layer_norm=not KINDS[kind]["do_stable_layer_norm"])
    swapped = oto.load_model(folder)
    values = swapped.encode(sound(8000), all_sites(swapped))
    with pytest.raises(AssertionError):
        assert_close(values, {name: expected[name] for name in values if name in expected})


def change_config(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_checkpoint_without_head_has_all_sites_but_the_letters(family: Checked, tmp_path: Path) -> None:
    settings = KINDS[next(kind for kind in KINDS if kind in family.folder.name)]
    headless = oto.load_model(save_checkpoint(tmp_path, settings, head=False))
    assert set(all_sites(family.model)) - set(all_sites(headless)) == {"logits"}
    expected = expected_sites(plain(tmp_path), sound(6000))
    assert_close(headless.encode(sound(6000), all_sites(headless)), expected)
    with pytest.raises(oto.InputError, match="writes no text"):
        headless.site("logits")


def test_a_checkpoint_of_the_pretraining_loads_without_its_codebook(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, KINDS["wav2vec2-large"], head=False)
    Wav2Vec2ForPreTraining.from_pretrained(folder).save_pretrained(folder)
    assert any(name.startswith("quantizer") for name in load_file(folder / "model.safetensors"))
    model = oto.load_model(folder)
    assert_close(model.encode(sound(6000), all_sites(model)), expected_sites(plain(folder), sound(6000)))


def test_both_spellings_of_a_normalised_weight_are_read(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, KINDS["wavlm-base"])
    new = oto.load_model(folder)
    weights = load_file(folder / "model.safetensors")
    spellings = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = {}
    for name, value in weights.items():
        ending = next((part for part in spellings if name.endswith(part)), "")
        old[name.removesuffix(ending) + spellings.get(ending, "")] = value
    assert set(old) != set(weights)
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    read = ["encoder.embed", "logits"]
    values = oto.load_model(folder).encode(sound(6000), read)
    assert all(torch.equal(values[name], new.encode(sound(6000), read)[name]) for name in read)


def test_16_bit_checkpoints_are_folded_in_full_precision(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, KINDS["wavlm-large"])
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    expected = expected_sites(plain(folder).float(), sound(6000))
    model = oto.load_model(folder)
    assert_close(model.encode(sound(6000), all_sites(model)), expected)


def test_reading_changes_nothing(one_of_each_norm: oto.SpeechModel) -> None:
    """To the bit, whichever sites are read beside."""
    model, samples = one_of_each_norm, sound(24000)
    unread = model.encode(samples, ["logits"])["logits"]
    everything = model.encode(samples, all_sites(model))
    assert torch.equal(everything["logits"], unread)
    for name in all_sites(model):
        assert torch.equal(model.encode(samples, [name])[name], everything[name]), name


def test_nothing_runs_beyond_the_deepest_site_read(one_of_each_norm: oto.SpeechModel) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("this part should not have run")

    model = one_of_each_norm
    encoder = model.module.encoder
    beyond = {"encoder.conv3": encoder.convs[3], "encoder.features": encoder.positions}
    beyond |= {"encoder.1.attn.v": encoder.blocks[1].attn.out, "encoder.1.resid_post": encoder.blocks[2]}
    for name, part in beyond.items():
        hook = part.register_forward_pre_hook(refuse)
        try:
            model.encode(sound(8000), ["encoder.conv1", name])
            with pytest.raises(AssertionError):
                model.encode(sound(8000), [name, "logits"])
        finally:
            hook.remove()


def test_clips_of_equal_length_run_together_as_they_run_alone(one_of_each_norm: oto.SpeechModel) -> None:
    model, samples = one_of_each_norm, sound(16000, 3)
    together = model.encode(samples, all_sites(model))
    for row in range(3):
        alone = model.encode(samples[row : row + 1], all_sites(model))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][row : row + 1], value, atol=5e-5, rtol=1e-4)


def test_an_edit_changes_what_follows_and_nothing_before(one_of_each_norm: oto.SpeechModel) -> None:
    model, samples = one_of_each_norm, sound(12000)
    names = all_sites(model)
    plainly = model.encode(samples, names)
    columns = (1, 2, 3)
    beside = {"attn.q": ["attn.k", "attn.v"], "attn.k": ["attn.v", "attn.q"], "attn.v": ["attn.scores", "attn.pattern"]}
    for number, name in enumerate(names):
        site = model.site(name)
        edited = model.encode(samples, names, [Edit(name, "zero", units=columns)])
        assert not edited[name][..., columns].any()
        kept = [other for other in range(plainly[name].shape[-1]) if other not in columns]
        assert torch.equal(edited[name][..., kept], plainly[name][..., kept]), name
        unmoved = [*names[:number], *(f"encoder.{site.layer}.{kind}" for kind in beside.get(site.kind, ()))]
        assert all(torch.equal(edited[other], plainly[other]) for other in unmoved), name
        assert not torch.allclose(edited["logits"], plainly["logits"], atol=1e-4), name


def test_edits_that_do_nothing_are_exact_to_the_bit(one_of_each_norm: oto.SpeechModel) -> None:
    model, samples = one_of_each_norm, sound(12000)
    plainly = model.encode(samples, ["logits"])["logits"]
    for site in model.sites():
        idle = [Edit(str(site), "scale", 1.0), Edit(str(site), "add", 0.0)]
        assert torch.equal(model.encode(samples, ["logits"], idle)["logits"], plainly), str(site)


def test_an_edit_in_a_time_range_touches_the_frames_centred_there(one_of_each_norm: oto.SpeechModel) -> None:
    model = one_of_each_norm
    clip = oto.Clip.from_samples(sound(16000)[0].numpy(), 16000)
    name = "encoder.features"
    edit = Edit(name, "zero", time_s=(0.2, 0.4))
    zeroed = (model.run(clip, [name], [edit])[name] == 0).all(-1)
    times_s = torch.from_numpy(model.run(clip, [name]).times_s(name))
    assert torch.equal(zeroed, (times_s >= 0.2) & (times_s < 0.4))
    assert int(zeroed.sum()) == 10


def test_distances_are_never_spread_into_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread, WavLM's bias is made by block; across many blocks it is the bias that Hugging Face computes."""
    monkeypatch.setattr(Gated, "whole", lambda self: pytest.fail("a map [h, q, k] was made"))
    folder = save_checkpoint(tmp_path, KINDS["wavlm-large"])
    model, samples = oto.load_model(folder), sound(340_000)
    read = ["encoder.2.resid_post", "logits"]
    expected = expected_sites(plain(folder), samples)
    assert expected["logits"].shape[1] > 1000
    assert_close(model.encode(samples, read), {name: expected[name] for name in read})


def test_distances_are_counted_as_wavlm_counts_them() -> None:
    """Blocks of any cut are rows of the map, and the map is that of Hugging Face's own function."""
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    theirs = WavLMAttention(8, 2, num_buckets=320, max_distance=800)
    ours = Distances(320, 2, 800)
    ours.weight = theirs.rel_attn_embed.weight
    bias = ours(1100)
    with torch.no_grad():
        assert torch.equal(bias.whole()[0], theirs.compute_bias(1100, 1100))
        for cut in (slice(0, 500), slice(1000, 1500), slice(7, 8)):
            assert torch.equal(bias.block(0, 1, cut), bias.whole()[0, 1, cut])


@pytest.mark.parametrize(
    ("kind", "d_model", "n_heads", "d_mlp"),
    [("wav2vec2-base", 768, 12, 3072), ("hubert-large", 1024, 16, 4096), ("wavlm-large", 1024, 16, 4096)],
)
def test_models_of_the_real_sizes_give_real_shapes(kind: str, d_model: int, n_heads: int, d_mlp: int) -> None:
    """Hugging Face's defaults are those of the base models; one block is enough to see the shapes."""
    sizes = {"hidden_size": d_model, "num_attention_heads": n_heads, "intermediate_size": d_mlp}
    arrangement = {
        name: value for name, value in KINDS[kind].items() if name not in ("num_buckets", "max_bucket_distance")
    }
    config = AutoConfig.for_model(**{**arrangement, **sizes, "num_hidden_layers": 1, "architectures": ["XForCTC"]})
    model = untrained_model(config.to_dict())
    values = model.encode(sound(16000), all_sites(model))
    assert [values[f"encoder.conv{number}"].shape[1] for number in (1, 7)] == [3199, 49]
    assert values["encoder.features"].shape == (1, 49, d_model)
    assert values["encoder.0.mlp.post"].shape == (1, 49, d_mlp)
    assert values["encoder.0.attn.pattern"].shape == (1, n_heads, 49, 49)
    assert values["logits"].shape == (1, 49, 32)
    assert all(bool(value.isfinite().all()) and float(value.std()) > 1e-4 for value in values.values())
    assert all(values[str(site)].shape[-1] == site.width(model.dims) for site in model.sites() if not site.is_map)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"add_adapter": True}, "add_adapter"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim"),
        ({"feat_extract_norm": "batch"}, "must be 'group' or 'layer'"),
        ({"hidden_act": "mish"}, "mish"),
        ({"feat_extract_norm": "layer"}, "lacks"),
        ({"model_type": "hubertt"}, "did you mean hubert"),
    ],
)
def test_checkpoints_that_cannot_be_read_are_refused_with_the_reason(
    tmp_path: Path, settings: dict[str, object], reason: str
) -> None:
    folder = save_checkpoint(tmp_path, KINDS["hubert-base"])
    change_config(folder, **settings)
    with pytest.raises(oto.InputError, match=reason):
        oto.load_model(folder)


@pytest.mark.parametrize("kind", ["wav2vec2-base", "wavlm-large"])
def test_gradients_are_those_of_hugging_face(tmp_path: Path, kind: str) -> None:
    """Through relative positions and their gates, too."""
    folder = save_checkpoint(tmp_path, KINDS[kind])
    model, theirs = oto.load_model(folder), plain(folder)
    clip = oto.Clip.from_samples(sound(12000)[0].numpy(), 16000)
    found = model.gradients(clip, of=("logits", lambda rows: (rows**2).mean()), wrt=["encoder.features"])
    caught: list[Tensor] = []
    projection = theirs.base_model.feature_projection.projection
    projection.register_forward_hook(lambda part, given, output: (output.retain_grad(), caught.append(output))[1])
    (theirs(model.windows(clip)[0].input[None]).logits ** 2).mean().backward()
    slope = found.gradients["encoder.features"]
    torch.testing.assert_close(slope, caught[0].grad[0], atol=1e-4 * float(slope.abs().max()), rtol=1e-3)


def test_a_text_cannot_be_forced_where_no_decoder_reads(one_of_each_norm: oto.SpeechModel) -> None:
    clip = oto.Clip.from_samples(sound(12000)[0].numpy(), 16000)
    with pytest.raises(oto.InputError, match="no text decoder"):
        one_of_each_norm.run(clip, ["logits"], text="seven")


def test_random_weights_keep_the_architecture(one_of_each_norm: oto.SpeechModel) -> None:
    control = one_of_each_norm.random_weights(3)
    samples = sound(12000)
    one, other = (model.encode(samples, ["logits"])["logits"] for model in (one_of_each_norm, control))
    assert one.shape == other.shape
    assert bool(other.isfinite().all())
    assert not torch.allclose(one, other, atol=0.1)
