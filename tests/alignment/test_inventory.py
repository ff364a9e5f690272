"""Phones of every alphabet come down to one base inventory."""

from __future__ import annotations

import pytest

from otoscope.alignment import BASE, base_intervals, fold, to_base
from otoscope.alignment.inventory import ALPHABETS, SILENCE, guess_alphabet
from otoscope.audio import Corpus, Interval
from otoscope.errors import InputError


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_every_row_of_the_table_leads_into_the_base_inventory(alphabet: str) -> None:
    for symbol, phones in ALPHABETS[alphabet].items():
        assert set(phones) <= set(BASE), symbol


def test_every_base_phone_is_itself_in_ipa() -> None:
    assert [to_base(phone, "ipa") for phone in BASE] == [(phone,) for phone in BASE]


@pytest.mark.parametrize(
    ("symbol", "alphabet", "phones"),
    [
        ("ER0", "arpabet", ("ɝ",)),
        ("er", "arpabet", ("ɝ",)),
        ("AH0", "arpabet", ("ə",)),
        ("AH1", "arpabet", ("ʌ",)),
        ("iː", "ipa", ("i",)),
        ("ˈɛɹ", "ipa", ("ɛ", "ɹ")),
        ("t͡ʃ", "ipa", ("tʃ",)),
        ("tʲ", "ipa", ("t",)),
        ("d̪", "ipa", ("d",)),
        ("ç", "ipa", ("h",)),
        ("@:", "sampa", ("ɝ",)),
        ("H", "sampa", ()),
        ("zs", "sampa", ("z", "s")),
        ("SIL", "arpabet", (SILENCE,)),
        ("", "sampa", (SILENCE,)),
        ("Q9", "arpabet", None),
    ],
)
def test_symbols_of_each_alphabet_mean_base_phones(symbol: str, alphabet: str, phones: tuple[str, ...] | None) -> None:
    assert to_base(symbol, alphabet) == phones


def test_the_alphabet_of_labels_is_found_by_what_they_are() -> None:
    assert guess_alphabet(["AA1", "B", "SIL"]) == "arpabet"
    assert guess_alphabet(["iː", "ð", "ə"]) == "ipa"
    assert guess_alphabet(["@", "ai", "S", "H"]) == "sampa"
    with pytest.raises(InputError, match=r"no known alphabet.*own"):
        guess_alphabet(["p17", "p18", "p19"])


def test_the_bundled_corpus_is_wholly_in_the_inventory(mini: Corpus) -> None:
    labels = {each.label for clip in mini for each in clip.tier("phones")}
    strange = {label for label in labels if to_base(label, "ipa") is None}
    assert strange == set()


def test_a_symbol_of_two_phones_is_cut_and_a_part_joins_the_phone_before_it() -> None:
    tier = [Interval(0.0, 0.1, "t"), Interval(0.1, 0.2, "H"), Interval(0.2, 0.4, "zs"), Interval(0.4, 0.5, "")]
    assert base_intervals(tier, "sampa") == [
        Interval(0.0, 0.2, "t"),
        Interval(0.2, pytest.approx(0.3), "z"),
        Interval(pytest.approx(0.3), 0.4, "s"),
    ]


def test_a_strange_phone_is_named_with_its_time() -> None:
    with pytest.raises(InputError, match=r"'XX' at 0.5 s is not arpabet"):
        base_intervals([Interval(0.5, 0.6, "XX")], "arpabet")


def test_folding_is_settled_in_one_step() -> None:
    assert all(fold(fold(phone)) == fold(phone) for phone in BASE)
