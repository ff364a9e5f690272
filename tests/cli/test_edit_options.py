"""`otoscope edit`: every operation and place, from words on the command line to edits of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import otoscope, refused

import otoscope as oto
from otoscope.audio import Corpus
from otoscope.cli.edit import make_edit, parse_changes
from otoscope.models import Edit
from otoscope.workspace import Workspace


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--head", "decoder.1.cross[2]"], Edit.knock_out("decoder.1.cross[2]")),
        (["--head=encoder.1.attn[0]", "--time", "0.5-1"], Edit.knock_out("encoder.1.attn[0]", time_s=(0.5, 1.0))),
        (["--site", "encoder.2.attn", "--band", "20"], Edit.band("encoder.2.attn", 20)),
        (["-s", "mel", "--limit", "-1,0.5"], Edit.limit("mel", low=-1.0, high=0.5)),
        (["-s", "mel", "--limit", "0,", "--units", "3"], Edit.limit("mel", low=0.0, units=[3])),
        (["-s", "decoder.0.mlp.post", "--tokens", "4-6", "--zero"], Edit.zero("decoder.0.mlp.post", tokens=(4, 6))),
        (
            ["-s", "decoder.0.cross.pattern[1]", "--zero", "--keys", "0.2-0.4"],
            Edit.zero("decoder.0.cross.pattern[1]", keys_s=(0.2, 0.4)),
        ),
        (["-s", "mel", "--add", "-2", "--time", "0-1"], Edit.add("mel", -2.0, time_s=(0.0, 1.0))),
    ],
)
def test_words_become_the_edit_they_name(words: list[str], expected: Edit) -> None:
    (change,) = parse_changes(words)
    assert make_edit(change, None).to_json() == expected.to_json()


def test_a_dictionary_is_spliced_in_by_name(ws: Path, few: Path, pocket: oto.SpeechModel) -> None:
    clip = Corpus.load(few)[0]
    done = otoscope("edit", clip.clip_id, "--splice", "sae-2", "--workspace", ws, "--json").json
    dictionary = Workspace.open(ws).dictionary("sae-2")
    assert done["edited"]["text"] == pocket.transcribe(clip, edits=[Edit.splice(dictionary)]).text
    assert done["edits"] == ["--splice sae-2"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--head", "decoder.1.cross[2]", "--scale", "0"), "has two operations"),
        (("--head", "decoder.1.cross"), "A head to knock out is written"),
        (("--site", "mel", "--limit", "3"), "is not LOW,HIGH"),
        (("--site", "mel", "--zero", "--tokens", "1.5-2"), "is not a span of tokens"),
        (("--site", "mel", "--zero", "--tokens", "1-2"), "moments of the sound"),
        (("--site", "decoder.0.mlp.post", "--zero", "--time", "0-1"), "use tokens"),
        (("--feature", "sae-2:1", "--band", "3"), "--band limits attention"),
        (("--splice", "sae-9"), "sae-9"),
    ],
)
def test_words_that_make_no_sense_are_refused(ws: Path, few: Path, words: tuple[str, ...], complaint: str) -> None:
    assert complaint in refused("edit", Corpus.load(few)[0].clip_id, *words, "--workspace", ws)
