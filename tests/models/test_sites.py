"""Names of sites: one canonical form, aliases on input only, refusals that say why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otoscope as oto
from otoscope.models import SITES, Dims, SiteKind, parse_site, site_names

DIMS = Dims(
    n_layers=4,
    d_model=384,
    n_heads=6,
    d_mlp=1536,
    n_mels=80,
    n_positions=1500,
    window_samples=480_000,
    n_decoder_layers=4,
    n_decoder_heads=6,
    n_text_positions=448,
    n_vocab=51865,
)
READABLE = [row for row in SITES if not row.absent]
layers = st.integers(0, DIMS.n_layers - 1)


@given(st.sampled_from(READABLE), layers, st.integers(0, DIMS.n_heads - 1))
def test_canonical_names_survive_the_round_trip(row: SiteKind, layer: int, head: int) -> None:
    name = row.at(layer if row.layered else None) + (f"[{head}]" if row.heads else "")
    site = parse_site(name, DIMS)
    assert str(site) == name
    assert parse_site(str(site), DIMS) == site
    assert site.layer == (layer if row.layered else None)


@given(st.sampled_from([(row, alias) for row in READABLE for alias in row.aliases]), layers)
def test_aliases_are_understood_and_never_printed(row_and_alias: tuple[SiteKind, str], layer: int) -> None:
    row, alias = row_and_alias
    site = parse_site(alias.replace(".L", f".{layer}"), DIMS)
    assert str(site) == row.at(layer if row.layered else None)
    assert str(site) in site_names(DIMS)


@given(st.text(max_size=40).filter(lambda text: text != "mel"))
def test_arbitrary_text_is_refused_with_the_text_in_the_sentence(text: str) -> None:
    with pytest.raises(oto.InputError) as refusal:
        parse_site(text, DIMS)
    assert repr(text) in str(refusal.value)


def test_no_name_means_two_sites() -> None:
    names = [name for row in SITES for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


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
    ],
)
def test_names_of_other_tools(alias: str, canonical: str) -> None:
    assert str(parse_site(alias, DIMS)) == canonical


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
        ("decoder.1.cross.pattern", "later release"),
        ("decoder.blocks.1", "later release"),
        ("logits", "later release"),
    ],
)
def test_refusals_quote_the_name_and_say_why(text: str, reason: str) -> None:
    with pytest.raises(oto.InputError, match=reason) as refusal:
        parse_site(text, DIMS)
    assert repr(text) in str(refusal.value)


def test_a_model_lists_its_sites_in_the_order_of_the_forward_pass(pocket: oto.SpeechModel) -> None:
    names = [str(site) for site in pocket.sites()]
    assert names[:4] == ["mel", "encoder.conv1", "encoder.conv2", "encoder.embed"]
    assert names[-1] == "encoder.ln_post"
    assert len(names) == 5 + 14 * pocket.dims.n_layers
    assert names.index("encoder.0.resid_post") < names.index("encoder.1.resid_pre")
