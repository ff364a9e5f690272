"""A note as it stands: what remains to be shown of its revisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from otoscope.atlas.notes.revision import FeatureKey, Revision


@dataclass(frozen=True)
class Note:
    """A note as it stands: its `versions` are the revisions that nothing has replaced, the newest last.

    More than one version is a conflict: people changed the note without seeing each other's change.
    """

    versions: tuple[Revision, ...]

    @property
    def current(self) -> Revision:
        """The version to show: the newest that is not deleted."""
        return max(self.versions, key=lambda each: (not each.deleted, each.edited, each.revision))

    @property
    def id(self) -> str:
        """The note's id, the same in all its revisions."""
        return self.versions[0].note

    @property
    def feature(self) -> FeatureKey:
        """The feature it is about."""
        return self.versions[0].feature

    @property
    def in_conflict(self) -> bool:
        """Whether versions that exclude each other are waiting for a person to choose."""
        return len(self.versions) > 1

    @property
    def deleted(self) -> bool:
        """Whether every version is a tombstone."""
        return all(each.deleted for each in self.versions)

    def __repr__(self) -> str:
        now = self.current
        state = ", in conflict" if self.in_conflict else ", deleted" if self.deleted else ""
        return f"Note({now.kind} {now.text!r:.60} of {self.feature} by {now.editor}{state})"


def together(versions: Iterable[Revision]) -> list[Note]:
    """Put the versions of each note together, notes in the order of their beginning."""
    found: defaultdict[str, list[Revision]] = defaultdict(list)
    for each in versions:
        found[each.identity].append(each)
    return sorted((Note(tuple(each)) for each in found.values()), key=lambda note: (note.versions[0].created, note.id))
