"""What every export asks first: that atlas, corpus and dictionary belong together, and what is said of a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas.atlas import Atlas
    from otoscope.atlas.entry import FeatureEntry
    from otoscope.audio import Corpus
    from otoscope.dictionaries import Dictionary


def check_belong(atlas: Atlas, corpus: Corpus, dictionary: Dictionary | None = None) -> None:
    """Refuse an atlas with a dictionary that it does not describe, or a corpus that lacks its clips.

    Raises:
        InputError: they do not belong together; says what differs.
    """
    of = atlas.meta["dictionary"]
    if dictionary is not None and (len(atlas), of.get("fingerprint", dictionary.fingerprint)) != (
        dictionary.n_features,
        dictionary.fingerprint,
    ):
        raise InputError(f"The atlas {atlas.name!r} describes the dictionary {of['name']!r}, not {dictionary.name!r}.")
    known = {clip.clip_id for clip in corpus}
    missing = next((clip for clip in atlas.clip_ids if clip not in known), None)
    if missing is not None:
        raise InputError(f"The atlas {atlas.name!r} was built over another corpus: {corpus.name!r} lacks {missing!r}.")


def sentence_of(entry: FeatureEntry) -> str:
    """What the atlas says about a feature in one sentence; empty where it says nothing."""
    sentence = str(getattr(entry, "sentence", "") or "")
    return "" if sentence.startswith("unlabelled") else sentence
