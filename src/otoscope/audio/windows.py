"""Cutting long audio into windows: everything is covered once, nothing is dropped."""

from __future__ import annotations

from dataclasses import dataclass

from otoscope.errors import InputError


@dataclass(frozen=True)
class Window:
    """`n_samples` samples of real audio from `start_sample`; the last window may be shorter."""

    start_sample: int
    n_samples: int


def cut_windows(n_samples: int, window_samples: int) -> list[Window]:
    """Cut `n_samples` into consecutive windows of at most `window_samples`, without gap or overlap.

    Raises:
        InputError: there is nothing to cut, or the window is not positive.
    """
    if n_samples < 1:
        raise InputError(f"Cannot cut {n_samples} samples into windows: the audio is empty.")
    if window_samples < 1:
        raise InputError(f"A window must have at least 1 sample, not {window_samples}.")
    return [Window(start, min(window_samples, n_samples - start)) for start in range(0, n_samples, window_samples)]
