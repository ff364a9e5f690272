"""Aligning a corpus: clip by clip, resumable, with what could not be aligned named."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.alignment.alignment import Alignment
from otoscope.alignment.ctc_alignment import align_ctc, letters_of
from otoscope.alignment.heads import heads_of
from otoscope.alignment.lexicon import Lexicon, words_of
from otoscope.alignment.phone_model import PhoneModel
from otoscope.alignment.phones import align_phones
from otoscope.alignment.words import align_words
from otoscope.audio import Clip, Corpus, Interval
from otoscope.audio.problems import Problem
from otoscope.errors import InputError, OtoscopeError
from otoscope.progress import ProgressReport, track

if TYPE_CHECKING:
    from otoscope.models import SpeechModel

TIERS = ("words", "phones")
MARGIN = "alignment_margin"
"""The attribute that says how well the sound of a clip agrees (see `Alignment.margin`)."""
FORMAT, VERSION = "otoscope-alignment-journal", 1

AlignClip = Callable[[Clip], Alignment]


def align_corpus(
    corpus: Corpus,
    model: SpeechModel | None = None,
    *,
    phone_model: PhoneModel | None = None,
    lexicon: Lexicon | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    tiers: Sequence[str] = TIERS,
    unknown: str = "refuse",
    least_margin: float | None = None,
    to: str | os.PathLike[str] | None = None,
    progress: bool | ProgressReport = False,
) -> Corpus:
    """Return the corpus with `words` and `phones` tiers found by alignment with its texts.

    With a `phone_model` and a `lexicon` both tiers come from them; else from a CTC `model`; else words come from the
    cross-attention of a Whisper `model` (by `heads`), and phones are refused. Each clip gets the attribute
    `alignment_margin`. Clips without text stay as they are. A clip that cannot be aligned, or (with `least_margin`)
    whose margin is lower, keeps the tiers it had and is named in `Corpus.problems`.

    With `to`, the corpus is saved there when all is done; what is done is kept beside it meanwhile, so that the same
    call goes on where one that was stopped ended.

    Raises:
        InputError: no way to make a tier asked for, or no clip with text.
        OtoscopeError: the folder cannot be written.
    """
    align = _aligner(model, phone_model, lexicon, heads, tiers, unknown)
    todo = [clip for clip in corpus if words_of(clip.text or "")]
    if not todo:
        raise InputError(f"No clip of the corpus {corpus.name!r} has a text, so there is nothing to align.")
    done: dict[str, dict[str, Any]] = {}
    journal = None
    if to is not None:
        settings = (model, phone_model, lexicon, heads, tiers, unknown)
        journal = _Journal(Path(to), _fingerprint(corpus, *settings))
        done = journal.read()
    left = [clip for clip in todo if clip.clip_id not in done]
    with track("aligning", len(todo), progress, unit="clips", done=len(todo) - len(left)) as advance:
        for clip in left:
            row = _aligned(align, clip)
            done[clip.clip_id] = row
            if journal is not None:
                journal.add(row)
            advance(1)
    clips, problems = _with_tiers(corpus, done, tiers, least_margin)
    aligned = Corpus(corpus.name, clips, (*corpus.problems, *problems), licence=corpus.licence)
    if to is None or journal is None:
        return aligned
    saved = aligned.save(to)
    journal.remove()
    return Corpus(saved.name, saved.clips, aligned.problems, licence=saved.licence)


def _aligner(
    model: SpeechModel | None,
    phone_model: PhoneModel | None,
    lexicon: Lexicon | None,
    heads: Sequence[tuple[int, int]] | None,
    tiers: Sequence[str],
    unknown: str,
) -> AlignClip:
    for tier in tiers:
        if tier not in TIERS:
            raise InputError(f"The tier {tier!r} cannot be made by alignment; choose {' or '.join(TIERS)}.")
    if not tiers:
        raise InputError("Say which tiers to make: words, phones, or both.")
    if phone_model is not None:
        if lexicon is None:
            raise InputError("A phone model needs a lexicon that says how words are pronounced; give one.")
        return lambda clip: align_phones(phone_model, clip, lexicon, unknown=unknown)
    if model is None:
        raise InputError("Give a phone model and a lexicon, a CTC model, or a Whisper model to align with.")
    if "text" in model.dims.traits and "decoder" not in model.dims.traits:
        if "phones" in tiers and not letters_of(model).phones:
            raise InputError(f"{model.name} hears letters, not phones; give a phone model, or ask for words only.")
        return lambda clip: align_ctc(model, clip, lexicon=lexicon)
    if "phones" in tiers:
        raise InputError(
            f"{model.name} tells words, not phones; give a phone model and a lexicon, or ask for words only."
        )
    if "decoder" not in model.dims.traits:
        raise InputError(f"{model.name} writes no text, so it cannot align; give a phone model and a lexicon.")
    chosen = heads_of(model, heads)
    return lambda clip: align_words(model, clip, heads=chosen)


def _aligned(align: AlignClip, clip: Clip) -> dict[str, Any]:
    """One line of the journal: the tiers of a clip, or why it has none."""
    try:
        found = align(clip)
    except OtoscopeError as error:
        return {"clip_id": clip.clip_id, "problem": str(error)}
    rows = {name: [[i.start_s, i.end_s, i.label] for i in tier] for name, tier in found.tiers.items()}
    margin = found.margin if math.isfinite(found.margin) else -math.inf
    return {"clip_id": clip.clip_id, "margin": margin, "unknown": list(found.unknown), **rows}


def _with_tiers(
    corpus: Corpus, done: dict[str, dict[str, Any]], tiers: Sequence[str], least_margin: float | None
) -> tuple[list[Clip], list[Problem]]:
    clips, problems = [], []
    for clip in corpus:
        row = done.get(clip.clip_id)
        reason = None if row is None else row.get("problem")
        if row is not None and reason is None and least_margin is not None and not row["margin"] >= least_margin:
            reason = f"the sound does not fit the text: its margin is {row['margin']:.2f}, below {least_margin:g}"
        if reason is not None:
            problems.append(Problem(clip.clip_id, reason.rstrip("."), clip.clip_id))
        if row is None or reason is not None:
            clips.append(clip)
            continue
        made = {name: tuple(Interval(*each) for each in row.get(name, ())) for name in tiers}
        attributes = {**clip.attributes, MARGIN: f"{row['margin']:.3f}"}
        if row["unknown"]:
            attributes["alignment_unknown"] = " ".join(row["unknown"])
        clips.append(replace(clip, tiers={**clip.tiers, **made}, attributes=attributes))
    return clips, problems


def _fingerprint(
    corpus: Corpus,
    model: SpeechModel | None,
    phone_model: PhoneModel | None,
    lexicon: Lexicon | None,
    heads: Sequence[tuple[int, int]] | None,
    tiers: Sequence[str],
    unknown: str,
) -> str:
    """SHA-256 of everything that an alignment depends on."""
    facts = [
        corpus.fingerprint,
        None if model is None else model.weights_hash,
        None if phone_model is None else phone_model.fingerprint,
        None if lexicon is None else lexicon.fingerprint,
        None if heads is None else [list(head) for head in heads],
        list(tiers),
        unknown,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class _Journal:
    """The clips done so far, one JSON line each, beside the folder that will hold the aligned corpus."""

    def __init__(self, to: Path, fingerprint: str) -> None:
        self.path = to.parent / f".{to.name}.aligning.jsonl"
        self.head = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint}

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the rows of an earlier run of the same work; one of other work, or cut lines, are left out."""
        rows: list[dict[str, Any]] = []
        try:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                rows.append(json.loads(line))
        except (OSError, ValueError):
            pass  # the last line may be cut: the clips before it count
        kept = rows[1:] if rows and rows[0] == self.head else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(row) + "\n" for row in [self.head, *kept]), encoding="utf-8")
        return {row["clip_id"]: row for row in kept}

    def add(self, row: dict[str, Any]) -> None:
        """Append the row of one clip."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OtoscopeError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def remove(self) -> None:
        """The corpus is saved: the journal has served."""
        self.path.unlink(missing_ok=True)
