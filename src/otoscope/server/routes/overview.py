"""The workspace at a glance."""

from __future__ import annotations

from fastapi import APIRouter, Request

import otoscope
from otoscope.atlas.labels.natures import NATURES
from otoscope.server.shapes import AtlasSummary, CorpusSummary, LabelCount, Model, Overview
from otoscope.server.state import MAX_UPLOAD_BYTES, State
from otoscope.server.views import number

router = APIRouter(prefix="/api", tags=["workspace"])


@router.get("/workspace")
def workspace(request: Request) -> Overview:
    """The model, its sites, and the atlases and corpora of this workspace."""
    state: State = request.app.state.otoscope
    names = state.workspace.names("atlases")
    return Overview(
        workspace=state.workspace.folder.name,
        version=otoscope.__version__,
        model=_model(state),
        atlases=[_atlas(state, name) for name in names],
        corpora=[_corpus(state, name) for name in state.workspace.names("corpora")],
        labels=_labels(state),
        natures=[nature for nature in NATURES if names],
        statistics=state.table(names).statistics,
        max_upload_bytes=MAX_UPLOAD_BYTES,
    )


def _model(state: State) -> Model:
    model = state.model()
    dims = model.dims
    return Model(
        name=model.name,
        n_layers=dims.n_layers,
        d_model=dims.d_model,
        n_heads=dims.n_heads,
        d_mlp=dims.d_mlp,
        n_mels=dims.n_mels,
        window_s=dims.window_s,
        vocabulary=dims.n_vocab,
        device=str(model.device),
        sites=[str(site) for site in model.sites()],
    )


def _atlas(state: State, name: str) -> AtlasSummary:
    atlas = state.atlas(name)
    meta = atlas.meta
    return AtlasSummary(
        name=name,
        site=str(meta["site"]),
        kind=str(meta["dictionary"].get("kind", "")),
        corpus=str(meta["corpus"]["name"]),
        n_features=len(atlas),
        n_alive=len(atlas) - int(atlas.column("dead").sum()),
        n_labelled=int((atlas.column("label") >= 0).sum()),
        n_frames=int(meta["n_frames"]),
        n_clips=int(meta["n_clips"]),
    )


def _corpus(state: State, name: str) -> CorpusSummary:
    corpus = state.corpus(name)
    return CorpusSummary(
        name=name,
        n_clips=len(corpus),
        duration_s=float(corpus.duration_s),
        n_speakers=len(corpus.speakers),
        tiers=list(corpus.tier_names),
    )


def _labels(state: State) -> list[LabelCount]:
    """Return each sound that features were scored for, the best detected first."""
    best: dict[tuple[str, str], LabelCount] = {}
    for name in state.workspace.names("atlases"):
        for record in state.atlas(name).labels.to_dict("records"):
            key = (record["kind"], record["label"])
            f1, known = number(record["best_f1"]), best.get(key)
            scores = [score for score in (f1, known.best_f1 if known else None) if score is not None]
            best[key] = LabelCount(
                label=record["label"],
                kind=record["kind"],
                n_features=int(record["n_features"]) + (known.n_features if known else 0),
                best_f1=max(scores, default=None),
            )
    return sorted(best.values(), key=lambda item: -(item.best_f1 or 0.0))
