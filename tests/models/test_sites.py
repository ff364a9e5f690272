"""Names of sites: one canonical form, aliases on input only, refusals that say why."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otoscope as oto
from otoscope.models import SITES, Dims, parse_site, site_names
from otoscope.models.dims import ConvLayer

WHISPER = Dims(
    family="whisper",
    n_layers=4,
    d_model=384,
    n_heads=6,
    d_mlp=1536,
    n_mels=80,
    n_positions=1500,
    convs=(ConvLayer(384, 3, 1), ConvLayer(384, 3, 2)),
    window_samples=480_000,
    n_decoder_layers=2,
    n_decoder_heads=8,
    d_decoder_mlp=1024,
    n_text_positions=448,
    n_vocab=51865,
)
SPEECH = Dims(
    family="wav2vec2",
    n_layers=4,
    d_model=768,
    n_heads=12,
    d_mlp=3072,
    convs=tuple(ConvLayer(512, kernel, stride) for kernel, stride in [(10, 5), *4 * [(3, 2)], *2 * [(2, 2)]]),
    window_samples=480_000,
    norm="post",
    n_vocab=32,
)
MODELS = {
    "whisper": WHISPER,
    "post-norm": SPEECH,
    "pre-norm": dataclasses.replace(SPEECH, norm="pre"),
    "no head": dataclasses.replace(SPEECH, n_vocab=0),
}
models = st.sampled_from(list(MODELS.values()))


@st.composite
def sites_of_models(draw: st.DrawFn) -> tuple[Dims, str]:
    """A model and the name of one of its sites, perhaps one head of it."""
    dims = draw(models)
    name = draw(st.sampled_from(site_names(dims)))
    site = parse_site(name, dims)
    head = f"[{draw(st.integers(0, site.n_heads(dims) - 1))}]" if site.row.heads and draw(st.booleans()) else ""
    return dims, name + head


@given(sites_of_models())
def test_canonical_names_survive_the_round_trip(found: tuple[Dims, str]) -> None:
    dims, name = found
    site = parse_site(name, dims)
    assert str(site) == name
    assert parse_site(str(site), dims) == site
    assert site.width(dims) > 0 or site.is_map
    assert parse_site(name) == site


@pytest.mark.parametrize("dims", MODELS.values(), ids=MODELS)
def test_aliases_are_understood_and_never_printed(dims: Dims) -> None:
    """And within one model, no name means two sites."""
    names = site_names(dims)
    meaning: dict[str, str] = {}
    for row in (row for row in SITES if not row.missing_from(dims)):
        for alias in row.aliases:
            if not alias.fits(dims):
                continue
            text = alias.name.replace(".L", ".1")
            canonical = str(parse_site(text, dims))
            assert canonical == row.at(1 if row.layered else None)
            assert canonical in names
            assert text not in names
            assert meaning.setdefault(text, canonical) == canonical
    assert len(meaning) > 20


@pytest.mark.parametrize("dims", MODELS.values(), ids=MODELS)
def test_what_a_model_lacks_is_refused_with_the_reason(dims: Dims) -> None:
    missing = [row for row in SITES if row.missing_from(dims)]
    assert missing
    for row in missing:
        with pytest.raises(oto.InputError, match=re.escape(row.missing_from(dims))):
            parse_site(row.at(0), dims)


def test_the_same_module_name_means_what_it_computes_in_each_arrangement() -> None:
    """The norm that closes a post-norm block opens the MLP of a pre-norm block."""
    name = "wav2vec2.encoder.layers.1.final_layer_norm"
    assert str(parse_site(name, SPEECH)) == "encoder.1.resid_post"
    assert str(parse_site(name, MODELS["pre-norm"])) == "encoder.1.mlp.in"
    assert str(parse_site("model.encoder.layers.1.final_layer_norm", WHISPER)) == "encoder.1.mlp.in"


def test_each_site_has_its_own_clock() -> None:
    def clock(name: str, dims: Dims) -> tuple[float, float]:
        found = parse_site(name, dims).clock(dims)
        return found.time_s(0), found.time_s(1) - found.time_s(0)

    assert clock("mel", WHISPER) == pytest.approx((0.0, 0.01))
    assert clock("encoder.1.resid_post", WHISPER) == pytest.approx((0.0, 0.02))
    assert clock("decoder.1.cross.k", WHISPER) == pytest.approx((0.0, 0.02))
    assert clock("encoder.1.resid_post", SPEECH) == pytest.approx((0.0125, 0.02))
    assert clock("encoder.conv1", SPEECH) == pytest.approx((5 / 16000, 5 / 16000))
    assert clock("logits", SPEECH) == pytest.approx((0.0125, 0.02))
    for text_site in ("logits", "decoder.1.resid_post", "decoder.0.cross.pattern"):
        with pytest.raises(oto.InputError, match="are tokens"):
            clock(text_site, WHISPER)


@given(st.text(max_size=40))
def test_arbitrary_text_names_a_site_or_is_refused_with_the_text_in_the_sentence(text: str) -> None:
    """Hypothesis also draws from the strings of our sources, and names of sites are among them."""
    refusal = None
    try:
        found = parse_site(text, WHISPER)
    except oto.InputError as error:
        refusal = str(error)
    assert repr(text) in refusal if refusal is not None else parse_site(str(found), WHISPER) == found


@pytest.mark.parametrize(
    "text", ["", " ", "mel ", "Mel", "encoder.2.resid_post.", "encoder..resid_post", "\0", "é.1.mlp"]
)
def test_what_is_no_site_is_refused_with_the_text_in_the_sentence(text: str) -> None:
    with pytest.raises(oto.InputError, match=re.escape(repr(text))):
        parse_site(text, WHISPER)


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("encoder.blocks.2", "encoder.2.resid_post"),
        ("encoder.blocks.2.mlp.0", "encoder.2.mlp.pre"),
        ("encoder.blocks.2.mlp.1", "encoder.2.mlp.post"),
        ("encoder.blocks.0.attn.query[5]", "encoder.0.attn.q[5]"),
        ("model.encoder.layers.2", "encoder.2.resid_post"),
        ("model.encoder.layers.1.self_attn.out_proj", "encoder.1.attn.out"),
        ("blocks.3.hook_resid_post", "encoder.3.resid_post"),
        ("blocks.3.attn.hook_pattern[0]", "encoder.3.attn.pattern[0]"),
        ("decoder.blocks.1", "decoder.1.resid_post"),
        ("decoder.blocks.1.cross_attn.value", "decoder.1.cross.v"),
        ("model.decoder.layers.1.encoder_attn", "decoder.1.cross.out"),
        ("decoder.token_embedding", "decoder.tokens"),
        ("decoder.ln", "decoder.ln_post"),
        ("proj_out", "logits"),
    ],
)
def test_names_of_other_tools(alias: str, canonical: str) -> None:
    assert str(parse_site(alias, WHISPER)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("encoder.2.resid_pots", "did you mean encoder.2.resid_post"),
        ("encoder.02.resid_post", "There is no site"),
        ("Encoder.2.resid_post", "did you mean"),
        ("encoder.2.resid_post ", "did you mean"),
        ("", "There is no site"),
        ("encoder.4.resid_post", "the layers are 0 to 3"),
        ("encoder.0.attn.q[6]", "the heads are 0 to 5"),
        ("encoder.0.mlp.post[1]", "not divided into heads"),
        ("decoder.2.cross.pattern", "the layers are 0 to 1"),
        ("decoder.1.cross.pattern[8]", "the heads are 0 to 7"),
        ("encoder.1.resid_sum", "the sum is resid_post itself"),
        ("encoder.conv3", "fewer than 3 convolutions"),
    ],
)
def test_refusals_quote_the_name_and_say_why(text: str, reason: str) -> None:
    with pytest.raises(oto.InputError, match=reason) as refusal:
        parse_site(text, WHISPER)
    assert repr(text) in str(refusal.value)


def test_a_model_lists_its_sites_in_the_order_of_the_forward_pass(pocket: oto.SpeechModel) -> None:
    names = [str(site) for site in pocket.sites()]
    assert names[:4] == ["mel", "encoder.conv1", "encoder.conv2", "encoder.embed"]
    assert names[-2:] == ["decoder.ln_post", "logits"]
    assert len(names) == 5 + 14 * pocket.dims.n_layers + 4 + 22 * pocket.dims.n_decoder_layers
    assert names.index("decoder.0.resid_mid") < names.index("decoder.0.cross.q") < names.index("decoder.0.resid_cross")
    assert names.index("encoder.0.resid_post") < names.index("encoder.1.resid_pre")
