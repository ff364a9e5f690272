"""Searching an atlas: from a sound, a word or a column to the features that match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from otoscope.errors import InputError, nearest
from otoscope.evaluation.label_sets import KINDS

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas

SPELLINGS = {
    "g": "ɡ", "r": "ɹ", "sh": "ʃ", "zh": "ʒ", "ch": "tʃ", "j": "dʒ", "jh": "dʒ", "th": "θ", "dh": "ð", "ng": "ŋ",
    "y": "j", "hh": "h", "iy": "iː", "ih": "ɪ", "eh": "ɛ", "ae": "æ", "aa": "ɑː", "ao": "ɔː", "uh": "ʊ", "uw": "uː",
    "ah": "ʌ", "er": "ɜː", "ax": "ə", "ey": "eɪ", "ay": "aɪ", "oy": "ɔɪ", "aw": "aʊ", "ow": "oʊ",
}  # fmt: skip
"""How people type phones without IPA (ASCII look-alikes and ARPABET), tried where no label is spelled so."""

LABEL_COLUMNS = (
    "label", "label_kind", "f1", "f1_low", "f1_high", "precision", "recall", "ap", "auroc", "chance", "p_value",
    "q_value", "threshold",
)  # fmt: skip


def find_features(
    atlas: Atlas,
    *,
    label: str | None,
    kind: str | None,
    min_f1: float,
    text: str | None,
    sort: str | None,
    limit: int | None,
) -> pd.DataFrame:
    """See `Atlas.find`."""
    kind = _kind(kind)
    if label is None and text is None:
        found = atlas.features[~atlas.features["dead"]]
        if kind:
            found = found[found["label_kind"] == kind]
    else:
        found = _by_label(atlas, label, kind, text)
    if min_f1 > 0:
        found = found[found["f1"] >= min_f1]
    found = _sorted(found, sort)
    return found if limit is None else found.head(limit)


def _kind(kind: str | None) -> str | None:
    """Accept a kind in singular or plural."""
    if kind is None or kind in KINDS:
        return kind
    plural = {each.plural: each.name for each in KINDS.values()}
    if kind in plural:
        return plural[kind]
    raise InputError(f"There is no kind of label {kind!r}; choose one of {', '.join(KINDS)}.")


def _by_label(atlas: Atlas, label: str | None, kind: str | None, text: str | None) -> pd.DataFrame:
    """Features scored for the classes asked for, each with its best one."""
    _require_labels(atlas)
    rows = atlas.label_rows
    if label is not None:
        name, kind = _resolve(atlas, label, kind)
        rows = rows[rows["label"] == name]
    if kind:
        rows = rows[rows["kind"] == kind]
    if text is not None:
        rows = rows[rows["label"].map(lambda each: text.casefold() in each.casefold())]
    rows = rows.sort_values(["skill", "feature"], ascending=[False, True]).drop_duplicates("feature")
    rows = rows.rename(columns={"kind": "label_kind"}).set_index("feature")
    others = atlas.features.drop(columns=list(LABEL_COLUMNS))
    return rows[list(LABEL_COLUMNS)].join(others)


def _require_labels(atlas: Atlas) -> None:
    if not len(atlas.labels):
        raise InputError(
            f"Atlas {atlas.name!r} has no labels to search, because corpus {atlas.meta['corpus']['name']!r} has no "
            "phone or word tiers and no sound classes (or too few of each); build it over a corpus that has some."
        )


def _resolve(atlas: Atlas, label: str, kind: str | None) -> tuple[str, str | None]:
    """Find the class that a typed label means: "/m/" is a phone; capitals and ASCII spellings are forgiven."""
    asked = label.strip()
    if len(asked) > 2 and asked[0] == asked[-1] == "/":
        asked, kind = asked[1:-1], "phone"
    classes = atlas.labels
    if kind:
        classes = classes[classes["kind"] == kind]
        if not len(classes):
            known = ", ".join(sorted(set(atlas.labels["kind"])))
            raise InputError(f"Atlas {atlas.name!r} has no labels of kind {kind!r}; it has {known}.")
    names = set(classes["label"])
    folded = {name.casefold(): name for name in sorted(names)}
    spelled = SPELLINGS.get(asked.casefold(), "")
    for name in (asked, folded.get(asked.casefold(), ""), spelled):
        if name in names:
            return name, kind
    hint = (
        nearest(asked, sorted(names)) or f"; there are {', '.join(sorted(names)[:12])}{'…' if len(names) > 12 else '.'}"
    )
    what = {None: "label", "sound_class": "sound class"}.get(kind, kind)
    raise InputError(f"No feature of atlas {atlas.name!r} is scored for the {what} {asked!r}{hint}")


def _sorted(found: pd.DataFrame, sort: str | None) -> pd.DataFrame:
    column = (sort or "f1").removeprefix("-")
    if column in ("feature", "index"):
        return found.sort_index(ascending=sort == column)
    if column not in found.columns:
        raise InputError(f"There is no column {column!r} to sort by{nearest(column, found.columns) or '.'}")
    if sort is None and not found["f1"].notna().any():
        column = "max"
    ascending = bool(sort and sort.startswith("-"))
    return found.sort_values(column, ascending=ascending, kind="stable", na_position="last")
