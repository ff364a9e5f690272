"""What splicing a reconstruction does to transcripts: nothing if it is lossless, and as much as zeros if it is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Dictionary, Neurons, RandomBasis, SparseCode
from otoscope.errors import InputError
from otoscope.evaluation.splice import SpliceEffect, splice_effect
from otoscope.evaluation.word_errors import ErrorCounts, character_errors, spoken_form, word_errors
from otoscope.models import SpeechModel
from otoscope.models.speech_model import untrained_model

SITE = "encoder.2.resid_post"


class Means:
    """Means of nothing: as in a store of centred activations."""

    def mean(self, site: str) -> Any:
        return torch.full((128,), 0.1).numpy()


class FromNeurons(Dictionary):
    """A transcoder without loss: it reads the neurons of an MLP and rebuilds what the MLP adds to the stream."""

    kind = "exact"

    def __init__(self, weight: Tensor, bias: Tensor, layer: int) -> None:
        d_out, d_in = weight.shape
        site = f"encoder.{layer}.mlp.post"
        super().__init__(name="exact", site=site, d_in=d_in, n_features=2 * d_in, d_out=d_out)
        self.target_site = f"encoder.{layer}.mlp.out"
        self.weight, self.bias, self.neurons = weight, bias, Neurons(site, d_in)

    def encode(self, x: Tensor) -> SparseCode:
        return self.neurons.encode(x)

    def decode(self, code: SparseCode) -> Tensor:
        return self.neurons.decode(code) @ self.weight.T + self.bias

    def directions(self, features: Sequence[int]) -> Tensor:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> Dictionary:
        raise NotImplementedError


def zeros(site: str) -> RandomBasis:
    """A dictionary that rebuilds nothing."""
    basis = RandomBasis(site, 128, 128, k=4)
    basis.rows = torch.zeros_like(basis.rows)
    return basis


@pytest.fixture(scope="module")
def clips(mini: Corpus) -> list[Clip]:
    spoken, sounds = ([clip for clip in mini if bool(clip.text) is wanted] for wanted in (True, False))
    return [*spoken[:6], *sounds[:2]]


@pytest.fixture(scope="module")
def effect(pocket: SpeechModel, clips: list[Clip]) -> SpliceEffect:
    named = {
        "lossless": Neurons(SITE, 128),
        "random": RandomBasis(SITE, 128, 512, k=8),
        "nothing": zeros(SITE),
    }
    return splice_effect(pocket, named, clips, means=Means())


def value(effect: SpliceEffect, name: str, condition: str) -> float:
    (found,) = [each.value for each in effect.measures([condition]) if each.name == f"splice.{name}"]
    return found


def test_a_lossless_dictionary_changes_nothing(effect: SpliceEffect) -> None:
    assert effect.texts["lossless"] == effect.texts["none"]
    for name in ("delta_wer", "delta_cer", "delta_ce", "kl"):
        assert value(effect, name, "lossless") == pytest.approx(0, abs=1e-5)
    assert value(effect, "loss_recovered", "lossless") == pytest.approx(1, abs=1e-5)


def test_a_dictionary_that_rebuilds_nothing_is_a_zero_ablation(effect: SpliceEffect) -> None:
    assert effect.texts["nothing"] == effect.texts["zero"]
    assert value(effect, "loss_recovered", "nothing") == pytest.approx(0, abs=1e-5)
    assert value(effect, "delta_ce", "nothing") > 3


def test_random_directions_lose_part_of_the_transcript(effect: SpliceEffect) -> None:
    assert 0 < value(effect, "loss_recovered", "random") < 1
    assert 0 < value(effect, "delta_wer", "random") <= value(effect, "delta_wer", "zero")
    delta = value(effect, "wer", "random") - value(effect, "wer", "none")
    assert value(effect, "delta_wer", "random") == pytest.approx(delta)


def test_the_cross_entropy_is_what_the_model_gives_its_own_right_transcripts(
    pocket: SpeechModel, clips: list[Clip], effect: SpliceEffect
) -> None:
    """Measured another way: decoding reports the probability of each token, the end token included."""
    row = effect.conditions.index("none")
    right = 0
    for number, clip in enumerate(clips):
        transcript = pocket.transcribe(clip)
        if clip.text and transcript.text == clip.text:
            tokens, nats = effect.counts[row, number, 6:8]
            assert tokens == len(transcript.tokens) + 1
            assert nats / tokens == pytest.approx(-transcript.avg_log_prob, abs=0.02)
            right += 1
    assert right >= 3


def test_figures_come_with_intervals_over_clips_and_say_what_they_rest_on(effect: SpliceEffect) -> None:
    found = {each.name: each for each in effect.measures(["random"])}
    assert effect.by == "clips"
    assert found["splice.delta_ce"].low < found["splice.delta_ce"].value < found["splice.delta_ce"].high
    assert (found["splice.wer"].n, found["splice.wer"].n_unit) == (effect.total("none", "words"), "words")
    assert found["splice.words_per_sound"].n == 2


def test_layers_spliced_together_lose_more_than_each_alone(pocket: SpeechModel, clips: list[Clip]) -> None:
    early, late = (RandomBasis(f"encoder.{layer}.resid_post", 128, 512, k=8) for layer in (0, 3))
    effect = splice_effect(pocket, {"early": [early], "late": [late], "both": [early, late]}, clips[:3])
    alone = max(value(effect, "ce", "early"), value(effect, "ce", "late"))
    assert value(effect, "ce", "both") > alone
    assert effect.ablation["both"] == ("zero encoder.0.resid_post+encoder.3.resid_post",)


def test_only_frames_that_the_clip_fills_are_replaced_unless_padding_is_asked_for(
    pocket: SpeechModel, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def reconstruct(self: Neurons, h: Tensor) -> Tensor:
        seen.append(h.shape[-2])
        return h

    monkeypatch.setattr(Neurons, "reconstruct", reconstruct)
    splice_effect(pocket, Neurons(SITE, 128), clips[:1])
    assert set(seen) == {pocket.frames(clips[0])}
    seen.clear()
    splice_effect(pocket, Neurons(SITE, 128), clips[:1], padding=True)
    assert set(seen) == {pocket.dims.n_positions}


def test_a_transcoder_is_spliced_in_where_it_writes(pocket: SpeechModel, clips: list[Clip]) -> None:
    weights = dict(pocket.module.named_parameters())
    (key,) = [name for name in weights if "encoder" in name and ".1." in name and weights[name].shape == (128, 512)]
    exact = FromNeurons(weights[key].detach(), weights[key.replace("weight", "bias")].detach(), layer=1)
    wrong = FromNeurons(-exact.weight, exact.bias, layer=1)
    effect = splice_effect(pocket, {"exact": exact, "wrong": wrong}, clips[:3])
    assert value(effect, "kl", "exact") < 1e-6
    assert value(effect, "kl", "wrong") > 0.1


def test_a_model_that_writes_nothing_says_so(clips: list[Clip]) -> None:
    from transformers import HubertConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = HubertConfig(**sizes, conv_dim=[32] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
    silent = untrained_model(config.to_dict())
    effect = splice_effect(silent, Neurons("encoder.1.resid_post", 32), clips[:2])
    assert effect.measures() == []
    assert "writes no text" in effect.missing[0]
    assert "no text decoder" in effect.missing[1]


def test_what_cannot_be_spliced_is_refused(pocket: SpeechModel, clips: list[Clip]) -> None:
    with pytest.raises(InputError, match="at least one clip"):
        splice_effect(pocket, Neurons(SITE, 128), [])
    with pytest.raises(InputError, match="condition of its own"):
        splice_effect(pocket, {"zero": Neurons(SITE, 128)}, clips[:1])
    with pytest.raises(InputError, match="wide"):
        splice_effect(pocket, Neurons(SITE, 64), clips[:1])


def test_substitutions_insertions_and_deletions_are_counted_apart() -> None:
    reference = spoken_form("The cat sat, on the mat!")
    assert reference == "the cat sat on the mat"
    assert word_errors(reference, reference) == ErrorCounts(0, 0, 0, 6)
    assert word_errors(reference, "the hat sat on the mat") == ErrorCounts(1, 0, 0, 6)
    assert word_errors(reference, "the cat sat on the big mat") == ErrorCounts(0, 1, 0, 6)
    assert word_errors(reference, "cat sat on mat") == ErrorCounts(0, 0, 2, 6)
    assert character_errors("cat", "cats") == ErrorCounts(0, 1, 0, 3)
    assert character_errors("cat", "") == ErrorCounts(0, 0, 3, 3)


def test_words_written_where_nothing_is_said_are_insertions() -> None:
    assert word_errors("", "thank you") == ErrorCounts(0, 2, 0, 0)
    assert word_errors("", "") == ErrorCounts(0, 0, 0, 0)
