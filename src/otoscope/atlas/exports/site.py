"""An atlas as a folder of web pages that any web host or object store serves: no program of ours runs behind them.

- `index.html`, `app/`: the pages and the parts of the browser app that they use, libraries and their licences included.
- `data/site.json`: what was exported, the classes with features, who made the sound.
- `data/rows/NNNNN.bin`: the features, best F1 first, `ROWS` of them in a file, one column after the other.
- `data/labels/C.json`: the features of class C, best first.
- `data/features/DDD/NNNNN.json`: all that is shown of `PAGES` features, by number: scores, words, histogram, moments.
- `sounds/CLIP/W.{ogg,wav}`, `.mel`: `WINDOW_S` of a clip from second `W·STEP_S` on, only where a moment lies in it; so
  all features share them, and they never take more than twice the corpus.
- `sounds/LICENCE.txt`: who made the sound and what it may be used for; every page links it.

No file grows with the number of features, nothing is fetched from elsewhere, and what is shown depends on what is
looked at: an atlas of a million features is browsed like a small one.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.exports.belonging import check_belong
from otoscope.atlas.exports.site_credits import PLACE, credits_page
from otoscope.atlas.exports.site_pages import Pages, figure
from otoscope.atlas.exports.site_sounds import AUDIO, STEP_S, WINDOW_S, SoundWriter
from otoscope.atlas.format import LABELS
from otoscope.errors import InputError
from otoscope.progress import ProgressReport, track
from otoscope.storage import atomic_folder

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.interpretation.reading import Interpretations
    from otoscope.audio import Corpus

ROWS = 2000
"""Features in one file of the table."""
PAGES = 8
"""Features in one file of pages; a thousand such files are in a folder."""
PER_LABEL = 500
"""Features listed under a class at most."""
COLUMNS = (
    ("feature", "<u4"), ("label", "<i4"), ("f1", "<f4"), ("f1_low", "<f4"), ("f1_high", "<f4"), ("density", "<f4"),
    ("max", "<f4"),
)  # fmt: skip
"""What a row of the table holds; `label` is a number of `classes`, −1 for none."""
_IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")
_ENTRY = "app.js"

Ints = npt.NDArray[np.int64]


def export_site(
    atlas: Atlas,
    corpus: Corpus,
    folder: str | os.PathLike[str],
    *,
    features: str | int = "labelled",
    audio: str = "opus",
    licence: str = "",
    examples: int = 12,
    n_mels: int | None = None,
    interpretations: Interpretations | None = None,
    progress: bool | ProgressReport = False,
) -> Path:
    """Write an atlas as web pages; look at them with `python -m http.server --directory FOLDER`.

    Args:
        atlas: what to show.
        corpus: the one it was built over, for its sound, words and phones.
        folder: where to; it is replaced as a whole.
        features: "all" that ever fire, "labelled" ones, or how many of the best.
        audio: "opus" (small), "wav" (plays in every browser) or "none".
        licence: who made the sound and what it may be used for, shown with it; the corpus's own words if not given.
            Besides, what the clips' attributes say is shown.
        examples: strongest moments of each feature; fewer of the other kinds.
        n_mels: mel bands of the model that heard the sound; 80 if not given.
        interpretations: explanations of the atlas's features, to be shown on their pages; none if not given.
        progress: True for a bar, False for silence, or a function called as `report(stage, done, total)`.

    Raises:
        InputError: the corpus is another one, no feature is left, or an option that does not exist.
    """
    if audio not in AUDIO:
        raise InputError(f"There is no sound as {audio!r}; choose one of {', '.join(AUDIO)}.")
    if examples < 1:
        raise InputError(f"At least one moment of each feature is shown, got {examples}.")
    chosen = chosen_features(atlas, features)
    check_belong(atlas, corpus)
    place = Path(folder)
    with atomic_folder(place) as temporary:
        for name, content in app_files():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        data = temporary / "data"
        data.mkdir()
        order = _write_rows(atlas, chosen, data / "rows")
        classes = _write_labels(atlas, chosen, data / "labels")
        pages = Pages(atlas, corpus, chosen, examples, STEP_S, interpretations)
        _write_pages(pages, chosen, data / "features", progress)
        sounds = SoundWriter(audio, n_mels or 80)
        with track("sounds", len(pages.windows), progress, unit="clips") as advance:
            for clip in sorted(pages.windows):
                windows = sorted(pages.windows[clip])
                sounds.write(corpus.get(atlas.clips.ids[clip]), windows, temporary / "sounds" / str(clip))
                advance(1)
        licence = licence or corpus.licence
        exported = [(clip, atlas.clips.ids[clip]) for clip in sorted(pages.windows)]
        (temporary / PLACE).parent.mkdir(exist_ok=True)
        (temporary / PLACE).write_text(credits_page(corpus, licence, exported, WINDOW_S), "utf-8")
        about = _about(atlas, corpus, licence, audio, n_mels or 80, len(order))
        _write_json(data / "site.json", {**about, "classes": classes, "credits": pages.credits})
    return place


def chosen_features(atlas: Atlas, which: str | int) -> Ints:
    """Return the numbers of the features to export, ascending.

    Raises:
        InputError: neither "all", "labelled" nor a number, or no feature is left.
    """
    alive = np.flatnonzero(~atlas.column("dead"))
    f1 = np.nan_to_num(atlas.column("f1")[alive], nan=-1.0)
    if which == "all":
        kept = alive
    elif which == "labelled":
        kept = alive[atlas.column("label")[alive] >= 0]
    elif str(which).isdecimal() and int(which) > 0:
        kept = np.sort(alive[np.argsort(-f1, kind="stable")[: int(which)]])
    else:
        raise InputError(f"There are no features {which!r}; give all, labelled, or how many of the best.")
    if not len(kept):
        raise InputError(f"Atlas {atlas.name!r} has no such features ({which}); try --features all.")
    return kept


def app_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the pages: our own, and those parts of the browser app that they import, one from another."""
    package = importlib.resources.files("otoscope")
    places = (package / "atlas" / "exports" / "site_web", package / "server" / "web")

    def read(name: str) -> bytes:
        for place in places:
            if (found := place.joinpath(*name.split("/"))).is_file():
                return found.read_bytes()
        raise InputError(f"The installation of Otoscope lacks {name}; install it again.")

    waiting, known = [_ENTRY], {_ENTRY}
    while waiting:
        name = waiting.pop()
        content = read(name)
        yield f"app/{name}", content
        for imported in _IMPORT.findall(content.decode()):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), imported))
            if path not in known:
                known.add(path)
                waiting.append(path)
    for name in ("style.css", "site.css", "favicon.svg"):
        yield f"app/{name}", read(name)
    for library in sorted({posixpath.dirname(name) for name in known if name.startswith("vendor/")}):
        yield f"app/{library}/LICENSE", read(f"{library}/LICENSE")
    yield "index.html", read("index.html")


