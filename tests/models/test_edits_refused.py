"""Edits that do not fit are refused in one sentence, before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import otoscope as oto
from otoscope.models import Edit, Run

LAST = "encoder.ln_post"


def noise(seconds: float, seed: int = 0) -> oto.Clip:
    samples = np.random.default_rng(seed).standard_normal(int(16000 * seconds)).astype(np.float32)
    return oto.Clip.from_samples(0.1 * samples, 16000, clip_id=f"noise-{seed}")


@pytest.fixture(scope="module")
def clip() -> oto.Clip:
    return noise(2.0)


@dataclass
class PairOfDirections:
    """A dictionary of two features: rectified projections on two directions."""

    site: str
    width: int

    def directions(self, features: Sequence[int]) -> Tensor:
        both = torch.randn(2, self.width, generator=torch.Generator().manual_seed(0))
        return both[list(features)] / both.norm(dim=1)[list(features), None]

    def feature_values(self, h: Tensor, features: Sequence[int]) -> Tensor:
        return (h @ self.directions(features).T).relu()


def run_of(site: str, width: int, value: float = 0.0) -> Run:
    """A run that read one site."""
    return Run("another", "pocket", oto.load_model("pocket").dims, {site: torch.full((10, width), value)})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Edit.zero("encoder.9.mlp.post"), "layers are 0 to 3"),
        (lambda: Edit.zero("encoder.1.mlp"), "did you mean"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[10_000]), "its units are 0 to"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[-1]), "its units are 0 to"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[]), "selects no units"),
        (lambda: Edit.zero("encoder.1.mlp.post", units=[1, 1]), "twice"),
        (lambda: Edit.zero("encoder.1.mlp.post", time_s=(1.0, 0.5)), "start < end"),
        (lambda: Edit.zero("encoder.1.mlp.post", time_s=(50.0, 51.0)), "the clip ends at 2.00 s"),
        (lambda: Edit.scale("encoder.1.mlp.post", float("nan")), "finite"),
        (lambda: Edit.add("encoder.1.resid_post", torch.tensor([float("nan")] * 128)), "NaN or infinity"),
        (lambda: Edit.add("encoder.1.resid_post", torch.zeros(5) + 1), "concerns 128 columns"),
        (lambda: Edit("encoder.1.mlp.post", "double"), "the edits are zero"),
        (lambda: Edit("encoder.1.mlp.post", "scale", features=(1,)), "dictionary"),
        (
            lambda: Edit("encoder.1.resid_post", "zero", features=(0,), dictionary=PairOfDirections("mel", 80)),
            "belongs to mel",
        ),
        (
            lambda: Edit("mel", "zero", features=(0,), dictionary=PairOfDirections("mel", 7)),
            "the model the dictionary was made for",
        ),
        (lambda: Edit.zero("encoder.1.attn.z[4]"), "heads are 0 to 3"),
        (lambda: Edit.zero("encoder.1.mlp.post[0]"), "not divided into heads"),
        (
            lambda: Edit.zero("encoder.1.mlp.post", tokens=(0, 2)),
            "moments of the sound",
        ),
        (lambda: Edit.zero("decoder.1.mlp.post", time_s=(0, 1)), "are tokens, so an edit there takes no time range"),
        (lambda: Edit.zero("decoder.1.mlp.post", frames=(0, 1)), "use tokens"),
        (lambda: Edit.zero("decoder.1.cross.pattern", time_s=(0, 1)), "use keys_s for its key frames"),
        (lambda: Edit.zero("decoder.1.attn.pattern", keys_s=(0, 1)), "keys of decoder.1.attn.pattern are tokens"),
        (lambda: Edit.zero("encoder.1.mlp.post", keys_s=(0, 1)), "has no keys"),
        (lambda: Edit.zero("encoder.1.attn.pattern", keys_s=(3, 4)), "the clip ends at 2.00 s"),
        (lambda: Edit.zero("encoder.1.mlp.post", frames=(100, 101)), "the clip ends at 2.00 s"),
        (lambda: Edit.zero("decoder.1.mlp.post", tokens=(9999, 10000)), "the decoder reads"),
        (lambda: Edit.zero("encoder.1.mlp.post", frames=(3, 3)), "first < stop"),
        (lambda: Edit.zero("encoder.1.mlp.post", frames=(1.5, 3)), "whole numbers"),
        (lambda: Edit.zero("encoder.1.mlp.post", frames=(1, 3), time_s=(0, 1)), "several ranges"),
        (lambda: Edit.limit("encoder.1.mlp.post"), "needs a `low`"),
        (lambda: Edit.limit("encoder.1.mlp.post", low=1.0, high=0.0), "must not exceed"),
        (lambda: Edit.limit("encoder.1.mlp.post", low=float("inf")), "finite"),
        (lambda: Edit.band("encoder.1.attn", -1), "whole number of positions from 0"),
        (lambda: Edit.band("encoder.1.attn", 2.5), "whole number of positions from 0"),
        (lambda: Edit.band("decoder.1.cross.scores", 3), "positions of one kind"),
        (lambda: Edit.band("encoder.1.attn[4]", 3), "heads are 0 to 3"),
        (lambda: Edit.band("encoder.1.attn", 3, units=[1]), "neither units nor keys_s"),
        (lambda: Edit.knock_out("encoder.1.attn"), r"is written encoder\.2\.attn\[3\]"),
        (lambda: Edit.knock_out("encoder.1.attn[7]"), "heads are 0 to 3"),
        (lambda: Edit.mean("encoder.1.attn.pattern", [0.1] * 300), "use the head's z instead"),
        (lambda: Edit.mean("encoder.1.mlp.post", [[0.1] * 512]), "must have one axis"),
        (lambda: Edit.patch("encoder.1.mlp.post", "clip-3"), "taken from a run"),
        (lambda: Edit.patch("encoder.1.mlp.post", run_of("encoder.1.mlp.out", 128)), "did not read"),
        (lambda: Edit.patch("encoder.1.mlp.post", run_of("encoder.1.mlp.post", 7)), "concerns 512 columns"),
        (lambda: Edit.patch("encoder.1.mlp.post", run_of("encoder.1.mlp.post", 512, float("nan"))), "NaN or infinity"),
        (lambda: Edit.resample("encoder.1.attn.pattern", run_of("encoder.1.attn.pattern", 50)), "the head's z"),
        (lambda: Edit.splice(PairOfDirections("mel", 80)), "no reconstruction to splice in"),
        (lambda: Edit("mel", "splice"), "name `dictionary`"),
        (lambda: Edit("mel", "mean"), "needs the mean"),
        (lambda: Edit("mel", "patch"), "belong to patch and resample"),
        (lambda: "zero mel", "Edits are made with"),
    ],
)
def test_edits_that_do_not_fit_are_refused(
    make: Callable[[], Edit], reason: str, pocket: oto.SpeechModel, clip: oto.Clip
) -> None:
    with pytest.raises(oto.InputError, match=reason) as refusal:
        pocket.run(clip, [LAST], [make()])
    message = str(refusal.value)
    assert "\n" not in message
    assert message.count(". ") == 0, "one sentence"


def test_a_single_edit_is_not_a_list(pocket: oto.SpeechModel, clip: oto.Clip) -> None:
    with pytest.raises(oto.InputError, match="given as a list"):
        pocket.run(clip, [LAST], Edit.zero("mel"))


def test_refusals_come_before_any_work(pocket: oto.SpeechModel) -> None:
    """An unreadable clip would fail later; the bad edit is named first."""
    missing = oto.Clip(clip_id="gone", uri="gone.wav")
    with pytest.raises(oto.InputError, match="its units are 0 to"):
        pocket.run(missing, [LAST], [Edit.zero("encoder.1.mlp.post", units=[10_000])])
    with pytest.raises(oto.InputError, match="There is no site"):
        pocket.run(missing, [LAST], [Edit.zero("encoder.one")])
