"""At every writable site of the bundled model, an edit changes what is computed from it and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import otoscope as oto
from otoscope.models import Edit, Run, site_names
from otoscope.models.sites import parse_site

TEXT = "we were behind"
DIMS = oto.load_model("pocket").dims
SITES = [name for name in site_names(DIMS) if parse_site(name, DIMS).row.writable]
ONE_LAYER = [name for name in SITES if ".1." in name or parse_site(name, DIMS).layer is None]


@pytest.fixture(scope="module")
def clip(mini: oto.Corpus) -> oto.Clip:
    return next(clip for clip in mini if clip.text == "we were behind the bakery with the strange plumber on saturday")


@pytest.fixture(scope="module")
def plain(pocket: oto.SpeechModel, clip: oto.Clip) -> Run:
    """Every site without edits."""
    return pocket.run(clip, SITES, text=TEXT, language="en")


@pytest.fixture(scope="module")
def untouched(pocket: oto.SpeechModel, clip: oto.Clip) -> Run:
    """What comes out when nobody looks at anything before it."""
    return pocket.run(clip, ["encoder.ln_post", "logits"], text=TEXT, language="en")


def edited(model: oto.SpeechModel, clip: oto.Clip, *edits: Edit, read: list[str] = SITES) -> Run:
    return model.run(clip, read, edits, text=TEXT, language="en")


def parents() -> dict[str, list[str]]:
    """What each site is computed from, written down from the papers' formulas and not from the code."""
    found: dict[str, list[str]] = {
        "encoder.conv1": ["mel"],
        "encoder.conv2": ["encoder.conv1"],
        "encoder.embed": ["encoder.conv2"],
        "decoder.embed": ["decoder.tokens"],
    }
    for stack, n_layers in (("encoder", DIMS.n_layers), ("decoder", DIMS.n_decoder_layers)):
        entering = f"{stack}.embed"
        for layer in range(n_layers):
            at = f"{stack}.{layer}"
            found |= {f"{at}.resid_pre": [entering]}
            found |= attention_parents(f"{at}.attn", f"{at}.resid_pre", f"{at}.resid_pre")
            found |= {f"{at}.resid_mid": [f"{at}.resid_pre", f"{at}.attn.out"]}
            stream = f"{at}.resid_mid"
            if stack == "decoder":
                found |= attention_parents(f"{at}.cross", stream, "encoder.ln_post")
                found |= {f"{at}.resid_cross": [stream, f"{at}.cross.out"]}
                stream = f"{at}.resid_cross"
            found |= {
                f"{at}.mlp.in": [stream],
                f"{at}.mlp.pre": [f"{at}.mlp.in"],
                f"{at}.mlp.post": [f"{at}.mlp.pre"],
                f"{at}.mlp.out": [f"{at}.mlp.post"],
                f"{at}.resid_post": [stream, f"{at}.mlp.out"],
            }
            entering = f"{at}.resid_post"
        found |= {f"{stack}.ln_post": [entering]}
    return found | {"logits": ["decoder.ln_post"]}


def attention_parents(at: str, queries: str, keys: str) -> dict[str, list[str]]:
    return {
        f"{at}.q": [queries],
        f"{at}.k": [keys],
        f"{at}.v": [keys],
        f"{at}.scores": [f"{at}.q", f"{at}.k"],
        f"{at}.pattern": [f"{at}.scores"],
        f"{at}.z": [f"{at}.pattern", f"{at}.v"],
        f"{at}.out": [f"{at}.z"],
    }


def downstream(site: str) -> set[str]:
    """The site and all that is computed from it."""
    above = parents()
    reached = {site}
    for name in SITES:  # in forward order
        if any(parent in reached for parent in above.get(name, ())):
            reached.add(name)
    return reached


def test_the_graph_covers_the_table() -> None:
    assert set(parents()) | {"mel", "decoder.tokens"} == set(SITES)


@pytest.mark.parametrize("site", SITES)
def test_an_edit_changes_all_that_is_downstream_and_nothing_else(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run
) -> None:
    width = plain[site].shape[-1]
    after = edited(pocket, clip, Edit.scale(site, 0.5, units=range(0, width, 2)))
    changed = {name for name in SITES if not torch.equal(after[name], plain[name])}
    assert changed == downstream(site)
    expected = plain[site].clone()
    expected[..., ::2] *= 0.5
    assert torch.equal(after[site], expected)


