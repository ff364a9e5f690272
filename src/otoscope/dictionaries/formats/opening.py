"""Dictionaries of every format: which there are, what a folder or a file is taken for, and how it is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from otoscope.dictionaries.autoencoder import Normalisation
from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.formats import dictionary_learning, freud, openai, saelens, sparsify, whisper_sae
from otoscope.dictionaries.formats.found import Found, Given, look
from otoscope.errors import InputError, OtoscopeError, nearest


@dataclass(frozen=True)
class Format:
    """One way in which dictionaries are kept in files."""

    name: str
    title: str
    recognise: Callable[[Found], bool]
    load: Callable[[Found, Given], Dictionary]
    save: Callable[[Dictionary, str | os.PathLike[str], Tensor | None], None] | None = None
    """Writes a folder; the tensor is how often each feature is active."""


_ROWS = (
    Format("saelens", "a SAELens folder", saelens.is_saelens, saelens.load_folder, save=saelens.export),
    Format("sparsify", "a folder of sparsify", sparsify.is_sparsify, sparsify.load_sparsify),
    Format("freud", "a checkpoint of FREUD", freud.is_freud, freud.load_freud),
    Format("er537", "a checkpoint of er537/whisper_interpretability", freud.is_er537, freud.load_er537),
    Format("openai", "a file of OpenAI's sparse_autoencoder", openai.is_openai, openai.load_openai),
    Format("audiosae", "a dictionary of AudioSAE", dictionary_learning.is_audiosae, dictionary_learning.load_audiosae),
    Format(
        "dictionary_learning",
        "a folder of dictionary_learning",
        dictionary_learning.is_dictionary_learning,
        dictionary_learning.load_dictionary_learning,
        save=lambda dictionary, folder, _: dictionary_learning.save_dictionary_learning(dictionary, folder),
    ),
    Format("whisper-sae", "weights of whisper-sae", whisper_sae.is_version_2, whisper_sae.load_version_2),
    Format("whisper-sae-v1", "weights of whisper-sae 1", whisper_sae.is_version_1, whisper_sae.load_version_1),
)
FORMATS = {row.name: row for row in _ROWS}
"""Every format by name, in the order in which a path is held against them."""


def load_dictionary(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    site: str | None = None,
    k: int | None = None,
    threshold: float | None = None,
    normalisation: Normalisation | None = None,
) -> Dictionary:
    """Open a dictionary: Otoscope's or SAELens' own, or one that another program trained.

    Nothing in a file is ever run. What a foreign file was taken for, and what had to be assumed, is in
    `metadata["imported"]`. Sizes come from the tensors.

    Args:
        path: a folder, a file of weights, or a training run with `checkpoints/`.
        format: a name of `FORMATS`; None: found out.
        site: where its activations come from, if the files do not say or say it wrongly.
        k: features active in each frame, if the files do not say.
        threshold: above which features are active, for a BatchTopK dictionary without one.
        normalisation: what is done to every frame first, if the files do not say.

    Raises:
        InputError: there is nothing there, or nothing that can be recognised; an unknown format, or one that the
            files are not of.
        OtoscopeError: it is damaged, or of an architecture that cannot be read here.
    """
    found = look(Path(path))
    row = _row(found, format)
    given = Given(site, k, threshold, normalisation)
    try:
        dictionary = row.load(found, given)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, OtoscopeError):
            raise
        raise OtoscopeError(f"{path} is not a complete dictionary of the format {row.name} ({error}).") from error
    if row.name != "saelens":
        dictionary.metadata["imported"] = {"format": row.name, "from": found.path.name, "notes": found.notes}
    return dictionary


def recognise(path: str | os.PathLike[str]) -> Format:
    """Return the format of what lies at `path`.

    Raises:
        InputError: nothing there is a dictionary of a known format.
        OtoscopeError: it is damaged.
    """
    return _row(look(Path(path)), None)


def save_as(
    dictionary: Dictionary, folder: str | os.PathLike[str], format: str, *, density: Tensor | None = None
) -> None:
    """Write a dictionary in a format of another program, what that program takes for granted folded into the weights.

    Args:
        dictionary: of an architecture that the program has.
        folder: where to; replaced as a whole.
        format: `saelens` or `dictionary_learning`.
        density: `[n]`, the share of frames in which each feature is active, for SAELens.

    Raises:
        InputError: no such format, one that is only read, or an architecture that the program does not have.
    """
    row = _named(format)
    if row.save is None:
        written = ", ".join(name for name, each in FORMATS.items() if each.save)
        raise InputError(f"Dictionaries of the format {format!r} are read but not written; choose {written}.")
    row.save(dictionary, folder, density)


def _row(found: Found, name: str | None) -> Format:
    if name is not None:
        row = _named(name)
        if not row.recognise(found):
            looks = next((each.name for each in FORMATS.values() if each.recognise(found)), None)
            raise InputError(
                f"{found.path} is not {row.title}" + (f"; it looks like {FORMATS[looks].title}." if looks else ".")
            )
        return row
    for row in FORMATS.values():
        if row.recognise(found):
            return row
    raise InputError(_strange(found))


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"There is no format {name!r}; known are {', '.join(FORMATS)}{nearest(name, FORMATS) or '.'}")
    return FORMATS[name]


def _strange(found: Found) -> str:
    """Say what lies there instead, and which format comes closest."""
    if found.file is None:
        names = sorted(each.name for each in found.folder.iterdir())[:6] if found.folder.is_dir() else []
        return (
            f"{found.path} is no dictionary of a known format: there is no sae_weights.safetensors, sae.safetensors or "
            f"file of torch.save, but {', '.join(names) or 'nothing'}."
        )
    if not found.shapes:
        return f"{found.file} holds no table of weights, as checkpoints of {', '.join(FORMATS)} do."
    closest = max(
        _NAMES, key=lambda name: len(_NAMES[name] & set(found.shapes)) / len(_NAMES[name] | set(found.shapes))
    )
    listed = ", ".join(sorted(found.shapes)[:6])
    missing = ", ".join(sorted(_NAMES[closest] - set(found.shapes))) or "nothing"
    return (
        f"{found.file} holds weights called {listed}, which is no known format; the nearest is {closest} "
        f"(missing: {missing})."
    )


_NAMES = {
    "freud": {"encoder.weight", "encoder.bias", "W_dec", "b_dec"},
    "er537": {"encoder_bias", "decoder.weight"},
    "openai": {"pre_bias", "latent_bias", "encoder.weight", "decoder.weight"},
    "dictionary_learning": {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec"},
    "whisper-sae": {"b_pre", "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"},
}
"""Names of weights by which the nearest format is found."""
