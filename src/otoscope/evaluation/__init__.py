"""Evaluation: how well a dictionary rebuilds activations, and how selective its features are."""

from __future__ import annotations

from otoscope.evaluation.reconstruction import Reconstruction, reconstruction

__all__ = ["Reconstruction", "reconstruction"]
