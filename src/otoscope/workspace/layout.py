"""Where things lie in a workspace, and how they are found by name.

```
otoscope.toml      format, version, model
corpora/<name>     stores/<name>     dictionaries/<name>     atlases/<name>     scorecards/<dictionary>
notes.sqlite       people's labels and notes of features
interpretations/   <atlas>.jsonl: what `otoscope interpret` found of an atlas's features
stages/            what each finished stage was made from (see `stages.py`)
```
"""

from __future__ import annotations

import json
import os
import re
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.storage import atomic_path

if TYPE_CHECKING:
    from otoscope.activations import ActivationStore
    from otoscope.atlas import Atlas
    from otoscope.atlas.interpretation.reading import Interpretations
    from otoscope.atlas.notes import Notes
    from otoscope.audio import Clip, Corpus
    from otoscope.dictionaries import Dictionary
    from otoscope.evaluation.scorecard import Scorecard
    from otoscope.models import SpeechModel

T = TypeVar("T")

FORMAT, VERSION = "otoscope-workspace", 1
SETTINGS = "otoscope.toml"
NOTES = "notes.sqlite"
INTERPRETATIONS = "interpretations"
PEOPLE, EXPLANATIONS = "people's notes", "supported explanations"
"""What tells of features in words, beside the names of classes."""
DEFAULT_FOLDER = "otoscope-workspace"
DEFAULT_MODEL = "pocket"

KINDS: dict[str, tuple[str, str]] = {
    "corpora": ("corpus", "meta.json"),
    "stores": ("activation store", "meta.json"),
    "dictionaries": ("dictionary", "cfg.json"),
    "atlases": ("atlas", "meta.json"),
    "scorecards": ("scorecard", "scorecard.json"),
}
"""Folder of each kind → what one of them is called, and the file that says it is complete."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def as_name(text: str) -> str:
    """Turn any text into a valid name: lower case, and `-` for everything that is not `a-z 0-9 . _ -`."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip(".-_")
    return name or "unnamed"


