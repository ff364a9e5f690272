"""`otoscope models`: the list, and the facts of one model without reading its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import otoscope, refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A `.pt` file with sizes alone: if the weights were read, it would be refused."""
    sizes = {"n_mels": 128, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 3}
    sizes |= {"n_vocab": 51866, "n_text_ctx": 448, "n_text_state": 64, "n_text_head": 4, "n_text_layer": 2}
    torch.save({"dims": sizes, "model_state_dict": {}}, tmp_path / "narrow.pt")
    return tmp_path / "narrow.pt"


def test_a_models_facts_come_from_its_files_not_its_name(file: Path) -> None:
    [facts] = otoscope("models", file, "--json").json
    assert facts["encoder"] == {"layers": 3, "width": 64, "heads": 2, "mlp": 256}
    assert facts["decoder"]["layers"] == 2
    assert facts["hears"] == {"mel_bins": 128, "window_s": 30.0, "frames_per_s": 50.0}
    assert len(facts["languages"]) == 100
    assert facts["alignment_heads"] == [f"decoder.1.cross[{head}]" for head in range(4)]


def test_facts_of_several_models_print_one_after_another(file: Path) -> None:
    printed = otoscope("models", "pocket", file).out
    assert "2: en es" in printed
    assert "128 mel bins, windows of 30 s" in printed
    assert printed.index("pocket") < printed.index("narrow")


def test_models_of_every_family_in_the_caches_are_listed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub/models--someone--my-hubert/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "hubert", "num_hidden_layers": 12}))
    (tmp_path / "whisper").mkdir()
    file.rename(tmp_path / "whisper/tiny.pt")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = {row["model"]: row for row in otoscope("models", "--json").json}
    assert rows["someone/my-hubert"]["family"] == "hubert"
    assert rows["someone/my-hubert"]["layers"] == 12
    assert rows[str(tmp_path / "whisper/tiny.pt")]["where"] == "openai-whisper"
    assert "tiny.pt" in otoscope("models").out


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "There is no model" in refused("models", tmp_path / "none")
