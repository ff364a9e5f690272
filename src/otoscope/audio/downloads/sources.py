"""The corpora that can be downloaded, as data: one row each. Adding a corpus adds a row here."""

from __future__ import annotations

from dataclasses import dataclass, field

from otoscope.errors import InputError, nearest


@dataclass(frozen=True)
class RemoteFile:
    """One file at its source.

    `checksum` is `"sha256:…"` or `"md5:…"` as published, or as pinned by torchaudio and TensorFlow Datasets; None where
    nobody publishes one: then the SHA-256 of what first came is kept beside the corpus and must not change. Sizes in
    bytes; `is_exact` says that the size belongs to the checksum, and is not a round figure. `into` is the folder for an
    archive that brings none of its own.
    """

    url: str
    size_bytes: int
    checksum: str | None = None
    unpacked_bytes: int | None = None
    unpack: bool = True
    is_exact: bool = True
    into: str = "."

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A corpus that can be downloaded, or, with `by_hand`, how a person gets it.

    `opens` is the folder to open afterwards; `note` is what to know beforehand.
    """

    name: str
    title: str
    licence: str
    homepage: str
    opens: str = "."
    files: tuple[RemoteFile, ...] = field(default=(), repr=False)
    by_hand: str | None = field(default=None, repr=False)
    note: str = field(default="", repr=False)

    @property
    def size_bytes(self) -> int:
        """Bytes to download."""
        return sum(file.size_bytes for file in self.files)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes on disk afterwards, about."""
        return sum(file.unpacked_bytes or round(file.size_bytes * (1.6 if file.unpack else 1)) for file in self.files)


_CC_BY = "CC BY 4.0"
_OPENSLR = "https://www.openslr.org/resources"


def _librispeech(part: str, size: int, sha256: str) -> Source:
    file = RemoteFile(f"{_OPENSLR}/12/{part}.tar.gz", size, f"sha256:{sha256}", round(size * 1.03))
    title = f"LibriSpeech {part}: read English, 16 kHz, with texts"
    homepage = "https://www.openslr.org/12"
    return Source(f"librispeech-{part}", title, _CC_BY, homepage, f"LibriSpeech/{part}", (file,))


def _mini_librispeech(part: str, size: int, md5: str) -> Source:
    file = RemoteFile(f"{_OPENSLR}/31/{part}.tar.gz", size, f"md5:{md5}", round(size * 1.03))
    title = f"Mini LibriSpeech {part}: a small part of LibriSpeech"
    homepage = "https://www.openslr.org/31"
    return Source(f"mini-librispeech-{part}", title, _CC_BY, homepage, f"LibriSpeech/{part}", (file,))


def _libritts(part: str, size: int, sha256: str) -> Source:
    file = RemoteFile(f"{_OPENSLR}/60/{part}.tar.gz", size, f"sha256:{sha256}", round(size * 1.35))
    title = f"LibriTTS {part}: read English, 24 kHz, with texts"
    homepage = "https://www.openslr.org/60"
    return Source(f"libritts-{part}", title, _CC_BY, homepage, f"LibriTTS/{part}", (file,))


def _arctic(voice: str, who: str, size: int, sha256: str) -> Source:
    name = f"cmu_us_{voice}_arctic"
    url = f"https://www.festvox.org/cmu_arctic/packed/{name}.tar.bz2"
    file = RemoteFile(url, size, f"sha256:{sha256}", is_exact=False)
    title = f"CMU ARCTIC {voice}: 1,132 sentences by {who}, 16 kHz"
    return Source(f"arctic-{voice}", title, "BSD-like (CMU)", "https://www.festvox.org/cmu_arctic/", name, (file,))


_AUDIOSET = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
_GITHUB_ARCHIVE = "GitHub makes this archive on request and publishes no checksum of it."

