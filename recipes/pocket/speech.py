"""Synthetic speech with exact phone and word times, from the espeak-ng formant synthesiser.

espeak-ng (GPL-3) is reached through ctypes and is needed only here, when the pocket model is made; the
otoscope package never imports it. Its audio is not bit-reproducible between processes: store what you need.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soxr

SAMPLE_RATE = 16_000
ESPEAK_RATE = 22_050

# espeak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_EVENT_WORD, _EVENT_END, _EVENT_PHONEME = 1, 5, 7
_RATE, _PITCH, _RANGE = 1, 3, 4


@dataclass(frozen=True)
class Span:
    """A labelled stretch of time: `start_s` to `end_s` seconds from the start of the audio."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Utterance:
    """Mono 16 kHz audio (float32, peak below 1) with its exact words and phones."""

    audio: np.ndarray
    words: tuple[Span, ...]
    phones: tuple[Span, ...]


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """The loaded library, the current voice and the samples and events collected by its callback."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
        rate = self.library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, _PHONEME_EVENTS | _DONT_EXIT)
        if rate != ESPEAK_RATE:
            raise RuntimeError(f"espeak-ng runs at {rate} Hz, expected {ESPEAK_RATE} Hz")
        self.voice = ""
        self.samples: list[np.ndarray] = []
        self.events: list[tuple[int, int, int, str]] = []
        self._callback = _Callback(self._collect)
        self.library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wav: ctypes._Pointer, n: int, events: ctypes._Pointer) -> int:
        if wav and n > 0:
            self.samples.append(np.ctypeslib.as_array(wav, shape=(n,)).copy())
        i = 0
        while events[i].type != 0:
            event = events[i]
            name = event.id.string.decode("utf-8", "replace") if event.type == _EVENT_PHONEME else ""
            self.events.append((event.type, event.sample, event.text_position, name))
            i += 1
        return 0

    def set_voice(self, voice: str) -> None:
        """Switch the voice; espeak keeps the previous one silently when the name is wrong, so check."""
        if voice != self.voice:
            if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {voice!r}")
            self.voice = voice

    def synthesise(self, text: str, rate: int, pitch: int, pitch_range: int) -> None:
        self.samples, self.events = [], []
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        status = self.library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"espeak-ng could not speak {text!r} (status {status})")


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()


# espeak mnemonics (stress marks removed) folded to IPA classes. Allophones join their phoneme (dark and syllabic l,
# glottal t); vowels before r name the lexical set (START = ɑɹ) whether or not the accent sounds the r.
_FOLD_EN = {
    "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "g": "ɡ", "f": "f", "v": "v", "T": "θ", "D": "ð",
    "s": "s", "z": "z", "S": "ʃ", "Z": "ʒ", "h": "h", "tS": "tʃ", "dZ": "dʒ", "m": "m", "n": "n", "N": "ŋ",
    "l": "l", "r": "ɹ", "w": "w", "j": "j", "t#": "ɾ", "?": "t", "n-": "n", "@L": "l", "w#": "w", "t[": "t",
    "i:": "iː", "i": "iː", "I": "ɪ", "I2": "ɪ", "I#": "ɪ", "E": "ɛ", "a": "æ", "A:": "ɑː", "0": "ɒ", "O:": "ɔː",
    "U": "ʊ", "u:": "uː", "V": "ʌ", "3:": "ɜː", "IR": "ɜː", "VR": "ɜː", "@": "ə", "a#": "ə", "@2": "ə",
    "3": "ɚ", "eI": "eɪ", "aI": "aɪ", "aI2": "aɪ", "aI3": "aɪ", "aI@": "aɪ", "OI": "ɔɪ", "aU": "aʊ", "oU": "oʊ",
    "A@": "ɑɹ", "O@": "ɔɹ", "o@": "ɔɹ", "i@": "ɪɹ", "i@3": "ɪɹ", "e@": "ɛɹ", "U@": "ʊɹ", "aa": "æ", "l#": "l",
    ";": "", "t2": "t", "@5": "ə", "@r": "ɚ", "@-": "ə", "u": "uː", "e": "ɛ", "E2": "ɛ", "r-": "ɹ",
    "02": "ɒ", "O2": "ɔː", "_|": "",
}  # fmt: skip
_BATH_IS_START = ("gmw/en", "gmw/en-GB-x-rp")  # accents that say "bath" with ɑː
_FOLD_ES = {
    "p": "p", "b": "b", "B": "β", "t": "t", "d": "d", "D": "ð", "k": "k", "g": "ɡ", "Q": "ɣ", "f": "f", "T": "θ",
    "s": "s", "x": "x", "tS": "tʃ", "m": "m", "n": "n", "N": "ŋ", "n^": "ɲ", "l": "l", "l^": "ʎ", "J^": "ʝ",
    "r": "ɾ", "**": "ɾ", "R2": "r", "w": "w", "j": "j", "a": "a", "e": "e", "i": "i", "o": "o", "u": "u",
    "oI": "oi", "eI": "ei", "aI": "ai", "aU": "au", "eU": "eu", "z": "s", ";": "", "E": "e", "O": "o", "R": "r",
}  # fmt: skip
PHONES = tuple(sorted({p for p in (*_FOLD_EN.values(), *_FOLD_ES.values()) if p}))


def fold_phone(name: str, voice: str) -> str | None:
    """IPA class of an espeak phone mnemonic; "" continues the previous phone, None is a pause."""
    name = name.strip("',%=!")
    if name.startswith("_") and name != "_|":
        return None
    accent = voice.split("+")[0]
    if name == "aa" and accent in _BATH_IS_START:
        return "ɑː"
    fold = _FOLD_ES if accent.startswith("roa/") else _FOLD_EN
    if name not in fold:
        raise KeyError(f"espeak phone {name!r} of voice {voice!r} has no IPA class")
    return fold[name]


def say(text: str, voice: str, rate: int = 170, pitch: int = 50, pitch_range: int = 50) -> Utterance:
    """Speak `text` (lower case, no punctuation) and return 16 kHz audio with exact words and phones.

    `rate` is in words a minute, `pitch` and `pitch_range` on espeak's 0 to 99 scale; `voice` is for
    example `gmw/en-US+f3`. The level is set to an RMS of 0.05 over the speech (espeak's variants differ 7x).
    """
    engine = _espeak()
    engine.set_voice(voice)
    engine.synthesise(text, rate, pitch, pitch_range)
    raw = np.concatenate(engine.samples).astype(np.float32) / 32768.0
    phones, word_of_phone = _phones(engine.events, voice)
    words = _words(text, voice, phones, word_of_phone)
    audio = soxr.resample(raw, ESPEAK_RATE, SAMPLE_RATE, quality="HQ").astype(np.float32)
    first, last = (int(t * SAMPLE_RATE) for t in (phones[0].start_s, phones[-1].end_s))
    audio *= 0.05 / max(1e-6, float(np.sqrt(np.mean(audio[first:last] ** 2))))
    peak = float(np.abs(audio).max())
    return Utterance(audio if peak < 0.95 else audio * (0.95 / peak), words, tuple(phones))


def _phones(events: list[tuple[int, int, int, str]], voice: str) -> tuple[list[Span], list[int]]:
    """Phones with times, and for each the 1-based character where espeak's word event put its word."""
    phones: list[Span] = []
    positions: list[int] = []
    position, pending, label, start = 0, 0, None, 0
    for kind, sample, text_position, name in events:
        if kind == _EVENT_WORD:
            pending = text_position
        if kind not in (_EVENT_PHONEME, _EVENT_END):
            continue
        new = fold_phone(name, voice) if kind == _EVENT_PHONEME else None
        if new == "":
            continue
        if label is not None and sample > start:
            phones.append(Span(start / ESPEAK_RATE, sample / ESPEAK_RATE, label))
            positions.append(position)
        label, start, position = new, sample, pending
    return phones, positions


@lru_cache(maxsize=4096)
def _phone_count(word: str) -> int:
    engine = _espeak()
    engine.synthesise(word, 170, 50, 50)
    return sum(fold_phone(e[3], engine.voice) not in (None, "") for e in engine.events if e[0] == _EVENT_PHONEME)


def _words(text: str, voice: str, phones: list[Span], positions: list[int]) -> tuple[Span, ...]:
    """Word spans. espeak speaks entries such as "in the" as one word: their phones are shared out.

    The share of each word is its number of phones when spoken alone.
    """
    starts, at = [], 1
    tokens = text.split(" ")
    for token in tokens:
        starts.append(at)
        at += len(token) + 1
    groups = sorted(set(positions))
    spans: list[Span] = []
    for g, first in enumerate(groups):
        limit = groups[g + 1] if g + 1 < len(groups) else at
        members = [w for w, s in zip(tokens, starts, strict=True) if first <= s < limit]
        own = [p for p, q in zip(phones, positions, strict=True) if q == first]
        counts = np.array([_phone_count(w) if len(members) > 1 else 1 for w in members], float)
        edges = np.round(np.concatenate([[0], np.cumsum(counts)]) / counts.sum() * len(own)).astype(int)
        for word, a, b in zip(members, edges[:-1], edges[1:], strict=True):
            if b > a:
                spans.append(Span(own[a].start_s, own[b - 1].end_s, word))
    if len(spans) != len(tokens):
        raise ValueError(f"{voice} spoke {text!r} as {[s.label for s in spans]}")
    return tuple(spans)
