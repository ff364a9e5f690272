"""Interpretation: cards say what is planted, true explanations hold on other voices, false ones do not."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer, Model, chat_server, coin, numbered, reader, table
from planted_world import ALWAYS, DEAD, MORNING, NOISE, SIREN, M, World, plant

from otoscope.atlas import Atlas
from otoscope.atlas.interpretation import (
    Card,
    Endpoint,
    EndpointError,
    EndpointRefused,
    Interpretation,
    Trials,
    card_of,
    interpret,
    load_interpretations,
)
from otoscope.atlas.interpretation.card import make_card
from otoscope.atlas.interpretation.detection import score
from otoscope.atlas.interpretation.evidence import Evidence, Trial
from otoscope.atlas.interpretation.evidence import World as Known
from otoscope.atlas.interpretation.exchanges import Exchanges, Usage
from otoscope.atlas.interpretation.prompts import Explanation, UnusableAnswer, read_explanation, read_judgement
from otoscope.errors import InputError, OtoscopeError

FEW = Trials(n_null=2)
PLANTED = [M, MORNING, SIREN]


@pytest.fixture(scope="module")
def known(atlas: Atlas, world: World) -> Known:
    return Known(atlas, world.corpus)


@pytest.fixture(scope="module")
def found(atlas: Atlas, world: World) -> dict[int, Interpretation]:
    """Rungs 1 and 2 of features that know something, and of two that do not."""
    features = [*PLANTED, NOISE, DEAD]
    return {each.feature: each for each in interpret(atlas, world.corpus, features, trials=FEW, progress=False)}


@pytest.fixture(scope="module")
def cards(known: Known) -> dict[int, Card]:
    return {unit: make_card(Evidence(known, unit)) for unit in [*PLANTED, ALWAYS]}


def there(url: str, **options: object) -> Endpoint:
    return Endpoint(url, "planted-reader", **{"backoff_s": 0.0, "timeout_s": 10.0, **options})  # type: ignore[arg-type]


# Cards


def test_a_card_names_what_is_planted(cards: dict[int, Card]) -> None:
    phone = cards[M].tables["phone"][0]
    assert (phone.label, phone.strongest) == ("m", 1.0)
    assert phone.active_in > 0.95
    assert phone.expected < 0.3
    word = cards[MORNING].tables["word"][0]
    assert word.label == "morning"
    assert word.strongest == 1.0
    assert word.expected < 0.5
    assert cards[SIREN].tables["heard"][0].label == "siren"


def test_a_word_is_not_named_where_its_phone_explains_it(cards: dict[int, Card]) -> None:
    """The control: words are drawn apart from phones here, and the detector of m holds no table of words."""
    assert "word" not in cards[M].tables


def test_contrasts_are_silent_moments_of_the_right_sort(known: Known, cards: dict[int, Card]) -> None:
    card = cards[MORNING]
    assert {each.phone for each in card.same_sound} <= set(Evidence(known, MORNING).own_sounds)
    assert {each.word for each in card.same_sound} - {None} <= {"seven", "bird"}
    assert all(each.value == 0 for each in (*card.same_sound, *card.near_sound, *card.silent))
    assert [each.value for each in card.active] == sorted((each.value for each in card.active), reverse=True)


def test_a_card_reads_as_a_page(atlas: Atlas, world: World) -> None:
    page = card_of(atlas, world.corpus, M).to_markdown()
    assert page.startswith(f"# units:{M}\n")
    assert table(page, "Phones")[0][0] == "m"
    assert "[m]" in page
    assert "ms into m" in page
    assert "nan" not in page


def test_natural_classes_are_told_where_they_hold_the_moments(cards: dict[int, Card]) -> None:
    rows = cards[M].tables["class"]
    assert {"manner: nasal", "place: labial"} <= {row.label for row in rows}


def test_no_voice_is_on_the_card_and_in_the_trial(known: Known) -> None:
    for unit in PLANTED:
        evidence = Evidence(known, unit)
        speakers = [
            {known.corpus.get(each.clip_id).speaker or each.clip_id for each in moments}
            for moments in (evidence.peaks, evidence.trial(20, 20).moments)
        ]
        assert speakers[0].isdisjoint(speakers[1])
        assert min(map(len, speakers)) > 1


def test_a_trial_is_half_active_with_near_misses(known: Known) -> None:
    trial = Evidence(known, MORNING).trial(20, 20)
    assert [int(each.sum()) for each in (trial.active, ~trial.active)] == [20, 20]
    assert 0 < trial.near.sum() <= 10
    assert not (trial.near & trial.active).any()
    assert all((each.value > 0) == active for each, active in zip(trial.moments, trial.active, strict=True))


def test_dead_and_unknown_features_have_no_card(atlas: Atlas, world: World) -> None:
    with pytest.raises(InputError, match="it is dead"):
        card_of(atlas, world.corpus, DEAD)
    with pytest.raises(InputError, match="no feature 99"):
        card_of(atlas, world.corpus, 99)


def test_another_corpus_is_refused(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="built over another corpus"):
        card_of(atlas, plant(seed=1).corpus, M)


# Rungs 1 and 2


def test_true_classes_hold_by_rule(found: dict[int, Interpretation]) -> None:
    for unit in PLANTED:
        rung = found[unit].rung(1)
        assert rung is not None
        assert rung.score is not None
        assert rung.verdict == "supported"
        assert rung.score.balanced_accuracy > 0.6 > rung.score.null
        assert rung.score.shuffled < 0.6
    assert found[M].best.name == "/m/"  # type: ignore[union-attr]


def test_what_knows_nothing_gets_nothing(found: dict[int, Interpretation]) -> None:
    assert found[NOISE].best is None
    assert (found[DEAD].rungs, found[DEAD].card) == ((), "")
    assert "dead" in found[DEAD].note


def test_silent_recordings_have_no_sound_to_describe(found: dict[int, Interpretation]) -> None:
    rung = found[M].rung(2)
    assert rung is not None
    assert (rung.name, rung.verdict) == ("", "not tried")


def test_a_feature_that_is_always_on_counts_as_active_where_it_is_strongest(cards: dict[int, Card]) -> None:
    assert cards[ALWAYS].figures["active_from"] > 0


def test_the_same_seed_gives_the_same(atlas: Atlas, world: World, found: dict[int, Interpretation]) -> None:
    (again,) = interpret(atlas, world.corpus, [NOISE], trials=FEW, progress=False)
    assert again.to_json() == found[NOISE].to_json()


# The score


def test_scores_are_those_of_the_definition() -> None:
    active, fits = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool), np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0], bool)
    near = np.zeros(10, bool)
    near[[4, 5]] = True
    trial = Trial([], active, near, np.zeros((10, 0)))
    found = score(trial, fits, [(active, ~active), (active, active)], (active, np.ones(10, bool)))
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert found.f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert (found.hits, found.false_alarms, found.near_false_alarms) == (0.75, 0.0, 0.5)
    assert (found.null, found.shuffled, found.n_null) == (0.5, 0.5, 2)
    assert found.lift == pytest.approx(found.balanced_accuracy - 0.5)
    assert found.balanced_accuracy_low < found.balanced_accuracy < found.balanced_accuracy_high


def test_chance_is_seldom_supported_and_certainty_is_never_claimed() -> None:
    rng = np.random.default_rng(0)
    active = np.arange(40) < 20
    trial = Trial([], active, np.zeros(40, bool), np.zeros((40, 0)))

    def at_random() -> np.ndarray:
        return rng.random(40) < 0.5

    supported = [score(trial, at_random(), [(active, at_random()) for _ in range(4)]).supported for _ in range(300)]
    assert np.mean(supported) < 0.05
    perfect = score(trial, active, [(active, at_random())])
    assert perfect.supported
    assert perfect.balanced_accuracy_low < 1.0


def test_an_explanation_that_fits_anything_does_as_well_on_others_and_is_not_supported() -> None:
    active = np.arange(40) < 20
    fits = np.arange(40) < 24
    trial = Trial([], active, np.zeros(40, bool), np.zeros((40, 0)))
    assert score(trial, fits, [(active, ~active)]).supported
    assert not score(trial, fits, [(active, fits)]).supported


# Rung 3


@pytest.fixture(scope="module")
def climbed(atlas: Atlas, world: World) -> tuple[list[Interpretation], ChatServer]:
    """Three features that a model which reads the card was asked about."""
    with chat_server(reader) as server:
        features = [M, SIREN, NOISE]
        found = interpret(atlas, world.corpus, features, endpoint=there(server.url), trials=FEW, progress=False)
    return found, server


def test_a_model_that_reads_the_card_is_supported_where_there_is_something_to_know(
    climbed: tuple[list[Interpretation], ChatServer],
) -> None:
    found, server = climbed
    by_unit = {each.feature: each.rung(3) for each in found}
    assert [by_unit[unit].name for unit in (M, SIREN)] == ["«m»", "«siren»"]
    assert [by_unit[unit].verdict for unit in (M, SIREN, NOISE)] == ["supported", "supported", "not supported"]
    of_m = by_unit[M].score
    assert of_m.balanced_accuracy > 0.75 > 0.65 > max(of_m.null, of_m.shuffled)
    assert by_unit[M].by["model"] == "planted-reader"
    assert by_unit[SIREN].by["questions"] == by_unit[SIREN].by["requests"] == 1 + 4 + 2 * 2 + 2
    assert by_unit[M].by["prompt_tokens"] == 100 * by_unit[M].by["requests"]
    assert len(server.requests) == sum(rung.by["asked"] for rung in by_unit.values())


def test_a_model_that_answers_at_random_is_not_supported(atlas: Atlas, world: World) -> None:
    with chat_server(coin) as server:
        found = interpret(atlas, world.corpus, PLANTED, endpoint=there(server.url), trials=FEW, progress=False)
    assert [each.rung(3).verdict for each in found] == ["not supported"] * 3


def test_the_model_is_told_neither_values_nor_clips_of_moments_to_judge(
    climbed: tuple[list[Interpretation], ChatServer],
) -> None:
    judged = [text for text in climbed[1].questions() if text.startswith("Explanation")]
    assert len(judged) > 20
    for text in judged:
        assert 1 <= len(numbered(text)) <= 10
        assert not any(secret in text for secret in ("speech-", "voice-", "strength", "active above", "units:"))


def test_nothing_is_sent_without_an_endpoint(
    atlas: Atlas, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    with chat_server(reader) as server:
        monkeypatch.setenv("OTOSCOPE_LLM_ENDPOINT", server.url)
        monkeypatch.setattr("socket.create_connection", refuse)
        (found,) = interpret(atlas, world.corpus, [M], to=tmp_path / "units.jsonl", trials=FEW, progress=False)
    assert found.rung(3) is None
    assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["units.jsonl"]


# What is kept


def test_what_was_answered_is_not_asked_again(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"

    def run(model: str = "planted-reader") -> tuple[Interpretation, int]:
        with chat_server(reader) as server:
            endpoint = Endpoint(server.url, model, "sk-very-secret", backoff_s=0.0)
            (found,) = interpret(atlas, world.corpus, [M], endpoint=endpoint, to=path, trials=FEW, progress=False)
        return found, len(server.requests)

    first, asked = run()
    written = path.read_bytes()
    again, asked_again = run()
    assert path.read_bytes() == written, "nothing in the file tells in which run a model was asked"
    assert (asked, asked_again) == (9, 0)
    assert again.rung(3).score == first.rung(3).score
    assert (again.rung(3).by["asked"], again.rung(3).by["prompt_tokens"]) == (0, 900)
    assert run("another-model")[1] == 9
    exchanges = path.with_suffix(".exchanges.jsonl")
    rows = [json.loads(line) for line in exchanges.read_text("utf-8").splitlines()]
    assert rows[0] == {"format": "otoscope-exchanges", "version": 1}
    assert {row["model"] for row in rows[1:]} == {"planted-reader", "another-model"}
    assert all(row["messages"] and row["answer"] for row in rows[1:])
    assert not any(b"sk-very-secret" in each.read_bytes() for each in tmp_path.iterdir())


def test_where_and_when_a_model_was_asked_is_that_of_the_kept_answer(
    atlas: Atlas, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "units.jsonl"
    kept = path.with_suffix(".exchanges.jsonl")

    def run() -> tuple[dict[str, Any], str]:
        with chat_server(reader) as server:
            options = {"endpoint": there(server.url), "to": path, "trials": FEW}
            (found,) = interpret(atlas, world.corpus, [M], progress=False, **options)  # type: ignore[arg-type]
        return found.rung(3).by, server.url

    first, url = run()
    rows = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    assert {row["endpoint"] for row in rows[1:]} == {url}
    assert (first["endpoint"], first["asked_at"]) == (url, rows[1]["asked_at"])
    long_ago = "2001-02-03T04:05:06Z"
    lines = [json.dumps(row | ({"asked_at": long_ago} if "key" in row else {})) for row in rows]
    kept.write_text("\n".join([*lines, ""]), "utf-8")
    again, elsewhere = run()
    assert elsewhere != url
    assert again == first | {"asked": 0, "asked_at": long_ago}, "nothing was asked, so nobody else was"
    before = path.read_bytes()
    run()
    assert path.read_bytes() == before
    for row in rows[1:]:
        del row["endpoint"], row["asked_at"]
    kept.write_text("\n".join([*map(json.dumps, rows), ""]), "utf-8")
    old, _ = run()
    assert old == again | {"endpoint": None, "asked_at": None}, "answers that an older version has kept"


def test_a_question_is_known_by_model_prompt_version_and_every_word(tmp_path: Path) -> None:
    def ask(version: str, *words: str) -> None:
        messages = [{"role": "user", "content": word} for word in words]
        with chat_server(lambda _: "yes") as server:
            exchanges = Exchanges(there(server.url), tmp_path / "e.jsonl", prompt_version=version)
            usage = Usage()
            assert exchanges.ask(messages, str.upper, usage, feature=1, why="test") == "YES"
        asked.append((len(server.requests), usage.asked, usage.questions))

    asked: list[tuple[int, int, int]] = []
    for version, words in (("1", "ab"), ("1", "ab"), ("2", "ab"), ("1", "a"), ("1", "b"), ("2", "ab")):
        ask(version, *words)
    assert asked == [(1, 1, 1), (0, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 1)]


def test_what_was_said_of_another_atlas_is_replaced(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    interpret(atlas, world.corpus, [M], to=path, trials=FEW, progress=False)
    first, *rest = path.read_text("utf-8").split("\n")
    path.write_text("\n".join([json.dumps({**json.loads(first), "atlas": "0" * 64}), *rest]), "utf-8")
    interpret(atlas, world.corpus, [SIREN], to=path, trials=FEW, progress=False)
    assert [each.feature for each in load_interpretations(path)] == [SIREN]


def test_a_second_run_waits_for_nobody_and_is_told_of_the_first(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"

    def again(stage: str, done: int, total: int) -> None:
        with pytest.raises(OtoscopeError, match="interpreting units"):
            interpret(atlas, world.corpus, [M], to=path, trials=FEW, progress=False)

    interpret(atlas, world.corpus, [M], to=path, trials=FEW, progress=again)
    assert [each.name for each in tmp_path.iterdir()] == ["units.jsonl"]


def test_a_killed_run_goes_on_with_the_next_feature_and_ends_the_same(
    atlas: Atlas, world: World, tmp_path: Path
) -> None:
    path, expected = tmp_path / "units.jsonl", tmp_path / "alone" / "units.jsonl"
    features = [M, DEAD]

    def made_anew(to: Path, *, seed: int = 0, kill_at: int = 0) -> int:
        """Interpret; return how many of the cards were made in this run."""
        counts: list[int] = []

        def report(stage: str, done: int, total: int) -> None:
            counts.append(done)
            if done == kill_at > 0:
                os.kill(os.getpid(), signal.SIGKILL)

        interpret(atlas, world.corpus, features, to=to, trials=FEW, seed=seed, progress=report)
        return counts[-1] - counts[0]

    def killed() -> None:
        pid = os.fork()
        if not pid:
            try:
                made_anew(path, kill_at=1)
            finally:
                os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    assert made_anew(expected) == 2
    killed()
    unfinished = path.with_suffix(".unfinished.jsonl")
    unfinished.write_bytes(unfinished.read_bytes() + b'{"feature": 2, "cut off by a cra')
    assert not path.exists()
    assert made_anew(path) == 1
    assert path.read_bytes() == expected.read_bytes()
    killed()
    assert made_anew(path, seed=1) == 2  # the control: what a run with other moments has left is not taken
    assert [each.name for each in tmp_path.glob("*units*")] == ["units.jsonl"]


def test_an_interrupted_run_goes_on_where_it_stopped(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    with chat_server(reader) as server:
        gone = [lambda handler: handler.say(reader(server.requests[-1]["messages"]))] * 5
        server.faults += [*gone, lambda handler: handler.send(401, "the key expired")]
        with pytest.raises(EndpointRefused):
            interpret(
                atlas, world.corpus, [M], endpoint=there(server.url, concurrency=1), to=path, trials=FEW, progress=False
            )
    assert load_interpretations(path)[0].rung(1) is not None
    kept = path.with_suffix(".exchanges.jsonl")
    kept.write_bytes(kept.read_bytes() + b'{"key": "cut off by a cra')
    with chat_server(reader) as server:
        (found,) = interpret(atlas, world.corpus, [M], endpoint=there(server.url), to=path, trials=FEW, progress=False)
    assert len(server.requests) == 9 - 5
    assert found.rung(3).verdict == "supported"
    assert b"cut off" not in kept.read_bytes()


def test_files_read_back_as_written_and_keep_other_features(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    with chat_server(reader) as server:
        endpoint = there(server.url)
        first = interpret(atlas, world.corpus, [M], endpoint=endpoint, to=path, trials=FEW, progress=False)
    for each in first:
        each.rung(3).by.pop("asked")  # of that run, and in no file
    assert [each.to_json() for each in load_interpretations(path)] == [each.to_json() for each in first]
    interpret(atlas, world.corpus, [M, SIREN], to=path, trials=FEW, progress=False)
    both = load_interpretations(path)
    assert [each.feature for each in both] == [M, SIREN]
    assert both[0].rung(3) == first[0].rung(3)
    assert math.isnan(both[0].rung(3).score.shuffled)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not otoscope-interpretations"),
        ('{"format": "other", "version": 1}\n', "is not otoscope-interpretations"),
        ('{"format": "otoscope-interpretations", "version": 9}\n', "is not otoscope-interpretations"),
        ('{"format": "otoscope-interpretations", "version": 1}\n{"feature": 1', "damaged"),
        ('{"format": "otoscope-interpretations", "version": 1}\n{"feature": 1}\n', "damaged"),
        ('{"format": "otoscope-interpretations", "version": 1}\n[]\n', "damaged"),
    ],
)
def test_files_of_another_sort_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "units.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(OtoscopeError, match=said):
        load_interpretations(path)
    with pytest.raises(OtoscopeError, match="does not exist"):
        load_interpretations(tmp_path / "none.jsonl")


# Answers that cannot be used


def test_an_answer_in_the_wrong_form_is_asked_for_once_more(atlas: Atlas, world: World, tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    with chat_server(reader, lambda handler: handler.say("It likes nasals!")) as server:
        (found,) = interpret(atlas, world.corpus, [M], endpoint=there(server.url), to=path, trials=FEW, progress=False)
    assert (found.rung(3).name, found.rung(3).verdict) == ("«m»", "supported")
    assert "That answer cannot be used: it is not one JSON object" in server.questions()[1]
    assert server.requests[1]["messages"][2]["content"] == "It likes nasals!"
    rows = [json.loads(line) for line in path.with_suffix(".exchanges.jsonl").read_text("utf-8").splitlines()[1:]]
    assert [row["unusable"] for row in rows[:2]] == ["it is not one JSON object", None]


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        "[1, 2]",
        '{"name": "m"}',
        '{"name": "", "explanation": "e", "confidence": 1}',
        '{"name": "m", "explanation": "e", "confidence": 2}',
        '{"name": "m", "explanation": "e", "confidence": NaN}',
        '{"name": "m", "explanation": "e", "confidence": true}',
        '{"name": "%s", "explanation": "e", "confidence": 1}' % ("m" * 1000),
        'Sure: {"name": "m", "explanation": "e", "confidence": 1}',
        "[" * 50_000,
    ],
)
def test_explanations_are_read_strictly(answer: str) -> None:
    with pytest.raises(UnusableAnswer):
        read_explanation(answer)


@pytest.mark.parametrize("form", ["{}", " {}\n", "```json\n{}\n```", "<think>hm, {{}}</think>\n{}"])
def test_fences_and_spoken_thoughts_are_understood(form: str) -> None:
    said = '{"name": "m\\n", "explanation": "the phone m", "confidence": 1}'
    assert read_explanation(form.replace("{}", said)) == Explanation("m", "the phone m", 1.0)


@pytest.mark.parametrize(
    "answer", ['{"1": 1}', '{"1": "yes", "2": 0}', "{}", '{"1": 0.5, "2": 1}', '{"1": 1, "2": 0, "3": 0}']
)
def test_judgements_must_be_complete(answer: str) -> None:
    assert read_judgement(2)('{"2": 0, "1": true}') == [True, False]
    with pytest.raises(UnusableAnswer):
        read_judgement(2)(answer)


def test_a_feature_without_a_usable_answer_is_noted_and_asked_about_again(
    atlas: Atlas, world: World, tmp_path: Path
) -> None:
    def run(model: Model) -> tuple[Interpretation, int]:
        with chat_server(model) as server:
            options = {"endpoint": there(server.url), "to": tmp_path / "units.jsonl", "trials": FEW}
            (found,) = interpret(atlas, world.corpus, [M], progress=False, **options)  # type: ignore[arg-type]
        return found, len(server.requests)

    found, asked = run(lambda _: "no JSON")
    rung = found.rung(3)
    assert (rung.name, rung.score, rung.verdict) == ("", None, "not tried")
    assert "no usable answer, twice" in rung.note
    assert asked == 2
    assert found.rung(1).verdict == "supported"
    later, asked = run(reader)
    assert (later.rung(3).verdict, asked) == ("supported", 9)


def test_a_server_that_never_answers_ends_the_run_and_leaves_the_lower_rungs(
    atlas: Atlas, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "units.jsonl"
    with chat_server(reader, *[lambda handler: handler.send(503, "busy")] * 99) as server:
        endpoint = there(server.url, attempts=2, concurrency=1)
        features = [M, MORNING, SIREN, NOISE, ALWAYS]
        with pytest.raises(EndpointError, match="busy"):
            interpret(atlas, world.corpus, features, endpoint=endpoint, to=path, trials=FEW, progress=False)
    assert len(server.requests) < 2 * len(features)
    assert [each.rung(1) is not None for each in load_interpretations(path)] == [True] * 5