def test_the_check_sees_an_edit_that_reaches_beside(pocket: oto.SpeechModel, clip: oto.Clip, plain: Run) -> None:
    """The control: two sites edited at once change more than what is downstream of the later one."""
    after = edited(pocket, clip, Edit.scale("encoder.2.attn.q", 0.5), Edit.scale("encoder.2.attn.v", 0.5))
    changed = {name for name in SITES if not torch.equal(after[name], plain[name])}
    assert changed != downstream("encoder.2.attn.q")


@pytest.mark.parametrize("site", SITES)
def test_putting_in_what_was_there_changes_not_a_bit(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run, untouched: Run
) -> None:
    read = list(untouched)
    idle = [Edit.patch(site, plain), Edit.scale(site, 1.0), Edit.add(site, 0.0)]
    after = edited(pocket, clip, *idle, read=read)
    assert all(torch.equal(after[name], untouched[name]) for name in read)


@pytest.mark.parametrize("site", [name for name in ONE_LAYER if not parse_site(name, DIMS).of_text(DIMS)])
def test_an_edit_of_some_frames_leaves_the_others(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run
) -> None:
    rate = 100 if site in ("mel", "encoder.conv1") else 50
    for edit in (Edit.zero(site, time_s=(0.5, 1.0)), Edit.zero(site, frames=(rate // 2, rate))):
        after = edited(pocket, clip, edit, read=[site])[site]
        expected = plain[site].clone()
        expected[..., rate // 2 : rate, :] = 0
        assert torch.equal(after, expected)


@pytest.mark.parametrize("site", [name for name in ONE_LAYER if parse_site(name, DIMS).of_text(DIMS)])
def test_an_edit_of_some_tokens_leaves_the_others_and_all_that_was_read_before(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run
) -> None:
    after = edited(pocket, clip, Edit.scale(site, 0.5, tokens=(4, 6)))
    expected = plain[site].clone()
    expected[..., 4:6, :] *= 0.5
    assert torch.equal(after[site], expected)
    assert torch.equal(after["logits"][:4], plain["logits"][:4])
    assert torch.equal(after["encoder.ln_post"], plain["encoder.ln_post"])


def divided() -> Iterator[str]:
    for attention in ("encoder.1.attn", "decoder.1.attn", "decoder.1.cross"):
        yield from (f"{attention}.{kind}" for kind in ("q", "k", "v", "scores", "pattern", "z"))


@pytest.mark.parametrize("site", list(divided()))
def test_an_edit_of_one_head_leaves_the_other_heads(
    site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run
) -> None:
    attention, _, _ = site.rpartition(".")
    read = [f"{attention}.{kind}" for kind in ("q", "k", "v", "scores", "pattern", "z")]
    after = edited(pocket, clip, Edit.scale(f"{site}[2]", 0.5), read=read)
    for name in read:
        before, now = plain[name], after[name]
        if not parse_site(name, DIMS).is_map:
            before, now = (x.unflatten(-1, (4, -1)).movedim(-2, 0) for x in (before, now))
        same = [torch.equal(before[head], now[head]) for head in range(4)]
        assert same == [True, True, name not in downstream(site), True]


@pytest.mark.parametrize("site", ONE_LAYER)
def test_edits_act_in_the_given_order(site: str, pocket: oto.SpeechModel, clip: oto.Clip, plain: Run) -> None:
    doubled, shifted = Edit.scale(site, 2.0), Edit.add(site, 0.5)
    for edits, expected in (
        ((doubled, shifted), plain[site] * 2 + 0.5),
        ((shifted, doubled), (plain[site] + 0.5) * 2),
    ):
        if site == "decoder.1.attn.pattern":
            expected = expected.tril()  # what a token must not see stays hidden
        assert torch.equal(edited(pocket, clip, *edits, read=[site])[site], expected)


@pytest.mark.parametrize("site", ONE_LAYER)
def test_a_sweep_equals_its_runs_one_by_one(site: str, pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    read = ["encoder.0.attn.pattern[1]", site, "encoder.ln_post", "logits"]
    sweep = [[Edit.scale(site, 0.5)], [], [Edit.zero(site), Edit.add("encoder.2.mlp.post", 0.3)]]
    together = pocket.run_each(clip, read, sweep, text=TEXT, language="en")
    for edits, run in zip(sweep, together, strict=True):
        alone = pocket.run(clip, read, edits, text=TEXT, language="en")
        assert list(run) == list(alone)
        for name in read:
            assert torch.allclose(run[name], alone[name], atol=1e-4, rtol=1e-5)
    assert not torch.allclose(together[0]["logits"], together[1]["logits"], atol=1e-3)
