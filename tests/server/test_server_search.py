"""Search over HTTP: by sound, by value and by combination, for clips that the atlas holds and for any other sound."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response

from otoscope.dictionaries.architectures.crosscoder import CrosscoderDictionary
from otoscope.server.media import wav_bytes
from otoscope.server.state import Found, State
from otoscope.workspace import Workspace

if TYPE_CHECKING:
    from otoscope.audio import Clip, Corpus
    from otoscope.models import SpeechModel

START_S, END_S = 1.0, 1.5


def ok(answer: Response) -> Any:
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def refused(answer: Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    sentence = str(answer.json()["error"])
    assert "\n" not in sentence
    return sentence


def activations(workspace: Workspace, clip: Clip, atlas: str) -> np.ndarray:
    """Every feature of a clip, frame by frame, from the model: [t, n]."""
    dictionary = workspace.dictionary_of(atlas)
    h = workspace.model().run(clip, read=[dictionary.site])[dictionary.site]
    with torch.inference_mode():
        return dictionary.encode(h).dense().numpy()


@pytest.mark.parametrize("uploaded", [False, True])
def test_features_of_a_region_fire_there_more_than_elsewhere(
    client: TestClient, workspace: Workspace, clip: Clip, uploaded: bool
) -> None:
    name = clip.clip_id
    if uploaded:
        name = ok(client.post("/api/uploads?name=again.wav", content=wav_bytes(clip.samples())))["id"]
    found = ok(client.get(f"/api/clips/{name}/region?atlas=sae-2&start_s={START_S}&end_s={END_S}&top=8"))
    assert found["n_frames"] == 25
    frames = slice(50, 75)
    dense = activations(workspace, clip, "sae-2")
    rates = workspace.atlas("sae-2").column("density")
    assert len(found["features"]) == 8
    scores = [row["score"] for row in found["features"]]
    assert scores == sorted(scores, reverse=True)
    for row in found["features"]:
        values = dense[frames, row["feature"]["index"]]
        assert row["frames"] == np.count_nonzero(values > row["above"])
        assert row["max"] == pytest.approx(values.max(), rel=0.02)
        assert row["lift"] == pytest.approx(row["share"] / row["density"], rel=1e-3)
        assert START_S <= row["peak_time_s"] <= END_S
        if row["above"] == 0:
            assert row["density"] == pytest.approx(rates[row["feature"]["index"]], abs=1e-3)


def test_a_region_of_everything_stands_out_less_than_a_sound(client: TestClient, clip: Clip) -> None:
    whole = ok(client.get(f"/api/clips/{clip.clip_id}/region?atlas=sae-2"))
    part = ok(client.get(f"/api/clips/{clip.clip_id}/region?atlas=sae-2&start_s={START_S}&end_s={START_S + 0.1}"))
    assert max(row["lift"] for row in part["features"]) > max(row["lift"] for row in whole["features"])


def test_an_uploaded_copy_finds_its_original(client: TestClient, clip: Clip) -> None:
    copy = ok(client.post("/api/uploads?name=copy.wav", content=wav_bytes(clip.samples())))["id"]
    span = f"atlas=sae-2&start_s={START_S}&end_s={END_S}"
    best = ok(client.get(f"/api/clips/{copy}/similar?{span}&top=3"))[0]
    assert best["clip"]["id"] == clip.clip_id
    assert best["start_s"] == pytest.approx(START_S, abs=0.15)
    assert best["similarity"] > 0.9
    assert best["shared"][0]["atlas"] == "sae-2"
    others = ok(client.get(f"/api/clips/{clip.clip_id}/similar?{span}&top=5"))
    assert clip.clip_id not in {moment["clip"]["id"] for moment in others}
    assert [m["similarity"] for m in others] == sorted((m["similarity"] for m in others), reverse=True)


def test_a_range_holds_the_frames_between_its_bounds(client: TestClient, workspace: Workspace) -> None:
    atlas = workspace.atlas("sae-2")
    feature = int(np.argmax(atlas.column("n_active")))
    frames, values = atlas.postings[feature]
    low, high = (float(q) for q in np.quantile(values, [0.6, 0.8]))
    url = f"/api/atlases/sae-2/features/{feature}/range?low={low}&high={high}"
    found = ok(client.get(f"{url}&limit=200"))
    inside = frames[(values >= np.float32(low)) & (values <= np.float32(high))]
    assert found["n_frames"] == len(inside)
    assert found["n_clips"] == len(np.unique(atlas.clips.of(inside)))
    assert all(low <= moment["value"] <= high for moment in found["moments"])
    later = ok(client.get(f"{url}&limit=5&offset=5"))["moments"]
    assert later == found["moments"][5:10]


def test_the_negative_side_of_a_neuron_is_its_own_range(client: TestClient, workspace: Workspace) -> None:
    negative = ok(client.get("/api/atlases/neurons-3/features/3/range?side=-&limit=3"))
    opposite = ok(client.get("/api/atlases/neurons-3/features/515/range?limit=3"))
    assert negative["n_frames"] == opposite["n_frames"] == len(workspace.atlas("neurons-3").postings[515].frames)
    assert "negative" in refused(client.get("/api/atlases/sae-2/features/3/range?side=-"))


def test_combinations_hold_in_the_frames_they_find(client: TestClient, workspace: Workspace) -> None:
    atlas = workspace.atlas("sae-2")
    one, other = (int(i) for i in np.argsort(-atlas.column("n_active"))[:2])
    both = ok(client.get("/api/atlases/sae-2/moments", params={"q": f"{one} and {other}"}))
    only = ok(client.get("/api/atlases/sae-2/moments", params={"q": f"{one} and not {other}"}))
    common = np.intersect1d(atlas.postings[one].frames, atlas.postings[other].frames)
    assert both["n_frames"] == len(common) > 0
    assert both["n_frames"] + only["n_frames"] == len(atlas.postings[one].frames)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("clips/{clip}/region?atlas=sae-2&start_s=2&end_s=1", "nothing from"),
        ("clips/{clip}/region?atlas=sae-2&start_s=900", "it ends at"),
        ("clips/{clip}/region?atlas=sae-2&top=0", "top"),
        ("clips/{clip}/similar?atlas=sae-2&top=1000", "top"),
        ("atlases/sae-2/moments?q=12+and", ""),
        ("atlases/sae-2/moments?q=12+and+not+4000", "4000"),
        ("atlases/sae-2/features/3/range?low=2&high=1", "between"),
        ("atlases/sae-2/features/3/range?low=nan", "low"),
        ("features?sort=beauty", "beauty"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(client: TestClient, clip: Clip, path: str, said: str) -> None:
    assert said in refused(client.get("/api/" + path.format(clip=clip.clip_id)))


def test_too_long_a_stretch_is_refused(client: TestClient, wav: Callable[..., bytes]) -> None:
    long = ok(client.post("/api/uploads?name=long.wav", content=wav(61.0)))["id"]
    assert "at most 60 s" in refused(client.get(f"/api/clips/{long}/region?atlas=sae-2"))


def test_facets_count_what_the_list_holds(client: TestClient) -> None:
    page = ok(client.get("/api/features?atlas=sae-2&limit=500"))
    for facet in page["facets"]["label"]:
        assert facet["count"] == sum(
            (row["label"], row["label_kind"]) == (facet["value"], facet["kind"]) for row in page["rows"]
        )
    chosen = page["facets"]["label"][0]
    rows = ok(client.get("/api/features", params={"atlas": "sae-2", "label": chosen["value"], "kind": chosen["kind"]}))
    assert rows["total"] == chosen["count"]
    assert {row["label"] for row in rows["rows"]} == {chosen["value"]}


def test_words_of_a_note_find_its_feature(client: TestClient, workspace: Workspace) -> None:
    headers = {"Origin": "http://127.0.0.1:8080"}
    note = {"author": "ada", "kind": "comment", "text": "rustling like xylophonic paper"}
    ok(client.post("/api/atlases/sae-2/features/7/notes", json=note, headers=headers))
    page = ok(client.get("/api/features?q=xylophonic&dead=true"))
    assert [(row["atlas"], row["index"]) for row in page["rows"]] == [("sae-2", 7)]
    assert "notes" in page["note"]
    assert page["found_by"] == [["people's notes"]]
    assert not any(ok(client.get("/api/features?q=s&limit=5"))["found_by"]), "the control: found by the label"
    assert ok(client.get("/api/features?q=sae-2:7&dead=true"))["found_by"] == [[]]


def test_a_feature_comes_with_its_evidence_and_relatives(client: TestClient, workspace: Workspace) -> None:
    index = ok(client.get("/api/features?q=/s/&atlas=sae-2&limit=1"))["rows"][0]["index"]
    shown = ok(client.get(f"/api/atlases/sae-2/features/{index}"))
    entry = workspace.atlas("sae-2")[index]
    assert shown["row"]["sentence"] == entry.sentence
    assert shown["row"]["nature"] == entry.stats["nature"]
    assert [band["labels"] for band in shown["bands"]] == [list(band.labels) for band in entry.bands]
    assert [each["feature"]["index"] for each in shown["neighbours"]] == [n.feature for n in entry.neighbours(10)]
    assert [each["feature"]["index"] for each in shown["cofiring"]] == [n.feature for n in entry.cofiring(10)]
    assert {row["name"]: row["correlation"] for row in shown["acoustics"]} == pytest.approx(
        {name: heard.correlation for name, heard in entry.acoustics.items() if np.isfinite(heard.correlation)}
    )
    assert shown["profile"] == entry.profile.tolist()


def test_stacks_split_the_histogram_by_what_the_frames_are(client: TestClient, workspace: Workspace) -> None:
    index = ok(client.get("/api/features?q=/s/&atlas=sae-2&limit=1"))["rows"][0]["index"]
    split = ok(client.get(f"/api/atlases/sae-2/features/{index}/stacks?kind=phone"))
    counts = workspace.atlas("sae-2")[index].histogram[1]
    assert np.sum([stack["counts"] for stack in split], axis=0).tolist() == counts.tolist()
    assert split[-1]["label"] is None
    corpus, atlas = workspace.corpus("mini"), workspace.atlas("sae-2")
    clip, frame, _ = atlas[index].postings()
    clock = atlas.clock
    said = [
        next((i.label for i in corpus[c].tier("phones") if i.start_s <= clock.time_s(t) < i.end_s), None)
        for c, t in zip(clip.tolist(), frame.tolist(), strict=True)
    ]
    shown = {stack["label"]: sum(stack["counts"]) for stack in split if stack["label"] is not None}
    assert shown
    for label, n in shown.items():
        assert n == said.count(label)


def test_the_same_feature_elsewhere_is_what_the_atlases_match(client: TestClient, workspace: Workspace) -> None:
    index = ok(client.get("/api/features?q=/s/&atlas=sae-2&limit=1"))["rows"][0]["index"]
    found = ok(client.get(f"/api/atlases/sae-2/features/{index}/matches"))
    assert {match["feature"]["atlas"] for match in found} <= {"neurons-3"}
    for match in found:
        assert match["cosine"] is None
        assert 0 < match["correlation"] <= 1
    assert ok(client.get(f"/api/atlases/sae-2/features/{index}/examples?kind=near_miss&limit=3")) is not None
    refused(client.get(f"/api/atlases/sae-2/features/{index}/examples?kind=best"))
    refused(client.get("/api/atlases/sae-2/features/100000/matches"), 404)


def test_natures_filter_the_list(client: TestClient) -> None:
    rows = ok(client.get("/api/features?nature=phonetic&limit=500"))["rows"]
    assert {row["nature"] for row in rows} == {"phonetic"}
    assert "choose one of" in refused(client.get("/api/features?nature=loud"))


def test_moments_of_the_same_clip_are_left_out_unless_asked_for(client: TestClient, workspace: Workspace) -> None:
    steady = next(c for c in workspace.corpus("mini") if c.attributes.get("sound_class") == "tone" and c.duration_s > 2)
    url = f"/api/clips/{steady.clip_id}/similar?atlas=sae-2&start_s=0.5&end_s=1.0&top=20"
    own = [moment for moment in ok(client.get(f"{url}&elsewhere=false")) if moment["clip"]["id"] == steady.clip_id]
    assert own
    assert all(moment["end_s"] <= 0.5 or moment["start_s"] >= 1.0 for moment in own)
    assert steady.clip_id not in {moment["clip"]["id"] for moment in ok(client.get(url))}


def test_a_dictionary_of_several_sites_hears_them_all(pocket: SpeechModel, mini: Corpus) -> None:
    """Lanes and codes of a crosscoder, whose second site the first says nothing of."""
    sites, encoder = ("encoder.1.resid_post", "encoder.3.mlp.post"), torch.zeros(8, 640)
    encoder[torch.arange(8), 128 + torch.arange(8)] = 1.0
    both = CrosscoderDictionary(
        encoder=encoder, encoder_bias=torch.zeros(8), decoder=encoder, decoder_bias=torch.zeros(640),
        site_scales=torch.ones(2), widths=(128, 512), k=8, site=sites[0], sites=sites,
    )  # fmt: skip
    held = SimpleNamespace(meta={"dictionary": {"fingerprint": both.fingerprint}})
    workspace = SimpleNamespace(
        model=lambda: pocket, dictionary_of=lambda _: both, names=lambda _: ["both"], atlas=lambda _: held
    )
    state = State(workspace)  # type: ignore[arg-type]
    found, units = Found(mini[0], "mini", "1"), pocket.run(mini[0], read=[sites[1]])[sites[1]].numpy()[:, :8]
    np.testing.assert_allclose(state.lanes(found, both, range(8)).T, np.maximum(units, 0), atol=1e-5)
    code = state.code(found, "both")
    dense = np.zeros_like(units)
    dense[code.frame_of_entry(), code.features] = code.values
    np.testing.assert_allclose(dense, np.maximum(units, 0), atol=1e-5)