def _write_rows(atlas: Atlas, chosen: Ints, folder: Path) -> Ints:
    """Write the table, best F1 first, and return the order."""
    folder.mkdir()
    order = chosen[np.argsort(-np.nan_to_num(atlas.column("f1")[chosen], nan=-1.0), kind="stable")]
    columns = {name: order if name == "feature" else atlas.column(name)[order] for name, _ in COLUMNS}
    for number, start in enumerate(range(0, len(order), ROWS)):
        part = b"".join(columns[name][start : start + ROWS].astype(kind).tobytes() for name, kind in COLUMNS)
        (folder / f"{number:05d}.bin").write_bytes(part)
    return order


def _write_labels(atlas: Atlas, chosen: Ints, folder: Path) -> list[dict[str, Any]]:
    """Write the features of every class, and return the classes that have some."""
    folder.mkdir()
    file = atlas.sealed.arrays(LABELS)
    feature = np.repeat(np.arange(len(atlas)), np.diff(file.read("indptr")))
    names = ("class", "f1", "f1_low", "f1_high", "q_value")
    columns = {name: file.read(name) for name in names}
    kept = np.flatnonzero(np.isin(feature, chosen) & (columns["q_value"] <= 0.05))
    best_first = kept[np.lexsort((-columns["f1"][kept], columns["class"][kept]))]
    number = columns["class"][best_first]
    found = []
    for rows in np.split(best_first, np.flatnonzero(np.diff(number)) + 1):
        if not len(rows):
            continue
        label, kind = atlas.classes[int(columns["class"][rows[0]])]
        listed = [
            [int(feature[i]), *(figure(columns[name][i]) for name in ("f1", "f1_low", "f1_high")),
             figure(atlas.column("density")[feature[i]]), figure(atlas.column("max")[feature[i]])]
            for i in rows[:PER_LABEL].tolist()
        ]  # fmt: skip
        _write_json(folder / f"{int(columns['class'][rows[0]])}.json", listed)
        found.append(
            {
                "number": int(columns["class"][rows[0]]),
                "label": label,
                "kind": kind,
                "n_features": len(rows),
                "best_f1": listed[0][1],
            }
        )
    return found


def _write_pages(pages: Pages, chosen: Ints, folder: Path, progress: bool | ProgressReport) -> None:
    with track("pages", len(chosen), progress, unit="features") as advance:
        parts = np.split(chosen, np.flatnonzero(np.diff(chosen // PAGES)) + 1)
        for part in parts:
            number = int(part[0]) // PAGES
            place = folder / f"{number // 1000:03d}"
            place.mkdir(parents=True, exist_ok=True)
            _write_json(place / f"{number:05d}.json", {str(feature): pages.page(feature) for feature in part.tolist()})
            advance(len(part))


def _about(atlas: Atlas, corpus: Corpus, licence: str, audio: str, n_mels: int, n_features: int) -> dict[str, Any]:
    from otoscope import __version__

    meta = atlas.meta
    return {
        "format": "otoscope-site",
        "version": 1,
        "otoscope": __version__,
        "name": atlas.name,
        "model": str(meta["model"].get("model") or meta["model"].get("name") or ""),
        "site": meta["site"],
        "dictionary": meta["dictionary"],
        "corpus": meta["corpus"]["name"],
        "frame_s": meta["frame_s"],
        "n_frames": meta["n_frames"],
        "n_clips": meta["n_clips"],
        "n_in_atlas": len(atlas),
        "n_features": n_features,
        "n_units": len(atlas) // 2 if atlas.units is not None else None,
        "rows": ROWS,
        "pages": PAGES,
        "columns": [[name, kind] for name, kind in COLUMNS],
        "window_s": WINDOW_S,
        "n_mels": n_mels,
        "audio": AUDIO[audio],
        "licence": licence,
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False), "utf-8")
