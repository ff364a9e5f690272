"""`otoscope dictionary`: foreign dictionaries come into a workspace, and dictionaries leave it, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from local_hub import local_hub

from otoscope.cli import main
from otoscope.dictionaries import TopKDictionary, load_dictionary
from otoscope.workspace import Workspace

D, N = 128, 200


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    """A workspace of the bundled model, whose sites are 128 wide, with one dictionary."""
    drawn = torch.Generator().manual_seed(0)
    workspace = Workspace.open(tmp_path / "ws", create=True)
    TopKDictionary(
        encoder=torch.randn(N, D, generator=drawn),
        encoder_bias=torch.zeros(N),
        decoder=torch.nn.functional.normalize(torch.randn(N, D, generator=drawn), dim=1),
        decoder_bias=torch.ones(D),
        k=4,
        site="encoder.2.resid_post",
        name="sae-2",
    ).save(workspace.path("dictionaries", "sae-2"))
    return workspace.folder


@pytest.fixture
def run(ws: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["dictionary", *map(str, words), "--workspace", str(ws)]) == code
        said = capsys.readouterr()
        if code:
            assert len(said.err.strip().splitlines()) == 1
        return said.err if code else said.out

    return run


def freud(path: Path, width: int = D) -> Path:
    hparams = {"autoencoder_variant": "l1", "whisper_config": {"model": "tiny", "layer_name": "encoder.blocks.1"}}
    model = {"encoder_bias": torch.zeros(N), "decoder.weight": torch.randn(width, N)}
    torch.save({"model": model, "hparams": hparams}, path)
    return path


def test_a_foreign_checkpoint_comes_into_the_workspace_as_one_of_its_dictionaries(
    run, tmp_path: Path, ws: Path
) -> None:
    assert "from freud" in run("import", freud(tmp_path / "freud-tiny.pth"))
    facts = json.loads(run("show", "freud-tiny", "--json"))
    assert (facts["architecture"], facts["reads"], facts["imported"]) == ("standard", "encoder.1.resid_post", "freud")
    listed = json.loads(run("list", "--json"))
    assert [row["name"] for row in listed] == ["freud-tiny", "sae-2"]
    assert "sae-2" in run("list")
    assert "already; choose another --name" in run("import", tmp_path / "freud-tiny.pth", code=2)
    run("import", tmp_path / "freud-tiny.pth", "--name", "again", "--site", "encoder.0.resid_post")
    assert Workspace.open(ws).dictionary("again").site == "encoder.0.resid_post"


def test_a_dictionary_of_another_model_is_refused(run, tmp_path: Path) -> None:
    said = run("import", freud(tmp_path / "wide.pth", width=384), code=2)
    assert "384 wide, but encoder.1.resid_post of the workspace's model pocket is 128 wide" in " ".join(said.split())
    torch.save({"encoder_bias": torch.zeros(N), "decoder.weight": torch.randn(D, N)}, tmp_path / "bare.pth")
    assert "do not say where its activations come from; give --site" in run("import", tmp_path / "bare.pth", code=2)


@pytest.mark.parametrize("format", ["saelens", "dictionary_learning"])
def test_what_is_exported_is_imported_again_unchanged(run, tmp_path: Path, ws: Path, format: str) -> None:
    run("export", "sae-2", tmp_path / "out", "--format", format)
    x = torch.randn(20, D)
    expected = Workspace.open(ws).dictionary("sae-2").encode(x).dense()
    assert torch.allclose(load_dictionary(tmp_path / "out").encode(x).dense(), expected, atol=1e-5)
    assert "exists; give a folder that does not" in run("export", "sae-2", tmp_path / "out", code=2)
    shown = run("show", tmp_path / "out")
    assert "topk" in shown
    assert "encoder.2.resid_post" in shown


def test_a_file_that_could_run_code_is_refused_in_one_sentence(run, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    assert "could run code and are not loaded" in run("import", tmp_path / "module.pt", code=2)


def test_mistakes_are_answered_with_the_nearest_right_thing(run, tmp_path: Path) -> None:
    assert "did you mean sae-2" in run("show", "sae-3", code=2)
    assert "did you mean saelens" in run("export", "sae-2", tmp_path / "x", "--format", "saelen", code=2)
    assert "read but not written; choose saelens, dictionary_learning" in run(
        "export", "sae-2", tmp_path / "x", "--format", "freud", code=2
    )


def test_a_dictionary_goes_to_the_hub_and_comes_back(
    run, tmp_path: Path, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_hub() as (_, address):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)  # as HF_ENDPOINT sets them at the start
        url = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_made_up")
        assert f"{address}/someone/speech/tree/main/sae-2" in run("push", "sae-2", "someone/speech")
        run("pull", "someone/speech", "--name", "back")
    workspace = Workspace.open(ws)
    assert workspace.dictionary("back").fingerprint == workspace.dictionary("sae-2").fingerprint


def test_the_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dictionary", "formats", "--json"]) == 0
    rows = {row["format"]: row["written"] for row in json.loads(capsys.readouterr().out)}
    assert rows["saelens"]
    assert not rows["freud"]
