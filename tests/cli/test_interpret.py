"""`otoscope interpret`: rungs 1 and 2 by themselves, rung 3 only where an endpoint is named; errors in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from chat_server import chat_server, reader
from command_line import otoscope, refused

from otoscope.atlas.interpretation import load_interpretations


@pytest.fixture(scope="module")
def ws(ws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shared workspace, because interpretations are written into it."""
    return Path(shutil.copytree(ws, tmp_path_factory.mktemp("interpret") / "ws"))


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "MODEL", "KEY"):
        monkeypatch.delenv(f"OTOSCOPE_LLM_{name}", raising=False)


def best(ws: Path) -> str:
    return str(otoscope("features", "sae-2", "--top", "1", "-w", ws, "--json").json[0]["feature"])


def test_without_an_endpoint_two_rungs_and_a_line_that_the_third_is_off(ws: Path) -> None:
    done = otoscope("interpret", "sae-2", "--top", "2", "-w", ws)
    assert done.code == 0, done.err
    assert "1 label" in done.out
    assert "2 sound" in done.out
    assert "3 language" not in done.out
    assert sum("Rung 3 is off: nothing was sent anywhere." in line for line in done.out.splitlines()) == 1
    assert len(load_interpretations(ws / "interpretations" / "sae-2.jsonl")) >= 2


def test_with_an_endpoint_the_model_is_asked_and_its_cost_said(ws: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    key.write_text("sk-very-secret\n", "utf-8")
    asked = ("--llm-model", "tiny", "--llm-key-file", key)
    with chat_server(reader) as server:
        done = otoscope("interpret", best(ws), "--endpoint", server.url, *asked, "-w", ws)
        again = otoscope("interpret", best(ws), "--endpoint", server.url, *asked, "-w", ws, "--json")
    assert done.code == 0, done.err
    assert "3 language model" in done.out
    assert "Rung 3 is off" not in done.out
    assert f"tiny at {server.url.split('/')[2]}:" in done.out
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    usage = again.json["usage"]
    assert (usage["asked"], usage["questions"]) == (0, len(server.requests))
    (found,) = again.json["interpretations"]
    assert [rung["rung"] for rung in found["rungs"]] == [1, 2, 3]
    assert found["rungs"][2]["score"]["balanced_accuracy"] > 0.5
    assert "sk-very-secret" not in done.out + done.err + again.out + again.err
    shown = otoscope("features", best(ws), "-w", ws)
    assert found["rungs"][2]["explanation"] in " ".join(shown.out.split())
    assert "language model tiny" in shown.out
    when = found["rungs"][2]["by"]["asked_at"]
    assert f"Asked at {server.url} on {when[:10]} {when[11:16]} UTC." in " ".join(shown.out.split())
    other = otoscope("features", "sae-2", "--top", "4", "-w", ws, "--json").json[-1]["feature"]
    assert "interpretation" not in otoscope("features", other, "-w", ws).out, "the control: nothing was said of it"


def test_endpoint_model_and_key_may_come_from_the_environment(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(reader) as server:
        monkeypatch.setenv("OTOSCOPE_LLM_ENDPOINT", server.url)
        monkeypatch.setenv("OTOSCOPE_LLM_MODEL", "from-environment")
        monkeypatch.setenv("OTOSCOPE_LLM_KEY", "sk-other-secret")
        done = otoscope("interpret", best(ws), "-w", ws, "--json")
    assert done.code == 0, done.err
    assert {request["model"] for request in server.requests} == {"from-environment"}
    assert server.headers[0]["Authorization"] == "Bearer sk-other-secret"


def test_a_dry_run_prints_the_question_and_sends_nothing(ws: Path) -> None:
    with chat_server(reader) as server:
        done = otoscope("interpret", best(ws), "--endpoint", server.url, "--llm-model", "x", "--dry-run", "-w", ws)
        as_json = otoscope("interpret", best(ws), "--dry-run", "-w", ws, "--json").json
    assert done.code == 0, done.err
    assert server.requests == []
    assert "You are a phonetician" in done.out
    assert "## Phones" in done.out
    assert "Nothing was sent." in done.out
    assert [message["role"] for message in as_json] == ["system", "user"]


def test_what_is_wrong_is_said_in_one_sentence(ws: Path, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    assert "give --llm-model" in refused("interpret", "sae-2", "--endpoint", url, "-w", ws)
    assert "not the address" in refused("interpret", "sae-2", "--endpoint", "nowhere", "--llm-model", "x", "-w", ws)
    assert "No atlas 'sae-9'" in refused("interpret", "sae-9", "-w", ws)
    assert "There is no feature 9999" in refused("interpret", "sae-2:9999", "-w", ws)
    assert "is not a feature" in refused("interpret", "sae-2:x", "-w", ws)
    missing = ("--llm-model", "x", "--llm-key-file", tmp_path / "none")
    assert "cannot be read" in refused("interpret", "sae-2", "--endpoint", url, *missing, "-w", ws)


def test_nobody_listening_is_a_failure_that_leaves_the_lower_rungs(ws: Path) -> None:
    feature = best(ws)
    done = otoscope("interpret", feature, "--endpoint", "http://127.0.0.1:9/v1", "--llm-model", "x", "-w", ws, "--json")
    assert done.code == 1
    assert "Nobody listens at http://127.0.0.1:9/v1" in done.err
    kept = [each for each in load_interpretations(ws / "interpretations" / "sae-2.jsonl") if each.address == feature]
    assert kept[0].rung(1) is not None
