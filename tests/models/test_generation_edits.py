"""Edits inside generation: what the decoder computes token by token equals a recomputation of everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.models import Edit, untrained_model
from otoscope.models.edits import bind_edits
from otoscope.models.generation import RowEdits, Steps
from otoscope.models.generation.beam import search
from otoscope.models.generation.choosing import Hypothesis, choose
from otoscope.models.generation.token_rules import TokenRules
from otoscope.models.networks.taps import recording

CONFIG = {
    "model_type": "whisper",
    "d_model": 24,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_layers": 2,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "num_mel_bins": 80,
    "max_source_positions": 25,
    "max_target_positions": 24,
    "vocab_size": 61,
}
MODEL = untrained_model(CONFIG, seed=3)
SITES = [site for site in MODEL.sites() if site.needs_text(MODEL.dims) and site.row.writable]
PROMPT, N_TOKENS, BEAM = 3, 4, 2


class Uncached(Steps):
    """The same decoder without a memory: every step computes all tokens anew."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.read = torch.empty((len(self.encoded), 0), dtype=torch.long)

    def __call__(self, ids: Tensor) -> Tensor:
        self.read = torch.cat([self.read, ids], 1)
        with recording(self.edits.tape()):
            logits: Tensor = self.module.decode(self.read, self.encoded)
        return logits[:, -1]

    def spread(self, n: int) -> None:
        super().spread(n)
        self.read = self.read.repeat_interleave(n, 0)

    def reorder(self, rows: Sequence[int]) -> None:
        self.read = self.read[list(rows)]


class Recorded:
    """Steps whose logits are kept."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.logits: list[Tensor] = []

    def __call__(self, ids: Tensor) -> Tensor:
        self.logits.append(self.steps(ids).clone())
        return self.logits[-1].clone()

    def spread(self, n: int) -> None:
        self.steps.spread(n)

    def reorder(self, rows: Sequence[int]) -> None:
        self.steps.reorder(rows)


RULES = TokenRules(torch.tensor([5, 60]), torch.tensor([6]), 60, None, None, None)
"""The end token is forbidden, so that there is always something to compare."""


@torch.no_grad()
def written(steps: type[Steps], edits: RowEdits, encoded: Tensor, beam: int) -> tuple[list[Hypothesis], list[Tensor]]:
    recorded = Recorded(steps(MODEL.module, encoded, edits))
    logits = recorded(torch.arange(PROMPT).repeat(len(encoded), 1))
    recorded.spread(beam)
    logits = logits.repeat_interleave(beam, 0)
    if beam == 1:
        return choose(recorded, logits, RULES, N_TOKENS, 0.0, ()), recorded.logits  # type: ignore[arg-type]
    found = search(recorded, logits, RULES, N_TOKENS, beam, 1.0)  # type: ignore[arg-type]
    return [each for window in found for each in window], recorded.logits


@pytest.fixture(scope="module")
def encoded() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return MODEL.encode(torch.randn(1, 80, 50, generator=generator), ["encoder.ln_post"])["encoder.ln_post"]


@pytest.fixture(scope="module")
def plain_logits(encoded: Tensor) -> Tensor:
    return written(Steps, RowEdits(), encoded, 1)[1][0]


def edits_at(site: oto.Site) -> Iterator[tuple[str, Edit]]:
    """Edits of one site: of all of it, of a head, of some tokens (in the prompt, across its end, in the text), of a
    stretch of the sound."""
    name, of_map = str(site), site.is_map
    yield "scale", Edit.scale(name, -1.5)
    if not of_map and not name.endswith(".k"):  # the same for all keys adds the same to all scores
        yield "add", Edit.add(name, torch.linspace(-2, 2, site.width(MODEL.dims)))
    yield "clamp", Edit.clamp(name, 0.7, units=(1, 3))
    if site.row.heads:
        yield "head", Edit.scale(f"{name}[1]", -2.0)
    if site.row.of_keys:
        yield "time", Edit.scale(name, -3.0, time_s=(0.1, 0.3))
        return
    for first, stop in ((PROMPT - 1, PROMPT + 1), (PROMPT + 1, PROMPT + 3)):
        yield f"tokens-{first}", Edit.scale(name, -2.0, tokens=(first, stop))
    if of_map and ".cross." in name:
        yield "keys", Edit.scale(name, 0.0, keys_s=(0.1, 0.3))


CASES = [pytest.param(edit, id=f"{site}-{kind}") for site in SITES for kind, edit in edits_at(site) if not site.head]


@pytest.mark.parametrize("edit", CASES)
def test_an_edit_inside_generation_equals_a_recomputation_without_cache(
    edit: Edit, encoded: Tensor, plain_logits: Tensor
) -> None:
    edits = RowEdits(bind_edits([edit], MODEL.dims), (), [0.0])
    for beam in (1, BEAM):
        ours, logits = written(Steps, edits, encoded, beam)
        theirs, recomputed = written(Uncached, edits, encoded, beam)
        assert [each.ids for each in ours] == [each.ids for each in theirs]
        assert len(logits) == len(recomputed) == N_TOKENS
        for here, there in zip(logits, recomputed, strict=True):
            assert torch.allclose(here, there, atol=1e-4)
        if edit.tokens is None or edit.tokens[0] < PROMPT <= edit.tokens[1]:
            assert not torch.allclose(logits[0], plain_logits, atol=1e-3)
