"""Natural classes: what phones have in common, by manner, place and voicing, and by height, backness and rounding.

The table is that of the International Phonetic Association's chart, in the broad base inventory of
`otoscope.alignment.inventory`. In each dimension a phone has one class or none. A vowel has no place and a consonant no
height; a diphthong moves through several heights and is of unknown height, backness and rounding, not of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from otoscope.alignment.inventory import BASE

MOVING = "moving"
"""The class of a diphthong in the dimensions through which it moves."""

_CONSONANTS: Mapping[str, Mapping[str, str]] = {
    "manner": {
        "stop": "p b t d k ɡ",
        "affricate": "tʃ dʒ",
        "fricative": "f v θ ð s z ʃ ʒ h x ɣ β ʝ",
        "nasal": "m n ŋ ɲ",
        "approximant": "l ɹ j w ʎ",
        "tap or trill": "ɾ r",
    },
    "place": {
        "labial": "p b m f v β w",
        "dental": "θ ð",
        "alveolar": "t d s z n l ɹ ɾ r",
        "postalveolar": "ʃ ʒ tʃ dʒ",
        "palatal": "j ɲ ʎ ʝ",
        "velar": "k ɡ ŋ x ɣ",
        "glottal": "h",
    },
    "voicing": {"voiceless": "p t k tʃ f θ s ʃ h x", "voiced": "b d ɡ dʒ v ð z ʒ m n ŋ l ɹ j w ɾ r ɣ β ʝ ɲ ʎ"},
}
_VOWELS: Mapping[str, Mapping[str, str]] = {
    "height": {"close": "i ɪ u ʊ y", "mid": "e ɛ ə ʌ ɝ o ɔ ø œ", "open": "æ ɑ a"},
    "backness": {"front": "i ɪ e ɛ æ y ø œ", "central": "ə ɝ a", "back": "u ʊ o ɔ ɑ ʌ"},
    "rounding": {"rounded": "u ʊ o ɔ y ø œ", "unrounded": "i ɪ e ɛ æ ə ɝ ʌ ɑ a"},
}
_DIPHTHONGS = ("eɪ", "oʊ", "aɪ", "aʊ", "ɔɪ")
VOWEL = "vowel"


def _dimensions() -> Mapping[str, Mapping[str, str]]:
    table = {
        dimension: {phone: name for name, phones in classes.items() for phone in phones.split()}
        for dimension, classes in {**_CONSONANTS, **_VOWELS}.items()
    }
    vowels = [phone for phone in BASE if phone not in table["manner"]]
    table["manner"] |= dict.fromkeys(vowels, VOWEL)
    table["voicing"] |= dict.fromkeys(vowels, "voiced")
    for dimension in _VOWELS:
        table[dimension] |= dict.fromkeys(_DIPHTHONGS, MOVING)
    return MappingProxyType({dimension: MappingProxyType(classes) for dimension, classes in table.items()})


DIMENSIONS = _dimensions()
"""Dimension → base phone → class; a phone that a dimension does not list has no class there."""
