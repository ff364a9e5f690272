"""Multi-frame dictionary: every feature is a short stretch of activations, laid over several frames.

Convolutional sparse coding (Grosse et al. 2007, "Shift-invariant sparse coding for audio classification") with the
linear encoder, TopK code and AuxK of Gao et al. 2024 (arXiv 2406.04093). A phone lasts 3 to 8 frames of 20 ms, which
single-frame dictionaries cut into pieces. The code of a frame is `[k]` as elsewhere; feature f at frame t adds its
atom `[w, d]` to frames `t − (w−1)//2` to `t + w//2`, and looks at the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from otoscope.dictionaries.dictionary import Dictionary
from otoscope.dictionaries.kernels import encode_top_k, sparse_decode
from otoscope.dictionaries.registry import register, trainable
from otoscope.dictionaries.sparse_code import SparseCode
from otoscope.dictionaries.training.learner import Batch, Scaling, TrainingPlan
from otoscope.dictionaries.training.sparse_step import SparseLearner, SparseSpec
from otoscope.errors import InputError

TAPER = 0.3
"""By how much every frame further from its middle is smaller in an initial atom."""


@trainable
@dataclass(frozen=True)
class MultiFrame(SparseSpec):
    """A multi-frame dictionary to be trained, on one site."""

    width: int = 5
    """Frames that one feature covers; 5 are 100 ms."""
    segment_frames: int = 32
    """Adjacent frames that lie together in a batch; the first and last `width − 1` of them are context only."""

    kind: ClassVar[str] = "multi_frame"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise InputError(f"width must be at least 1 frame, got {self.width}.")
        if self.segment_frames < 2 * self.width - 1:
            raise InputError(
                f"segment_frames must be at least 2 · width − 1 = {2 * self.width - 1}, got {self.segment_frames}."
            )

    @property
    def segment(self) -> int:
        """Adjacent frames that lie together in a batch."""
        return self.segment_frames

    def learner(self, plan: TrainingPlan) -> MultiFrameLearner:
        """Return a fresh learner for one run."""
        return MultiFrameLearner(self, plan)


@register
class MultiFrameDictionary(Dictionary):
    """A trained multi-frame dictionary; it takes and gives raw activations of contiguous frames, best whole clips.

    Beyond the ends of what it is given it sees `input_mean`, as in training.

    Attributes:
        width: frames that one feature covers.
        k: features active in each frame, those with the largest positive entries.
        encoder: `[n, w·d]`, lag by lag.
        encoder_bias: `[n]`.
        decoder: `[n, w·d]`, lag by lag, rows of length 1; `atoms()` has them as `[n, w, d]`.
        decoder_bias: `[d]`.
        input_mean: `[d]`, subtracted from the input.
    """

    kind: ClassVar[str] = "multi_frame"

    def __init__(
        self,
        *,
        encoder: Tensor,
        encoder_bias: Tensor,
        decoder: Tensor,
        decoder_bias: Tensor,
        input_mean: Tensor,
        width: int,
        k: int,
        site: str,
        name: str = "multi-frame",
        metadata: Mapping[str, Any] | None = None,
        sites: Sequence[str] | None = None,
    ) -> None:
        n, d = encoder_bias.numel(), decoder_bias.numel()
        shapes = [list(tensor.shape) for tensor in (encoder, decoder, input_mean)]
        if width < 1 or shapes != [[n, width * d], [n, width * d], [d]]:
            raise InputError(
                f"The weights of a multi_frame dictionary of {n} features over {width} frames of {d} units do not fit "
                f"together: their shapes are {shapes}."
            )
        if not 1 <= k <= n:
            raise InputError(f"k must be between 1 and the {n} features, got {k}.")
        super().__init__(name=name, site=site, d_in=d, n_features=n, metadata=metadata, sites=sites)
        self.width, self.k, self.context = width, k, width - 1
        weights = (encoder, encoder_bias, decoder, decoder_bias, input_mean)
        self.encoder, self.encoder_bias, self.decoder, self.decoder_bias, self.input_mean = (
            tensor.detach().float().contiguous() for tensor in weights
        )

    @torch.no_grad()
    def encode(self, x: Tensor) -> SparseCode:
        """Return the active features of contiguous frames `x` `[t, d]`."""
        x = self._check_width(x).float() - self.input_mean
        before, after = reach(self.width)
        windows = unfolded(torch.nn.functional.pad(x, (0, 0, before, after))[None], self.width)
        values, indices = encode_top_k(windows, self.encoder, self.encoder_bias, self.k)
        return SparseCode(values, indices, self.n_features)

    @torch.no_grad()
    def decode(self, code: SparseCode) -> Tensor:
        """Return the contiguous frames `[t, d]` that `code` stands for."""
        return self._laid(sparse_decode(code.values, code.indices, self.decoder)) + self.decoder_bias

    def spread(self, values: Tensor, features: Sequence[int]) -> Tensor:
        """Return what `values` `[t, len(features)]` of some features add to contiguous frames, `[t, d]`."""
        return self._laid(values.float() @ self.decoder[[self._check(index) for index in features]])

    def _laid(self, pieces: Tensor) -> Tensor:
        """Return the sum `[t, d]` of pieces `[t, w·d]` laid over the frames around each; what sticks out is lost."""
        before, _ = reach(self.width)
        return overlapped(pieces, 1, self.width)[0, before : before + len(pieces)]

    def atoms(self, features: Sequence[int] | None = None) -> Tensor:
        """Return what one unit of each feature (default: of all) adds, frame by frame: `[len(features), w, d]`."""
        chosen = range(self.n_features) if features is None else features
        return self.decoder[[self._check(index) for index in chosen]].view(-1, self.width, self.d_in)

    def directions(self, features: Sequence[int]) -> Tensor:
        """Return what each feature adds to a frame while it is held at 1, `[len(features), d]`: its atom's sum."""
        return self.atoms(features).sum(dim=1)

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors."""
        return {"d_in": self.d_in, "d_sae": self.n_features, "width": self.width, "k": self.k}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, lag by lag."""
        return {
            "W_enc": self.encoder.T.contiguous(),
            "b_enc": self.encoder_bias,
            "W_dec": self.decoder,
            "b_dec": self.decoder_bias,
            "input_mean": self.input_mean,
        }

    @classmethod
    def from_saved(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str, site: str
    ) -> MultiFrameDictionary:
        """Build the dictionary from what `config()` and `tensors()` return."""
        return cls(
            encoder=tensors["W_enc"].T,
            encoder_bias=tensors["b_enc"],
            decoder=tensors["W_dec"],
            decoder_bias=tensors["b_dec"],
            input_mean=tensors["input_mean"],
            width=int(config["width"]),
            k=int(config["k"]),
            name=name,
            site=site,
        )


