"""LoadedModel: a checkpoint ready to be run: its network, front end, tokenizer and the meaning of its sites."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.clock import Clock
from otoscope.models.dims import Dims
from otoscope.models.front_end import Window, cut, spans
from otoscope.models.loading.checkpoint import Checkpoint
from otoscope.models.networks.taps import Tape, recording
from otoscope.models.sites import Site, parse_site, site_names
from otoscope.models.text.rules import Rules
from otoscope.models.text.tokenizer import Tokenizer


class LoadedModel:
    """What running, decoding and aligning need of a model; `SpeechModel` adds what users call."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.name
        self.folder = checkpoint.folder
        self.module: Any = checkpoint.module
        self.dims: Dims = checkpoint.dims
        last = "encoder.ln_post" if self.dims.norm == "pre" else f"encoder.{self.dims.n_layers - 1}.resid_post"
        self.output: Site = parse_site(last, self.dims)
        """The encoder's last site: what the decoder or CTC head reads."""
        self.clock: Clock = self.output.clock(self.dims)
        """Which moment each encoder position stands for."""

    def __repr__(self) -> str:
        dims = self.dims
        return (
            f"{type(self).__name__}({self.name!r}: {dims.family}, {dims.n_layers} encoder layers, d={dims.d_model}, "
            f"{dims.n_heads} heads, {dims.window_s:g}-s window, {str(self.dtype).removeprefix('torch.')} "
            f"on {self.device})"
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
        return self.checkpoint.weights_hash()

    @property
    def writes_with_decoder(self) -> bool:
        """Whether text comes from a decoder (Whisper) rather than, if at all, from a letter per frame (CTC)."""
        return "decoder" in self.dims.traits

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What turns text into tokens and back, opened on first use; None where none can be found."""
        return self.checkpoint.tokenizer

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises:
            InputError: there is none.
        """
        if self.tokenizer is None:
            raise InputError(
                f"The checkpoint of {self.name} has no tokenizer, so it can neither write nor read text; "
                "put its tokenizer.json beside the weights, or name one with load_model(…, tokenizer=…)."
            )
        return self.tokenizer

    @cached_property
    def rules(self) -> Rules:
        """What the checkpoint says about prompts and special tokens."""
        return Rules.of(self.checkpoint.generation, self.checkpoint.config, self.require_tokenizer())

    def sites(self) -> list[Site]:
        """Return every site of the model, in the order of the forward pass."""
        return [self.site(name) for name in site_names(self.dims)]

    def site(self, text: str) -> Site:
        """Parse a site's name or alias against this model (see `parse_site`)."""
        return parse_site(text, self.dims)

    def width(self, site: str | Site) -> int:
        """Return the size of the site's last axis."""
        return (self.site(site) if isinstance(site, str) else site).width(self.dims)

    def frames(self, clip: Clip) -> int:
        """Return how many encoder frames the clip fills, over all its windows."""
        return sum(self.dims.n_frames(stop - start) for start, stop in spans(len(clip.samples()), self.dims))

    def windows(self, clip: Clip) -> list[Window]:
        """Cut a clip into windows and compute the network's input for each.

        Raises:
            InputError: the clip is empty or too short for the front end.
        """
        return cut(clip, self.dims, self.checkpoint.preprocessor, self.device)

    def forward(self, tape: Tape, inputs: Tensor, ids: Tensor | None = None, *, differentiable: bool = False) -> None:
        """Run the network on windows as far as `tape` needs; the values are then in the tape."""
        with torch.set_grad_enabled(differentiable), recording(tape):
            encoded = self.module.encode(inputs.to(self.device, self.dtype))
            if self.writes_with_decoder:
                if ids is not None:
                    self.module.decode(ids.to(self.device), encoded)
            elif "text" in self.dims.traits:
                self.module.letters(encoded)
