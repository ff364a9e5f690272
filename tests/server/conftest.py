"""A small workspace made by the real pipeline, and a client of the server over it."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fastapi.testclient import TestClient

from otoscope.server import create_app
from otoscope.workspace import DictionaryPlan, Plan, Workspace, run_pipeline

if TYPE_CHECKING:
    from otoscope.audio import Clip, Corpus

N_SPEECH, N_SOUNDS = 64, 28


@pytest.fixture(scope="session")
def workspace(mini: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Some clips of the mini corpus, 128 features of one layer and the neurons of another, both with an atlas."""
    speech = [clip.clip_id for clip in mini if clip.tier("phones")][:N_SPEECH]
    sounds = [clip.clip_id for clip in mini if not clip.tier("phones")][:N_SOUNDS]
    made = Workspace.open(tmp_path_factory.mktemp("served") / "workspace", create=True)
    plan = Plan(
        dictionaries=(
            DictionaryPlan("sae-2", "encoder.2.resid_post", n_features=128, k=8, steps=150, batch_size=1024),
            DictionaryPlan("neurons-3", "encoder.3.mlp.post", kind="neurons"),
        )
    )
    run_pipeline(made, plan, progress=False, source=mini.select([*speech, *sounds]))
    return made


@pytest.fixture(scope="session")
def client(workspace: Workspace) -> Iterator[TestClient]:
    """A client that speaks to the server as a browser on this machine does."""
    with TestClient(create_app(workspace), base_url="http://127.0.0.1:8080") as opened:
        yield opened


@pytest.fixture(scope="session")
def clip(workspace: Workspace) -> Clip:
    """The first spoken clip."""
    corpus = workspace.corpus(workspace.names("corpora")[0])
    return next(clip for clip in corpus if clip.tier("phones"))


@pytest.fixture(scope="session")
def wav() -> Callable[..., bytes]:
    """Make a WAV file of a tone, or of given samples."""

    def make(seconds: float = 1.0, rate_hz: int = 16000, samples: np.ndarray | None = None) -> bytes:
        t = np.arange(round(seconds * rate_hz)) / rate_hz
        values = 0.3 * np.sin(2 * np.pi * 440 * t) if samples is None else samples
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate_hz)
            out.writeframes((values * 32767).astype("<i2").tobytes())
        return file.getvalue()

    return make
