"""Features that are alike: in what they write, and in when they fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otoscope.atlas.format import FEATURES
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.dictionaries import Dictionary


class Neighbour(NamedTuple):
    """A feature that writes in nearly the same direction, and the cosine of the two decoder rows.

    For dictionaries whose directions are orthogonal (neurons, PCA): one whose values correlate (Pearson) with it.
    """

    feature: int
    cosine: float


class Partner(NamedTuple):
    """A feature that fires in the same frames more often than chance would have it.

    Attributes:
        feature: which.
        pmi: normalised pointwise mutual information, 0 for chance, 1 for always together and never apart.
        share: share of the feature's frames in which the partner is active too.
    """

    feature: int
    pmi: float
    share: float


def neighbours(atlas: Atlas, feature: int, top: int = 10, dictionary: Dictionary | None = None) -> list[Neighbour]:
    """Return the features most like one, most alike first.

    The atlas keeps ten; with the dictionary itself any number is found, from all its decoder rows.

    Raises:
        InputError: the dictionary is too wide for its neighbours to be kept, and was not given; or it is another.
    """
    if dictionary is not None:
        from otoscope.atlas.building.neighbours import WITHOUT_DIRECTIONS, nearest_directions

        if dictionary.n_features != len(atlas):
            raise InputError(
                f"Dictionary {dictionary.name!r} has {dictionary.n_features} features, but atlas {atlas.name!r} has "
                f"{len(atlas)}; give the dictionary that the atlas was built from."
            )
        if dictionary.kind not in WITHOUT_DIRECTIONS:
            found = nearest_directions(dictionary, feature, top)
            return [Neighbour(int(other), float(cosine)) for other, cosine in zip(*found, strict=True)]
    file = atlas.sealed.arrays(FEATURES)
    if "neighbours" not in file:
        raise InputError(
            f"Atlas {atlas.name!r} keeps no neighbours of its {len(atlas):,} features; give the dictionary as well."
        )
    others = file.read("neighbours", feature, feature + 1)[0, :top].tolist()
    cosines = file.read("neighbour_cosines", feature, feature + 1)[0, :top].tolist()
    return [Neighbour(other, cosine) for other, cosine in zip(others, cosines, strict=True) if other >= 0]


def cofiring(atlas: Atlas, feature: int, top: int = 10) -> list[Partner]:
    """Return the partners of a feature (ten at most are kept), most surprising first."""
    file = atlas.sealed.arrays(FEATURES)
    columns = (
        file.read(name, feature, feature + 1)[0, :top].tolist()
        for name in ("cofiring", "cofiring_pmi", "cofiring_share")
    )
    return [Partner(*row) for row in zip(*columns, strict=True) if row[0] >= 0]
