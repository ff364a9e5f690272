"""Filling a harvest: clips are decoded ahead, run through the model in batches, and written shard by shard.

Memory is that of a few clips and one batch, however long the corpus, the shards and the list of sites.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from otoscope.activations.journal import Journal
from otoscope.activations.shards import DTYPES, ShardWriter, shard_name
from otoscope.audio import Clip, Corpus
from otoscope.errors import InputError, OtoscopeError
from otoscope.models import Site, SpeechModel
from otoscope.progress import ProgressReport, track

_WORKERS = 2  # threads that decode while the model runs
_SECONDS_AHEAD = 900.0  # long clips are not decoded far ahead, so that memory stays bounded
_BATCH_FLOATS = 750 * 384  # as many activations per layer as a CPU core's cache holds: measured, not derived
_BATCH_WINDOWS_ON_GPU = 32


def batch_windows(model: SpeechModel) -> int:
    """Return how many windows a batch best holds on the model's device."""
    if model.device.type != "cpu":
        return _BATCH_WINDOWS_ON_GPU
    dims = model.dims
    return max(1, round(_BATCH_FLOATS / (dims.n_frames(dims.window_samples) * dims.d_model)))


def fill(
    journal: Journal,
    model: SpeechModel,
    corpus: Corpus,
    sites: Sequence[Site],
    progress: bool | ProgressReport,
) -> None:
    """Compute and write the shards that are missing.

    Raises:
        InputError: a clip that cannot be decoded, or values beyond the store's type.
        OtoscopeError: the disk is full, or the model computes NaN.
    """
    done = sum(len(shard["clips"]) for shard in journal.shards)
    with (
        track("harvest", len(corpus), progress, unit="clips", done=done) as advance,
        contextlib.closing(decoded_ahead(corpus.clips[done:])) as clips,
    ):
        while done < len(corpus):
            with _Shard(journal, model, sites) as shard:
                for clip in clips:
                    shard.add(clip)
                    full = shard.n_frames >= journal.job["shard_frames"]
                    if full or done + len(shard.clips) == len(corpus):
                        shard.finish()
                    advance(1)
                    if full:
                        break
            done += len(shard.clips)


def decoded_ahead(clips: Iterable[Clip]) -> Generator[Clip, None, None]:
    """Yield the clips in order with their sound in memory, decoding a few ahead.

    Only decoding runs in threads: torch would start a pool of its own in each of them.
    """
    ahead: deque[Future[Clip]] = deque()
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="otoscope-decode")
    try:
        for clip in clips:
            ahead.append(pool.submit(_in_memory, clip))
            while len(ahead) > 2 * _WORKERS or _seconds_ready(ahead) > _SECONDS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_memory(clip: Clip) -> Clip:
    """The clip with its samples (not by `Clip.samples`, which would keep them for later)."""
    return dataclasses.replace(clip, source=clip.decode(), start_s=0.0, end_s=None)


def _seconds_ready(ahead: Iterable[Future[Clip]]) -> float:
    return sum(future.result().duration_s for future in ahead if future.done() and not future.exception())


class _Shard:
    """A shard in the making: whole clips, and the windows of them that wait for the model.

    A batch never spans two shards, so a resumed run computes the same batches.
    """

    def __init__(self, journal: Journal, model: SpeechModel, sites: Sequence[Site]) -> None:
        self._journal, self._model = journal, model
        self._dtype = DTYPES[journal.job["dtype"]]
        self._size: int = journal.job["batch_size"]
        self._waiting: list[tuple[str, torch.Tensor, int]] = []
        self._held = contextlib.ExitStack()
        self._writers = {
            str(site): self._held.enter_context(ShardWriter(self._path(site), model.width(site), self._dtype))
            for site in sites
        }
        self.clips: list[tuple[str, int]] = []
        """Per clip its id and number of frames."""
        self.n_frames = 0

    def _path(self, site: Site) -> Path:
        return self._journal.folder / str(site) / shard_name(len(self._journal.shards))

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.__exit__(*error)  # type: ignore[arg-type]

    def add(self, clip: Clip) -> None:
        """Queue the windows of a clip, running full batches."""
        windows = self._model.windows(clip)
        n_frames = sum(window.n_frames for window in windows)
        self.clips.append((clip.clip_id, n_frames))
        self.n_frames += n_frames
        for window in windows:
            if self._waiting and self._waiting[0][1].shape != window.input.shape:
                self._run()
            self._waiting.append((clip.clip_id, window.input, window.n_frames))
            if len(self._waiting) == self._size:
                self._run()

    def _run(self) -> None:
        """Run the model on the waiting windows."""
        if not self._waiting:
            return
        clip_ids, windows, valid = zip(*self._waiting, strict=True)
        self._waiting = []
        inputs = windows[0][None] if len(windows) == 1 else torch.stack(windows)
        values = self._model.encode(inputs, list(self._writers), valid=valid)
        for site, writer in self._writers.items():
            computed = values.pop(site)
            stored = computed.to(self._dtype).cpu()
            for row, clip_id, n_frames in zip(range(len(stored)), clip_ids, valid, strict=True):
                frames = stored[row, :n_frames]  # not the padding
                if not frames.isfinite().all():
                    refuse_values(site, clip_id, computed[row, :n_frames], self._dtype)
                writer.add(frames)

    def finish(self) -> None:
        """Write the files of the shard, then its line in the journal."""
        self._run()
        files = {site: writer.finish() for site, writer in self._writers.items()}
        statistics = {site: writer.statistics.to_json() for site, writer in self._writers.items()}
        self._journal.add({"clips": [list(clip) for clip in self.clips], "files": files, "statistics": statistics})


def refuse_values(site: str, clip_id: str, computed: torch.Tensor, dtype: torch.dtype) -> None:
    """Say why the frames of a clip cannot be kept in `dtype`.

    Raises:
        InputError: values beyond the type.
        OtoscopeError: the model computes NaN.
    """
    if not computed.isfinite().all():
        raise OtoscopeError(f"The model computes NaN or infinity at {site} for clip {clip_id!r}.")
    raise InputError(
        f"{site} reaches {float(computed.abs().max()):.3g} in clip {clip_id!r}, beyond what "
        f"{str(dtype).removeprefix('torch.')} can hold; harvest to a new folder with dtype='bfloat16'."
    )
