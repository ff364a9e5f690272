"""Harvesting activations into a store on disk, and reading them back."""

from otoscope.activations.harvesting import harvest as harvest
from otoscope.activations.statistics import SiteStatistics as SiteStatistics
from otoscope.activations.store import ActivationStore as ActivationStore
from otoscope.activations.streaming import EncoderStream as EncoderStream
from otoscope.activations.streaming import stream as stream
from otoscope.activations.tokens import TokenStore as TokenStore
from otoscope.activations.tokens import token_activations as token_activations
