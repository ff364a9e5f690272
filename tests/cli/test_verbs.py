"""Every verb says the same to people and, with --json, to machines; standard output holds nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import otoscope

import otoscope as oto
from otoscope.audio import Corpus
from otoscope.models import SpeechModel
from otoscope.workspace import Workspace


@pytest.fixture(scope="session")
def spoken(few: Path) -> str:
    return Corpus.load(few)[0].clip_id


def test_models_lists_the_bundled_one_first() -> None:
    rows = otoscope("models", "--json").json
    assert (rows[0]["model"], rows[0]["where"]) == ("pocket", "bundled")
    assert "openai/whisper-tiny" in {row["model"] for row in rows}
    assert "pocket" in otoscope("models").out


def test_sites_lists_every_site_with_its_shape_and_the_missing_ones_with_a_reason(pocket: SpeechModel) -> None:
    listed = otoscope("sites", "--json").json
    assert [row["site"] for row in listed["sites"]] == [site.name for site in pocket.sites()]
    widths = {row["site"]: row["width"] for row in listed["sites"]}
    assert widths["encoder.2.mlp.post"] == pocket.width("encoder.2.mlp.post")
    assert {"encoder.conv3", "encoder.L.resid_sum"} <= {row["site"] for row in listed["missing"]}
    assert all(row["reason"] for row in listed["missing"])
    assert "encoder.L.mlp.post" in otoscope("sites").out
    assert "encoder.3.mlp.post" in otoscope("sites", "--all").out


def test_corpus_lists_shows_and_counts(ws: Path, few: Path) -> None:
    assert {row["name"] for row in otoscope("corpus", "list", "--workspace", ws, "--json").json} == {"mini", "few"}
    shown = otoscope("corpus", "show", "few", "--workspace", ws, "--json").json
    corpus = Corpus.load(few)
    assert (shown["clips"], shown["fingerprint"]) == (len(corpus), corpus.fingerprint)
    counts = otoscope("corpus", "labels", few, "--json").json
    assert counts["phones"]["m"] == sum(i.label == "m" for clip in corpus for i in clip.tier("phones"))
    assert "sound_class" in counts


def test_corpus_import_saves_a_folder_of_recordings_under_a_name(tmp_path: Path, few: Path) -> None:
    done = otoscope("corpus", "import", few, "--name", "voices", "--workspace", tmp_path / "ws", "--json")
    assert done.json["clips"] == len(Corpus.load(few))
    assert Workspace.open(tmp_path / "ws").corpus("voices").name == "voices"


def test_making_things_again_reuses_them(ws: Path) -> None:
    done = otoscope("atlas", "--dictionary", "sae-2", "--workspace", ws, "--json").json
    assert (done["state"], done["features"]) == ("reused", 64)


def test_train_scores_on_held_out_speakers(ws: Path) -> None:
    words = ("--features", "64", "--k", "4", "--steps", "20", "--batch-size", "256", "--lr", "0.002")
    done = otoscope("train", "--site", "encoder.2.resid_post", *words, "--workspace", ws, "--json").json
    assert done["reused"]
    assert done["held_out"]["by"] == "speakers"
    assert 0 < done["fvu"] < 1


def test_atlas_without_a_dictionary_lists_the_atlases(ws: Path) -> None:
    assert [row["atlas"] for row in otoscope("atlas", "--workspace", ws, "--json").json] == ["neurons-0", "sae-2"]
    assert "sae-2" in otoscope("atlas", "--workspace", ws).out


def test_search_goes_through_all_atlases_best_first(ws: Path) -> None:
    rows = otoscope("search", "s", "--kind", "phone", "--workspace", ws, "--json").json
    assert rows
    assert [row["f1"] for row in rows] == sorted((row["f1"] for row in rows), reverse=True)
    assert {row["feature"].split(":")[0] for row in rows} == {"sae-2", "neurons-0"}
    workspace = Workspace.open(ws)
    for row in rows:
        name, index = row["feature"].split(":")
        found = workspace.atlas(name).find(label="/s/", limit=None).loc[int(index)]
        assert found["f1"] == pytest.approx(row["f1"])
        assert row["example"]["clip_id"] in workspace.corpus("few")
    only = otoscope("search", "s", "--dictionary", "sae-2", "--workspace", ws, "--json").json
    assert {row["feature"].split(":")[0] for row in only} == {"sae-2"}
    assert rows[0]["feature"] in otoscope("search", "s", "--workspace", ws).out


def test_features_shows_one_feature_in_full(ws: Path) -> None:
    best = otoscope("search", "s", "--dictionary", "sae-2", "--workspace", ws, "--json").json[0]
    facts = otoscope("features", best["feature"], "--workspace", ws, "--json").json
    assert facts["site"] == "encoder.2.resid_post"
    assert facts["stats"]["density"] == pytest.approx(best["density"])
    assert sum(facts["histogram"]["counts"]) == facts["stats"]["n_active"]
    assert len(facts["histogram"]["edges"]) == len(facts["histogram"]["counts"]) + 1
    values = [example["value"] for example in facts["examples"]]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(facts["stats"]["max"])
    text = otoscope("features", best["feature"], "--workspace", ws).out
    assert facts["examples"][0]["clip_id"] in text


def test_features_of_a_dictionary_lists_its_best(ws: Path) -> None:
    rows = otoscope("features", "sae-2", "--top", "3", "--workspace", ws, "--json").json
    assert len(rows) == 3
    assert rows[0]["f1"] >= rows[-1]["f1"]


def test_negative_sides_of_neurons_are_named_as_units(ws: Path, pocket: SpeechModel) -> None:
    d = pocket.dims.d_model
    assert otoscope("features", f"neurons-0:{d + 3}", "--workspace", ws, "--json").json["unit"] == "3−"


def test_transcribe_prints_json_and_nothing_else(tmp_path: Path, few: Path, pocket: SpeechModel) -> None:
    clips = Corpus.load(few)[:2]
    files = [str(clip.source) for clip in clips]
    rows = otoscope("transcribe", *files, "--json").json
    assert [row["uri"] for row in rows] == files
    for row, file in zip(rows, files, strict=True):
        expected = pocket.transcribe(oto.Clip.from_file(file))
        assert row["text"] == expected.text
        assert row["avg_log_prob"] == pytest.approx(expected.avg_log_prob)
        assert {"clip_id", "language", "duration_s", "no_speech_prob"} <= set(row)
    plain = otoscope("transcribe", files[0])
    assert plain.out.strip() == rows[0]["text"].strip()


def test_an_edit_compares_the_transcripts(ws: Path, spoken: str, pocket: SpeechModel) -> None:
    words = ("--site", "encoder.2.mlp.post", "--scale", "0", "--workspace", ws)
    done = otoscope("edit", spoken, *words, "--json").json
    clip = Workspace.open(ws).clip(spoken)
    base = pocket.transcribe(clip)
    edited = pocket.transcribe(clip, edits=[oto.Edit.scale("encoder.2.mlp.post", 0.0)])
    assert (done["base"]["text"], done["edited"]["text"]) == (base.text, edited.text)
    assert [row["text"] for row in done["tokens"]] == [token.text for token in base.tokens]
    for row in done["tokens"]:
        assert row["delta"] == pytest.approx(row["edited_log_prob"] - row["log_prob"])
    assert any(abs(row["delta"]) > 1e-3 for row in done["tokens"])
    text = otoscope("edit", spoken, *words).out
    assert base.text.split()[0] in text


def test_an_edit_that_changes_nothing_changes_nothing(ws: Path, spoken: str) -> None:
    done = otoscope("edit", spoken, "--feature", "sae-2:3", "--scale", "1", "--workspace", ws, "--json").json
    assert not done["changed"]
    assert all(row["delta"] == pytest.approx(0, abs=1e-4) for row in done["tokens"])


def test_several_edits_are_read_in_order(ws: Path, spoken: str) -> None:
    words = [
        "--feature=sae-2:3",
        "--add",
        "1",
        "--time",
        "0.1-0.5",
        "-s",
        "encoder.1.mlp.post",
        "--units=1,2",
        "--zero",
    ]
    done = otoscope("edit", spoken, *words, "--workspace", ws, "--json").json
    assert done["edits"] == [
        "--feature sae-2:3 --add 1 --time 0.1-0.5",
        "--site encoder.1.mlp.post --units 1,2 --zero",
    ]


def test_the_operation_may_stand_before_its_only_target(ws: Path, spoken: str) -> None:
    first = otoscope("edit", spoken, "--scale", "0", "--feature", "sae-2:3", "--workspace", ws, "--json").json
    second = otoscope("edit", spoken, "--feature", "sae-2:3", "--scale", "0", "--workspace", ws, "--json").json
    assert first == second


def test_doctor_finds_this_machine_well() -> None:
    rows = otoscope("doctor", "--json").json
    assert {"versions", "codecs", "log-mel", "model", "writing"} <= {row["check"] for row in rows}
    wrong = [row for row in rows if row["ok"] is False]
    assert wrong == []


def test_doctor_names_what_is_broken(tmp_path: Path) -> None:
    done = otoscope("doctor", "--model", tmp_path / "none", "--json")
    assert done.code == 1
    assert [row["check"] for row in done.json if row["ok"] is False] == ["model"]
