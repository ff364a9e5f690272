"""A frame phone model: which part of which phone each frame of a clip is, told from a few neighbouring frames."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from otoscope.alignment.features import FrameFeatures, with_neighbours
from otoscope.alignment.inventory import SILENCE
from otoscope.audio import Clip
from otoscope.errors import InputError, OtoscopeError, nearest
from otoscope.storage import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

FORMAT, VERSION = "otoscope-phone-model", 1


@dataclass(frozen=True)
class PhoneModelSettings:
    """What a frame phone model reads and how it tells phones apart."""

    features: FrameFeatures = field(default_factory=FrameFeatures)
    parts: int = 3
    """States of a phone, one after another, each at least one frame long; a pause has one state."""
    offsets: tuple[int, ...] = (-9, -6, -4, -2, -1, 0, 1, 2, 4, 6, 9)
    """The frames looked at, counted from the one in question."""
    alphabet: str = "ipa"
    """The alphabet of the labels it was fitted on; `own` for labels taken as they are."""
    prior_weight: float = 1.0
    """How much of a label's frequency is divided out of its probability (1: a likelihood)."""


@dataclass(frozen=True, eq=False)
class PhoneModel:
    """Scores of the parts of phones for each frame of a clip. `fit_phone_model` makes one, `load` opens one.

    The model is linear (multinomial logistic regression): with minutes of speech to fit on, hidden layers did worse on
    new voices.
    """

    phones: tuple[str, ...]
    settings: PhoneModelSettings
    weight: torch.Tensor
    """`[c, o · d]`"""
    bias: torch.Tensor
    """`[c]`"""
    log_prior: np.ndarray
    """`[c]`, natural logarithm: how frequent each part of a phone is."""
    speech_model: SpeechModel | None = None
    """The model whose sites it reads; None for the spectrogram alone."""

    @property
    def n_columns(self) -> int:
        """How many parts of phones there are: the silence's one, then `parts` of each phone."""
        return 1 + self.settings.parts * len(self.phones)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its settings and numbers."""
        digest = hashlib.sha256(json.dumps([list(self.phones), asdict(self.settings)]).encode())
        for numbers in (self.weight.numpy(), self.bias.numpy(), self.log_prior):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def columns(self, phone: str) -> list[int]:
        """Return the columns of a phone's parts, in order.

        Raises:
            InputError: the model does not know the phone.
        """
        if phone == SILENCE:
            return [0]
        if phone not in self.phones:
            raise InputError(f"The phone model does not know {phone!r}{nearest(phone, self.phones) or '.'}")
        first = 1 + self.settings.parts * self.phones.index(phone)
        return list(range(first, first + self.settings.parts))

    def log_posteriors(self, clip: Clip) -> np.ndarray:
        """Return the log-probability (natural) of each part of each phone, `[t, c]`, float32."""
        return self.posteriors_of(self.settings.features.of(clip, self.speech_model))

    def posteriors_of(self, frames: np.ndarray) -> np.ndarray:
        """Return the log-probabilities `[t, c]` of features `[t, d]` that were read already.

        Raises:
            InputError: features of another width than the model was fitted on.
        """
        features = torch.from_numpy(frames)
        spans = torch.tensor([[0, len(features)]]).expand(len(features), 2)
        stacked = with_neighbours(features, torch.arange(len(features)), self.settings.offsets, spans)
        if stacked.shape[1] != self.weight.shape[1]:
            raise InputError(
                f"The phone model was fitted on {self.weight.shape[1]} numbers a frame, not {stacked.shape[1]}: give "
                "it the speech model that it was fitted with."
            )
        scores: np.ndarray = torch.nn.functional.linear(stacked, self.weight, self.bias).log_softmax(-1).numpy()
        return scores

    def with_any_phone(self, posteriors: np.ndarray) -> np.ndarray:
        """Return scaled log-likelihoods `[t, c + 1]` of log-posteriors `[t, c]`; the last column is any speech."""
        prior = self.settings.prior_weight * self.log_prior
        any_phone = np.logaddexp.reduce(posteriors[:, 1:], axis=1) - np.logaddexp.reduce(prior[1:])
        return np.column_stack([posteriors - prior, any_phone])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder: `phone_model.json` and `phone_model.safetensors`.

        Raises:
            InputError: the folder exists and holds something else.
            OtoscopeError: it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / _JSON).is_file():
            raise InputError(f"{folder} exists and is no phone model; save to a new folder.")
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "phones": list(self.phones),
            "settings": asdict(self.settings),
            "speech_model": None if self.speech_model is None else self.speech_model.weights_hash,
        }
        tensors = {"weight": self.weight, "bias": self.bias, "log_prior": torch.from_numpy(self.log_prior)}
        with atomic_folder(folder) as temporary:
            write_json(temporary / _JSON, meta)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary / _TENSORS))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], speech_model: SpeechModel | None = None) -> PhoneModel:
        """Open a saved model; one that reads sites needs the speech model that it was fitted with.

        Raises:
            InputError: it reads sites and `speech_model` is missing or another one.
            OtoscopeError: missing or damaged.
        """
        folder = Path(folder)
        meta = read_json(folder / _JSON, format=FORMAT, version=VERSION)
        if meta["speech_model"] is not None:
            if speech_model is None:
                raise InputError(f"{folder} reads {meta['settings']['features']['sites']} of a model; give that model.")
            if speech_model.weights_hash != meta["speech_model"]:
                raise InputError(f"{folder} was fitted with another model than {speech_model.name}; give that one.")
        try:
            tensors = load_file(str(folder / _TENSORS))
            given = dict(meta["settings"])
            features = given.pop("features")
            settings = PhoneModelSettings(
                FrameFeatures(tuple(features["sites"]), int(features["hz"])),
                **{**given, "offsets": tuple(given["offsets"])},
            )
            weight, bias, log_prior = tensors["weight"], tensors["bias"], tensors["log_prior"].numpy()
            model = cls(tuple(meta["phones"]), settings, weight, bias, log_prior)
            if len(weight) != model.n_columns:
                raise ValueError(f"{len(weight)} rows for {model.n_columns} parts of phones")
        except Exception as error:
            raise OtoscopeError(f"{folder} is damaged and cannot be read ({error}).") from error
        return model if meta["speech_model"] is None else replace(model, speech_model=speech_model)

    def __repr__(self) -> str:
        sites = ", ".join(self.settings.features.sites)
        return f"PhoneModel({len(self.phones)} phones × {self.settings.parts} parts from {sites})"


_JSON, _TENSORS = "phone_model.json", "phone_model.safetensors"
