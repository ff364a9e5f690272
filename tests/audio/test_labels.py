"""Files of times are read as they are written by others, written as others read them, and lose nothing on the way."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otoscope.audio import Interval
from otoscope.audio.labels import read_labels, write_labels
from otoscope.errors import InputError

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Word"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.75
            text = "say ""ah"""
        intervals [3]:
            xmin = 0.75
            xmax = 1.5
            text = "mäh! 3 <exists>"
    item [2]:
        class = "IntervalTier"
        name = "MAU"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0.25
            xmax = 0.5
            text = "s"
    item [3]:
        class = "TextTier"
        name = "tones"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.4
            mark = "H*"
'''
SHORT = '''File type = "ooTextFile"
"TextGrid"

0
1.5
<exists>
3
"IntervalTier"
"Word"
0
1.5
3
0
0.25
""
0.25
0.75
"say ""ah"""
0.75
1.5
"mäh! 3 <exists>"
"IntervalTier"
"MAU"
0 1.5 1
0.25 0.5 "s"
! a comment
"TextTier" "tones" 0 1.5 1 0.4 "H*"
'''
EXPECTED = {
    "words": (Interval(0.25, 0.75, 'say "ah"'), Interval(0.75, 1.5, "mäh! 3 <exists>")),
    "phones": (Interval(0.25, 0.5, "s"),),
    "tones": (Interval(0.4, 0.4, "H*"),),
}


@pytest.mark.parametrize("text", [LONG, SHORT, LONG.replace("\n", "\r\n")], ids=["long", "short", "dos"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_textgrid_in_every_form_and_encoding(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_bytes(text.encode(encoding))
    assert read_labels(path) == EXPECTED
    path.write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    assert read_labels(path) == EXPECTED


@pytest.mark.parametrize(
    ("old", "new", "saying"),
    [
        ('"ooTextFile"', '"ooNothing"', "does not begin as a TextGrid"),
        ("size = 3\nitem", "size = 4\nitem", "ends where the class of a tier should follow"),
        ("xmax = 0.75\n", "xmax = soon\n", "line 22 should hold its end, not 'say"),
        ('"TextTier"', '"Tier"', "line 38: there is no tier of class 'Tier'"),
        ("xmin = 0.75\n", "xmin = 0.5\n", r"line 24: Word 'mäh! 3 <exists>' \(0.5 to 1.5 s\) overlaps 'say"),
        ("xmax = 0.75\n", "xmax = 0.2\n", r"line 20: .*ends before it starts \(0.25 to 0.2 s\)"),
        (
            "xmin = 0.25\n            xmax = 0.5\n",
            "xmin = -0.1\n            xmax = 0.5\n",
            "starts before the recording",
        ),
    ],
)
def test_a_damaged_textgrid_is_named_with_its_line(tmp_path: Path, old: str, new: str, saying: str) -> None:
    assert old in LONG
    (tmp_path / "a.TextGrid").write_text(LONG.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=saying):
        read_labels(tmp_path / "a.TextGrid")


def test_skipping_leaves_out_the_bad_interval_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_text(LONG.replace("xmin = 0.75\n", "xmin = 0.5\n", 1), encoding="utf-8")
    tiers = read_labels(tmp_path / "a.TextGrid", on_error="skip")
    assert [interval.label for interval in tiers["words"]] == ['say "ah"']
    assert tiers["phones"] == EXPECTED["phones"]


@pytest.mark.parametrize("name", ["a.TextGrid", "a.ctm", "a.json", "a.txt", "a.PHN"])
def test_another_encoding_is_named_by_its_byte(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("0\nm\u00e4h".encode("latin-1"))
    with pytest.raises(InputError, match=rf"{name}, line 2: byte 0xe4 is not UTF-8; save the file as UTF-8"):
        read_labels(tmp_path / name)


CTM = """;; a comment
rec1 A 0.10 0.20 hello 0.98
rec1 A 0.30 0.25 world

# another
rec1 A * * <ALT_BEGIN>
rec1 A 0.60 0.10 uh
rec1 A * * <ALT>
rec1 A 0.60 0.20 um
rec1 A * * <ALT_END>
rec2 1 0.00 0.50 bye
"""


def test_ctm_of_nist_and_kaldi(tmp_path: Path) -> None:
    (tmp_path / "all.ctm").write_text(CTM)
    tiers = read_labels(tmp_path / "all.ctm", recording="rec1")
    assert [i.label for i in tiers["words"]] == ["hello", "world", "uh"]
    assert tiers["words"][1].end_s == pytest.approx(0.55)
    with pytest.raises(InputError, match=r"about 2 recordings \(rec1, rec2, …\)"):
        read_labels(tmp_path / "all.ctm")
    with pytest.raises(InputError, match="nothing about the recording 'rec3'; did you mean"):
        read_labels(tmp_path / "all.ctm", recording="rec3")
    (tmp_path / "rec2.phones.ctm").write_text("rec2 A 0 0.1 b\nrec2 B 0 0.2 m\n")
    assert set(read_labels(tmp_path / "rec2.phones.ctm")) == {"phones channel A", "phones channel B"}


@pytest.mark.parametrize(
    ("line", "saying"),
    [
        ("rec1 A 0.1", "line 1: it has 3 columns where a CTM has recording channel begin"),
        ("rec1 A x 0.1 a", "line 1: begin and length must be seconds, not 'x'"),
        ("rec1 A 0.1 -0.5 a", "line 1: words 'a' ends before it starts"),
        ("rec1 A nan 0.5 a", "line 1: words 'a' has a time that is not a number"),
        ("rec1 A 0 0.5 a\nrec1 A 0.1 0.2 b", "line 2: words 'b' .* overlaps 'a'"),
    ],
)
def test_bad_lines_of_a_ctm_are_named(tmp_path: Path, line: str, saying: str) -> None:
    (tmp_path / "a.ctm").write_text(line + "\n")
    with pytest.raises(InputError, match=saying):
        read_labels(tmp_path / "a.ctm")
    assert sum(map(len, read_labels(tmp_path / "a.ctm", on_error="skip").values())) == line.count("\n")


def test_audacity_labels_with_frequencies_points_and_commas(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "0.5\t1.25\tdog barks\n\\\t100.0\t2000.0\n1,000000\t2,500000\train\n3.0\t3.0\tclick\n"
    )
    events = (Interval(0.5, 1.25, "dog barks"), Interval(1.0, 2.5, "rain"), Interval(3.0, 3.0, "click"))
    assert read_labels(tmp_path / "a.txt") == {"events": events}
    (tmp_path / "a.words.txt").write_text("0.5\t1.25\tdog\n")
    assert read_labels(tmp_path / "a.words.txt") == {"words": (Interval(0.5, 1.25, "dog"),)}
    (tmp_path / "b.txt").write_text("0.5 1.25 dog\n")
    with pytest.raises(InputError, match="line 1: it is not start, tab, end, tab, label"):
        read_labels(tmp_path / "b.txt")


EMU = {
    "name": "a",
    "annotates": "a.wav",
    "sampleRate": 1000,
    "levels": [
        {
            "name": "Word",
            "type": "ITEM",
            "items": [
                {"id": 1, "labels": [{"name": "Word", "value": "C"}, {"name": "Text", "value": "so"}]},
                {"id": 2, "labels": [{"name": "Word", "value": "F"}, {"name": "Text", "value": "late"}]},
                {"id": 9, "labels": [{"name": "Word", "value": "F"}, {"name": "Text", "value": "unlinked"}]},
            ],
        },
        {"name": "Syllable", "type": "ITEM", "items": [{"id": 3, "labels": [{"name": "Syllable", "value": "S"}]}]},
        {
            "name": "Phonetic",
            "type": "SEGMENT",
            "items": [
                {"id": 4, "sampleStart": 0, "sampleDur": 99, "labels": [{"name": "Phonetic", "value": "s"}]},
                {"id": 5, "sampleStart": 100, "sampleDur": 79, "labels": [{"name": "Phonetic", "value": "ou"}]},
                {"id": 6, "sampleStart": 180, "sampleDur": 219, "labels": [{"name": "Phonetic", "value": "l"}]},
            ],
        },
        {
            "name": "Tone",
            "type": "EVENT",
            "items": [{"id": 7, "samplePoint": 350, "labels": [{"name": "Tone", "value": "H*"}]}],
        },
    ],
    "links": [{"fromID": f, "toID": t} for f, t in ((1, 3), (3, 4), (3, 5), (2, 5), (2, 6), (2, 7))],
}


def test_emu_items_span_what_they_are_linked_to(tmp_path: Path) -> None:
    (tmp_path / "a_annot.json").write_text(json.dumps(EMU))
    tiers = read_labels(tmp_path / "a_annot.json")
    assert tiers["phones"] == (Interval(0, 0.1, "s"), Interval(0.1, 0.18, "ou"), Interval(0.18, 0.4, "l"))
    assert tiers["words"] == (Interval(0, 0.18, "so"), Interval(0.1, 0.4, "late"))
    assert [i.label for i in tiers["Word"]] == ["C", "F"]
    assert tiers["Tone"] == (Interval(0.35, 0.35, "H*"),)
    assert tiers["Syllable"] == (Interval(0, 0.18, "S"),)


SHAPES = {
    "ours": {"tiers": {"words": [[0.1, 0.5, "hi"]], "phones": [[0.1, 0.2, "h"]]}},
    "plain": {"word": [{"start_s": 0.1, "end_s": 0.5, "label": "hi"}], "phone": [[0.1, 0.2, "h"]]},
    "montreal": {
        "start": 0,
        "end": 1,
        "tiers": {
            "ann - words": {"type": "interval", "entries": [[0.1, 0.5, "hi"], [0.5, 1, ""]]},
            "ann - phones": {"type": "interval", "entries": [[0.1, 0.2, "h"]]},
        },
    },
    "praatio": {
        "xmin": 0,
        "xmax": 1,
        "tiers": [
            {"class": "IntervalTier", "name": "words", "xmin": 0, "xmax": 1, "entries": [[0.1, 0.5, "hi"]]},
            {"class": "IntervalTier", "name": "phones", "xmin": 0, "xmax": 1, "entries": [[0.1, 0.2, "h"]]},
        ],
    },
    "sphinx": {
        "b": 0,
        "d": 1,
        "t": "hi",
        "w": [
            {"b": 0, "d": 0.1, "t": "<sil>"},
            {"b": 0.1, "d": 0.4, "t": "hi(2)", "w": [{"b": 0.1, "d": 0.1, "t": "h"}]},
        ],
    },
    "gentle": {
        "transcript": "hi there",
        "words": [
            {"word": "hi", "start": 0.1, "end": 0.5, "phones": [{"phone": "h_B", "duration": 0.1}]},
            {"word": "there", "case": "not-found-in-audio"},
        ],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_of_many_programs(tmp_path: Path, shape: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(SHAPES[shape]))
    tiers = read_labels(tmp_path / "a.json")
    ((word,), (phone,)) = tiers["words"], tiers["phones"]
    assert (word.start_s, word.end_s, word.label) == (0.1, pytest.approx(0.5), "hi")
    assert (phone.start_s, phone.end_s, phone.label) == (0.1, pytest.approx(0.2), "h")


def test_json_of_whisper_and_aeneas_has_phrases(tmp_path: Path) -> None:
    words = [{"word": " Good", "start": 0.1, "end": 0.4, "probability": 0.9}]
    whisper = {"text": " Good", "segments": [{"id": 0, "start": 0.0, "end": 0.5, "text": " Good", "words": words}]}
    aeneas = {"fragments": [{"begin": "0.000", "end": "0.500", "id": "f1", "language": "eng", "lines": ["Good"]}]}
    for value in (whisper, aeneas):
        (tmp_path / "a.json").write_text(json.dumps(value))
        tiers = read_labels(tmp_path / "a.json")
        assert tiers["phrases"] == (Interval(0.0, 0.5, "Good"),)
    (tmp_path / "a.json").write_text(json.dumps(whisper))
    assert read_labels(tmp_path / "a.json")["words"] == (Interval(0.1, 0.4, "Good"),)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("{", "it is not JSON"),
        ("[]", "no shape of times that is known"),
        ('{"a": 1}', "no shape of times that is known"),
        ('{"tiers": {"words": [[1]]}}', "its times cannot be read"),
        ('{"tiers": {"words": [[1, 0.5, "x"]]}}', r"words\[0\]: words 'x' ends before"),
        ('{"levels": [], "sampleRate": "x"}', "not an EMU annotation"),
        ('{"words": [{"start": 1, "word": "x"}]}', r"words\[0\] has no start or no end"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, text: str, saying: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json.*{saying}"):
        read_labels(tmp_path / "a.json")


def test_neighbouring_words_may_share_a_phone_and_no_more(tmp_path: Path) -> None:
    for end, fine in ((0.62, True), (0.75, False), (1.5, False)):
        (tmp_path / "a.json").write_text(json.dumps({"words": [[0, end, "his"], [0.5, 1, "strengths"]]}))
        assert len(read_labels(tmp_path / "a.json", on_error="skip")["words"]) == 1 + fine
    (tmp_path / "a.json").write_text(json.dumps({"phones": [[0, 0.62, "a"], [0.5, 1, "b"]]}))
    assert len(read_labels(tmp_path / "a.json", on_error="skip")["phones"]) == 1
    (tmp_path / "a.json").write_text(json.dumps({"events": [[0, 5, "rain"], [1, 2, "dog"]]}))
    assert len(read_labels(tmp_path / "a.json")["events"]) == 2


def test_a_missing_file_and_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "a.TextGrid")
    with pytest.raises(InputError, match=r"not a file of times \(\.textgrid"):
        read_labels(tmp_path / "a.docx")


@pytest.mark.shared
def test_real_alignments_read_as_their_table_lists_them(shared: Path) -> None:
    """TextGrid, EMU and PocketSphinx files, against a table made from them by others, to a tenth of a millisecond."""
    expected: dict[tuple[str, str], list[tuple[float, float, str]]] = defaultdict(list)
    with open(shared / "data" / "aligned" / "alignments.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["label"]:
                span = (float(row["start_s"]), float(row["end_s"]), row["label"])
                expected[row["path"], f"{row['tier']}s"].append(span)
    compared = 0
    for (name, tier), spans in expected.items():
        recording = shared / "data" / name
        for path in sorted(recording.parent.glob(f"{recording.stem}[._]*")):
            if path.suffix != ".flac":
                found = read_labels(path)[tier]
                assert [i.label for i in found] == [label for _, _, label in spans], path
                for interval, (start_s, end_s, _) in zip(found, spans, strict=True):
                    assert interval.start_s == pytest.approx(start_s, abs=1.1e-4)
                    assert interval.end_s == pytest.approx(end_s, abs=1.1e-4)
                compared += len(spans)
    assert compared > 3500


SAFE = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
LABELS = st.text(SAFE, min_size=1, max_size=8).map(str.strip).filter(bool)
TIMES = st.floats(0, 1000, allow_nan=False).map(lambda value: round(value, 4))


@st.composite
def tiled(draw: st.DrawFn, labels: st.SearchStrategy[str]) -> tuple[Interval, ...]:
    """Intervals of a tier of words: in order, apart, some touching."""
    cuts = sorted(set(draw(st.lists(TIMES, min_size=2, max_size=9))))
    spans = [(a, b) for a, b in itertools.pairwise(cuts) if draw(st.booleans())]
    return tuple(Interval(a, b, draw(labels)) for a, b in spans)


OVERLAPPING = st.lists(
    st.builds(lambda a, b, label: Interval(min(a, b), max(a, b), label), TIMES, TIMES, LABELS), min_size=1, max_size=6
).map(lambda found: tuple(sorted(found, key=lambda i: (i.start_s, i.end_s))))


def sorted_tiers(tiers: dict[str, tuple[Interval, ...]]) -> dict[str, list[tuple[float, float, str]]]:
    return {
        name: sorted((round(i.start_s, 5), round(i.end_s, 5), i.label) for i in tier)
        for name, tier in tiers.items()
        if tier
    }


@MANY
@given(words=tiled(LABELS), phones=tiled(LABELS), events=OVERLAPPING, suffix=st.sampled_from([".TextGrid", ".json"]))
def test_what_is_written_is_read_again(
    tmp_path: Path,
    words: tuple[Interval, ...],
    phones: tuple[Interval, ...],
    events: tuple[Interval, ...],
    suffix: str,
) -> None:
    tiers = {"words": words, "phones": phones, "events": events}
    write_labels(tiers, tmp_path / f"a{suffix}", 1000.0)
    assert sorted_tiers(dict(read_labels(tmp_path / f"a{suffix}"))) == sorted_tiers(tiers)


@MANY
@given(words=tiled(LABELS.filter(lambda text: len(text.split()) == 1)), suffix=st.sampled_from([".ctm", ".words.txt"]))
def test_one_tier_is_read_again_from_ctm_and_audacity(tmp_path: Path, words: tuple[Interval, ...], suffix: str) -> None:
    write_labels({"words": words}, tmp_path / f"a{suffix}", 1000.0)
    found = read_labels(tmp_path / f"a{suffix}")
    assert sorted_tiers(dict(found)) == sorted_tiers({"words": words})


def test_writing_refuses_what_a_format_cannot_hold(tmp_path: Path) -> None:
    tiers = {"words": (Interval(0, 1, "good day"),), "phones": ()}
    with pytest.raises(InputError, match=r"CTM holds one tier, and there are words, phones; choose one with tier="):
        write_labels(tiers, tmp_path / "a.ctm")
    with pytest.raises(InputError, match="the label 'good day' at 0 s has a space, which a CTM cannot hold"):
        write_labels(tiers, tmp_path / "a.ctm", tier="words")
    with pytest.raises(InputError, match=r"has no suffix of labels that can be written: \.TextGrid, \.json"):
        write_labels(tiers, tmp_path / "a.phn")
    assert list(tmp_path.iterdir()) == []


def test_a_written_textgrid_tiles_the_recording(tmp_path: Path) -> None:
    write_labels({"words": (Interval(0.5, 1.0, "hi"),)}, tmp_path / "a.TextGrid", 2.0)
    text = (tmp_path / "a.TextGrid").read_text("utf-8")
    assert "intervals: size = 3" in text
    assert text.count('text = ""') == 2
    assert "xmax = 2.0" in text


GRAINS = st.sampled_from(
    ["", '"', "\n", "\t", "-1", "nan", "1e999", "0", "99999999", "{", "]", "null", "<exists>", "\0", "é"]
)


@MANY
@given(
    name=st.sampled_from(["a.TextGrid", "a.ctm", "a.json", "a_annot.json", "a.words.txt", "a.PHN", "a.lab"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), GRAINS), max_size=4),
)
def test_damage_anywhere_is_refused_in_words_or_skipped(
    tmp_path: Path, name: str, edits: list[tuple[float, int, str]]
) -> None:
    whole = {
        "a.TextGrid": LONG,
        "a.ctm": CTM,
        "a.json": json.dumps(SHAPES["gentle"]),
        "a_annot.json": json.dumps(EMU),
        "a.words.txt": "0.5\t1.25\tdog\n",
        "a.PHN": "0 1600 h#\n",
        "a.lab": "0 3100000 sil\n",
    }
    text = whole[name]
    for place, length, grain in edits:
        at = int(place * len(text))
        text = text[:at] + grain + text[at + length :]
    (tmp_path / name).write_text(text, encoding="utf-8")
    recording = "rec1" if name == "a.ctm" else None
    with contextlib.suppress(InputError):
        tiers = read_labels(tmp_path / name, on_error="skip", recording=recording)
        assert all(0 <= i.start_s <= i.end_s < float("inf") and i.label for tier in tiers.values() for i in tier)
