"""A scorecard measures a dictionary beside what it has to beat, says when it does not, and never measures twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import otoscope as oto
from otoscope.activations import ActivationStore
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary, RandomBasis
from otoscope.errors import InputError
from otoscope.evaluation.scorecard import Parameters, Scorecard, evaluate
from otoscope.models import SpeechModel

SITE = "encoder.2.resid_post"
HELD_OUT = ("paul", "annie")
SMALL = Parameters(splice_clips=4)


@pytest.fixture(scope="module")
def clips(mini: Corpus) -> Corpus:
    """Eight clips each of six voices, and as many sounds."""
    chosen, seen = [], {}
    for clip in mini:
        voice = clip.speaker or "sound"
        seen[voice] = seen.get(voice, 0) + 1
        if clip.language != "es" and voice not in ("f4", "m5") and seen[voice] <= 8:
            chosen.append(clip)
    return Corpus("voices", chosen)


@pytest.fixture(scope="module")
def held_out(clips: Corpus) -> list[str]:
    return [clip.clip_id for clip in clips if clip.speaker in HELD_OUT]


@pytest.fixture(scope="module")
def store(pocket: SpeechModel, clips: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return oto.harvest(pocket, clips, [SITE], tmp_path_factory.mktemp("scorecard") / "store", progress=False)


@pytest.fixture(scope="module")
def trained(store: ActivationStore, held_out: list[str]) -> Dictionary:
    fit = [clip for clip in store.clips if clip not in held_out]
    spec = oto.TopK(256, k=8)
    return oto.train(store, spec, steps=200, batch_size=512, lr=4e-3, clips=fit, progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scorecards")


@pytest.fixture(scope="module")
def given(
    store: ActivationStore, pocket: SpeechModel, clips: Corpus, held_out: list[str], folder: Path
) -> dict[str, Any]:
    shared = {"store": store, "model": pocket, "corpus": clips, "held_out": held_out, "parameters": SMALL}
    return {**shared, "cache": folder / "baselines", "progress": False}


@pytest.fixture(scope="module")
def card(trained: Dictionary, given: dict[str, Any], folder: Path) -> Scorecard:
    sections = ("reconstruction", "probes", "coverage", "splice")
    baselines = ("random", "pca", "random_weights")
    return evaluate(trained, **given, sections=sections, baselines=baselines, to=folder / "sae")


def test_a_trained_dictionary_beats_random_directions_and_random_weights(card: Scorecard) -> None:
    own = card.find("coverage.any.above_chance", kind="phone")
    probe = card.find("probe.accuracy", kind="phone", k="5")
    for baseline in ("random", "random_weights"):
        assert own.low > card.find("coverage.any.above_chance", baseline, kind="phone").high
        assert probe.low > card.find("probe.accuracy", baseline, kind="phone", k="5").high
    assert card.find("reconstruction.fvu").high < card.find("reconstruction.fvu", "random").low
    assert card.find("splice.loss_recovered").value > card.find("splice.loss_recovered", "random").value


def test_control_random_directions_in_its_place_beat_nothing(
    store: ActivationStore, given: dict[str, Any], card: Scorecard
) -> None:
    impostor = RandomBasis(SITE, store.d(SITE), 256, seed=7, k=8)
    other = evaluate(impostor, **given, sections=("coverage",), baselines=("random",))
    own = other.find("coverage.any.above_chance", kind="phone")
    assert own.low < other.find("coverage.any.above_chance", "random", kind="phone").high
    assert own.high < card.find("coverage.any.above_chance", kind="phone").low


def test_baselines_have_the_size_and_sparsity_of_the_dictionary(card: Scorecard) -> None:
    for baseline in ("random", "pca", "random_weights"):
        assert card.find("reconstruction.l0", baseline).value == pytest.approx(8, abs=0.1)
    assert set(card.provenance["baselines"]) == {"random", "pca", "random_weights"}


def test_random_weights_are_another_model_and_are_not_spliced_in(card: Scorecard) -> None:
    assert {row.subject for row in card.select("splice.wer")} == {"trained", "random", "pca", "none", "zero", "mean"}
    unedited, zero = card.find("splice.wer", "none"), card.find("splice.wer", "zero")
    assert unedited.value < 0.3 < zero.value


def test_figures_are_of_voices_that_the_dictionary_never_heard(card: Scorecard, held_out: list[str]) -> None:
    assert card.provenance["held_out"]["clips"] == len(held_out)
    assert card.provenance["held_out"]["apart_in"] == "speakers"
    assert card.notes == ()


def test_a_dictionary_that_heard_everything_is_found_out(store: ActivationStore, given: dict[str, Any]) -> None:
    cheat = oto.train(store, oto.TopK(64, k=4), steps=5, batch_size=256, progress=False)
    found = evaluate(cheat, **given, sections=("reconstruction",), baselines=())
    assert "trained on all clips" in found.notes[0]


def stages(**asked: Any) -> list[str]:
    """What a call of `evaluate` really worked on."""
    seen: list[str] = []
    evaluate(**{**asked, "progress": lambda stage, done, total: seen.append(stage)})
    return list(dict.fromkeys(seen))


def test_nothing_is_measured_twice_and_a_damaged_part_only_is_made_anew(
    trained: Dictionary, given: dict[str, Any], card: Scorecard, folder: Path
) -> None:
    asked = {"dictionary": trained, **given, "to": folder / "sae", "baselines": ("random", "pca", "random_weights")}
    asked["sections"] = ("reconstruction", "probes", "coverage", "splice")
    assert stages(**asked) == []
    assert Scorecard.load(folder / "sae").to_json()["rows"] == card.to_json()["rows"]
    (folder / "sae" / "sections" / "reconstruction.pca.json").write_text("{", "utf-8")
    assert stages(**asked) == ["reconstruction pca"]
    asked["parameters"] = Parameters(splice_clips=2)
    assert stages(**asked) == ["splice"]


def test_what_was_done_before_an_interruption_is_kept(
    trained: Dictionary, given: dict[str, Any], card: Scorecard, tmp_path: Path
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage.startswith("splice") and done == 2:
            raise KeyboardInterrupt

    asked = {
        "dictionary": trained,
        **given,
        "to": tmp_path / "sae",
        "baselines": (),
        "sections": ("reconstruction", "splice"),
    }
    with pytest.raises(KeyboardInterrupt):
        evaluate(**{**asked, "progress": interrupt})
    assert not (tmp_path / "sae" / "scorecard.json").exists()
    assert stages(**asked) == ["splice"]
    found = Scorecard.load(tmp_path / "sae")
    assert found.find("splice.wer").value == card.find("splice.wer").value


def test_stability_compares_the_dictionary_with_itself_from_other_seeds(
    store: ActivationStore, trained: Dictionary, given: dict[str, Any]
) -> None:
    asked = {**given, "sections": ("stability",), "baselines": ()}
    with pytest.raises(InputError, match="compares seeds"):
        evaluate(trained, **asked)
    same = evaluate(trained, **asked, seeds=[trained, trained])
    assert same.find("stability.share").value == pytest.approx(1)
    assert same.find("stability.share.chance").value < 0.1
    brief = oto.train(store, oto.TopK(64, k=4), steps=5, batch_size=256, progress=False)
    others = evaluate(brief, **asked, seeds=2)
    assert len({brief.fingerprint, *others.provenance["further_seeds"]}) == 3
    assert len(list(others.select("stability.share"))) == 4


def test_what_cannot_be_evaluated_is_refused_before_any_work(trained: Dictionary, given: dict[str, Any]) -> None:
    for wrong, message in (
        ({"baselines": ("randm",)}, "did you mean random"),
        ({"sections": ("prob",)}, "did you mean probes"),
        ({"held_out": ["nobody"]}, "'nobody' is not in the store"),
        ({"held_out": []}, "none is given"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(trained, **{**given, **wrong})
    elsewhere = RandomBasis("encoder.0.resid_post", 128, 64)
    with pytest.raises(InputError, match=r"reads encoder\.0\.resid_post, which the store lacks"):
        evaluate(elsewhere, **given)
