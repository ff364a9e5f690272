"""The files of an atlas: format "otoscope-atlas", version 2.

An atlas is a sealed folder (`otoscope.storage.sealed`): a byte that changed is found when it is first read. Arrays lie
in safetensors files and are mapped into memory; frames are counted from the corpus's first frame, clip after clip.

- `meta.json`: model, dictionary, corpus, site, clock, counts, label kinds, options, parts, list of files; sealed.
  `meta.copy.json`: the same once more. `checks.bin`: checksums of every 64 KiB of all other files.
- `clips.safetensors`: `clip_id`, `speaker`, `fingerprint` (texts), `first_frame [b]`, `n_frames [b]`, `half [b]`
  (0 chose labels, 1 scored them).
- `codes/NNNNN.safetensors`: frame → features, for a run of whole clips: `indptr [t + 1]`, `features`, `values`
  (features ascending within a frame), `measures [t, 4]` (see `otoscope.atlas.building.measures`).
- `postings/NNNNN.safetensors`: feature → frames, for a run of features: `indptr [m + 1]`, `frames`, `values` (frames
  ascending within a feature). The same entries as in `codes`, the other way round; either gives the other. Features
  with very many entries (`heavy [h]`) also have a clip list: `clip_indptr [h + 1]`, `clip`, `clip_first` (the first
  entry in the clip, counted from the feature's first), `peak_frame`, `peak`.
- `features.safetensors`: one column per statistic, `[n, …]`. Relations, `[n, 10]`, −1 for none: `neighbours` (nearest
  decoder rows; for neurons and PCA whose values correlate; absent beyond `otoscope.atlas.building.neighbours.MAX_EXACT`
  features) with `neighbour_cosines`; `cofiring` (who fires in the same frames) with `cofiring_pmi`, `cofiring_share`.
- `labels.safetensors`: `indptr [n + 1]` and one column per figure: the scored (feature, class) pairs, best first.
- `bands.safetensors`: `indptr [n + 1]` and further labels of each feature: `role` 0 a class in a band of values
  (`band_low` < value ≤ `band_high`), 1 the union of a few classes; `step` their order; `members [r, 4]` classes (−1
  none), figures, `passes`.
- `acoustics.safetensors`: `correlation`, `low`, `high`, `partial` `[n, 4]` with energy, tilt, voicing, pitch, and
  `explained [n]` (see `otoscope.atlas.labels.acoustic`).
- `classes.safetensors`: `label`, `kind` (texts) and one column per figure.
- `totals.safetensors`: of dense dictionaries, `floors` and what was counted of frames below them
  (`otoscope.atlas.building.totals`).
- `frames/NNNNN.safetensors`: `classes [t, kinds]` int16, what every frame is in each kind of label, cut as `codes`.

Dense dictionaries keep only entries above each feature's floor (`postings_from`); sparse ones keep every active one.
"""

from __future__ import annotations

from pathlib import Path

from otoscope.storage.sealed import SealedFolder

FORMAT, VERSION = "otoscope-atlas", 2
BANDS, ACOUSTICS = "bands.safetensors", "acoustics.safetensors"
CLIPS, FEATURES, LABELS, CLASSES, TOTALS = (
    "clips.safetensors",
    "features.safetensors",
    "labels.safetensors",
    "classes.safetensors",
    "totals.safetensors",
)
PART_FRAMES = 1 << 16
"""A part of `codes` is closed with the clip that fills this many frames (22 minutes)…"""
PART_ENTRIES = 1 << 21
"""…or this many entries; a part of `postings` with the feature that fills as many."""

HEAVY_ENTRIES, HEAVY_PER_CLIP = 1 << 14, 4
"""A feature with at least as many entries, and as many for each clip where it is active, gets a clip list."""


def codes_part(number: int) -> str:
    """Name of a part of `codes`."""
    return f"codes/{number:05d}.safetensors"


def frames_part(number: int) -> str:
    """Name of a part of `frames`."""
    return f"frames/{number:05d}.safetensors"


def postings_part(number: int) -> str:
    """Name of a part of `postings`."""
    return f"postings/{number:05d}.safetensors"


def open_folder(folder: Path, *, lenient: bool = False) -> SealedFolder:
    """Open the sealed folder of an atlas.

    Raises:
        OtoscopeError: not an atlas, of another version, or damaged.
    """
    return SealedFolder(folder, format=FORMAT, version=VERSION, lenient=lenient)
