"""Writing down what was said: decoding as users of `whisper.transcribe` know it, and when each word is spoken."""

from otoscope.models.generation.decoding import WindowDecoder as WindowDecoder
from otoscope.models.generation.listening import Heard as Heard
from otoscope.models.generation.listening import encode as encode
from otoscope.models.generation.options import FALLBACK as FALLBACK
from otoscope.models.generation.options import DecodingOptions as DecodingOptions
from otoscope.models.generation.spoken import word_times as word_times
from otoscope.models.generation.steps import RowEdits as RowEdits
from otoscope.models.generation.steps import Steps as Steps
from otoscope.models.generation.timing import alignment_heads as alignment_heads
from otoscope.models.generation.timing import token_matrix as token_matrix
from otoscope.models.generation.transcribing import score_clip as score_clip
from otoscope.models.generation.transcribing import transcribe_clips as transcribe_clips
from otoscope.models.generation.transcript import Decoded as Decoded
from otoscope.models.generation.transcript import Segment as Segment
from otoscope.models.generation.transcript import Token as Token
from otoscope.models.generation.transcript import Transcript as Transcript
from otoscope.models.generation.transcript import WrittenWindow as WrittenWindow
from otoscope.models.generation.transcript import compression_ratio as compression_ratio
from otoscope.models.generation.transcript import is_looped as is_looped
from otoscope.models.generation.warping import dtw as dtw
from otoscope.models.generation.words import Word as Word
from otoscope.models.text.rules import Rules as Rules
