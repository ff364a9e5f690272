"""What the API answers: the same numbers as the Python objects give, and one sentence for whatever is wrong."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response

import otoscope as oto
from otoscope.server import create_app
from otoscope.workspace import Workspace

if TYPE_CHECKING:
    from otoscope.audio import Clip


def ok(answer: Response) -> Any:
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def refused(answer: Response, status: int) -> str:
    """Return the one sentence with which a request was refused."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    sentence = str(answer.json()["error"])
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert sentence[-1] in ".…?)", sentence
    return sentence


def grid(answer: Response, dtype: type = np.uint8) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    shape = [int(n) for n in answer.headers["X-Otoscope-Shape"].split(",")]
    return np.frombuffer(answer.content, dtype).reshape(shape)


def test_the_workspace_at_a_glance(client: TestClient, workspace: Workspace) -> None:
    overview = ok(client.get("/api/workspace"))
    assert overview["model"]["n_layers"] == workspace.model().dims.n_layers
    assert {a["name"]: a["site"] for a in overview["atlases"]} == {
        "sae-2": "encoder.2.resid_post",
        "neurons-3": "encoder.3.mlp.post",
    }
    assert overview["corpora"][0]["n_clips"] == len(workspace.corpus("mini"))
    assert {"phone", "sound_class"} <= {label["kind"] for label in overview["labels"]}


