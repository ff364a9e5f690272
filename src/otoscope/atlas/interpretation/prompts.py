"""What a language model is asked, and how its answers are read: strictly, as one JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from otoscope.atlas.interpretation.endpoint import Message
from otoscope.atlas.interpretation.moments import Moment

T = TypeVar("T")

PROMPT_VERSION = "1"
"""Part of what answers are remembered by: with another version, everything is asked anew."""
MAX_NAME, MAX_EXPLANATION = 80, 600
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)

EXPLAIN = """\
You are a phonetician who names features of speech models. A feature is one direction in a model's hidden state; it is \
read 50 times a second and is active at some moments of speech and sound. You get a card with statistics and moments: \
phones are in the transcription of the recordings (mostly IPA), [brackets] mark what is said at the moment, and "#" is \
the edge of speech. Say what the feature responds to, so that somebody who reads only your explanation can tell at \
which other moments it is active.

- Weigh the strongest moments most, but say so if weaker moments are of another sort.
- Compare shares with what is expected: a word may be common only because it holds the phone.
- Prefer the simplest explanation that the silent moments do not contradict: a phone, a class of phones, a phone in a \
context, a part of a phone, a word, a pause, a sort of sound, a voice, or a property of the sound.
- If nothing fits, say that it is unclear, with a low confidence.

Answer with one JSON object and nothing else:
{"name": "at most 8 words", "explanation": "one or two sentences", "confidence": 0.0 to 1.0}"""

JUDGE = """\
You are a phonetician. You get an explanation of when a feature of a speech model is active, and numbered moments of \
recordings: phones are in the transcription of the recordings (mostly IPA), [brackets] mark what is said at the \
moment, and "pause" means that nothing is said. Decide for each moment, by itself, whether the explanation fits it. \
About half of them may fit, or none, or all.

Answer with one JSON object and nothing else, with a 1 (fits) or a 0 (does not fit) for every number:
{"1": 0, "2": 1, …}"""


class UnusableAnswer(ValueError):  # noqa: N818
    """What the model said is not of the form that was asked for; says why."""


@dataclass(frozen=True)
class Explanation:
    """What a model says that a feature responds to; `confidence` is its own, from 0 to 1."""

    name: str
    explanation: str
    confidence: float


def explain_messages(card_markdown: str) -> list[Message]:
    """Return the question for an explanation."""
    return [{"role": "system", "content": EXPLAIN}, {"role": "user", "content": card_markdown}]


def judge_messages(name: str, explanation: str, moments: Sequence[Moment]) -> list[Message]:
    """Return the question which of these moments an explanation fits."""
    lines = [f"{number}. {moment.describe()}" for number, moment in enumerate(moments, start=1)]
    text = "\n".join([f"Explanation: {name}. {explanation}", "", "Moments:", *lines])
    return [{"role": "system", "content": JUDGE}, {"role": "user", "content": text}]


def repair_messages(messages: Sequence[Message], answer: str, why: str) -> list[Message]:
    """Return the question again, with what was wrong with the answer."""
    again = f"That answer cannot be used: {why}. Answer again, with the JSON object and nothing else."
    return [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": again}]


def read_explanation(text: str) -> Explanation:
    """Read the answer to `explain_messages`.

    Raises:
        UnusableAnswer: says why.
    """
    found = _json_object(text)
    name, explanation = (found.get(key) for key in ("name", "explanation"))
    if not isinstance(name, str) or not isinstance(explanation, str) or not name.strip() or not explanation.strip():
        raise UnusableAnswer('"name" and "explanation" must be texts that are not empty')
    if len(name) > MAX_NAME or len(explanation) > MAX_EXPLANATION:
        raise UnusableAnswer(
            f"the name is longer than {MAX_NAME} characters, or the explanation than {MAX_EXPLANATION}"
        )
    confidence = found.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise UnusableAnswer('"confidence" must be a number from 0 to 1')
    return Explanation(_one_line(name), _one_line(explanation), float(confidence))


def read_judgement(count: int) -> Callable[[str], list[bool]]:
    """Return a reader of the answer to `judge_messages` for so many moments.

    The reader raises `UnusableAnswer`, which says why.
    """

    def read(text: str) -> list[bool]:
        found = _json_object(text)
        wanted = [str(number) for number in range(1, count + 1)]
        if sorted(found) != sorted(wanted):
            raise UnusableAnswer(f'the keys must be exactly "1" to "{count}"')
        values = [found[number] for number in wanted]
        if any(value not in (0, 1) or isinstance(value, str | float) for value in values):
            raise UnusableAnswer("every value must be 0 or 1")
        return [bool(value) for value in values]

    return read


def _json_object(text: str) -> dict[str, Any]:
    """Read a text that is one JSON object, perhaps in a code fence or after spoken thoughts, and nothing else."""
    bare = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.fullmatch(bare)
    try:
        found = json.loads(fenced[1] if fenced else bare)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer("it is not one JSON object") from error
    if not isinstance(found, dict):
        raise UnusableAnswer("it is not a JSON object")
    return found


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
