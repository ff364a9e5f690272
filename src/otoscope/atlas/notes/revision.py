"""One revision of a note: what is kept for ever, checked, and written as one line of JSON.

A note is the set of its revisions. Each names the revisions it replaces (`parents`) and is called after its own content
(`revision`, a SHA-256), so the union of two sets of revisions is again a valid set, whoever made which where.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

MAX_NAME, MAX_EVIDENCE, MAX_PARENTS, MAX_SECONDS = 80, 50, 100, 1e6
MAX_REFERENCE, MAX_CLIP_ID, MAX_LABEL = 1000, 500, 200
_ID = re.compile(r"[0-9a-f]{32}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z")
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Kind:
    """What the text of one kind of note may be."""

    longest: int
    many_lines: bool = False
    words: tuple[str, ...] = ()


KINDS = {
    "label": Kind(MAX_LABEL),
    "comment": Kind(10_000, many_lines=True),
    "tag": Kind(MAX_NAME),
    "star": Kind(0),
    "verdict": Kind(10, words=("agree", "disagree")),
}
"""A verdict judges the automatic label named in `about`; a star has no text."""


@dataclass(frozen=True, order=True)
class FeatureKey:
    """A feature by what its dictionary computes, so that notes survive a new atlas or a new name of the dictionary."""

    dictionary: str
    fingerprint: str
    feature: int

    @classmethod
    def of(cls, atlas: Atlas, feature: int) -> FeatureKey:
        """Return the key of a feature of an atlas.

        Raises:
            InputError: the atlas has no such feature.
        """
        if not 0 <= feature < len(atlas):
            raise InputError(f"{atlas.name} has the features 0…{len(atlas) - 1}; there is no {feature}.")
        about = atlas.meta["dictionary"]
        return cls(str(about["name"]), str(about["fingerprint"]), feature)

    def __str__(self) -> str:
        return f"{self.dictionary}:{self.feature}"


@dataclass(frozen=True)
class Evidence:
    """Why a note says what it says: a moment of a clip (in seconds), a reference in words, or both."""

    clip_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_s", _number(self.start_s))
        object.__setattr__(self, "end_s", _number(self.end_s))

    def record(self) -> dict[str, Any]:
        """Return what is known, as JSON has it."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Revision:
    """What one person said at one time.

    note … created: the same in all revisions of a note; `author` began it at `created`. parents: the revisions that
    this one replaces. editor, edited: who wrote this revision, and when (UTC). confidence: 0–1. reply_to: a note.
    about: the automatic label that a verdict judges. blind: written before its editor could see what others, or the
    atlas, call the feature. deleted: a tombstone; the text is what was deleted.
    """

    note: str
    feature: FeatureKey
    kind: str
    author: str
    created: str
    editor: str
    edited: str
    text: str
    parents: tuple[str, ...] = ()
    confidence: float | None = None
    evidence: tuple[Evidence, ...] = ()
    reply_to: str | None = None
    about: str | None = None
    blind: bool = False
    deleted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", _number(self.confidence))
        _check(self)

    @property
    def identity(self) -> str:
        """What all revisions of one note share."""
        key = self.feature
        return json.dumps([self.note, key.fingerprint, key.feature, self.kind, self.author, self.created])

    @cached_property
    def revision(self) -> str:
        """Name of this revision: SHA-256 of its content, the first 40 digits."""
        return hashlib.sha256(self._canonical.encode()).hexdigest()[:40]

    @cached_property
    def _canonical(self) -> str:
        return json.dumps(self._content(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def _content(self) -> dict[str, Any]:
        record = {field: getattr(self, field) for field in FIELDS}
        record["parents"] = list(self.parents)
        record["evidence"] = [item.record() for item in self.evidence]
        key = record.pop("feature")
        return record | {"dictionary": key.dictionary, "fingerprint": key.fingerprint, "feature": key.feature}

    def record(self) -> dict[str, Any]:
        """Return the revision as a JSON object."""
        return {"revision": self.revision, **self._content()}

    def line(self) -> str:
        """Return the revision as one line of JSON, the same text for the same content."""
        return f'{{"revision":"{self.revision}",{self._canonical[1:]}'

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Revision:
        """Read what `record` wrote.

        Raises:
            InputError: a field is missing, unknown or impossible, or the content is not that of its `revision`.
        """
        missing, unknown = RECORD_FIELDS - record.keys(), record.keys() - RECORD_FIELDS
        if missing or unknown:
            which = f"lacks {min(missing)!r}" if missing else f"has the unknown field {min(unknown, key=str)!r:.80}"
            raise InputError(f"it {which}; a note has {', '.join(sorted(RECORD_FIELDS))}")
        for name, types in _TYPES.items():
            if type(record[name]) not in types:
                raise InputError(f"{name} cannot be {record[name]!r:.80}")
        values = {name: record[name] for name in FIELDS if name != "feature"}
        values["feature"] = FeatureKey(record["dictionary"], record["fingerprint"], record["feature"])
        values["parents"] = tuple(record["parents"])
        values["evidence"] = tuple(map(_evidence, record["evidence"]))
        made = cls(**values)
        if made.revision != record["revision"]:
            raise InputError(
                f"its content is not that of revision {record['revision'][:8]}…: it was changed by hand or damaged; "
                "make changes with `otoscope notes` and export again"
            )
        return made


FIELDS = tuple(field.name for field in dataclasses.fields(Revision))
RECORD_FIELDS = frozenset({*FIELDS, "revision", "dictionary", "fingerprint"})
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("revision", "note", "dictionary", "fingerprint", "kind"), (str,)),
    **dict.fromkeys(("author", "created", "editor", "edited", "text"), (str,)),
    **dict.fromkeys(("reply_to", "about"), (str, type(None))),
    **dict.fromkeys(("blind", "deleted"), (bool,)),
    **dict.fromkeys(("parents", "evidence"), (list,)),
    "feature": (int,),
    "confidence": (int, float, type(None)),
}


