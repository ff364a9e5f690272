"""An atlas as the cache of EleutherAI's delphi (0.1.1), which explains and scores features with language models.

A folder for each module holds `config.json` and `FIRST_LAST.safetensors`, cut by features: `locations [e, 3]` (row of
`tokens`, place in it, feature counted from FIRST), `activations [e]` float16 and `tokens [rows, length]`. delphi reads
text; so a token stands for one frame here, named by the phone it lies in or by how long ago the last one was, and
`tokenizer.json` beside it (of Hugging Face's tokenizers) gives the names back. Clips are cut into rows of equal length,
their last one filled up with the token for padding.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.exports.belonging import check_belong
from otoscope.atlas.exports.frame_labels import PAUSE, phone_of_frames
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_folder, write_json
from otoscope.storage.arrays import write_arrays

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.audio import Corpus

LENGTH = 256
"""Frames of one row (5.12 s of Whisper's)."""
SPLITS = 5
"""Files at least, as delphi cuts a module by itself; more where one would have too many…"""
MOST_FEATURES, MOST_ENTRIES = 1 << 16, 1 << 24
"""…features for 16-bit numbers, or entries for memory (about 1 GB)."""
PADDING, SOUND = "<pad>", "~"
"""Tokens that fill up the last row of a clip, and that stand for a frame of a clip without phones."""
LARGEST = float(np.finfo(np.float16).max)


def export_delphi(
    atlas: Atlas,
    corpus: Corpus,
    folder: str | os.PathLike[str],
    *,
    length: int = LENGTH,
    splits: int | None = None,
    progress: bool | ProgressReport = False,
) -> Path:
    """Write the entries of an atlas as delphi's cache; return the folder of the module, named after the site.

    Args:
        atlas: whose entries; of dense dictionaries the strongest.
        corpus: the one it was built over, for its phones.
        folder: where to; it is replaced as a whole. Give it to delphi as `raw_dir`.
        length: frames of one row.
        splits: files that the features are spread over; None: at least `SPLITS`, more for large atlases.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: the corpus is another one, or a length or number of files that cannot be.
    """
    if splits is None:
        needed = max(SPLITS, -(-len(atlas) // MOST_FEATURES), -(-len(atlas.postings) // MOST_ENTRIES))
        splits = min(needed, len(atlas))
    if length < 8 or not 1 <= splits <= len(atlas):
        raise InputError(
            f"Rows hold at least 8 frames and there is at least one feature in a file, got length {length} and "
            f"{splits} files for {len(atlas)} features."
        )
    check_belong(atlas, corpus)
    site = str(atlas.meta["site"])
    rows = _Rows(atlas, length)
    tokens, names = _tokens(atlas, corpus, rows)
    bounds = np.linspace(0, len(atlas), splits + 1).astype(np.int64).tolist()
    place = Path(folder)
    with atomic_folder(place) as temporary, track("export", len(atlas), progress, unit="features") as advance:
        module = temporary / site
        module.mkdir()
        for first, last in itertools.pairwise(bounds):
            arrays = _entries(atlas, rows, first, last)
            write_arrays(module / f"{first}_{last - 1}.safetensors", {**arrays, "tokens": tokens})
            advance(last - first)
        write_json(module / "config.json", _config(atlas, corpus, length, splits))
        (module / "tokenizer.json").write_text(json.dumps(_tokenizer(names), ensure_ascii=False), "utf-8")
    return place / site


class _Rows:
    """Where the frames of the clips lie in rows of equal length; no row holds two clips."""

    def __init__(self, atlas: Atlas, length: int) -> None:
        self.length = length
        self.starts = atlas.clips.starts
        self.n_frames = np.diff(atlas.clips.bounds)
        per_clip = -(-self.n_frames // length)
        self.first = np.concatenate(([0], np.cumsum(per_clip)))

    def of(self, frames: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row of each frame (counted from the corpus's first), and its place in it."""
        clip = np.searchsorted(self.starts, frames, side="right") - 1
        row, place = np.divmod(frames - self.starts[clip], self.length)
        return self.first[clip] + row, place


def _entries(atlas: Atlas, rows: _Rows, first: int, last: int) -> dict[str, npt.NDArray[Any]]:
    """`locations` and `activations` of features `first:last`, ordered by row, place and feature."""
    counts = atlas.postings.counts(first, last)
    feature = np.repeat(np.arange(last - first), counts)
    frames = np.empty(len(feature), dtype=np.int64)
    values = np.empty(len(feature), dtype=np.float32)
    stops = np.cumsum(counts)
    for number in range(first, last):
        here = slice(int(stops[number - first] - counts[number - first]), int(stops[number - first]))
        frames[here], values[here] = atlas.postings[number]
    if len(values) and float(values.max()) > LARGEST:
        raise InputError(
            f"Feature {first + int(feature[values.argmax()])} reaches {values.max():.3g}, and delphi's float16 only "
            f"{LARGEST:g}; this atlas cannot be written for delphi."
        )
    order = np.lexsort((feature, frames))
    row, place = rows.of(frames[order])
    locations = np.stack([row, place, feature[order]], axis=1)
    small = locations.max(initial=0) < 1 << 16
    return {
        "locations": locations.astype(np.uint16 if small else np.uint32),
        "activations": values[order].astype(np.float16),
    }


def _tokens(atlas: Atlas, corpus: Corpus, rows: _Rows) -> tuple[npt.NDArray[np.int32], list[str]]:
    """`[rows, length]` a token for every frame, and what the tokens are called."""
    names = {PADDING: 0, SOUND: 1, PAUSE: 2}
    found = np.zeros((int(rows.first[-1]), rows.length), dtype=np.int32)
    clips = {clip.clip_id: clip for clip in corpus}
    for number, clip_id in enumerate(atlas.clip_ids):
        clip, n_frames = clips[clip_id], int(rows.n_frames[number])
        phones = clip.tier("phones")
        labels = [names.setdefault(f" {phone.label}", len(names)) for phone in phones]
        of_frame = phone_of_frames(clip, atlas.clock, n_frames)
        token = np.array([*labels, names[PAUSE if phones else SOUND]])[of_frame]  # −1, no phone, takes the last
        padded = found[rows.first[number] : rows.first[number + 1]].reshape(-1)
        padded[:n_frames] = token
    return found, list(names)


def _config(atlas: Atlas, corpus: Corpus, length: int, splits: int) -> dict[str, Any]:
    return {
        "dataset_repo": corpus.name,
        "dataset_split": "all",
        "dataset_name": "",
        "dataset_column": "phones",
        "batch_size": 1,
        "cache_ctx_len": length,
        "n_tokens": int(atlas.meta["n_frames"]),
        "n_splits": splits,
        "model_name": str(atlas.meta["model"].get("model") or "model"),
    }


def _tokenizer(names: list[str]) -> dict[str, Any]:
    """A tokenizer of Hugging Face's kind that names each token and joins names as they are."""
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, "content": PADDING, **added}],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {name: number for number, name in enumerate(names)},
            "unk_token": SOUND,
        },
    }