@dataclass(frozen=True)
class Address:
    """A feature as it is written on the command line and in URLs: `DICTIONARY:INDEX`, e.g. `sae-2:30`."""

    dictionary: str
    index: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `sae-2:30`.

        Raises:
            InputError: the text is not of that form.
        """
        name, colon, index = text.rpartition(":")
        if not colon or not _NAME.fullmatch(name) or not index.isdecimal():
            raise InputError(
                f"{text!r} is not a feature; write DICTIONARY:INDEX, for example sae-2:30 "
                "(`otoscope search m` lists some)."
            )
        return cls(name, int(index))

    def __str__(self) -> str:
        return f"{self.dictionary}:{self.index}"


class Workspace:
    """A project folder; finds corpora, stores, dictionaries and atlases by name.

    Safe to share between threads.

    Raises:
        InputError: an unknown name (says the nearest ones), or a folder that is no workspace.
    """

    def __init__(self, folder: Path, model_name: str) -> None:
        self.folder = folder
        self.model_name = model_name
        self._lock = threading.RLock()
        self._opened: dict[tuple[str, ...], tuple[object, object]] = {}

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | None = None, create: bool = False, model: str | None = None
    ) -> Workspace:
        """Open the workspace at `path` (default: `$OTOSCOPE_WORKSPACE`, else `./otoscope-workspace`).

        With `create`, a missing workspace is made, for `model` (default `pocket`).

        Raises:
            InputError: there is none (without `create`), `path` is a file, or it was made with another model.
            OtoscopeError: its `otoscope.toml` is damaged or newer than this program.
        """
        folder = Path(path or os.environ.get("OTOSCOPE_WORKSPACE") or DEFAULT_FOLDER)
        settings = folder / SETTINGS
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, not a workspace folder; give another --workspace.")
        if settings.is_file():
            made_with = _read_settings(settings)
            if model is not None and _model_key(model) != _model_key(made_with):
                raise InputError(
                    f"The workspace {folder} was made with the model {made_with!r}, not {model!r}; "
                    "a workspace holds one model: give another --workspace."
                )
            return cls(folder, made_with)
        if not create:
            raise InputError(
                f"There is no workspace at {folder}; `otoscope demo` makes one, --workspace names another."
            )
        made_with = _model_key(model or DEFAULT_MODEL)
        _write_settings(settings, made_with)
        return cls(folder, made_with)

    def path(self, kind: str, name: str) -> Path:
        """Return the folder where the `kind` called `name` lies (or would lie)."""
        if kind not in KINDS:
            raise InputError(f"{kind!r} is not kept in a workspace; valid: {', '.join(KINDS)}.")
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not a valid name; use lower-case letters, digits, '.', '_' and '-', "
                f"for example {as_name(name)!r}."
            )
        return self.folder / kind / name

    def names(self, kind: str) -> list[str]:
        """Return the names of all complete corpora, stores, dictionaries or atlases, sorted."""
        folder = self.path(kind, "any").parent
        if not folder.is_dir():
            return []
        marker = KINDS[kind][1]
        return sorted(p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / marker).is_file())

    def model(self, *, device: str | None = None, dtype: str | None = None) -> SpeechModel:
        """Return the model of this workspace, loaded once."""
        from otoscope.models import load_model

        key = ("model", device or "", dtype or "")
        return self._once(key, None, lambda: load_model(self.model_name, device=device, dtype=dtype))

    def corpus(self, name: str) -> Corpus:
        """Return the corpus saved under `name`."""
        from otoscope.audio import Corpus

        return self._open("corpora", name, Corpus.load)

    def store(self, name: str) -> ActivationStore:
        """Return the activations saved under `name`."""
        from otoscope.activations import ActivationStore

        return self._open("stores", name, ActivationStore.open)

    def dictionary(self, name: str) -> Dictionary:
        """Return the dictionary saved under `name`."""
        from otoscope.dictionaries import load_dictionary

        return self._open("dictionaries", name, load_dictionary)

    def atlas(self, name: str) -> Atlas:
        """Return the atlas saved under `name`."""
        from otoscope.atlas import Atlas

        return self._open("atlases", name, Atlas.open)

    def scorecard(self, name: str) -> Scorecard:
        """Return the scorecard of the dictionary `name`."""
        from otoscope.evaluation.scorecard import Scorecard

        return self._open("scorecards", name, Scorecard.load)

    def notes(self) -> Notes:
        """Return people's labels and notes of features; they outlive atlases, and are made with the first note."""
        from otoscope.atlas.notes import Notes

        return self._once(("notes",), None, lambda: Notes(self.folder / NOTES))

    def interpretations(self, atlas: str) -> Interpretations | None:
        """Return what `otoscope interpret` has found of the features of an atlas; None where it never ran."""
        opened, path = self.atlas(atlas), self.folder / INTERPRETATIONS / f"{atlas}.jsonl"
        try:
            about = path.stat()
        except FileNotFoundError:
            return None
        from otoscope.atlas.interpretation.reading import Interpretations

        stamp = (about.st_mtime_ns, about.st_ino, about.st_size, id(opened))
        return self._once((INTERPRETATIONS, atlas), stamp, lambda: Interpretations(path, opened))

    def told(self, text: str, atlas: str) -> dict[str, dict[int, list[str]]]:
        """Return the features of an atlas that people's notes and supported explanations tell of with these words.

        By what tells, then by feature, what it says in one line: "note of Ann: …", "explained: …". This is where words
        are looked for beside the names of classes. A word of one or two letters stands for itself alone: such are
        phones, and begin many words.
        """
        short = [re.compile(rf"\b{word}\b", re.I) for word in re.findall(r"\w+", text) if len(word) <= 2]
        opened, kept = self.atlas(atlas), self.interpretations(atlas)
        noted: dict[int, list[str]] = {}
        for note in self.notes().search(text, fingerprint=str(opened.meta["dictionary"]["fingerprint"])):
            if note.feature.feature < len(opened) and all(word.search(note.current.text) for word in short):
                said = f"note of {note.current.editor}: {note.current.text}"
                line = " ".join("".join(c if c.isprintable() else " " for c in said).split())
                noted.setdefault(note.feature.feature, []).append(line)
        explained = {} if kept is None else kept.search(text)
        return {
            PEOPLE: dict(sorted(noted.items())),
            EXPLANATIONS: {each: [f"explained: {line}" for line in lines] for each, lines in explained.items()},
        }

    def dictionary_of(self, atlas: str) -> Dictionary:
        """Return the dictionary whose features the atlas describes."""
        return self.dictionary(str(self.atlas(atlas).meta["dictionary"]["name"]))

    def corpus_of(self, atlas: str) -> Corpus:
        """Return the corpus over which the atlas was built."""
        return self.corpus(str(self.atlas(atlas).meta["corpus"]["name"]))

    def clip(self, clip_id: str) -> Clip:
        """Return the clip with this id, from whichever corpus has it (first by name).

        Raises:
            InputError: no corpus has it; says the nearest ids.
        """
        corpora = [self.corpus(name) for name in self.names("corpora")]
        for corpus in corpora:
            if clip_id in corpus:  # type: ignore[comparison-overlap]  # ids are members too
                return corpus.get(clip_id)
        known = (clip.clip_id for corpus in corpora for clip in corpus)
        raise InputError(
            f"No clip {clip_id!r} in the workspace {self.folder} "
            f"({', '.join(c.name for c in corpora) or 'no corpora'}){nearest(clip_id, known) or '.'}"
        )

    def _open(self, kind: str, name: str, load: Callable[[Path], T]) -> T:
        folder = self.path(kind, name)
        noun, marker = KINDS[kind]
        try:
            stamp = (folder / marker).stat()
        except FileNotFoundError:
            known = self.names(kind)
            listed = f"; there are: {', '.join(known[:8])}" if known else f"; it has no {kind} yet"
            raise InputError(
                f"No {noun} {name!r} in the workspace {self.folder}{nearest(name, known) or listed}"
            ) from None
        return self._once((kind, name), (stamp.st_mtime_ns, stamp.st_ino), lambda: load(folder))

    def _once(self, key: tuple[str, ...], stamp: object, load: Callable[[], T]) -> T:
        """Return what `load` gives, kept until the file on disk (its `stamp`) changes."""
        with self._lock:
            kept = self._opened.get(key)
            if kept is None or kept[0] != stamp:
                kept = (stamp, load())
                self._opened[key] = kept
            return kept[1]  # type: ignore[return-value]

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.names(kind))} {kind}" for kind in KINDS)
        return f"Workspace({str(self.folder)!r}, model={self.model_name!r}, {counts})"


def _model_key(model: str) -> str:
    """A folder or file is remembered by its absolute path, so that the workspace works from everywhere."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _write_settings(path: Path, model: str) -> None:
    lines = {"format": FORMAT, "version": VERSION, "model": model}
    text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())
    with atomic_path(path) as temporary:
        temporary.write_text("# An Otoscope workspace: everything in it was made with this model.\n" + text, "utf-8")


def _read_settings(path: Path) -> str:
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if settings.get("format") != FORMAT or not isinstance(settings.get("model"), str):
        raise OtoscopeError(f"{path} is not an {FORMAT}: it must say format = {FORMAT!r} and a model.")
    if settings.get("version") != VERSION:
        raise OtoscopeError(f"{path} has version {settings.get('version')!r}; this program reads version {VERSION}.")
    return str(settings["model"])