SOURCES: tuple[Source, ...] = (
    _librispeech("dev-clean", 337926286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"),
    _librispeech("dev-other", 314305928, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365"),
    _librispeech("test-clean", 346663984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"),
    _librispeech("test-other", 328757843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"),
    _librispeech("train-clean-100", 6387309499, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"),
    _librispeech("train-clean-360", 23049477885, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf"),
    _librispeech("train-other-500", 30593501606, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2"),
    _mini_librispeech("dev-clean-2", 126046265, "6d7ab67ac6a1d2c993d050e16d61080d"),
    _mini_librispeech("train-clean-5", 332954390, "5df7d4e78065366204ca6845bb08f490"),
    _libritts("dev-clean", 1291469655, "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a"),
    _libritts("dev-other", 924804676, "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c"),
    _libritts("test-clean", 1230670113, "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5"),
    _libritts("test-other", 964502297, "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d"),
    _libritts("train-clean-100", 7723686890, "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b"),
    Source(
        "ljspeech",
        "LJ Speech 1.1: one reader of English, 24 hours, 22.05 kHz, with texts",
        "public domain",
        "https://keithito.com/LJ-Speech-Dataset/",
        "LJSpeech-1.1",
        (
            RemoteFile(
                "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
                2748572632,
                "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
                3801111440,
            ),
        ),
    ),
    Source(
        "speech-commands",
        "Speech Commands v0.02: 105,829 spoken words of one second, 16 kHz",
        _CC_BY,
        "https://arxiv.org/abs/1804.03209",
        "speech_commands_v0.02",
        (
            RemoteFile(
                "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
                2428923189,
                "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
                3_700_000_000,
                into="speech_commands_v0.02",
            ),
        ),
    ),
    _arctic("slt", "a US woman", 81326064, "7c173297916acf3cc7fcab2713be4c60b27312316765a90934651d367226b4ea"),
    _arctic("bdl", "a US man", 73590286, "26b91aaf48b2799b2956792b4632c2f926cd0542f402b5452d5adecb60942904"),
    _arctic("clb", "a US woman", 90892292, "3f16dc3f3b97955ea22623efb33b444341013fc660677b2e170efdcc959fa7c6"),
    _arctic("rms", "a US man", 92541266, "c6dc11235629c58441c071a7ba8a2d067903dfefbaabc4056d87da35b72ecda4"),
    Source(
        "esc50",
        "ESC-50: 2,000 environmental sounds of 5 s in 50 classes (ESC-10 inside)",
        "CC BY-NC 3.0 (ESC-10: CC BY 3.0)",
        "https://github.com/karolpiczak/ESC-50",
        "ESC-50-master",
        (
            RemoteFile(
                "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip",
                645_700_000,
                unpacked_bytes=900_000_000,
                is_exact=False,
            ),
        ),
        note=_GITHUB_ARCHIVE,
    ),
    Source(
        "fsdd",
        "Free Spoken Digit Dataset 1.0.9: English digits, 8 kHz",
        "CC BY-SA 4.0",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        "free-spoken-digit-dataset-1.0.9/recordings",
        (
            RemoteFile(
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.9.tar.gz",
                12_000_000,
                unpacked_bytes=25_000_000,
                is_exact=False,
            ),
        ),
        note=_GITHUB_ARCHIVE,
    ),
    Source(
        "audioset-metadata",
        "AudioSet: tables of segments, and the ontology; no sound",
        "CC BY 4.0 (ontology: CC BY-SA 4.0)",
        "https://research.google.com/audioset/",
        ".",
        (
            RemoteFile(f"{_AUDIOSET}/eval_segments.csv", 1_300_000, unpack=False, is_exact=False),
            RemoteFile(f"{_AUDIOSET}/balanced_train_segments.csv", 1_400_000, unpack=False, is_exact=False),
            RemoteFile(f"{_AUDIOSET}/unbalanced_train_segments.csv", 101_000_000, unpack=False, is_exact=False),
            RemoteFile(f"{_AUDIOSET}/class_labels_indices.csv", 15_000, unpack=False, is_exact=False),
            RemoteFile(
                "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json",
                350_000,
                unpack=False,
                is_exact=False,
            ),
        ),
        note="The recordings are YouTube's: put your own copies beside the tables. No checksums are published.",
    ),
    Source(
        "common-voice",
        "Common Voice: read sentences in over 100 languages",
        "CC0 1.0",
        "https://commonvoice.mozilla.org/datasets",
        by_hand=(
            "Common Voice must be downloaded by you, since each person agrees to its terms: open "
            "https://commonvoice.mozilla.org/datasets, sign in, choose a language, download the archive, unpack it "
            "with `tar -xzf FILE`, and open the folder that has the .tsv tables and clips/: "
            "otoscope corpus show cv-corpus-VERSION/LANGUAGE"
        ),
    ),
    Source(
        "timit",
        "TIMIT: 6,300 sentences with phone and word times",
        "LDC user agreement (not free)",
        "https://catalog.ldc.upenn.edu/LDC93S1",
        by_hand=(
            "TIMIT is licensed by the Linguistic Data Consortium: order LDC93S1 at "
            "https://catalog.ldc.upenn.edu/LDC93S1 (members or a fee), unpack it, and open the folder that has TRAIN "
            "and TEST: otoscope corpus show TIMIT"
        ),
    ),
)
"""In the order of the listing. Exact sizes and checksums come from openslr.org/12/md5sum.txt and 31/md5sum.txt and from
the tables that torchaudio and TensorFlow Datasets pin."""


def source(name: str) -> Source:
    """Return the row of a corpus.

    Raises:
        InputError: there is none; names the nearest.
    """
    rows = {row.name: row for row in SOURCES}
    if name not in rows:
        raise InputError(
            f"There is no download named {name!r}{nearest(name, rows) or '; `otoscope download` lists all.'}"
        )
    return rows[name]
