"""What lies at a path, read once, so that every format can say whether it is its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from otoscope.dictionaries.autoencoder import Normalisation
from otoscope.dictionaries.formats.unpickling import StoredTensor, read_tensors, read_torch_file
from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.models.sites import parse_site

_CONFIGS = ("cfg.json", "config.json")
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_PREFERRED = ("ae.pt", "bestval.pth", "sae_final.pt", "final.pt")
"""Files of a training run that hold the dictionary rather than a step on the way there."""
GENERIC = {"ae", "bestval", "sae_final", "final", "sae", "sae_weights", "checkpoints"}
"""Names of files and folders that every run has."""


@dataclass(frozen=True)
class Given:
    """What a caller says of a dictionary that its files leave open, or say wrongly; None: what they say."""

    site: str | None = None
    k: int | None = None
    threshold: float | None = None
    normalisation: Normalisation | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """A folder or a file, its configuration, and what a file of `torch.save` in it holds.

    Attributes:
        path: as it was given.
        folder: where the files lie.
        config: of `cfg.json` or `config.json`; empty without.
        file: the file of `torch.save`; None without.
    """

    path: Path
    folder: Path
    config: Mapping[str, Any]
    file: Path | None
    notes: list[str] = field(default_factory=list)
    """What a loader assumed where the files leave something open; kept in the dictionary's metadata."""

    @property
    def name(self) -> str:
        """How the dictionary is called: like its file or folder, or what they lie in where those names say nothing."""
        place = self.path.resolve()
        stems = [place.stem if self.path.is_file() else place.name, *(parent.name for parent in place.parents)]
        return next((stem for stem in stems if stem and stem not in GENERIC), "dictionary")

    @cached_property
    def held(self) -> Any:
        """What the file of `torch.save` holds, tensors still on disk; None without such a file."""
        return None if self.file is None else read_torch_file(self.file)

    @cached_property
    def table(self) -> Mapping[str, Any]:
        """The table of weights in the file: the whole, or what lies under "model" or "model_state_dict"."""
        held = self.held
        for key in ("model", "model_state_dict", "state_dict"):
            if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
                return dict(held[key])
        return dict(held) if isinstance(held, Mapping) else {}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor in `table`."""
        return {str(key): value.shape for key, value in self.table.items() if isinstance(value, StoredTensor)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the file of `torch.save` as float32 (counters as they are)."""
        assert self.file is not None
        read = read_tensors(self.table, self.file)
        return {key: value.float() if value.is_floating_point() else value for key, value in read.items()}

    def has(self, *names: str) -> bool:
        """Whether the table of weights has all these entries."""
        return all(name in self.shapes for name in names)


def look(path: Path) -> Found:
    """Return what lies at `path`: a folder of a dictionary, one of its files, or a run with `checkpoints/`.

    Raises:
        InputError: there is nothing, or several files and none that stands out.
        OtoscopeError: the configuration is damaged.
    """
    if not path.exists():
        raise InputError(f"There is no dictionary at {path}.")
    folder = path if path.is_dir() else path.parent
    file = path if path.suffix in _TORCH else None
    if path.is_dir():
        file = _only_file(path)
    if file is not None:
        folder = file.parent
    return Found(path, folder, _config(folder), file)


def _only_file(folder: Path) -> Path | None:
    """The file of `torch.save` in a folder; a run keeps them in `checkpoints/`."""
    for place in (folder, folder / "checkpoints"):
        files = sorted(each for each in place.glob("*") if each.suffix in _TORCH) if place.is_dir() else []
        preferred = [each for name in _PREFERRED for each in files if each.name == name]
        if preferred or len(files) == 1:
            return (preferred or files)[0]
        if files and not (folder / _CONFIGS[0]).is_file():
            names = ", ".join(each.name for each in files[:5])
            raise InputError(f"{place} holds {len(files)} files of weights ({names}, …); name one of them.")
    return None


def _config(folder: Path) -> Mapping[str, Any]:
    for name in _CONFIGS:
        path = folder / name
        if path.is_file():
            return read_config(path)
    return {}


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file.

    Raises:
        OtoscopeError: it is damaged.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise OtoscopeError(f"{path} is damaged: expected an object.")
    return config


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        OtoscopeError: it is missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError:
        raise OtoscopeError(f"{path.parent} has no {path.name}: the dictionary is incomplete.") from None
    except (OSError, SafetensorError) as error:
        raise OtoscopeError(f"{path} is damaged and cannot be read ({error}).") from error


def site_of(given: Given, *names: object) -> str:
    """Return the canonical name of a site: the caller's, else the first of other systems' names that means one.

    A name that means none is kept as it is (the dictionary can then be used everywhere but inside a model).

    Raises:
        InputError: the caller's own name is none.
    """
    if given.site is not None:
        return str(parse_site(given.site))
    texts = [str(name) for name in names if name]
    for text in texts:
        for spelling in (text, f"encoder.{text}"):
            try:
                return str(parse_site(spelling))
            except InputError:
                continue
    return texts[0] if texts else ""


def whole_number(value: object, what: str, path: Path) -> int:
    """Return a size that a file names.

    Raises:
        OtoscopeError: it is missing or no positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OtoscopeError(f"{path} says {what} = {value!r}, which is no positive whole number.")
    return value


def need_k(given: Given, said: object, found: Found) -> int:
    """Return how many features are active in each frame.

    Raises:
        InputError: neither the file nor the caller says.
    """
    if given.k is not None:
        return given.k
    if said is None:
        raise InputError(
            f"{found.path} does not say how many features are active in each frame; give k (--k on the command line)."
        )
    return whole_number(said, "k", found.path)


def unknown_kind(found: Found, what: str, kind: object, known: Mapping[str, Any]) -> OtoscopeError:
    """Return the error for an architecture of a known format that cannot be read here."""
    return OtoscopeError(
        f"{found.path} holds {what} {kind!r}, which cannot be read here; known are {', '.join(sorted(known))}"
        f"{nearest(str(kind), known) or '.'}"
    )
