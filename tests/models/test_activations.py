"""Every site holds the number that Hugging Face's and OpenAI's own code computes there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import whisper
from torch import Tensor
from transformers import WhisperForConditionalGeneration

import otoscope as oto

TOLERANCE = 1e-5


def close(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


def everything(model: oto.SpeechModel, mel: Tensor) -> dict[str, Tensor]:
    return model.encode(mel, [site.name for site in model.sites()])


def by_heads(flat: Tensor, n_heads: int) -> Tensor:
    """`[b, t, d]` → `[b, h, t, d / h]`."""
    return flat.unflatten(-1, (n_heads, -1)).transpose(1, 2)


@pytest.fixture(scope="module")
def ours(tiny: oto.SpeechModel, mel: Tensor) -> dict[str, Tensor]:
    return everything(tiny, mel)


@pytest.fixture(scope="module")
def theirs(plain_tiny: WhisperForConditionalGeneration, mel: Tensor) -> dict[str, Tensor]:
    """All sites from Hugging Face's hidden states, attentions, and hooks on an untouched model."""
    encoder = plain_tiny.model.encoder
    seen: dict[str, Tensor] = {}
    handles = []

    def note(name: str, module: torch.nn.Module) -> None:
        handles.append(module.register_forward_hook(lambda _, args, output: seen.update({name: output})))

    for name in ("conv1", "conv2", "layer_norm"):
        note(name, getattr(encoder, name))
    for number, layer in enumerate(encoder.layers):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            note(f"{number}.{name}", getattr(layer.self_attn, name))
        for name in ("final_layer_norm", "fc1", "fc2"):
            note(f"{number}.{name}", getattr(layer, name))
    with torch.no_grad():
        output = encoder(mel, output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()

    n_heads = plain_tiny.config.encoder_attention_heads
    last = seen["3.fc2"] + output.hidden_states[3] + seen["3.out_proj"]
    states = [*output.hidden_states[:4], last]
    sites = {
        "mel": mel.transpose(1, 2),
        "encoder.conv1": seen["conv1"].transpose(1, 2),
        "encoder.conv2": seen["conv2"].transpose(1, 2),
        "encoder.embed": states[0],
        "encoder.ln_post": output.last_hidden_state,
    }
    for number in range(4):
        q, k, v = (by_heads(seen[f"{number}.{name}_proj"], n_heads) for name in "qkv")
        pattern = output.attentions[number]
        middle = states[number] + seen[f"{number}.out_proj"]
        here = {
            "resid_pre": states[number],
            "attn.q": seen[f"{number}.q_proj"],
            "attn.k": seen[f"{number}.k_proj"],
            "attn.v": seen[f"{number}.v_proj"],
            "attn.scores": q @ k.transpose(2, 3) * q.shape[-1] ** -0.5,
            "attn.pattern": pattern,
            "attn.z": (pattern @ v).transpose(1, 2).flatten(2),
            "attn.out": seen[f"{number}.out_proj"],
            "resid_mid": middle,
            "mlp.in": seen[f"{number}.final_layer_norm"],
            "mlp.pre": seen[f"{number}.fc1"],
            "mlp.post": torch.nn.functional.gelu(seen[f"{number}.fc1"]),
            "mlp.out": seen[f"{number}.fc2"],
            "resid_post": states[number + 1],
        }
        sites |= {f"encoder.{number}.{kind}": value for kind, value in here.items()}
    return sites


def test_every_encoder_site_equals_hugging_face_at_the_size_of_whisper_tiny(
    ours: dict[str, Tensor], theirs: dict[str, Tensor]
) -> None:
    assert ours.keys() == theirs.keys()
    wrong = [name for name in ours if not close(ours[name], theirs[name])]
    assert wrong == []


def test_activations_of_the_random_model_are_not_degenerate(ours: dict[str, Tensor]) -> None:
    """The comparison above would mean little if every site were nearly constant."""
    assert all(value.std() > 1e-4 for value in ours.values())
    assert ours["encoder.3.attn.pattern"].amax(-1).mean() > 3 / 1500


def test_a_wrong_head_layout_is_noticed(ours: dict[str, Tensor], tiny: oto.SpeechModel) -> None:
    """The control: heads interleaved instead of side by side do not satisfy the identity."""
    pattern, v, z = (ours[f"encoder.1.attn.{kind}"] for kind in ("pattern", "v", "z"))
    n_heads = tiny.dims.n_heads
    interleaved = v.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)
    assert close((pattern @ by_heads(v, n_heads)).transpose(1, 2).flatten(2), z)
    assert not close((pattern @ interleaved).transpose(1, 2).flatten(2), z)


