"""Notes: what people say about features. Append-only, so that nothing anybody wrote is ever lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import EllipsisType
from typing import Any

from otoscope.atlas.notes.agreement import Agreement, Rating, agreement_of
from otoscope.atlas.notes.database import Database
from otoscope.atlas.notes.exchange import LINE_ORDER, Imported, read_lines
from otoscope.atlas.notes.note import Note, together
from otoscope.atlas.notes.revision import UNPRINTABLE, Evidence, FeatureKey, Revision, plain_text
from otoscope.errors import InputError
from otoscope.storage import atomic_path

_LABELLED = "kind = 'label' AND NOT deleted AND editor = ?"
UNREPLACED = """NOT EXISTS (
  SELECT 1 FROM parent JOIN revision AS later ON later.revision = parent.revision
  WHERE parent.parent = revision.revision AND later.identity = revision.identity)"""
_COLUMNS = (
    *("revision", "identity", "note", "dictionary", "fingerprint", "feature", "kind", "created", "editor", "edited"),
    *("text", "blind", "deleted", "record"),
)
_INSERT = f"INSERT OR IGNORE INTO revision ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Notes:
    """The notes of a workspace, in one SQLite file that is made with the first note. Safe to share between threads.

    An edit names the revision it is `based_on`. Where that is no longer the newest, both stay, side by side, and the
    note is `in_conflict` until an edit based on all versions resolves it.

    >>> notes = oto.Workspace.open().notes()                         # doctest: +SKIP
    >>> notes.add(FeatureKey.of(atlas, 30), "label", "nasals", author="Ann")  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._database = Database(self.path)

    def add(
        self,
        feature: FeatureKey,
        kind: str,
        text: str = "",
        *,
        author: str,
        confidence: float | None = None,
        evidence: Sequence[Evidence] = (),
        reply_to: str | None = None,
        about: str | None = None,
        blind: bool = False,
    ) -> Note:
        """Keep a new note of a kind (label, comment, tag, star, verdict) and return it.

        `about`: the automatic label that a verdict judges. `blind`: the author has seen nobody's label yet; it is kept
        as such only if that can be true, that is with the author's first label of the feature.

        Raises:
            InputError: something in it cannot be kept, or there is no note `reply_to` of this feature.
            OtoscopeError: the disk is full or the file is damaged.
        """
        name, now = plain_text(author), _now()
        with self._database.writing() as connection:
            if reply_to is not None and not any(each.id == reply_to for each in self.of(feature, deleted=True)):
                raise InputError(f"There is no note {reply_to!r:.40} of {feature} to reply to.")
            with _sentences():
                made = Revision(
                    uuid.uuid4().hex, feature, kind, name, now, name, now, plain_text(text),
                    confidence=confidence,
                    evidence=tuple(evidence), reply_to=reply_to, about=about,
                    blind=blind and kind == "label" and not self.has_labelled(feature, name),
                )  # fmt: skip
            self._append(connection, [made])
        return Note((made,))

    def edit(
        self,
        note: str,
        based_on: str | Sequence[str],
        *,
        editor: str,
        text: str | None = None,
        confidence: float | EllipsisType | None = ...,
        evidence: Sequence[Evidence] | None = None,
    ) -> Note:
        """Write a new revision of a note (what is not given stays) and return the note as it then stands.

        `based_on`: the revision that the editor saw; all of `versions` to resolve a conflict. An edit of a deleted note
        brings it back.

        Raises:
            InputError: there is no such note or revision, or something in it cannot be kept.
        """
        with self._database.writing() as connection, _sentences():
            before, parents = self._based_on(note, based_on)
            made = replace(
                before,
                **_after(parents, editor),
                text=before.text if text is None else plain_text(text),
                confidence=before.confidence if isinstance(confidence, EllipsisType) else confidence,
                evidence=before.evidence if evidence is None else tuple(evidence),
                deleted=False,
            )
            self._append(connection, [made])
            return self._standing(made)

    def delete(self, note: str, based_on: str | Sequence[str], *, editor: str) -> Note:
        """Mark a note as deleted; all it ever said stays in its history.

        A version that the editor had not seen survives (the note is then in conflict).

        Raises:
            InputError: there is no such note or revision.
        """
        with self._database.writing() as connection, _sentences():
            before, parents = self._based_on(note, based_on)
            made = replace(before, **_after(parents, editor), deleted=True)
            self._append(connection, [made])
            return self._standing(made)

    def of(self, feature: FeatureKey, *, deleted: bool = False, blind_for: str | None = None) -> list[Note]:
        """Return the notes of a feature, oldest first.

        `blind_for`: an annotator who sees only their own notes until they have given the feature a label.
        """
        found = together(self._unreplaced("fingerprint = ? AND feature = ?", [feature.fingerprint, feature.feature]))
        kept = [note for note in found if deleted or not note.deleted]
        if blind_for is None or self.has_labelled(feature, blind_for):
            return kept
        own = plain_text(blind_for)
        return [
            note for note in kept if {own} == {name for each in note.versions for name in (each.author, each.editor)}
        ]

    def has_labelled(self, feature: FeatureKey, author: str) -> bool:
        """Tell whether somebody has given a feature a label; taking it back later does not undo that they know more."""
        sql = f"SELECT 1 FROM revision WHERE fingerprint = ? AND feature = ? AND {_LABELLED} LIMIT 1"
        return bool(self._database.rows(sql, [feature.fingerprint, feature.feature, plain_text(author)]))

    def get(self, note: str) -> Note:
        """Return a note by its id, deleted or not.

        Raises:
            InputError: there is none.
        """
        found = together(self._unreplaced("note = ?", [note]))
        if not found:
            raise InputError(f"There is no note {note!r:.40} here.")
        return found[0]

    def history(self, note: str) -> list[Revision]:
        """Return every revision of a note, oldest first."""
        rows = self._database.rows("SELECT record FROM revision WHERE note = ? ORDER BY edited, revision", [note])
        return [_revision(record) for (record,) in rows]

    def all(self, *, fingerprint: str | None = None, editor: str | None = None, kind: str | None = None) -> list[Note]:
        """Return all notes that are not deleted, by feature, optionally of one dictionary, person or kind."""
        wanted = {"fingerprint": fingerprint, "editor": editor, "kind": kind}
        given = {name: value for name, value in wanted.items() if value is not None}
        condition = " AND ".join([f"{name} = ?" for name in given] or ["1"])
        found = together(self._unreplaced(condition, list(given.values())))
        return sorted((note for note in found if not note.deleted), key=lambda note: note.feature)

    def conflicts(self) -> list[Note]:
        """Return the notes with versions that exclude each other."""
        edited = "SELECT identity FROM revision GROUP BY identity HAVING count(*) > 1"
        found = together(self._unreplaced(f"identity IN ({edited})", []))
        return [note for note in found if note.in_conflict]

    def search(self, text: str, *, fingerprint: str | None = None, limit: int = 1000) -> list[Note]:
        """Return the notes that have every word of `text`, by feature; words may be cut short (`nas` finds `nasal`).

        Where SQLite lacks FTS5, the words are found anywhere in the text instead.
        """
        words = plain_text(UNPRINTABLE.sub(" ", text)).split()
        if not words:
            return []
        condition, values = "NOT deleted", list[Any]()
        if fingerprint is not None:
            condition, values = condition + " AND fingerprint = ?", [fingerprint]
        if all(re.search(r"[^\W_]", word) for word in words) and self._database.has_words():
            condition += " AND id IN (SELECT rowid FROM words WHERE words MATCH ?)"
            values.append(" ".join('"' + word.replace('"', '""') + '"*' for word in words))
        else:
            condition += " AND instr(casefold(text), casefold(?)) > 0" * len(words)
            values += words
        first = (
            f"SELECT identity FROM revision WHERE {condition} AND {UNREPLACED} "
            "GROUP BY identity ORDER BY dictionary, fingerprint, feature, identity LIMIT ?"
        )
        found = together(self._unreplaced(f"identity IN ({first})", [*values, limit]))
        return sorted(found, key=lambda note: note.feature)

    def revisions(self) -> list[Revision]:
        """Return every revision there is."""
        return [_revision(record) for (record,) in self._database.rows("SELECT record FROM revision")]

    def lines(self, only: Iterable[FeatureKey] | None = None) -> list[str]:
        """Return every revision (`only` of these features) as a line of JSON, in an order that git merges well."""
        rows = self._database.rows(f"SELECT fingerprint, feature, record FROM revision ORDER BY {LINE_ORDER}")
        wanted = None if only is None else {_place(key) for key in only}
        return [record for *place, record in rows if wanted is None or tuple(place) in wanted]

    def export_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Write every revision into a file, one line each, and return their number.

        Raises:
            OtoscopeError: the file cannot be written.
        """
        found = self.lines()
        with atomic_path(path) as temporary:
            temporary.write_bytes("".join(f"{line}\n" for line in found).encode())
        return len(found)

    def import_jsonl(self, source: bytes | str | os.PathLike[str]) -> Imported:
        """Add the revisions of an exported file (or of its content); those that are known already change nothing.

        Raises:
            InputError: a line is not a revision (says which, and why); nothing is then imported.
        """
        found = read_lines(source)
        with self._database.writing() as connection:
            n_new = self._append(connection, found)
        ids = {each.note for each in found}
        return Imported(len(found), n_new, tuple(note for note in self.conflicts() if note.id in ids))

    def agreement(
        self, *, fingerprint: str | None = None, blind: bool = False, only: Iterable[FeatureKey] | None = None
    ) -> Agreement:
        """Return how far the labels of different people agree.

        A person's label of a feature is what they last wrote there themselves and did not delete. `blind`: count only
        labels written before their author could see others. `only`: these features.
        """
        ratings = self._ratings(fingerprint, blind)
        if only is not None:
            wanted = {_place(key) for key in only}
            ratings = [each for each in ratings if _place(each.feature) in wanted]
        return agreement_of(ratings)

    def labelled_by(self, author: str) -> list[FeatureKey]:
        """Return the features to which somebody has given a label."""
        sql = f"SELECT DISTINCT dictionary, fingerprint, feature FROM revision WHERE {_LABELLED}"
        return sorted(FeatureKey(*row) for row in self._database.rows(sql, [plain_text(author)]))

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._database.close()

    def __repr__(self) -> str:
        ((n_notes, n_revisions),) = self._database.rows(
            "SELECT count(DISTINCT identity), count(*) FROM revision"
        ) or [(0, 0)]  # fmt: skip
        return f"Notes({str(self.path)!r}: {n_notes} notes in {n_revisions} revisions)"

    def _ratings(self, fingerprint: str | None, blind: bool) -> list[Rating]:
        of_one, values = (" AND fingerprint = ?", [fingerprint]) if fingerprint is not None else ("", [])
        rows = self._database.rows(
            "SELECT identity, editor, edited, blind, deleted, text, dictionary, fingerprint, feature FROM revision "
            f"WHERE kind = 'label'{of_one} ORDER BY edited, revision",
            values,
        )
        withdrawn: dict[tuple[str, str], bool] = {}
        last: dict[tuple[str, str], tuple[str, str, FeatureKey]] = {}
        for identity, editor, edited, was_blind, deleted, text, *key in rows:
            withdrawn[identity, editor] = bool(deleted)
            if not deleted and (was_blind or not blind):
                last[identity, editor] = (edited, text, FeatureKey(*key))
        newest: dict[tuple[str, int, str], tuple[str, Rating]] = {}
        for (identity, editor), (edited, text, feature) in last.items():
            at = (feature.fingerprint, feature.feature, editor)
            if not withdrawn[identity, editor] and (at not in newest or newest[at][0] <= edited):
                newest[at] = (edited, Rating(feature, editor, text))
        return [rating for _, rating in newest.values()]

    def _unreplaced(self, condition: str, values: Sequence[Any]) -> list[Revision]:
        """Return the newest revisions that meet a condition, and the versions beside them, in order."""
        rows = self._database.rows(
            f"SELECT record FROM revision WHERE identity IN (SELECT identity FROM revision WHERE {condition} AND "
            f"{UNREPLACED}) AND {UNREPLACED} ORDER BY edited, revision",
            values,
        )
        return [_revision(record) for (record,) in rows]

    def _based_on(self, note: str, based_on: str | Sequence[str]) -> tuple[Revision, list[Revision]]:
        """Return the newest of the revisions that an edit replaces, and all of them."""
        wanted = {based_on} if isinstance(based_on, str) else set(based_on)
        found = [each for each in self.history(note) if each.revision in wanted]
        if not found or {each.revision for each in found} != wanted or len({each.identity for each in found}) > 1:
            raise InputError(
                f"There is no note {note!r:.40} with the revision {', '.join(sorted(wanted)) or '–'!r:.80}"
            )
        return max(found, key=lambda each: (not each.deleted, each.edited, each.revision)), found

    def _standing(self, made: Revision) -> Note:
        return next(each for each in together(self._unreplaced("note = ?", [made.note])) if made in each.versions)

    def _append(self, connection: sqlite3.Connection, revisions: Sequence[Revision]) -> int:
        """Keep revisions, those that are new; return how many were."""
        before = connection.execute("SELECT count(*) FROM revision").fetchone()[0]
        connection.executemany(_INSERT, map(_row, revisions))
        links = [(parent, each.revision) for each in revisions for parent in each.parents]
        connection.executemany("INSERT OR IGNORE INTO parent (parent, revision) VALUES (?, ?)", links)
        self._database.index_words(connection)
        return int(connection.execute("SELECT count(*) FROM revision").fetchone()[0] - before)


def _place(key: FeatureKey) -> tuple[str, int]:
    return key.fingerprint, key.feature


def _row(made: Revision) -> tuple[Any, ...]:
    key = made.feature
    about = (made.revision, made.identity, made.note, key.dictionary, key.fingerprint, key.feature, made.kind)
    return (*about, made.created, made.editor, made.edited, made.text, made.blind, made.deleted, made.line())


def _revision(record: str) -> Revision:
    return Revision.from_record(json.loads(record))


def _after(parents: Sequence[Revision], editor: str) -> dict[str, Any]:
    """Return the fields of a revision that replaces `parents`; it is later than they, whatever the clocks say."""
    latest = datetime.fromisoformat(max(each.edited for each in parents))
    edited = max(_now(), _stamp(latest + timedelta(microseconds=1)))
    ids = tuple(sorted(each.revision for each in parents))
    return {"parents": ids, "editor": plain_text(editor), "edited": edited, "blind": False}


def _now() -> str:
    return _stamp(datetime.now(UTC))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Make whole sentences of what `Revision` refuses, which import puts behind the number of a line."""
    try:
        yield
    except InputError as error:
        text = str(error)
        raise InputError(f"{text[0].upper()}{text[1:].rstrip('.')}.") from None
