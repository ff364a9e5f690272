"""From a word, a sound, a phone or any other class, typed as people type, to the features scored for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from otoscope.atlas.format import LABELS
from otoscope.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from otoscope.atlas.atlas import Atlas

SPELLINGS = {
    "g": "ɡ", "r": "ɹ", "sh": "ʃ", "zh": "ʒ", "ch": "tʃ", "j": "dʒ", "jh": "dʒ", "th": "θ", "dh": "ð", "ng": "ŋ",
    "y": "j", "hh": "h", "iy": "iː", "ih": "ɪ", "eh": "ɛ", "ae": "æ", "aa": "ɑː", "ao": "ɔː", "uh": "ʊ", "uw": "uː",
    "ah": "ʌ", "er": "ɜː", "ax": "ə", "ey": "eɪ", "ay": "aɪ", "oy": "ɔɪ", "aw": "aʊ", "ow": "oʊ",
}  # fmt: skip
"""How people type phones without IPA (ASCII look-alikes and ARPABET), tried where no label is spelled so."""

Ints = npt.NDArray[np.int64]


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
    import pandas as pd

    from otoscope.atlas.search.facets import Filters, figure, select

    ranges = {"f1": (min_f1, None)} if min_f1 > 0 else {}
    filters = Filters(label=label, kind=kind, text=text, ranges=ranges)
    ascending = sort is not None and (sort.startswith("-") or sort in ("feature", "index"))
    if sort in ("-feature", "-index"):
        ascending = False
    found = select(atlas, filters, sort and sort.removeprefix("-"), not ascending, limit, 0)
    units = atlas.units
    columns: dict[str, Any] = {"unit": [str(i) if units is None else units[i] for i in found.features.tolist()]}
    columns |= {name: figure(atlas, name, found.features, found.label_rows) for name in atlas.columns}
    return pd.DataFrame(atlas.classes.named_columns(columns), index=pd.Index(found.features, name="feature"))


def label_kind(atlas: Atlas, kind: str | None) -> str | None:
    """Return the kind of the atlas that is meant, in singular or plural ("sound classes", "place classes").

    Raises:
        InputError: the atlas has no labels of that kind; says which it has.
    """
    if kind is None:
        return None
    _require_labels(atlas)
    known = list(dict.fromkeys(atlas.classes.kinds))
    asked = kind.strip().casefold().replace(" ", "_")
    for each in known:
        if asked in (each, f"{each}s", f"{each}es", f"{each}_class", f"{each}_classes"):
            return each
    raise InputError(f"Atlas {atlas.name!r} has no labels of kind {kind!r}; it has {', '.join(known)}.")


def scored(atlas: Atlas, label: str | None, kind: str | None, text: str | None) -> tuple[Ints, Ints]:
    """Return the features scored for the classes asked for, best first, and the row of each in `labels.safetensors`.

    Raises:
        InputError: no such label (with the nearest ones), or the atlas has no labels.
    """
    _require_labels(atlas)
    names, kinds = atlas.classes.labels, atlas.classes.kinds
    if label is not None:
        label, kind = _resolve(atlas, label, kind)
    folded = None if text is None else text.casefold()
    wanted = np.array(
        [
            (label is None or name == label)
            and (kind is None or of == kind)
            and (folded is None or folded in name.casefold())
            for name, of in zip(names, kinds, strict=True)
        ]
    )
    file = atlas.sealed.arrays(LABELS)
    rows = np.flatnonzero(wanted[file.read("class")])
    features = np.searchsorted(file.read("indptr"), rows, side="right") - 1
    order = np.lexsort((features, -file.read("skill")[rows]))
    _, first = np.unique(features[order], return_index=True)
    best = order[np.sort(first)]
    return features[best], rows[best]


def _require_labels(atlas: Atlas) -> None:
    if not len(atlas.classes):
        raise InputError(
            f"Atlas {atlas.name!r} has no labels to search, because corpus {atlas.meta['corpus']['name']!r} has no "
            "phone or word tiers and no sound classes (or too few of each); build it over a corpus that has some."
        )


def _resolve(atlas: Atlas, label: str, kind: str | None) -> tuple[str, str | None]:
    """Find the class that a typed label means: "/m/" is a phone; capitals and ASCII spellings are forgiven."""
    asked = label.strip()
    if len(asked) > 2 and asked[0] == asked[-1] == "/":
        asked, kind = asked[1:-1], label_kind(atlas, "phone")
    classes = atlas.classes
    names = {name for name, of in zip(classes.labels, classes.kinds, strict=True) if kind in (None, of)}
    folded = {name.casefold(): name for name in sorted(names)}
    spelled = SPELLINGS.get(asked.casefold(), "")
    for name in (asked, folded.get(asked.casefold(), ""), spelled):
        if name in names:
            return name, kind
    hint = (
        nearest(asked, sorted(names)) or f"; there are {', '.join(sorted(names)[:12])}{'…' if len(names) > 12 else '.'}"
    )
    what = (kind or "label").replace("_", " ")
    raise InputError(f"No feature of atlas {atlas.name!r} is scored for the {what} {asked!r}{hint}")