@pytest.mark.parametrize("layer", range(4))
def test_the_identities_of_a_pre_norm_block_hold(layer: int, ours: dict[str, Tensor], tiny: oto.SpeechModel) -> None:
    def at(kind: str) -> Tensor:
        return ours[f"encoder.{layer}.{kind}"]

    heads = tiny.dims.n_heads
    q, k, v = (by_heads(at(f"attn.{name}"), heads) for name in "qkv")
    assert close(q @ k.transpose(2, 3) * tiny.dims.d_head**-0.5, at("attn.scores"))
    assert close(at("attn.scores").softmax(-1), at("attn.pattern"))
    assert close((at("attn.pattern") @ v).transpose(1, 2).flatten(2), at("attn.z"))
    assert close(at("resid_pre") + at("attn.out"), at("resid_mid"))
    assert close(torch.nn.functional.gelu(at("mlp.pre")), at("mlp.post"))
    assert close(at("resid_mid") + at("mlp.out"), at("resid_post"))


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


def test_the_forward_pass_stops_at_the_deepest_site(tiny: oto.SpeechModel, mel: Tensor) -> None:
    reached: list[str] = []
    layers = tiny.module.model.encoder.layers
    handles = [
        layer.register_forward_pre_hook(lambda *_, name=f"layer {number}": reached.append(name))
        for number, layer in enumerate(layers)
    ]
    handles.append(tiny.module.model.decoder.register_forward_pre_hook(lambda *_: reached.append("decoder")))
    tiny.encode(mel, ["encoder.1.mlp.post", "encoder.0.attn.z"])
    for handle in handles:
        handle.remove()
    assert reached == ["layer 0", "layer 1"]


@pytest.fixture(scope="module")
def openai_tiny(tiny: oto.SpeechModel) -> whisper.model.Whisper:
    """openai-whisper's model with the same encoder weights."""
    sizes = whisper.model.ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)
    model = whisper.model.Whisper(sizes).eval()
    renamed = {}
    for name, value in tiny.module.model.encoder.state_dict().items():
        for old, new in {
            "embed_positions.weight": "positional_embedding",
            "layers.": "blocks.",
            "self_attn_layer_norm": "attn_ln",
            "self_attn.q_proj": "attn.query",
            "self_attn.k_proj": "attn.key",
            "self_attn.v_proj": "attn.value",
            "self_attn.out_proj": "attn.out",
            "final_layer_norm": "mlp_ln",
            "fc1": "mlp.0",
            "fc2": "mlp.2",
        }.items():
            name = name.replace(old, new)
        renamed["ln_post" + name.removeprefix("layer_norm") if name.startswith("layer_norm") else name] = value
    model.encoder.load_state_dict(renamed)
    return model


OPENAI_MODULES = ["conv1", "conv2", "ln_post"] + [
    f"blocks.{layer}{part}"
    for layer in range(4)
    for part in ("", ".attn.query", ".attn.key", ".attn.value", ".attn.out", ".mlp_ln", ".mlp.0", ".mlp.1", ".mlp")
]


def test_openai_whispers_module_names_read_what_its_modules_compute(
    tiny: oto.SpeechModel, openai_tiny: whisper.model.Whisper, mel: Tensor
) -> None:
    encoder = openai_tiny.encoder
    seen: dict[str, Tensor] = {}
    for name in OPENAI_MODULES:
        encoder.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: output})
        )
    with torch.no_grad():
        encoder(mel)
    values = tiny.encode(mel, [f"encoder.{name}" for name in OPENAI_MODULES])
    for name in OPENAI_MODULES:
        theirs = seen[name].transpose(1, 2) if name.startswith("conv") else seen[name]
        assert close(values[tiny.site(f"encoder.{name}").name], theirs), name


def test_half_precision_stays_within_a_hundredth(tiny: oto.SpeechModel, tiny_folder: Path, mel: Tensor) -> None:
    site = "encoder.2.resid_post"
    exact = tiny.encode(mel, [site])[site]
    half = oto.load_model(tiny_folder, dtype="bfloat16").random_weights(0).encode(mel, [site])[site]
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 0.01
