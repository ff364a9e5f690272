"""Miniature data sets, faithful in layout, names and tables; every recording is a third of a second of tone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16000
SECONDS = 0.32


def tone(path: Path, seconds: float = SECONDS, **kind: str) -> Path:
    """Write a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * RATE_HZ)) / 3), RATE_HZ, **kind)
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a table, a text or labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def librispeech(root: Path) -> Path:
    """Two splits, two speakers, one chapter each."""
    write(
        root / "LibriSpeech" / "SPEAKERS.TXT",
        "; a comment\n;ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "84   | F | dev-clean        |  8.02 | Christie Nowak\n"
        "1688 | M | test-other       |  8.05 | Joe | Banks\n",
    )
    for split, speaker, chapter in (("dev-clean", "84", "121123"), ("test-other", "1688", "142285")):
        folder = root / "LibriSpeech" / split / speaker / chapter
        for n in range(2):
            tone(folder / f"{speaker}-{chapter}-{n:04d}.flac")
        write(
            folder / f"{speaker}-{chapter}.trans.txt",
            f"{speaker}-{chapter}-0000 GO DO YOU HEAR\n{speaker}-{chapter}-0001 BUT IN LESS THAN FIVE MINUTES\n",
        )
    return root


def libritts(root: Path) -> Path:
    """A chapter with a table and one with a file of text per utterance."""
    first = root / "dev-clean" / "84" / "121123"
    second = root / "dev-clean" / "174" / "50561"
    tone(first / "84_121123_000007_000001.wav")
    write(first / "84_121123.trans.tsv", '84_121123_000007_000001\t"Go, do you hear?\t"Go, do you hear?\n')
    tone(second / "174_50561_000000_000000.wav")
    write(second / "174_50561_000000_000000.original.txt", "Mr. Knight")
    write(second / "174_50561_000000_000000.normalized.txt", "Mister Knight")
    write(root / "speakers.tsv", "READER\tGENDER\tSUBSET\tNAME\n84\tF\tdev-clean\tChristie\n174\tM\tdev-clean\tPeter\n")
    return root


COMMON_VOICE = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\t{accent}\tlocale\tsegment\n"


def common_voice(root: Path) -> Path:
    """Two languages of two releases: `accents` and `accent`, sentences with bare quotes."""
    for locale, accent, gender in (("en", "accents", "female_feminine"), ("cy", "accent", "male")):
        home = root / locale
        head = COMMON_VOICE.format(accent=accent)
        for split, numbers in (("train", (1, 2)), ("test", (3,)), ("validated", (1, 2, 3, 4))):
            rows = ""
            for n in numbers:
                tone(home / "clips" / f"common_voice_{locale}_{n}.mp3")
                rows += f'{"ab" * 64}\tcommon_voice_{locale}_{n}.mp3\t"Yes, she {n}\t2\t0\ttwenties\t{gender}\tWelsh\t'
                rows += f"{locale}\t\n"
            write(home / f"{split}.tsv", head + rows)
        write(home / "reported.tsv", "sentence\tsentence_id\tlocale\treason\nx\ty\ten\tz\n")
        write(home / "clip_durations.tsv", f"clip\tduration[ms]\ncommon_voice_{locale}_1.mp3\t320\n")
    return root