def plain_text(text: str) -> str:
    """Return text as notes keep it: composed Unicode (NFC), no space around it, lines ended by `\\n`."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip()


def _number(value: float | None) -> float | None:
    """Return a number as it is written: 1.0 for 1, and no minus before a zero."""
    return None if value is None else float(value) + 0.0


def _evidence(record: Any) -> Evidence:
    known = {"clip_id": (str,), "start_s": (int, float), "end_s": (int, float), "reference": (str,)}
    if not isinstance(record, dict) or not record or record.keys() - known.keys():
        raise InputError(f"evidence is a moment (clip_id, start_s, end_s) or a reference, not {record!r:.80}")
    for name, value in record.items():
        if type(value) not in known[name]:
            raise InputError(f"{name} of evidence cannot be {value!r:.80}")
    return Evidence(**record)


def _check(made: Revision) -> None:
    """Refuse a revision that could not be kept, shown or told apart."""
    kind = KINDS.get(made.kind)
    if kind is None:
        raise InputError(f"{made.kind!r:.80} is no kind of note; there are {', '.join(KINDS)}")
    for name, pattern in (("note", _ID), ("created", _TIME), ("edited", _TIME)):
        if not pattern.fullmatch(getattr(made, name)):
            raise InputError(f"{name} cannot be {getattr(made, name)!r:.80}")
    for name in ("author", "editor"):
        _one_line(f"the name of the {name}", getattr(made, name), MAX_NAME)
    _check_text(made, kind)
    if made.reply_to is not None and not _ID.fullmatch(made.reply_to):
        raise InputError(f"reply_to is the id of a note, not {made.reply_to!r:.80}")
    if len(made.parents) > MAX_PARENTS or any(
        not isinstance(p, str) or not _REVISION.fullmatch(p) for p in made.parents
    ):
        raise InputError(f"parents are ids of revisions (at most {MAX_PARENTS}), not {list(made.parents)!r:.80}")
    if made.parents != tuple(sorted(set(made.parents))):
        raise InputError("parents must be sorted, each of them once")
    if made.confidence is not None and not 0 <= made.confidence <= 1:
        raise InputError(f"the confidence {made.confidence:g} is not between 0 and 1")
    if len(made.evidence) > MAX_EVIDENCE:
        raise InputError(f"{len(made.evidence)} pieces of evidence are too many; give at most {MAX_EVIDENCE}")
    for item in made.evidence:
        _check_evidence(item)
    _check_key(made.feature)


def _check_text(made: Revision, kind: Kind) -> None:
    text = made.text
    if kind.many_lines:
        if not text:
            raise InputError(f"a {made.kind} needs some text")
        if len(text) > kind.longest:
            raise InputError(f"the {made.kind} has {len(text):,} characters; at most {kind.longest:,} are kept")
        _printable(f"the {made.kind}", text)
    elif kind.longest:
        _one_line(f"the {made.kind}", text, kind.longest)
    elif text:
        raise InputError(f"a {made.kind} has no text; write {text!r:.40} as a comment")
    if kind.words and text not in kind.words:
        raise InputError(f"a {made.kind} says {' or '.join(kind.words)}, not {text!r:.40}")
    if (made.about is not None) != bool(kind.words):
        raise InputError(f"only a verdict, and each of them, names the label that it is about; this is a {made.kind}")
    if made.about is not None:
        _one_line("the label that the verdict is about", made.about, MAX_LABEL)


def _check_evidence(item: Evidence) -> None:
    times = (item.start_s, item.end_s)
    if item.clip_id is None and (item.reference is None or times != (None, None)):
        raise InputError("evidence is a moment of a clip (clip_id, start_s, end_s) or a reference in words")
    if item.reference is not None:
        _one_line("the reference", item.reference, MAX_REFERENCE)
    if item.clip_id is not None:
        _one_line("the clip id of evidence", item.clip_id, MAX_CLIP_ID)
        start, end = (math.nan if t is None else t for t in times)
        if not 0 <= start < end <= MAX_SECONDS:
            raise InputError(f"the moment {item.start_s}–{item.end_s} s of {item.clip_id!r:.80} is not a span of time")


def _check_key(key: FeatureKey) -> None:
    _one_line("the name of the dictionary", key.dictionary, MAX_LABEL)
    if not _FINGERPRINT.fullmatch(key.fingerprint):
        raise InputError(f"the fingerprint of a dictionary cannot be {key.fingerprint!r:.80}")
    if not 0 <= key.feature < 2**31:
        raise InputError(f"there is no feature {key.feature}")


def _one_line(what: str, text: str, longest: int) -> None:
    if not text:
        raise InputError(f"{what} is empty")
    if len(text) > longest:
        raise InputError(f"{what} has {len(text):,} characters; at most {longest} are kept")
    if "\n" in text:
        raise InputError(f"{what} has several lines; write it in one, or write a comment")
    _printable(what, text)


def _printable(what: str, text: str) -> None:
    if text.isascii() and text.isprintable() and text == text.strip():
        return
    found = UNPRINTABLE.search(text)
    if found:
        raise InputError(f"{what} has the character U+{ord(found[0]):04X}, which cannot be shown; leave it out")
    if text != plain_text(text):
        raise InputError(f"{what} is not in plain form (composed Unicode, no space around it): {text!r:.60}")