class MultiFrameLearner(SparseLearner):
    """The training state of one multi-frame dictionary.

    The shared sparse step runs on windows `[t, w·d]` of the segments; only frames all of whose atoms lie within their
    segment are rebuilt. Frames past the end of a clip are zeros, as the dictionary sees them, and have no code.
    """

    spec: MultiFrame
    centred = False

    def __init__(self, spec: MultiFrame, plan: TrainingPlan) -> None:
        d = plan.d_in
        super().__init__(spec, replace(plan, d_in=spec.width * d, d_out=spec.width * d, start=None))
        for name in ("encoder", "decoder"):
            rows = self.parameters[name].view(-1, spec.width, d) * tapered(spec.width).to(plan.device)
            self.parameters[name] = torch.nn.functional.normalize(rows.flatten(1), dim=1)
        bias = self.parameters["decoder_bias"]
        self.parameters["decoder_bias"] = bias.new_zeros(d) if plan.start is None else plan.start.to(bias).clone()
        self.plan = plan
        self.k_aux = min(spec.k_aux or max(d // 2, 1), spec.n_features)
        self._segments = 0
        self._has_code = self._rebuilt = torch.empty(0, dtype=torch.bool)

    def gradients(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the gradient of every parameter, and the metrics of this batch."""
        size, w = batch.segment, self.spec.width
        inside = torch.ones_like(batch.x[:, 0], dtype=torch.bool) if batch.inside is None else batch.inside
        inside = inside.view(-1, size)
        before, after = reach(w)
        self._segments = len(inside)
        self._has_code = inside[:, before : size - after].flatten()
        self._rebuilt = inside.clone()
        self._rebuilt[:, : w - 1] = False
        self._rebuilt[:, size - w + 1 :] = False
        windows = unfolded(batch.x.view(-1, size, batch.x.shape[1]), w)
        gradients, metrics = super().gradients(Batch(windows, batch.y[self._rebuilt.flatten()]), step)
        metrics["l0"] = metrics["l0"] * len(windows) / self._has_code.sum().clamp_min(1)
        return gradients, metrics

    def select(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the `k` strongest features of each window, none where its frame is past the end of a clip."""
        weights = self.parameters
        values, indices = encode_top_k(
            x, weights["encoder"], weights["encoder_bias"], self.spec.k, shortlist=self.shortlist
        )
        return values * self._has_code[:, None], indices

    def decoded(self, values: Tensor, indices: Tensor) -> Tensor:
        """Return what a code adds to the frames that are rebuilt, `[rebuilt, d]`."""
        pieces = sparse_decode(values, indices, self.parameters["decoder"]) * self._has_code[:, None]
        return overlapped(pieces, self._segments, self.spec.width)[self._rebuilt]

    def through_code(self, by_output: Tensor, values: Tensor, indices: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Carry a gradient `[rebuilt, d]` at the reconstruction back to all parameters behind it."""
        by_frame = by_output.new_zeros(*self._rebuilt.shape, by_output.shape[1])
        by_frame[self._rebuilt] = by_output
        by_window = unfolded(by_frame, self.spec.width) * self._has_code[:, None]
        return super().through_code(by_window, values, indices, x)

    def dictionary(self, scaling: Scaling, *, sites: tuple[str, ...], name: str) -> MultiFrameDictionary:
        """Return the dictionary for raw activations; values are in raw units, so that atoms keep their length."""
        weights = {key: tensor.detach().cpu() for key, tensor in self.parameters.items()}
        unit = 1 / scaling.scale_in[0]
        return MultiFrameDictionary(
            encoder=weights["encoder"],
            encoder_bias=weights["encoder_bias"].double() * unit,
            decoder=weights["decoder"],
            decoder_bias=weights["decoder_bias"].double() * unit + scaling.mean_out,
            input_mean=scaling.mean_in,
            width=self.spec.width,
            k=self.spec.k,
            site=sites[0],
            sites=sites,
            name=name,
        )


def tapered(width: int) -> Tensor:
    """Return the size `[w, 1]` at which each frame of an atom starts: small away from the middle.

    Atoms that start as single frames and grow fit speech sooner than atoms that start as noise over all frames.
    """
    lags = torch.arange(width) - reach(width)[0]
    return (TAPER ** lags.abs())[:, None]


def reach(width: int) -> tuple[int, int]:
    """Return how many frames before and after its own a feature of `width` frames covers."""
    return (width - 1) // 2, width // 2


def unfolded(x: Tensor, width: int) -> Tensor:
    """Return every window of `width` frames within segments `x` `[b, s, d]`, lag by lag: `[b·(s−w+1), w·d]`."""
    if x.shape[1] < width:
        return x.new_zeros(0, width * x.shape[2])
    return x.unfold(1, width, 1).transpose(2, 3).flatten(0, 1).flatten(1)


def overlapped(pieces: Tensor, segments: int, width: int) -> Tensor:
    """Return `[b, s, d]`, the sum of pieces `[b·(s−w+1), w·d]` laid where `unfolded` cut them: its adjoint."""
    starts = len(pieces) // segments
    laid = pieces.view(segments, starts, width, pieces.shape[1] // width)
    result = pieces.new_zeros(segments, starts + width - 1, laid.shape[3])
    for lag in range(width):
        result[:, lag : lag + starts] += laid[:, :, lag]
    return result
