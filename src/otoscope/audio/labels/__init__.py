"""Files of times: TextGrid, CTM, Audacity labels, EMU, JSON, TIMIT."""

from otoscope.audio.labels.formats import FORMATS as FORMATS
from otoscope.audio.labels.formats import LabelFormat as LabelFormat
from otoscope.audio.labels.formats import label_format as label_format
from otoscope.audio.labels.formats import read_label_file as read_label_file
from otoscope.audio.labels.formats import read_labels as read_labels
from otoscope.audio.labels.formats import write_labels as write_labels
from otoscope.audio.labels.tiers import tiers_from_marks as tiers_from_marks
