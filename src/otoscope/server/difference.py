"""What an edit changed: two transcripts aligned by word, and how likely the first one's tokens still are."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

from otoscope.server.shapes import TokenChange, TokenView, TranscriptView, WordChange
from otoscope.server.views import number

if TYPE_CHECKING:
    from otoscope.models import Transcript

CHANGES: dict[str, Literal["same", "replaced", "removed", "added"]] = {
    "equal": "same",
    "replace": "replaced",
    "delete": "removed",
    "insert": "added",
}


def transcript_view(transcript: Transcript) -> TranscriptView:
    """Return a transcript as the API says it."""
    return TranscriptView(
        text=transcript.text,
        language=transcript.language,
        tokens=[TokenView(id=t.id, text=t.text, log_prob=t.log_prob) for t in transcript.tokens],
        avg_log_prob=number(transcript.avg_log_prob),
        no_speech_prob=number(transcript.no_speech_prob),
    )


def word_changes(base: str, edited: str) -> list[WordChange]:
    """Align two texts by word (case is ignored, since it is not heard) and list what changed, in order."""
    before, after = base.split(), edited.split()
    matcher = SequenceMatcher(None, [w.casefold() for w in before], [w.casefold() for w in after], autojunk=False)
    return [
        WordChange(change=CHANGES[tag], base=before[i:j], edited=after[k:m])
        for tag, i, j, k, m in matcher.get_opcodes()
    ]


def token_changes(base: Transcript, forced: Sequence[float]) -> list[TokenChange]:
    """Return for each token of the unedited transcript how much less (or more) likely the edits make it.

    `forced`: log-probabilities of the same tokens with the edits, from `SpeechModel.score`.
    """
    return [
        TokenChange(text=token.text, log_prob=token.log_prob, edited_log_prob=score, delta=score - token.log_prob)
        for token, score in zip(base.tokens, forced, strict=True)
    ]
