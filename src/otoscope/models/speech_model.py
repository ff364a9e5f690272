"""SpeechModel: what users call: load a model, read, edit, transcribe, score, differentiate."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.ctc.transcripts import score_spelling, spell
from otoscope.models.edits import Edit, bind_edits
from otoscope.models.families import find_family
from otoscope.models.generation import DecodingOptions, Transcript, score_clip, transcribe_clips
from otoscope.models.heads import HeadStatistics, head_statistics
from otoscope.models.loaded import LoadedModel
from otoscope.models.loading.checkpoint import DTYPES, Checkpoint, build, open_checkpoint
from otoscope.models.networks.taps import Tape
from otoscope.models.run import Run
from otoscope.models.running import Gradients, Objective, differentiate, run_each, trim
from otoscope.models.sites import Site
from otoscope.models.untrained import randomise


def load_model(
    name_or_folder: str | os.PathLike[str] = "pocket",
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
) -> SpeechModel:
    """Load a model: the bundled `"pocket"`, a Hugging Face checkpoint folder, a `.pt` file of openai-whisper, or a
    name like `openai/whisper-tiny` (or `tiny`, as openai-whisper has it).

    Nothing in a file is ever run. `device` defaults to the CPU; `dtype` is `"float32"` (default) or `"bfloat16"`
    (faster where the hardware computes in 16 bits, with relative errors of about 0.005). `tokenizer` is for
    checkpoints that lost theirs: a folder, a `.tiktoken` file, or a model that shares it.

    Raises:
        InputError: no such model, a family without adapter, unknown device or dtype.
        OtoscopeError: damaged files, or a Hub name that is neither cached nor reachable.
    """
    dtype = dtype or "float32"
    if dtype not in DTYPES:
        raise InputError(f"There is no dtype {dtype!r} to run a model in; choose {' or '.join(DTYPES)}.")
    target = _device(device)
    checkpoint = open_checkpoint(name_or_folder, DTYPES[dtype], tokenizer)
    checkpoint.module.to(target)
    return SpeechModel(checkpoint)


def untrained_model(config: Mapping[str, Any], seed: int = 0) -> SpeechModel:
    """Return a model of a Hugging Face configuration (`config.json` as a mapping) with random weights, for trials.

    Raises:
        InputError: a family without adapter, or a configuration that lacks a setting.
    """
    family = find_family(str(config.get("model_type")))
    dims, module = build(family, config)
    module.to_empty(device="cpu")
    randomise(module, seed)
    return SpeechModel(Checkpoint(f"untrained-{family.name}", family, dims, module, config))


def _device(device: str | torch.device | None) -> torch.device:
    try:
        target = torch.device(device or "cpu")
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {str(device)!r} is not available here; 'cpu' always is.") from error
    return target


class SpeechModel(LoadedModel):
    """A speech model whose activations can be read and edited by site.

    Safe to use from several threads at once: what a call reads and edits belongs to that call alone.
    `load_model` makes one.
    """

    def encode(
        self,
        inputs: Tensor,
        read: Sequence[str],
        edits: Sequence[Edit] = (),
        valid: Sequence[int] | None = None,
        *,
        ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run the network on windows and return the sites read, by canonical name.

        `inputs` are full log-mel windows `[b, m, T]` (or samples `[b, n]` for families that hear samples); decoder
        sites and logits need the tokens `ids [b, n]`. Tensors are `[b, t, d]` (`[b, h, q, k]` for attention maps; no
        `h` axis when one head is named) in the model's dtype on its device, padding included; times of edits count
        from each window's start. With `valid` (valid frames of each window), frames beyond the longest are left out.

        Raises:
            InputError: unknown site, edit that does not fit the model, inputs of another shape, or missing `ids`.
        """
        sites = self._parse_reads(read)
        self._check_inputs(inputs)
        if ids is None and any(site.needs_text(self.dims) for site in sites):
            raise InputError("Decoder sites and logits need the tokens that the decoder reads; give `ids`.")
        tape = Tape(sites, bind_edits(edits, self.dims), [0.0] * len(inputs))
        self.forward(tape, inputs, ids)
        values = {site: tape.read(site, site.n_heads(self.dims)) for site in sites}
        if valid is None:
            return {str(site): value for site, value in values.items()}
        return {str(site): trim(value, site, self.dims, max(valid)) for site, value in values.items()}

    def _parse_reads(self, read: Sequence[str]) -> list[Site]:
        if isinstance(read, str):
            raise InputError(f"`read` is a list of sites; write read=[{read!r}].")
        sites = list(dict.fromkeys(self.site(str(text)) for text in read))
        if not sites:
            raise InputError("Name at least one site to read, e.g. read=['encoder.0.resid_post'].")
        return sites

    def _check_inputs(self, inputs: Tensor) -> None:
        dims = self.dims
        expected: tuple[int | str, ...] = ("b", dims.n_mels, 2 * dims.n_positions) if dims.n_mels else ("b", "n")
        fits = inputs.ndim == len(expected) and (not dims.n_mels or tuple(inputs.shape[1:]) == expected[1:])
        if not fits:
            shape = ", ".join(str(size) for size in expected)
            raise InputError(f"This model reads windows of shape ({shape}), not {tuple(inputs.shape)}.")

    def run(
        self,
        clip: Clip,
        read: Sequence[str],
        edits: Sequence[Edit] = (),
        *,
        text: str | None = None,
        language: str | None = None,
    ) -> Run:
        """Run the model on a clip and return what was read, valid frames only; stops at the deepest site asked for.

        Decoder sites and `logits` are read with the decoder forced to read `text`, or, without it, what the model
        itself writes (greedily, with the same edits); `Run.positions` says which row is which token, prompt or
        text. Windows of a long clip are run one after another and joined; attention maps exist within one window.

        Raises:
            InputError: unknown site, edit that does not fit, attention maps of a clip longer than a window, or an
                unreadable clip.
        """
        return run_each(self, clip, self._parse_reads(read), [edits], text, language)[0]

    def run_each(
        self,
        clip: Clip,
        read: Sequence[str],
        sweep: Sequence[Sequence[Edit]],
        *,
        text: str | None = None,
        language: str | None = None,
    ) -> list[Run]:
        """Run the model on a clip once for each list of edits in `sweep`, e.g. twenty strengths of one edit.

        Equal to `run` with each list, but the lists go through the network together, and what lies before their
        first edit is computed once.

        Raises:
            InputError: as `run`.
        """
        return run_each(self, clip, self._parse_reads(read), sweep, text, language)

    def gradients(
        self,
        clip: Clip,
        of: Objective,
        wrt: Sequence[str],
        *,
        read: Sequence[str] = (),
        edits: Sequence[Edit] = (),
        text: str | None = None,
        language: str | None = None,
    ) -> Gradients:
        """Return a number that depends on activations, and its gradient at the sites `wrt`, attention maps included.

        `of` is a site (the sum of its valid values), a site and a function of its values, or a function of all that
        is read: it gets a mapping from the sites `wrt` and `read` to their values, shaped as `run` returns them, and
        returns a tensor of one element. Gradients are taken at the values after the edits there.

        Raises:
            InputError: as `run`; a clip longer than one window; an objective that is no number or depends on nothing.
        """
        others = self._parse_reads(read) if read else []
        return differentiate(self, clip, of, self._parse_reads(wrt), others, edits, text, language)

    def head_statistics(
        self,
        clips: Clip | Iterable[Clip],
        layers: Sequence[int] | None = None,
        *,
        parts: Sequence[str] | None = None,
        edits: Sequence[Edit] = (),
        text: Callable[[Clip], str | None] | None = None,
    ) -> HeadStatistics:
        """Measure what attention heads do over clips: how local, even, loud-seeking… each is (`heads.MEASURES`).

        `parts` are `encoder`, `decoder` and `cross` (None: all there are). The decoder reads what the model itself
        writes, or `text(clip)`. No attention map is stored, so that memory does not grow with their size.

        Raises:
            InputError: a part or layer that the model lacks, an edit that does not fit, or no clips.
        """
        return head_statistics(self, clips, layers, parts, edits, text)

    @overload
    def transcribe(
        self, clips: Clip, *, edits: Sequence[Edit] = ..., options: DecodingOptions | None = ..., **choices: Any
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        clips: Sequence[Clip],
        *,
        edits: Sequence[Edit] = ...,
        options: DecodingOptions | None = ...,
        **choices: Any,
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        clips: Clip | Sequence[Clip],
        *,
        edits: Sequence[Edit] = (),
        options: DecodingOptions | None = None,
        **choices: Any,
    ) -> Transcript | list[Transcript]:
        """Write down what is said in one clip (or several), with the model edited as asked.

        `choices` are fields of `DecodingOptions`, such as `language="en"`, `timestamps=True`, `beam_size=5` or
        `word_times=True`. Without any: greedy decoding without timestamps; each window's language is detected, where
        the model knows several; long clips are cut in windows whose texts are joined. With timestamps, long clips
        are read from segment to segment, as by `whisper.transcribe`.

        Raises:
            InputError: edit that does not fit, an option that is unknown or that the model cannot follow, or an
                unreadable clip.
        """
        if isinstance(clips, Clip):
            return self.transcribe([clips], edits=edits, options=options, **choices)[0]
        chosen = DecodingOptions.of(options, choices)
        if self.writes_with_decoder:
            return transcribe_clips(self, clips, [edits] * len(clips), chosen)
        return [spell(self, clip, edits, chosen) for clip in clips]

    def score(self, clip: Clip, transcript: Transcript, *, edits: Sequence[Edit] = ()) -> list[float]:
        """Return how likely a transcript's tokens are when they are forced (log-probabilities, natural), with edits.

        Scored without edits, a transcript gives the `log_prob` of its own tokens again; the difference that an
        edit makes to a word is the sum over its tokens.

        Raises:
            InputError: edit that does not fit, or a transcript of a longer clip.
        """
        return self.score_each(clip, transcript, [edits])[0]

    @overload
    def transcribe_each(
        self, clips: Clip, sweep: Sequence[Sequence[Edit]], *, options: DecodingOptions | None = ..., **choices: Any
    ) -> list[Transcript]: ...

    @overload
    def transcribe_each(
        self,
        clips: Sequence[Clip],
        sweep: Sequence[Sequence[Edit]],
        *,
        options: DecodingOptions | None = ...,
        **choices: Any,
    ) -> list[list[Transcript]]: ...

    def transcribe_each(
        self,
        clips: Clip | Sequence[Clip],
        sweep: Sequence[Sequence[Edit]],
        *,
        options: DecodingOptions | None = None,
        **choices: Any,
    ) -> list[Transcript] | list[list[Transcript]]:
        """Write down a clip (or several) once for each list of edits in `sweep`: `transcribe` with each.

        What lies before the first edit is computed once, and all are decoded together. Of several clips, a list each.

        Raises:
            InputError: as `transcribe`.
        """
        if isinstance(clips, Clip):
            return self.transcribe_each([clips], sweep, options=options, **choices)[0]
        chosen = DecodingOptions.of(options, choices)
        if not self.writes_with_decoder:
            return [[spell(self, clip, edits, chosen) for edits in sweep] for clip in clips]
        each = [clip for clip in clips for _ in sweep]
        written = transcribe_clips(self, each, [*sweep] * len(clips), chosen)
        return [written[first : first + len(sweep)] for first in range(0, len(written), len(sweep))]

    def score_each(self, clip: Clip, transcript: Transcript, sweep: Sequence[Sequence[Edit]]) -> list[list[float]]:
        """Score a transcript once for each list of edits in `sweep`: `score` with each, computed together.

        Raises:
            InputError: as `score`.
        """
        if self.writes_with_decoder:
            return score_clip(self, clip, transcript, sweep)
        return [score_spelling(self, clip, transcript, edits) for edits in sweep]

    def random_weights(self, seed: int) -> SpeechModel:
        """Return the same architecture with random weights: the control that every claim needs (see `randomise`)."""
        module = copy.deepcopy(self.module).float()
        randomise(module, seed)
        module.to(self.device, self.dtype)
        return SpeechModel(replace(self.checkpoint, name=f"{self.name}-random-{seed}", module=module, path=None))