SEGMENTS = (
    "# Segments csv created Sun Mar  5 10:54:25 2017\n"
    "# num_ytids=3, num_segs=3, num_unique_labels=4, num_positive_labels=5\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
ONTOLOGY = [
    {"id": "/m/09x0r", "name": "Speech", "child_ids": ["/m/05zppz"]},
    {"id": "/m/05zppz", "name": "Male speech, man speaking", "child_ids": []},
    {"id": "/m/04rlf", "name": "Music", "child_ids": []},
    {"id": "/m/0bt9lr", "name": "Dog", "child_ids": []},
]


def audioset(root: Path) -> Path:
    """Three segments under three of the usual names, and the ontology."""
    write(
        root / "balanced_train_segments.csv",
        SEGMENTS
        + '--4gqARaEJE, 0.000, 10.000, "/m/0bt9lr,/m/04rlf"\n'
        + '-0DLPzsiXXE, 30.000, 40.000, "/m/05zppz,/m/04rlf"\n',
    )
    write(root / "eval_segments.csv", SEGMENTS + '-1LrH01Ei1w, 30.000, 40.000, "/m/0bt9lr"\n')
    write(root / "ontology.json", json.dumps(ONTOLOGY))
    tone(root / "audio" / "Y--4gqARaEJE.wav")
    tone(root / "audio" / "-0DLPzsiXXE_30000_40000.flac")
    tone(root / "audio" / "-1LrH01Ei1w_30.000_40.000.wav")
    return root


def esc50(root: Path) -> Path:
    """The table of ESC-50 and its recordings."""
    rows = [("1-100032-A-0.wav", 1, 0, "dog", True), ("2-100210-A-36.wav", 2, 36, "vacuum_cleaner", False)]
    table = "filename,fold,target,category,esc10,src_file,take\n"
    for name, fold, target, category, esc10 in rows:
        tone(root / "audio" / name)
        table += f"{name},{fold},{target},{category},{esc10},{name.split('-')[1]},A\n"
    write(root / "meta" / "esc50.csv", table)
    return root


def speech_commands(root: Path) -> Path:
    """Two words, three speakers, noise, and the two lists."""
    for path in (
        "yes/0a7c2a8d_nohash_0.wav",
        "yes/0a7c2a8d_nohash_1.wav",
        "no/1b4c9b89_nohash_0.wav",
        "no/5fadb538_nohash_4.wav",
    ):
        tone(root / path)
    tone(root / "_background_noise_" / "white_noise.wav")
    write(root / "_background_noise_" / "README.md", "noise\n")
    write(root / "validation_list.txt", "no/1b4c9b89_nohash_0.wav\n")
    write(root / "testing_list.txt", "no/5fadb538_nohash_4.wav\n")
    return root


def timit(root: Path) -> Path:
    """SPHERE recordings in upper case for training, RIFF in lower case for testing."""
    folder = root / "TIMIT" / "TRAIN" / "DR1" / "FCJF0"
    tone(folder / "SA1.nist", format="NIST", subtype="PCM_16").rename(folder / "SA1.WAV")
    write(folder / "SA1.PHN", "0 1600 h#\n1600 3200 sh\n3200 5120 iy\n")
    write(folder / "SA1.WRD", "1600 5120 she\n")
    write(folder / "SA1.TXT", "0 5120 She.\n")
    folder = root / "TIMIT" / "TEST" / "DR8" / "MRES0"
    tone(folder / "sx217.wav", subtype="PCM_16")
    write(folder / "sx217.phn", "0 5120 ih\n")
    return root


def ljspeech(root: Path) -> Path:
    """A table with bare quotes and bars."""
    for n in (1, 2):
        tone(root / "wavs" / f"LJ001-000{n}.wav")
    write(
        root / "metadata.csv",
        'LJ001-0001|Printing, in "the only sense|Printing, in "the only sense\n'
        "LJ001-0002|in 1455.|in fourteen fifty-five.\n",
    )
    return root


def cmu_arctic(root: Path) -> Path:
    """One utterance with phones by their ends."""
    home = root / "cmu_us_slt_arctic"
    tone(home / "wav" / "arctic_a0001.wav")
    write(home / "etc" / "txt.done.data", '( arctic_a0001 "Author of the danger trail, \\"Philip\\"." )\n')
    write(home / "lab" / "arctic_a0001.lab", "separator ;\nnfields 1\n#\n0.10 125 pau \n0.20 125 ao \n0.32 125 th \n")
    return root


TREES: dict[str, Callable[[Path], Path]] = {
    "librispeech": librispeech,
    "libritts": libritts,
    "common-voice": common_voice,
    "audioset": audioset,
    "esc50": esc50,
    "speech-commands": speech_commands,
    "timit": timit,
    "ljspeech": ljspeech,
    "cmu-arctic": cmu_arctic,
}
