"""The models that OpenAI released: their names in openai-whisper and on the Hub, and their alignment heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_SIZES = ("tiny", "base", "small", "medium")
_RELEASED = (*(f"{size}{tongue}" for size in _SIZES for tongue in ("", ".en")), "large-v1", "large-v2", "large-v3")
_SYNONYMS = {"large": "large-v3", "turbo": "large-v3-turbo"}
_HUB_PREFIX = "openai/whisper-"
_HUB_EXCEPTIONS = {"large-v1": "openai/whisper-large"}


def released_names() -> tuple[str, ...]:
    """The names that openai-whisper's `load_model` understands."""
    return (*_RELEASED, "large-v3-turbo", *_SYNONYMS)


def released_name(text: str) -> str | None:
    """Return the released model that `tiny`, `whisper-tiny` or `turbo` means; None for any other text."""
    name = text.removeprefix("whisper-")
    name = _SYNONYMS.get(name, name)
    return name if name in released_names() else None


def hub_name(name: str) -> str:
    """Return where a released model is on the Hugging Face Hub."""
    name = _SYNONYMS.get(name, name)
    return _HUB_EXCEPTIONS.get(name, f"{_HUB_PREFIX}{name}")


def cache_of_openai() -> Path:
    """The folder into which openai-whisper downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper"


def in_cache_of_openai(name: str) -> Path | None:
    """Return the file that openai-whisper has downloaded for a released model, if there is one."""
    file = cache_of_openai() / f"{name}.pt"
    return file if file.is_file() else None


def last_half(n_layers: int, n_heads: int) -> list[list[int]]:
    """Return `[layer, head]` of all heads of the later half of a decoder: what openai-whisper aligns words by when
    nobody has chosen heads."""
    return [[layer, head] for layer in range(n_layers // 2, n_layers) for head in range(n_heads)]


def heads_of_released_model(name: str, n_layers: int, n_heads: int) -> list[list[int]] | None:
    """Return the alignment heads that openai-whisper gives for one of its own files (`base.en` for `base.en.pt`);
    None where the name or the sizes are not of a released model."""
    size, numbers = _RELEASED_HEADS.get(name, (0, ()))
    if size != n_layers * n_heads:
        return None
    return [list(divmod(number, n_heads)) for number in numbers]


def _heads(size: int, numbers: str) -> tuple[int, Sequence[int]]:
    return size, [int(number) for number in numbers.split()]


_RELEASED_HEADS: dict[str, tuple[int, Sequence[int]]] = {
    "tiny.en": _heads(24, "6 12 17 18 19 20 21 22"),
    "tiny": _heads(24, "14 18 20 21 22 23"),
    "base.en": _heads(48, "27 39 41 45 47"),
    "base": _heads(48, "25 34 35 39 41 42 44 46"),
    "small.en": _heads(144, "78 84 87 92 98 101 103 108 112 116 118 120 121 122 123 126 131 134 136"),
    "small": _heads(144, "63 69 96 100 103 104 108 115 117 125"),
    "medium.en": _heads(384, "180 225 236 238 244 256 260 265 284 286 295 298 303 320 323 329 334 348"),
    "medium": _heads(384, "223 244 255 257 320 372"),
    "large-v1": _heads(640, "199 222 224 237 447 451 457 462 475"),
    "large-v2": _heads(
        640, "212 277 331 332 333 355 356 364 371 379 391 422 423 443 449 452 465 467 473 505 521 532 555"
    ),
    "large-v3": _heads(640, "140 217 258 272 321 354 391 424 481 506"),
    "large-v3-turbo": _heads(80, "44 51 63 66 71 74"),
}
"""Decoder heads in all, and the numbers (layer times heads plus head) of those that follow the words."""
