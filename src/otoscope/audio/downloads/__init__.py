"""Public corpora from their own sources: shown, checked, resumed, unpacked without touching what is there."""

from otoscope.audio.downloads.job import download as download
from otoscope.audio.downloads.sources import SOURCES as SOURCES
from otoscope.audio.downloads.sources import RemoteFile as RemoteFile
from otoscope.audio.downloads.sources import Source as Source
from otoscope.audio.downloads.sources import source as source
