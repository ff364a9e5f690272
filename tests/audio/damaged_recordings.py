"""Decode damaged recordings one after the other and say how each ended: run as a program, so that a crash ends only it.

    python damaged_recordings.py FOLDER SEED FIRST COUNT

FOLDER holds intact recordings. One line of JSON per input: its number, then its outcome. The number is printed and the
input written to FOLDER.input.FIRST before it is decoded, so that whoever reads knows which one crashed or hangs.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

EXTRA_MEMORY = 1 << 30  # bytes of address space beyond what the imports took
MAX_CPU_S = 600
MAX_CLIP_S = 60.0  # longer results are refused, so that memory speaks of the decoder
MARKS = (
    *(b"RIFF", b"WAVE", b"fmt ", b"data", b"fact", b"LIST", b"FORM", b"COMM", b"SSND", b"caff", b"desc", b"pakt"),
    *(b"kuki", b"fLaC", b"OggS", b"OpusHead", b"vorbis", b"moov", b"trak", b"stsz", b"stts", b"stsc", b"stco"),
    *(b"esds", b"mdhd", b"elst", b"mvhd", b"ID3", b"Xing", b"Info", b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"),
    *(b"\x1f\x43\xb6\x75", b"wvpk", b"TTA1", b".snd", b"#!AMR", b"NIST_1A", b"riff", b"FLV", b"movi", b"strf"),
)
EXTREMES = (
    0,
    1,
    2,
    9,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    1 << 20,
    1 << 24,
    1 << 26,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


def flip_bits(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Flip a few bits anywhere."""
    for at in rng.integers(0, len(data), rng.integers(1, 40)):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def flip_header_bits(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Flip a few bits where headers are."""
    for at in rng.integers(0, min(len(data), 600), rng.integers(1, 12)):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def randomise_bytes(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Overwrite a stretch with noise."""
    start = int(rng.integers(len(data)))
    length = min(len(data) - start, int(rng.integers(1, 3000)))
    data[start : start + length] = rng.bytes(length)
    return bytes(data)


def truncate(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Keep the beginning, or the end."""
    at = int(rng.integers(1, len(data)))
    return bytes(data[:at] if rng.random() < 0.8 else data[at:])


def cut_out(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Leave a stretch out, or repeat it."""
    a, b = sorted(int(at) for at in rng.integers(0, len(data), 2))
    return bytes(data[:a] + data[b:] if rng.random() < 0.5 else data[:b] + data[a:])


def blow_up_field(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Write extreme numbers into headers, most often right after the name of a chunk."""
    places = [at + len(mark) for mark in MARKS if (at := data.find(mark)) >= 0]
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.choice([1, 2, 4, 8]))
        near = places and rng.random() < 0.8
        at = int(rng.choice(places)) + int(rng.integers(0, 40)) if near else int(rng.integers(min(2000, len(data))))
        value = int(rng.choice(EXTREMES)) * (0x100000001 if size == 8 else 1) % (1 << 8 * size)
        data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return bytes(data)


def splice_header(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """The header of one recording before the body of another."""
    other = others[int(rng.integers(len(others)))]
    cut = int(rng.choice([12, 36, 44, 58, 128, 512, 2048]))
    return bytes(data[:cut]) + other[int(rng.choice([0, cut])) :]


def header_and_noise(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """A valid header, then random bytes."""
    return bytes(data[: int(rng.integers(4, 2000))]) + rng.bytes(int(rng.integers(1, 20000)))


def nest(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """One recording inside or behind another, or behind a tag with an absurd size."""
    other = others[int(rng.integers(len(others)))]
    way = int(rng.integers(4))
    if way == 0:
        at = int(rng.integers(len(data)))
        return bytes(data[:at]) + other + bytes(data[at:])
    if way == 1:
        return bytes(data) + other
    if way == 2:
        return b"ID3\x04\x00\x00" + rng.bytes(4) + bytes(data)
    return (
        b"RIFF" + (len(data) + 28).to_bytes(4, "little") + b"WAVEdata" + len(data).to_bytes(4, "little") + bytes(data)
    )


def magic_and_noise(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Nothing but the first bytes of a format, then chunk names among noise."""
    pieces = [bytes(data[: int(rng.integers(4, 16))])]
    for _ in range(int(rng.integers(1, 30))):
        pieces += [MARKS[int(rng.integers(len(MARKS)))], rng.bytes(int(rng.integers(0, 60)))]
    return b"".join(pieces)


DAMAGES = (
    *(flip_bits, flip_header_bits, randomise_bytes, truncate, cut_out, blow_up_field, blow_up_field),
    *(splice_header, header_and_noise, nest, magic_and_noise),
)


def damaged(originals: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Return what was done and the damaged recording: the same for the same seed and number."""
    rng = np.random.default_rng((seed, number))
    name = sorted(originals)[int(rng.integers(len(originals)))]
    others = [originals[key] for key in sorted(originals)]
    data, done = bytes(originals[name]), []
    for _ in range(1 + int(rng.random() < 0.3)):
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        data, done = damage(bytearray(data), rng, others) or b"\0", [*done, damage.__name__]
    return f"{name}: {' + '.join(done)}", data


def outcome(data: bytes, *, also_in_part: bool) -> str:
    """Decode, and return "sound", "refused", or what went wrong."""
    from otoscope.audio.decoding import decode, probe
    from otoscope.errors import InputError

    ended = "refused"
    for options in [{}, {"start_s": 0.11, "end_s": 0.29}] if also_in_part else [{}]:
        try:
            samples = decode(data, **options)
            if not (np.isfinite(samples).all() and samples.dtype == np.float32 and samples.ndim == 1 and len(samples)):
                return f"decoded to {samples.dtype} {samples.shape} or to values that are not finite"
            ended = "sound"
        except InputError as error:
            if "\n" in str(error) or len(str(error)) > 400:
                return f"not one sentence: {error}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    if also_in_part:
        try:
            probe(data)
        except InputError:
            pass
        except BaseException as error:
            return f"probe: {type(error).__name__}: {error}"
    return ended


def peak_memory() -> int:
    """Bytes in use at most since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forget_peak() -> int:
    """Begin to watch memory anew and return what is in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def limit_this_process() -> None:
    in_use = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (in_use + EXTRA_MEMORY, in_use + EXTRA_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(folder: str, seed: str, first: str, count: str) -> None:
    warnings.simplefilter("error")
    os.environ["OTOSCOPE_MAX_CLIP_S"] = str(MAX_CLIP_S)
    originals = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    for data in originals.values():  # libraries take memory once, when they first decode a format
        outcome(data, also_in_part=True)
    limit_this_process()
    for number in range(int(first), int(first) + int(count)):
        what, data = damaged(originals, int(seed), number)
        Path(f"{folder}.input.{first}").write_bytes(data)
        print(json.dumps({"number": number, "what": what}), flush=True)
        before, start_s = forget_peak(), time.perf_counter()
        ended = outcome(data, also_in_part=number % 3 == 0)
        took_s, grown = time.perf_counter() - start_s, peak_memory() - before
        print(json.dumps({"outcome": ended, "took_s": round(took_s, 3), "grown_bytes": grown}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
