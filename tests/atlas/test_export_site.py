"""An atlas exported as web pages shows what the atlas says, with the sound of its moments, and asks nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from exported_site import LICENCE, audible, lane_of, pages_of, read_json, rows_of
from interpreted import explained, tried, write_interpretations
from planted_world import DEAD, MORNING, M, World

from otoscope.atlas import Atlas
from otoscope.atlas.exports import site
from otoscope.atlas.exports.site import export_site
from otoscope.atlas.interpretation.reading import Interpretations
from otoscope.audio import Corpus
from otoscope.audio.mel import log_mel
from otoscope.errors import InputError


@pytest.fixture(scope="module")
def corpus(world: World) -> Corpus:
    return audible(world)


@pytest.fixture(scope="module")
def written(atlas: Atlas, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All features, in files of few, with sound that loses nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "ROWS", 4)
        patch.setattr(site, "PAGES", 2)
        place = tmp_path_factory.mktemp("site") / "units"
        told = {M: explained("It is active at m.", tried(18, 0.5))}
        said = Interpretations(write_interpretations(place.with_name("said.jsonl"), atlas, told), atlas)
        options = {"audio": "wav", "licence": "See each moment.", "examples": 6, "interpretations": said}
        return export_site(atlas, corpus, place, features="all", **options)


def test_the_table_is_that_of_the_atlas_best_first_in_files_of_few(written: Path, atlas: Atlas) -> None:
    rows = rows_of(written)
    assert len(list((written / "data" / "rows").iterdir())) > 1
    assert set(rows["feature"].tolist()) == {i for i in range(len(atlas)) if atlas[i].stats["n_active"]}
    assert DEAD not in rows["feature"]
    f1 = np.nan_to_num(rows["f1"], nan=-1)
    assert (np.diff(f1) <= 0).all()
    for name in ("f1", "f1_low", "density", "max", "label"):
        assert np.allclose(rows[name], atlas.column(name)[rows["feature"]], equal_nan=True)


def test_every_feature_has_a_page_that_says_what_the_atlas_says(written: Path, atlas: Atlas) -> None:
    pages = pages_of(written)
    assert set(pages) == set(rows_of(written)["feature"].tolist())
    for feature, page in pages.items():
        entry = atlas[feature]
        assert page["unit"] == entry.unit
        assert page["label"] == entry.stats["label"]
        assert [row["label"] for row in page["labels"]] == [row["label"] for row in entry.label_rows[:10]]
        assert page["histogram"]["counts"] == entry.histogram[1].tolist()
        assert (page["interpretation"] is not None) == (feature == M), "only of one was anything said"
        for kind, moments in page["examples"].items():
            values = [example.value for example in entry.examples(kind, 6 if kind == "top" else 3)]
            assert [moment["value"] for moment in moments] == pytest.approx(values, rel=1e-3)
    said = pages[M]["interpretation"]["rungs"][2]
    assert (said["explanation"], said["model"]) == ("It is active at m.", "a-model")
    assert said["endpoint"] is None, "an address of somebody's network is not published"
    said = read_json(written / "data" / "site.json")
    files = [path for path in written.rglob("*.json") if "features" in path.parts]
    assert len(files) > len(pages) / said["pages"] / 2


def test_the_classes_lead_to_the_features_that_detect_them(written: Path) -> None:
    classes = {each["label"]: each for each in read_json(written / "data" / "site.json")["classes"]}
    for label, feature in (("m", M), ("morning", MORNING)):
        listed = read_json(written / "data" / "labels" / f"{classes[label]['number']}.json")
        assert listed[0][0] == feature
        assert listed[0][1] > 0.8
        assert len(listed) == classes[label]["n_features"]
    assert classes.get("ʃ", {"best_f1": 0})["best_f1"] < 0.5, "the control: no feature detects it"


def test_a_moment_comes_with_its_sound_its_mel_and_its_activation(written: Path, world: World, corpus: Corpus) -> None:
    said = read_json(written / "data" / "site.json")
    for moment in pages_of(written)[M]["examples"]["top"]:
        clip = corpus.get(moment["id"])
        begins = moment["window"] * 2
        place = written / "sounds" / str(moment["clip"])
        heard, rate_hz = soundfile.read(place / f"{moment['window']}.wav", dtype="float32")
        ours = clip.samples()[begins * 16000 :][: len(heard)]
        assert rate_hz == 16000
        assert np.abs(heard - ours).max() < 1e-4
        first, last = moment["time_s"] - 1 - begins, moment["time_s"] + 1 - begins
        end_s = min(last, clip.duration_s - begins)
        assert first < 2
        assert end_s <= len(heard) / rate_hz + 1e-3, "the two seconds around the moment lie within the window"
        mel = np.frombuffer((place / f"{moment['window']}.mel").read_bytes(), np.uint8).reshape(said["n_mels"], -1)
        whole = log_mel(clip.samples(), 80, pad_to_samples=480_000).numpy()[:, : len(clip.samples()) // 160]
        expected = whole[:, begins * 100 :][:, : mel.shape[1]]
        assert np.corrcoef(mel[:, : expected.shape[1]].ravel(), expected.ravel())[0, 1] > 0.999
        lane = lane_of(moment).astype(float)
        frame = round((moment["lane_s"] + begins) / 0.02 + 0.5)
        frames = np.maximum(world.model.frames[moment["id"]][frame : frame + len(lane), M], 0)
        top = pages_of(written)[M]["max"]
        kept = lane > 0  # of dense features, the strongest frames
        assert kept.any()
        assert np.abs(lane / 255 * top - frames)[kept].max() < top / 100
        assert lane.argmax() == frames.argmax()


def test_words_and_phones_come_along_in_the_time_of_the_window(written: Path, corpus: Corpus) -> None:
    moment = pages_of(written)[M]["examples"]["top"][0]
    begins = moment["window"] * 2
    phones = {(round(p.start_s - begins, 3), p.label) for p in corpus.get(moment["id"]).tier("phones")}
    shown = {(start, label) for start, _, label in moment["tiers"]["phones"]}
    assert shown < phones, "those around the moment, and no others"
    at = moment["time_s"] - begins
    assert {label for start, stop, label in moment["tiers"]["phones"] if start <= at < stop} == {"m"}


def test_who_made_the_sound_goes_with_it(written: Path, corpus: Corpus) -> None:
    said = read_json(written / "data" / "site.json")
    assert said["licence"] == "See each moment."
    text = (written / "sounds" / "LICENCE.txt").read_text("utf-8")
    assert "See each moment." in text
    assert said["credits"] == [f"{LICENCE} · Jane <b>Doe</b>"]
    for page in pages_of(written).values():
        for moment in page["examples"]["random"]:
            owned = "licence" in corpus.get(moment["id"]).attributes
            assert moment["credit"] == (0 if owned else None)
            assert (f"{moment['clip']} ({moment['id']}): {LICENCE} · Jane <b>Doe</b>" in text) == owned
    assert 'href="sounds/LICENCE.txt"' in (written / "app" / "app.js").read_text("utf-8")


def test_the_pages_ask_no_other_server_and_bring_their_licences(written: Path) -> None:
    html = (written / "index.html").read_text("utf-8")
    assert "default-src 'none'; script-src 'self'" in html
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", html), "nothing inline"
    for path in (written / "app").rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            assert not re.search(r"https?://(?!www\.w3\.org)", path.read_text("utf-8")), path
    libraries = {path.parent for path in (written / "app" / "vendor").rglob("*.mjs")}
    assert libraries
    assert all((library / "LICENSE").is_file() for library in libraries)
    assert not (written / "app" / "pages" / "edit.js").exists(), "only what the pages use"


def test_sound_is_small_or_absent_as_asked_and_the_same_every_time(
    atlas: Atlas, corpus: Corpus, tmp_path: Path
) -> None:
    small = export_site(atlas, corpus, tmp_path / "a", features=2, examples=2)
    again = export_site(atlas, corpus, tmp_path / "b", features="2", examples=2)
    silent = export_site(atlas, corpus, tmp_path / "c", features=2, examples=2, audio="none")
    licensed = Corpus(corpus.name, corpus, licence="Voices of Harbour Radio, CC BY 4.0")
    named = export_site(atlas, licensed, tmp_path / "d", audio="none", examples=1)
    for place, whose in ((silent, "The corpus does not say"), (named, "Voices of Harbour Radio, CC BY 4.0")):
        said = (place / "sounds" / "LICENCE.txt").read_text("utf-8")
        assert (whose in said) == (place is named), "without words of the corpus, those of the recordings stand alone"
    files = sorted(path.relative_to(small) for path in small.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((small / path).read_bytes() == (again / path).read_bytes() for path in files)
    sounds = list(small.rglob("*.ogg"))
    assert sounds
    for path in sounds:
        heard, rate_hz = soundfile.read(path)
        clip = corpus.get(atlas.clips.ids[int(path.parent.name)])
        assert len(heard) == min(4.0, clip.duration_s - 2 * int(path.stem)) * rate_hz
        assert path.stat().st_size < len(heard) / 2
    assert not list(silent.rglob("*.ogg"))
    assert len(pages_of(small)) == 2
    assert set(pages_of(named)) == {i for i in range(len(atlas)) if atlas[i].stats["label"]}


def test_what_cannot_be_exported_is_refused(atlas: Atlas, corpus: Corpus, tmp_path: Path) -> None:
    for wrong, said in (
        ({"features": "best"}, "no features 'best'"),
        ({"features": 0}, "no features 0"),
        ({"audio": "mp3"}, "no sound as 'mp3'"),
        ({"examples": 0}, "At least one moment"),
    ):
        with pytest.raises(InputError, match=said):
            export_site(atlas, corpus, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="another corpus"):
        export_site(atlas, Corpus("half", list(corpus)[:5]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
