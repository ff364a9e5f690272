"""SpeechModel: a loaded model with its front end, tokenizer, clock and sites."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from otoscope.audio import Clip, cut_windows, log_mel
from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.edits import BoundEdit, Edit, bind_edits
from otoscope.models.families import whisper
from otoscope.models.generation import Decoded, Rules, Transcript, decode, join, score
from otoscope.models.loading import DTYPES, hash_checkpoint, hash_tensors, open_checkpoint
from otoscope.models.run import Run
from otoscope.models.sites import Site, parse_site, site_names
from otoscope.models.taps import Tape, recording

SAMPLES_PER_FRAME = 320
"""Samples at 16 kHz from one encoder position to the next."""
_SAMPLE_RATE_HZ = 16000
_DECODE_BATCH = 16


def load_model(
    name_or_folder: str | os.PathLike[str] = "pocket",
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> SpeechModel:
    """Load a Whisper model: the bundled `"pocket"`, a local Hugging Face folder, or a name like `openai/whisper-tiny`.

    `device` defaults to the CPU; `dtype` is `"float32"` (default) or `"bfloat16"` (faster where the hardware
    computes in 16 bits, with relative errors of about 0.005).

    Raises:
        InputError: no such model, not a Whisper model, unknown device or dtype.
        OtoscopeError: damaged files, or a Hub name that is neither cached nor reachable.
    """
    dtype = dtype or "float32"
    if dtype not in DTYPES:
        raise InputError(f"There is no dtype {dtype!r} to run a model in; choose {' or '.join(DTYPES)}.")
    target = _device(device)
    checkpoint = open_checkpoint(name_or_folder, DTYPES[dtype])
    return SpeechModel(checkpoint.name, checkpoint.folder, checkpoint.module.to(target), checkpoint.tokenizer)


def _device(device: str | torch.device | None) -> torch.device:
    try:
        target = torch.device(device or "cpu")
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {str(device)!r} is not available here; 'cpu' always is.") from error
    return target


class SpeechModel:
    """A speech model whose activations can be read and edited by site.

    Safe to use from several threads at once: what a call reads and edits belongs to that call alone.
    `load_model` makes one; `module` is a tapped Hugging Face model (see `families.whisper.tap`), and `tokenizer`
    may be None for a model that never transcribes.
    """

    def __init__(self, name: str, folder: Path | None, module: Any, tokenizer: Any) -> None:
        self.name = name
        self.folder = folder
        self.module = module
        self.tokenizer = tokenizer
        self.dims: Dims = whisper.dims_of(module.config)
        self.clock = Clock()

    def __repr__(self) -> str:
        dims = self.dims
        return (
            f"SpeechModel({self.name!r}: {dims.n_layers} encoder layers, d={dims.d_model}, {dims.n_heads} heads, "
            f"{dims.window_s:g}-s window, {str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.module.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """The number format the model computes in."""
        return next(self.module.parameters()).dtype  # type: ignore[no-any-return]

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of the weights as stored: the same for every device and dtype they are loaded with."""
        if self.folder is not None:
            return hash_checkpoint(self.folder)
        return hash_tensors(sorted(self.module.state_dict().items()))

    @cached_property
    def _rules(self) -> Rules:
        return Rules.of(self.module, self.tokenizer)

    def sites(self) -> list[Site]:
        """Return every readable site, in the order of the forward pass."""
        return [self.site(name) for name in site_names(self.dims)]

    def site(self, text: str) -> Site:
        """Parse a site's name or alias against this model (see `parse_site`)."""
        return parse_site(text, self.dims)

    def width(self, site: str | Site) -> int:
        """Return the size of the site's last axis."""
        return (self.site(site) if isinstance(site, str) else site).width(self.dims)

    def frames(self, clip: Clip) -> int:
        """Return how many encoder frames of 20 ms the clip fills, over all its windows."""
        return sum(self._valid_frames(len(clip.samples())))

    def _valid_frames(self, n_samples: int) -> list[int]:
        windows = cut_windows(n_samples, self.dims.window_samples)
        return [math.ceil(window.n_samples / SAMPLES_PER_FRAME) for window in windows]

    def mel_windows(self, clip: Clip) -> tuple[Tensor, list[int]]:
        """Return the clip's windows as log-mel `[w, m, T]`, the last one padded, and each one's valid frames."""
        samples = clip.samples()
        size = self.dims.window_samples
        windows = cut_windows(len(samples), size)
        if not windows:
            raise InputError(f"The clip {clip.clip_id!r} is empty.")
        mels = [
            log_mel(
                samples[window.start_sample : window.start_sample + window.n_samples],
                self.dims.n_mels,
                pad_to_samples=size,
                device=self.device,
            )
            for window in windows
        ]
        return torch.stack(mels), self._valid_frames(len(samples))

    def encode(
        self,
        mel: Tensor,
        read: Sequence[str],
        edits: Sequence[Edit] = (),
        valid: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Run the encoder on full windows `mel [b, m, T]` and return the sites read, by canonical name.

        Tensors are `[b, t, d]` (`[b, h, q, k]` for attention maps; no `h` axis when one head is named) in the
        model's dtype on its device, padding included; times of edits count from each window's start. With
        `valid` (valid frames of each window), frames beyond the longest of them are left out.

        Raises:
            InputError: unknown site, edit that does not fit the model, or mel of another shape.
        """
        sites = self._parse_reads(read)
        self._check_mel(mel)
        values = self._encode(mel, sites, bind_edits(edits, self.dims), [0.0] * len(mel))
        if valid is None:
            return values
        longest = max(valid)
        return {str(site): _trim(values[str(site)], site, longest) for site in sites}

    def _parse_reads(self, read: Sequence[str]) -> list[Site]:
        if isinstance(read, str):
            raise InputError(f"`read` is a list of sites; write read=[{read!r}].")
        sites = list(dict.fromkeys(self.site(str(text)) for text in read))
        if not sites:
            raise InputError("Name at least one site to read, e.g. read=['encoder.0.resid_post'].")
        return sites

    def _check_mel(self, mel: Tensor) -> None:
        expected = (self.dims.n_mels, 2 * self.dims.n_positions)
        if mel.ndim != 3 or tuple(mel.shape[1:]) != expected:
            raise InputError(
                f"This model reads mel windows of shape (b, {expected[0]}, {expected[1]}), not {tuple(mel.shape)}."
            )

    def _encode(
        self, mel: Tensor, sites: Sequence[Site], edits: Sequence[BoundEdit], starts_s: Sequence[float]
    ) -> dict[str, Tensor]:
        tape = Tape(sites, edits, starts_s)
        with torch.no_grad(), recording(tape):
            self.module.model.encoder(mel.to(self.device, self.dtype))
        return {str(site): self._head(tape.values[site.base], site) for site in sites}

    def _head(self, value: Tensor, site: Site) -> Tensor:
        if site.head is None:
            return value
        if site.is_map:
            return value[:, site.head]
        width = site.width(self.dims)
        return value[..., site.head * width : (site.head + 1) * width]

    def run(self, clip: Clip, read: Sequence[str], edits: Sequence[Edit] = ()) -> Run:
        """Run the encoder on a clip and return what was read, valid frames only; stops at the deepest site asked for.

        Windows of a long clip are run one after another and joined; attention maps exist within one window.

        Raises:
            InputError: unknown site, edit that does not fit, attention maps of a clip longer than a window, or an
                unreadable clip.
        """
        sites = self._parse_reads(read)
        bind_edits(edits, self.dims)
        mel, valid = self.mel_windows(clip)
        bound = bind_edits(edits, self.dims, clip.duration_s)
        maps = [site for site in sites if site.is_map]
        if maps and len(mel) > 1:
            raise InputError(
                f"{maps[0]} exists within one window of {self.dims.window_s:g} s, but {clip.clip_id!r} spans "
                f"{len(mel)}; cut it with start_s and end_s."
            )
        pieces: dict[str, list[Tensor]] = {str(site): [] for site in sites}
        for index, n_frames in enumerate(valid):
            values = self._encode(mel[index : index + 1], sites, bound, [index * self.dims.window_s])
            for site in sites:
                kept = _trim(values[str(site)], site, n_frames)[0]
                pieces[str(site)].append(kept.to("cpu", torch.float32))
        joined = {name: torch.cat(parts, -2).contiguous() for name, parts in pieces.items()}
        return Run(clip.clip_id, self.name, self.dims, joined)

    @overload
    def transcribe(self, clips: Clip, *, edits: Sequence[Edit] = ..., language: str | None = ...) -> Transcript: ...

    @overload
    def transcribe(
        self, clips: Sequence[Clip], *, edits: Sequence[Edit] = ..., language: str | None = ...
    ) -> list[Transcript]: ...

    def transcribe(
        self, clips: Clip | Sequence[Clip], *, edits: Sequence[Edit] = (), language: str | None = None
    ) -> Transcript | list[Transcript]:
        """Write down what is said in one clip (or several), with the encoder edited as asked.

        `language` is a code such as `en`; without it each window's language is detected, where the model knows
        several. Greedy decoding, without timestamps; long clips are cut in windows whose texts are joined.

        Raises:
            InputError: edit that does not fit, unknown language, or an unreadable clip.
        """
        if isinstance(clips, Clip):
            return self.transcribe([clips], edits=edits, language=language)[0]
        bind_edits(edits, self.dims)
        if language is not None:
            self._rules.language_id(language)
        for clip in clips if edits else ():
            bind_edits(edits, self.dims, clip.duration_s)
        windows: list[list[Decoded]] = [[] for _ in clips]
        encoded = ((owner, window) for owner, clip in enumerate(clips) for window in self._encode_windows(clip, edits))
        while batch := list(islice(encoded, _DECODE_BATCH)):
            together = torch.cat([window for _, window in batch])
            with torch.no_grad():
                decoded = decode(self.module, self.tokenizer, self._rules, together, language)
            for (owner, _), written in zip(batch, decoded, strict=True):
                windows[owner].append(written)
        return [
            join(clip.uri, clip.clip_id, written, self.tokenizer) for clip, written in zip(clips, windows, strict=True)
        ]

    def _encode_windows(self, clip: Clip, edits: Sequence[Edit]) -> Iterator[Tensor]:
        """Yield the encoder's output for each window of a clip, `[1, t, d]` each."""
        bound = bind_edits(edits, self.dims, clip.duration_s)
        last = self.site("encoder.ln_post")
        mel, _ = self.mel_windows(clip)
        for index in range(len(mel)):
            start_s = index * self.dims.window_s
            yield self._encode(mel[index : index + 1], [last], bound, [start_s])[str(last)]

    def score(self, clip: Clip, transcript: Transcript, *, edits: Sequence[Edit] = ()) -> list[float]:
        """Return how likely a transcript's tokens are when they are forced (log-probabilities, natural), with edits.

        Scored without edits, a transcript gives the `log_prob` of its own tokens again; the difference that an
        edit makes to a word is the sum over its tokens.

        Raises:
            InputError: edit that does not fit, or a transcript of a longer clip.
        """
        bind_edits(edits, self.dims)
        encoded = list(self._encode_windows(clip, edits))
        if any(token.window >= len(encoded) for token in transcript.tokens):
            raise InputError(f"The transcript has more windows than the clip {clip.clip_id!r}; it belongs to another.")
        by_window = [[t.id for t in transcript.tokens if t.window == index] for index in range(len(encoded))]
        with torch.no_grad():
            scored = score(self.module, self._rules, torch.cat(encoded), by_window, transcript.language)
        return [value for window in scored for value in window]

    def random_weights(self, seed: int) -> SpeechModel:
        """Return the same architecture with random weights: the control that every claim needs.

        Matrices are drawn with standard deviation 1/√fan_in (so that signals neither die nor explode), biases
        are 0, norms 1; the encoder's fixed sinusoidal positions stay. Deterministic; the global random state is
        not touched.
        """
        module = copy.deepcopy(self.module).float()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for path, part in sorted(module.named_modules()):
                if path != "model.encoder.embed_positions":
                    _randomise(part, generator)
        return SpeechModel(f"{self.name}-random-{seed}", None, module.to(self.device, self.dtype), self.tokenizer)


def _randomise(part: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in sorted(part.named_parameters(recurse=False)):
        if isinstance(part, nn.LayerNorm):
            parameter.fill_(1.0 if name == "weight" else 0.0)
        elif name == "bias":
            parameter.zero_()
        else:
            fan_in = parameter[0].numel()
            drawn = torch.empty(parameter.shape).normal_(0.0, fan_in**-0.5, generator=generator)
            parameter.copy_(drawn)


def _trim(value: Tensor, site: Site, n_frames: int) -> Tensor:
    """Keep the first `n_frames` 20-ms frames of a `[b, …]` tensor (of queries and keys, for maps)."""
    kept = n_frames * site.hz // 50
    return value[..., :kept, :kept] if site.is_map else value[:, :kept]
