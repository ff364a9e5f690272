"""Phone inventories: ARPAbet, IPA (espeak, Montreal) and SAMPA mapped onto one broad base inventory.

The base is broad IPA without length, stress or diacritics: what forced alignment of a corpus can tell apart. One
symbol may stand for several base phones (`ɛɹ` is `ɛ` `ɹ`) or for none (the aspiration `H` of hand-made SAMPA belongs to
the stop before it).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from otoscope.audio import Interval
from otoscope.errors import InputError, nearest

SILENCE = "sil"
"""The base symbol of a pause."""
SPOKEN_NOISE = "spn"
"""The base symbol of speech of which nobody says what phones it has (an unknown word)."""

SILENCES = frozenset(("", "sil", "sp", "pau", "ssil", "h#", "#h", "epi", "_", "#", "<eps>", "<p:>", "<sil>"))
SPOKEN_NOISES = frozenset({"spn", "<unk>", "<spn>", "unk", "oov", "<oov>"})

_CONSONANTS = "p b t d k ɡ tʃ dʒ f v θ ð s z ʃ ʒ h m n ŋ l ɹ j w ɾ r x ɣ β ʝ ɲ ʎ"
_VOWELS = "i ɪ eɪ ɛ æ ɑ ɔ oʊ ʊ u ʌ ə ɝ aɪ aʊ ɔɪ a e o y ø œ"
BASE = tuple(f"{_CONSONANTS} {_VOWELS}".split())
"""The base inventory."""

_ARPABET = """
AA ɑ|AE æ|AH ʌ|AH0 ə|AO ɔ|AW aʊ|AX ə|AXR ɝ|AY aɪ|B b|CH tʃ|D d|DH ð|DX ɾ|EH ɛ|EL ə l|EM ə m|EN ə n|ENG ə ŋ|ER ɝ
EY eɪ|F f|G ɡ|HH h|HV h|IH ɪ|IX ɪ|IY i|JH dʒ|K k|L l|M m|N n|NG ŋ|NX n|OW oʊ|OY ɔɪ|P p|Q t|R ɹ|S s|SH ʃ|T t|TH θ
UH ʊ|UW u|UX u|V v|W w|WH w|Y j|Z z|ZH ʒ|BCL b|DCL d|GCL ɡ|PCL p|TCL t|KCL k
"""
_IPA = """
ts t s|əl ə l|ən ə n|əm ə m|oɹ ɔ ɹ|oːɹ ɔ ɹ|dz d z|aj aɪ|aw aʊ|ej eɪ|ow oʊ|əʊ oʊ|əw oʊ|ɔj ɔɪ|oɪ ɔɪ|ei eɪ|ai aɪ|au aʊ
oi ɔɪ|ɛɪ eɪ|ɐ ʌ|ɒ ɑ|ɜ ɝ|ɚ ɝ|ɝ ɝ|ɛɹ ɛ ɹ|ɪɹ ɪ ɹ|ɔɹ ɔ ɹ|ɑɹ ɑ ɹ|ʊɹ ʊ ɹ|aɪɚ aɪ ɝ|aɪə aɪ ə|iə i ə|ɪə ɪ ə|eə ɛ ə|ʊə ʊ ə|ʉ u
ɨ ɪ|ᵻ ɪ|ᵿ ʊ|ɵ ʊ|ɘ ə|ɤ ʌ|ɯ u|g ɡ|c k|ɟ ɡ|ç h|ɦ h|ɱ m|ʔ t|ɫ l|ɬ l|ɭ l|ɻ ɹ|ʁ r|ʀ r|ɺ ɾ|ɽ ɾ|ʈ t|ɖ d|ɸ f|ʋ v|ɥ j|ʍ w|ɕ ʃ
ʑ ʒ|ʂ ʃ|ʐ ʒ|tɕ tʃ|dʑ dʒ|χ x|ħ h|ɰ ɣ|ɣ ɣ|β β|t̠ʃ tʃ|ɪ ɪ|ɶ œ|ɞ ɝ|ʏ y
"""
_SAMPA = """
A ʌ|A: ɑ|@ ə|@: ɝ|3: ɝ|@u oʊ|@U oʊ|ai aɪ|aI aɪ|au aʊ|aU aʊ|ei eɪ|eI eɪ|oi ɔɪ|OI ɔɪ|i@ ɪ ə|e@ ɛ ə|u@ ʊ ə|D ð|E ɛ|I ɪ
N ŋ|O ɔ|Q ɑ|S ʃ|T θ|U ʊ|V ʌ|Z ʒ|{ æ|e e|i i|i: i|o: ɔ|O: ɔ|u: u|u u|tS tʃ|dZ dʒ|H|NH ŋ|Or ɔ ɹ|Ow ɔ w|db d b|dH d
pt p t|zs z s|g ɡ|4 ɾ|5 l|r\\ ɹ
"""


def _table(text: str) -> Mapping[str, tuple[str, ...]]:
    rows = (row.split() for row in text.replace("\n", "|").split("|") if row.strip())
    return {row[0]: tuple(row[1:]) for row in rows}


ALPHABETS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"arpabet": _table(_ARPABET), "ipa": _table(_IPA), "sampa": _table(_SAMPA)}
)
"""What a symbol of an alphabet means in base phones; base symbols mean themselves in `ipa` and `sampa`."""

_FOLDS = {
    "ɾ": "d",
    "ə": "ʌ",
    "ɑ": "ɔ",
    "ɝ": "ʌ",
    "e": "ɛ",
    "a": "æ",
    "r": "ɹ",
    "eɪ": "ɛ",
    "oʊ": "ɔ",
    "o": "ɔ",
    "ɪ": "i",
}


def to_base(symbol: str, alphabet: str) -> tuple[str, ...] | None:
    """Return the base phones of a symbol (`("sil",)` for a pause, `()` for a part of the phone before), or None.

    >>> to_base("ER0", "arpabet"), to_base("ɛɹ", "ipa"), to_base("tʲ", "ipa")
    (('ɝ',), ('ɛ', 'ɹ'), ('t',))

    Raises:
        InputError: no such alphabet.
    """
    if alphabet not in ALPHABETS:
        raise InputError(f"There is no alphabet {alphabet!r} of phones; choose {', '.join(ALPHABETS)}.")
    if symbol.strip().lower() in SILENCES:
        return (SILENCE,)
    if symbol.strip().lower() in SPOKEN_NOISES:
        return (SPOKEN_NOISE,)
    return _to_base(symbol.strip(), alphabet)


@lru_cache(maxsize=4096)
def _to_base(symbol: str, alphabet: str) -> tuple[str, ...] | None:
    table = ALPHABETS[alphabet]
    if alphabet == "arpabet":
        upper = symbol.upper()
        return table.get(upper) or table.get(upper.rstrip("012"))
    if symbol in table:
        return table[symbol]
    plain = _plain(symbol)
    if plain in BASE:
        return (plain,)
    return table.get(plain)


def _plain(symbol: str) -> str:
    """The letters of an IPA symbol: no length, stress, tie bars, or marks above, below or behind."""
    letters = unicodedata.normalize("NFD", symbol.replace("ç", "ç"))
    kept = "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Lm", "Sk") and c not in ":'*")
    return "ç" if kept == "c" and "\u0327" in letters else kept


def guess_alphabet(symbols: Iterable[str]) -> str:
    """Return the alphabet that knows most of these symbols (the more exacting one where two know as many).

    Raises:
        InputError: no alphabet knows half of them.
    """
    distinct = sorted({symbol for symbol in symbols if symbol.strip().lower() not in SILENCES | SPOKEN_NOISES})
    known = {name: sum(_to_base(symbol, name) is not None for symbol in distinct) for name in ALPHABETS}
    best = max(ALPHABETS, key=lambda name: known[name])
    if distinct and 2 * known[best] < len(distinct):
        raise InputError(
            f"These phones are of no known alphabet ({', '.join(ALPHABETS)}): {', '.join(distinct[:8])}…; "
            "use labels='own' to keep them as they are."
        )
    return best


def fold(phone: str) -> str:
    """Return the class of a base phone when two alignments are compared: what transcribers disagree about is one.

    `ə ʌ ɝ`, `ɑ ɔ o oʊ`, `ɪ i`, `ɛ e eɪ`, `æ a`, `ɾ d` and `r ɹ` fold into one class each.
    """
    return _FOLDS.get(phone, phone)


def base_intervals(tier: Iterable[Interval], alphabet: str) -> list[Interval]:
    """Return a tier in base phones: pauses left out, symbols of several phones cut evenly, parts joined to the phone
    before them.

    Raises:
        InputError: a symbol that the alphabet does not have (with the nearest that it has).
    """
    found: list[Interval] = []
    for each in tier:
        phones = to_base(each.label, alphabet)
        if phones is None:
            hint = nearest(each.label, (*ALPHABETS[alphabet], *BASE)) or "."
            raise InputError(f"The phone {each.label!r} at {each.start_s:g} s is not {alphabet}{hint}")
        if not phones and found:
            found[-1] = Interval(found[-1].start_s, each.end_s, found[-1].label)
        step = (each.end_s - each.start_s) / max(1, len(phones))
        for number, phone in enumerate(phones):
            if phone != SILENCE:
                found.append(Interval(each.start_s + number * step, each.start_s + (number + 1) * step, phone))
    return found