@pytest.mark.parametrize("q", ["/s/", "s", "the"])
def test_searching_a_sound_ranks_features_as_the_atlases_do(client: TestClient, workspace: Workspace, q: str) -> None:
    page = ok(client.get("/api/features", params={"q": q, "limit": 500}))
    wanted = {}
    for name in workspace.names("atlases"):
        for index, f1 in workspace.atlas(name).find(q, limit=None)["f1"].items():
            wanted[name, index] = f1
    found = {(row["atlas"], row["index"]): row["f1"] for row in page["rows"]}
    assert {key: f1 for key, f1 in found.items() if key in wanted} == pytest.approx(wanted)
    noted = {note.feature.feature for note in workspace.notes().all()}  # other tests leave notes here
    assert {index for _, index in found.keys() - wanted.keys()} <= noted
    scores = [row["f1"] for row in page["rows"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("sort", ["f1", "ap", "density", "max", "index", "label"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_a_sorted_list_are_the_list(client: TestClient, sort: str, order: str) -> None:
    params: dict[str, Any] = {"sort": sort, "order": order, "dead": True, "min_f1": 0.05}
    whole = ok(client.get("/api/features", params={**params, "limit": 500}))
    first = ok(client.get("/api/features", params={**params, "limit": 7}))["rows"]
    second = ok(client.get("/api/features", params={**params, "limit": 7, "offset": 7}))["rows"]
    assert [*first, *second] == whole["rows"][:14]
    values = [row[sort] for row in whole["rows"] if row[sort] is not None]
    if sort == "label":
        values = [value.casefold() for value in values]
    assert values == sorted(values, reverse=order == "desc")


def test_filters_keep_what_they_say(client: TestClient) -> None:
    rows = ok(client.get("/api/features?atlas=sae-2&min_f1=0.2&max_density=0.1&kind=phone&limit=500"))["rows"]
    assert rows
    for row in rows:
        assert row["atlas"] == "sae-2"
        assert row["f1"] >= 0.2
        assert row["density"] <= 0.1
        assert row["label_kind"] == "phone"


@pytest.mark.parametrize(("q", "found"), [("sae-2:5", [("sae-2", 5)]), ("5", [("sae-2", 5), ("neurons-3", 5)])])
def test_a_number_finds_that_feature(client: TestClient, q: str, found: list[tuple[str, int]]) -> None:
    rows = ok(client.get("/api/features", params={"q": q, "dead": True}))["rows"]
    assert {(row["atlas"], row["index"]) for row in rows} == set(found)


def test_an_unknown_sound_is_said_to_be_unknown(client: TestClient) -> None:
    page = ok(client.get("/api/features?q=xyzzy"))
    assert page["total"] == 0
    assert "xyzzy" in page["note"]


def test_a_feature_shows_what_its_atlas_knows(client: TestClient, workspace: Workspace) -> None:
    row = ok(client.get("/api/features?q=/s/&atlas=sae-2&limit=1"))["rows"][0]
    shown = ok(client.get(f"/api/atlases/sae-2/features/{row['index']}"))
    entry = workspace.atlas("sae-2")[row["index"]]
    assert shown["row"]["label"] == "s"
    assert [(label["kind"], label["label"]) for label in shown["labels"]] == [
        (record.kind, record.label) for record in entry.labels.itertuples()
    ][: len(shown["labels"])]
    assert shown["histogram"]["counts"] == entry.histogram[1].tolist()
    tops = entry.examples("top", top=24)
    assert [(e["clip"]["id"], e["time_s"]) for e in shown["examples"]["top"]] == [
        (e.clip_id, pytest.approx(e.time_s)) for e in tops
    ]
    assert shown["examples"]["top"][0]["value"] == pytest.approx(entry.stats["max"], rel=1e-3)


def test_the_two_sides_of_a_neuron_lead_to_each_other(client: TestClient) -> None:
    one = ok(client.get("/api/atlases/neurons-3/features/3"))
    other = ok(client.get(f"/api/atlases/neurons-3/features/{one['opposite']}"))
    assert other["opposite"] == 3
    assert ok(client.get("/api/atlases/sae-2/features/3"))["opposite"] is None


def test_random_features_are_different_sounds(client: TestClient) -> None:
    rows = ok(client.get("/api/features/random?n=4&min_f1=0.1&seed=3"))
    assert len({row["label"] for row in rows}) == len(rows) > 1
    assert rows == ok(client.get("/api/features/random?n=4&min_f1=0.1&seed=3"))


def test_the_mel_is_the_models_own_input(client: TestClient, workspace: Workspace, clip: Clip) -> None:
    answer = client.get(f"/api/clips/{clip.clip_id}/mel?columns=8192")
    shown = grid(answer)
    low, high = (float(x) for x in answer.headers["X-Otoscope-Range"].split(","))
    window = workspace.model().windows(clip)[0]
    mel = window.input[:, : 2 * window.n_frames].numpy()
    assert shown.shape == mel.shape
    np.testing.assert_allclose(low + shown / 255 * (high - low), mel, atol=(high - low) / 500)


def test_a_lane_is_the_features_activation(client: TestClient, workspace: Workspace, clip: Clip) -> None:
    answer = client.get(f"/api/clips/{clip.clip_id}/lane", params={"feature": ["sae-2:4", "neurons-3:7"]})
    shown = grid(answer)
    scales = [float(x) for x in answer.headers["X-Otoscope-Scale"].split(",")]
    for name, index, row, scale in (("sae-2", 4, shown[0], scales[0]), ("neurons-3", 7, shown[1], scales[1])):
        dictionary = workspace.dictionary_of(name)
        h = workspace.model().run(clip, read=[dictionary.site])[dictionary.site]
        with torch.inference_mode():
            wanted = dictionary.feature_values(h, [index])[:, 0].numpy()
        np.testing.assert_allclose(row / 255 * scale, wanted, atol=max(scale, 1e-6) / 400)


def test_a_lane_of_a_part_says_which_part_it_covers(client: TestClient, clip: Clip) -> None:
    whole = client.get(f"/api/clips/{clip.clip_id}/lane?feature=neurons-3:7")
    part = client.get(f"/api/clips/{clip.clip_id}/lane?feature=neurons-3:7&start_s=0.41&end_s=0.99")
    start_s, end_s = (float(x) for x in part.headers["X-Otoscope-Span"].split(","))
    assert (start_s, end_s) == pytest.approx((0.40, 1.00))
    np.testing.assert_array_equal(grid(part), grid(whole)[:, 20:50])


def test_the_sound_is_what_the_model_hears(client: TestClient, clip: Clip) -> None:
    answer = client.get(f"/api/clips/{clip.clip_id}/audio")
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    np.testing.assert_allclose(heard, clip.samples(), atol=1e-4)
    outline = grid(client.get(f"/api/clips/{clip.clip_id}/peaks?columns=50"), np.int8)
    assert outline[1].max() == pytest.approx(clip.samples().max() * 127, abs=1)


def test_ranges_tags_and_lasting_copies(client: TestClient, clip: Clip) -> None:
    url = f"/api/clips/{clip.clip_id}/audio"
    whole = client.get(url)
    size = len(whole.content)
    part = client.get(url, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 100-199/{size}"
    assert part.content == whole.content[100:200]
    assert client.get(url, headers={"Range": "bytes=-10"}).content == whole.content[-10:]
    assert client.get(url, headers={"Range": f"bytes={size - 5}-"}).content == whole.content[-5:]
    beyond = client.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert client.get(url, headers={"Range": "lines=1-2"}).status_code == 200
    assert client.get(url, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    stale = client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert stale.content == whole.content
    assert "immutable" not in whole.headers["Cache-Control"]
    version = ok(client.get(f"/api/clips/{clip.clip_id}"))["version"]
    assert "immutable" in client.get(f"{url}?v={version}").headers["Cache-Control"]


def test_an_edit_changes_what_the_python_call_changes(client: TestClient, workspace: Workspace, clip: Clip) -> None:
    edits = [
        {"site": "encoder.1.resid_post", "op": "scale", "value": -3.0, "time_s": [0.2, 1.4]},
        {"feature": "sae-2:4", "op": "add", "value": 2.0},
    ]
    shown = ok(client.post("/api/edit", json={"clip": clip.clip_id, "edits": edits}))
    model = workspace.model()
    wanted = [
        oto.Edit.scale("encoder.1.resid_post", -3.0, time_s=(0.2, 1.4)),
        workspace.dictionary_of("sae-2").feature(4).add(2.0),
    ]
    base, edited = model.transcribe(clip), model.transcribe(clip, edits=wanted)
    assert shown["base"]["text"] == base.text
    assert shown["edited"]["text"] == edited.text != base.text
    forced = model.score(clip, base, edits=wanted)
    assert [token["edited_log_prob"] for token in shown["tokens"]] == pytest.approx(forced, abs=1e-4)
    assert " ".join(w for c in shown["words"] for w in c["edited"]) == " ".join(edited.text.split())
    assert " ".join(w for c in shown["words"] for w in c["base"]) == " ".join(base.text.split())
    assert any(c["change"] != "same" for c in shown["words"])


def test_no_edit_changes_nothing(client: TestClient, clip: Clip) -> None:
    for edits in ([], [{"feature": "sae-2:4", "op": "scale", "value": 1.0}]):
        shown = ok(client.post("/api/edit", json={"clip": clip.clip_id, "edits": edits}))
        assert shown["edited"]["text"] == shown["base"]["text"]
        assert all(abs(token["delta"]) < 1e-3 for token in shown["tokens"])


def test_concurrent_edits_do_not_see_each_other(client: TestClient, clip: Clip) -> None:
    def ask(value: float) -> str:
        edit = {"site": "encoder.1.resid_post", "op": "scale", "value": value}
        return str(ok(client.post("/api/edit", json={"clip": clip.clip_id, "edits": [edit]}))["edited"]["text"])

    values = [1.0, -3.0] * 4
    alone = {value: ask(value) for value in set(values)}
    assert alone[1.0] != alone[-3.0]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, values)) == [alone[value] for value in values]


def test_an_upload_becomes_a_clip(client: TestClient, wav: Callable[..., bytes]) -> None:
    data = wav(0.7, rate_hz=44100)
    made = ok(client.post("/api/uploads?name=tone.wav", content=data))
    assert made["duration_s"] == pytest.approx(0.7, abs=0.01)
    assert (made["corpus"], made["title"]) == ("uploads", "tone.wav")
    assert ok(client.post("/api/uploads?name=again.wav", content=data))["id"] == made["id"]
    assert ok(client.get(f"/api/clips/{made['id']}"))["id"] == made["id"]
    assert made["id"] in [clip["id"] for clip in ok(client.get("/api/clips?corpus=uploads"))["clips"]]
    assert grid(client.get(f"/api/clips/{made['id']}/mel")).shape == (80, 70)
    assert client.get(f"/api/clips/{made['id']}/audio").content[:4] == b"RIFF"
    assert "text" in ok(client.get(f"/api/clips/{made['id']}/transcript"))


def test_bad_uploads_are_refused_in_one_sentence(
    client: TestClient, wav: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(client.post("/api/uploads?name=empty.wav", content=b""), 400)
    refused(client.post("/api/uploads?name=text.wav", content=b"This is not sound at all.\n" * 50), 400)
    monkeypatch.setattr("otoscope.server.routes.clips.MAX_UPLOAD_BYTES", 2**20)
    assert "1 MB" in refused(client.post("/api/uploads", content=wav(40.0)), 413)

    def undeclared() -> Any:
        for _ in range(40):
            yield b"\0" * 2**15

    assert "1 MB" in refused(client.post("/api/uploads", content=undeclared()), 413)
    monkeypatch.setattr("otoscope.server.state.MAX_UPLOAD_S", 2.0)
    assert "2 s" in refused(client.post("/api/uploads", content=wav(3.0)), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/api/clips/nobody",
        "/api/clips/nobody/audio",
        "/api/clips/upload-0123456789abcdef/mel",
        "/api/clips/x?corpus=nowhere",
        "/api/clips?corpus=nowhere",
        "/api/features?atlas=nowhere",
        "/api/atlases/nowhere/features/0",
        "/api/atlases/sae-2/features/128",
        "/api/atlases/sae-2/features/-1",
        "/api/nothing",
        *(
            f"/api/clips/{quote(path, safe='')}/audio"
            for path in (
                "../../../../etc/passwd",
                "/etc/passwd",
                "..\\..\\x",
                "audio/a.flac",
                "%00",
                "mini/meta.json",
            )
        ),
    ],
)
def test_what_does_not_exist_is_not_found(client: TestClient, path: str) -> None:
    refused(client.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/api/features?sort=beauty",
        "/api/features?limit=0",
        "/api/features?limit=100000",
        "/api/features?min_f1=nan",
        "/api/atlases/sae-2/features/first",
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, path: str) -> None:
    refused(client.get(path), 400)


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "zero"},
        {"op": "zero", "feature": "sae-2:1", "site": "mel"},
        {"op": "explode", "feature": "sae-2:1"},
        {"op": "zero", "feature": "sae-2"},
        {"op": "zero", "site": "encoder.9.resid_post"},
        {"op": "zero", "site": "encoder.2.mlp.post", "units": [100000]},
        {"op": "scale", "feature": "sae-2:1", "value": 1e30},
        {"op": "zero", "feature": "sae-2:1", "time_s": [2.0, 1.0]},
        {"op": "zero", "feature": "sae-2:1", "shape": "round"},
    ],
)
def test_impossible_edits_are_refused(client: TestClient, clip: Clip, edit: dict[str, Any]) -> None:
    refused(client.post("/api/edit", json={"clip": clip.clip_id, "edits": [edit]}), 400)


def test_a_broken_request_is_refused(client: TestClient) -> None:
    answer = client.post("/api/edit", content=b"{", headers={"Content-Type": "application/json"})
    refused(answer, 400)
    refused(client.post("/api/edit", json={"clip": "nobody", "edits": []}), 404)


def test_every_answer_is_strict_json(client: TestClient, clip: Clip) -> None:
    for path in (
        "/api/workspace",
        "/api/features?dead=true&limit=500",
        "/api/clips",
        "/api/atlases/sae-2/features/0",
    ):
        json.loads(client.get(path).text, parse_constant=pytest.fail)


def test_a_workspace_without_atlases_is_served_too(tmp_path: Path) -> None:
    empty = Workspace.open(tmp_path / "empty", create=True)
    with TestClient(create_app(empty), base_url="http://127.0.0.1") as client:
        assert ok(client.get("/api/workspace"))["atlases"] == []
        for q in ("", "m", "5"):
            assert ok(client.get("/api/features", params={"q": q}))["rows"] == []
        assert ok(client.get("/api/features/random")) == []
        assert ok(client.get("/api/clips"))["clips"] == []
        assert "no" in refused(client.get("/api/atlases/sae-2/features/1"), 404)


def test_the_description_lists_every_endpoint(client: TestClient) -> None:
    paths = ok(client.get("/api/openapi.json"))["paths"]
    assert {"/api/workspace", "/api/features", "/api/uploads", "/api/edit"} <= set(paths)
    assert all(operation.get("description") for methods in paths.values() for operation in methods.values())
