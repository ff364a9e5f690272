"""A workspace finds everything by name, and refuses names, folders and settings that cannot be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otoscope.audio import Corpus
from otoscope.errors import InputError, OtoscopeError
from otoscope.workspace import KINDS, Address, Workspace, as_name


def test_a_new_workspace_remembers_its_model(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "ws", create=True, model="openai/whisper-tiny")
    assert Workspace.open(tmp_path / "ws").model_name == "openai/whisper-tiny"
    assert 'model = "openai/whisper-tiny"' in (tmp_path / "ws" / "otoscope.toml").read_text("utf-8")


def test_a_model_folder_is_remembered_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my model").mkdir()
    monkeypatch.chdir(tmp_path)
    Workspace.open("ws", create=True, model="my model")
    assert Workspace.open("ws").model_name == str(tmp_path / "my model")


def test_the_default_is_the_environment_variable_then_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTOSCOPE_WORKSPACE", raising=False)
    assert Workspace.open(create=True).folder == Path("otoscope-workspace")
    monkeypatch.setenv("OTOSCOPE_WORKSPACE", str(tmp_path / "elsewhere"))
    assert Workspace.open(create=True).folder == tmp_path / "elsewhere"


def test_a_missing_workspace_is_refused_unless_it_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no workspace at .*; `otoscope demo` makes one"):
        Workspace.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file, not a workspace"):
        Workspace.open(tmp_path / "file", create=True)


def test_a_workspace_holds_one_model(tmp_path: Path) -> None:
    Workspace.open(tmp_path, create=True)
    assert Workspace.open(tmp_path, model="pocket").model_name == "pocket"
    with pytest.raises(InputError, match="was made with the model 'pocket', not 'openai/whisper-tiny'"):
        Workspace.open(tmp_path, create=True, model="openai/whisper-tiny")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model = ", "is damaged"),
        ("", "is not an otoscope-workspace"),
        ('format = "otoscope-workspace"\nversion = 2\nmodel = "pocket"\n', "has version 2"),
        ('format = "otoscope-workspace"\nversion = 1\n', "is not an otoscope-workspace"),
    ],
)
def test_damaged_settings_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "otoscope.toml").write_text(text)
    with pytest.raises(OtoscopeError, match=complaint):
        Workspace.open(tmp_path)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../x", "Upper", "with space", "ü", "a\n", "/etc"])
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_could_leave_the_folder_are_refused(fresh: Workspace, kind: str, name: str) -> None:
    with pytest.raises(InputError, match="is not a valid name"):
        fresh.path(kind, name)


@given(st.text())
def test_any_text_becomes_a_valid_name_and_stays_it(text: str) -> None:
    name = as_name(text)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
    assert as_name(name) == name


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True), st.integers(0, 10**9))
def test_addresses_are_read_back_as_they_are_written(name: str, index: int) -> None:
    assert Address.parse(str(Address(name, index))) == Address(name, index)


@pytest.mark.parametrize("text", ["", "sae-2", "sae-2:", ":3", "sae-2:x", "sae-2:-1", "sae-2:1.5", "../x:1", "sae-2:²"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"write DICTIONARY:INDEX, for example sae-2:30"):
        Address.parse(text)


def test_unknown_names_are_refused_with_the_nearest(built: Workspace) -> None:
    assert built.names("dictionaries") == ["neurons-0", "sae-2"]
    with pytest.raises(InputError, match=r"No dictionary 'sae-3'.*did you mean sae-2"):
        built.dictionary("sae-3")
    with pytest.raises(InputError, match=r"No atlas 'xyzzy'.*there are: neurons-0, sae-2"):
        built.atlas("xyzzy")


def test_an_empty_workspace_says_so(fresh: Workspace) -> None:
    assert [fresh.names(kind) for kind in KINDS] == [[]] * len(KINDS)
    with pytest.raises(InputError, match="it has no stores yet"):
        fresh.store("mini")


def test_unfinished_folders_are_not_listed(fresh: Workspace) -> None:
    (fresh.path("stores", "half") / "shards").mkdir(parents=True)
    (fresh.folder / "stores" / ".mini.part").mkdir()
    assert fresh.names("stores") == []


def test_clips_are_found_in_any_corpus(built: Workspace, few: Corpus) -> None:
    clip = few[3]
    assert built.clip(clip.clip_id).text == clip.text
    with pytest.raises(InputError, match=f"No clip '{clip.clip_id}x' .*did you mean"):
        built.clip(f"{clip.clip_id}x")


def test_an_atlas_leads_to_its_dictionary_and_corpus(built: Workspace, few: Corpus) -> None:
    assert built.dictionary_of("sae-2").site == "encoder.2.resid_post"
    assert built.corpus_of("sae-2").fingerprint == few.fingerprint


def test_things_are_opened_once_until_they_change(fresh: Workspace, few: Corpus) -> None:
    few[:2].save(fresh.path("corpora", "few"))
    first = fresh.corpus("few")
    assert fresh.corpus("few") is first
    few[:3].save(fresh.path("corpora", "few"))
    assert len(fresh.corpus("few")) == 3
