"""Bad recordings are refused with one sentence that names the file and says what is wrong."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_formats import through_ffmpeg

from otoscope.audio import SAMPLE_RATE_HZ, Clip, containers, decode
from otoscope.errors import InputError


def refused(path: Path | bytes, saying: str, **options: float) -> str:
    with pytest.raises(InputError, match=saying) as caught:
        decode(path, **options)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert sentence.endswith((".", ")."))
    if isinstance(path, Path):
        assert path.name in sentence
    return sentence


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "gone.wav", "does not exist")
    with pytest.raises(InputError, match="does not exist"):
        Clip.from_file(tmp_path / "gone.wav")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize(
    "text", ["hello, this is text\n", "#EXTM3U\nfile:///etc/passwd\n", "ffconcat version 1.0\n", "é" * 5000]
)
def test_text_named_like_sound(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.wav"
    path.write_text(text, encoding="utf-8")
    refused(path, "is a text file")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "is empty")
    refused(b"", "upload is empty")


def test_a_recording_without_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), SAMPLE_RATE_HZ)
    refused(tmp_path / "silent.wav", "contains no sound")


def test_noise_that_is_no_container(tmp_path: Path) -> None:
    path = tmp_path / "random.wav"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 10000, dtype=np.uint8).tobytes())
    refused(path, "not audio that can be read")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    sound = np.zeros(SAMPLE_RATE_HZ)
    sound[4000] = value
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE_HZ, subtype="FLOAT")
    refused(tmp_path / "a.wav", r"NaN or infinite samples, the first at 0\.250 s")
    with pytest.raises(InputError, match="NaN or infinite"):
        Clip.from_samples(sound, SAMPLE_RATE_HZ)


def test_loud_samples_are_no_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full(800, 1e30), SAMPLE_RATE_HZ, subtype="FLOAT")
    assert decode(tmp_path / "loud.wav").max() > 1e29


@pytest.mark.parametrize(
    "name", ["sound.wav", "sound.flac", "sound.mp3", "sound.ogg", "sound.opus", "sound.m4a", "sound.webm"]
)
def test_truncated_recordings(recordings: dict[str, Path], tmp_path: Path, name: str) -> None:
    whole = recordings[name].read_bytes()
    cut = tmp_path / name
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    refused(cut, "truncated|damaged")
    cut.write_bytes(whole[:60])
    refused(cut, "truncated|damaged|not audio")


def test_an_interrupted_browser_recording_is_kept(recordings: dict[str, Path], tmp_path: Path) -> None:
    whole = recordings["recorder.webm"].read_bytes()
    (tmp_path / "cut.webm").write_bytes(whole[: len(whole) // 2])
    assert 1.0 < Clip.from_file(tmp_path / "cut.webm").duration_s < 5.0


def test_three_hours_are_refused_before_decoding_and_can_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lecture.flac"
    soundfile.write(path, np.zeros(3 * 3600 * 1000, np.int16), 1000)
    decoded: list[int] = []
    blocks = containers.SoundfileContainer.blocks
    monkeypatch.setattr(
        containers.SoundfileContainer, "blocks", lambda self, start: decoded.append(1) or blocks(self, start)
    )
    sentence = refused(path, "3 h long, over the limit of 2 h")
    assert re.search("cut it with start_s and end_s.*OTOSCOPE_MAX_CLIP_S", sentence)
    with pytest.raises(InputError, match="over the limit"):
        Clip.from_file(path)
    assert not decoded
    assert len(decode(path, start_s=10000.0, end_s=10001.0)) == SAMPLE_RATE_HZ


def test_the_limit_can_be_set(recordings: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTOSCOPE_MAX_CLIP_S", "2.5")
    for name in ("sound.wav", "recorder.webm", "sound.m4a"):
        refused(recordings[name], r"over the limit of 2\.5 s")
    assert len(decode(recordings["sound.wav"], end_s=2.5)) == 2.5 * SAMPLE_RATE_HZ
    monkeypatch.setenv("OTOSCOPE_MAX_CLIP_S", "long")
    with pytest.raises(InputError, match="positive number of seconds, not 'long'"):
        decode(recordings["sound.wav"])


@pytest.mark.parametrize("announced", [2**36 - 1, 7000 * SAMPLE_RATE_HZ, 5 * SAMPLE_RATE_HZ])
def test_a_header_that_lies_about_its_length(recordings: dict[str, Path], tmp_path: Path, announced: int) -> None:
    data = bytearray(recordings["sound.flac"].read_bytes())
    data[21] = (data[21] & 0xF0) | (announced >> 32)  # the sample count of STREAMINFO, 36 bits
    data[22:26] = (announced & 0xFFFFFFFF).to_bytes(4, "big")
    path = tmp_path / "liar.flac"
    path.write_bytes(data)
    if announced < 6 * SAMPLE_RATE_HZ:
        assert len(decode(path)) == announced
    else:
        refused(path, "over the limit|truncated|damaged")


def test_a_film_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "silent.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            picture = np.zeros((32, 32, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    refused(tmp_path / "silent.mp4", "has no audio track")


@pytest.mark.parametrize(("start_s", "end_s"), [(7.0, None), (-1.0, None), (2.0, 1.0), (0.0, 9.0), (1.0, 1.0)])
def test_spans_outside_the_recording(recordings: dict[str, Path], start_s: float, end_s: float | None) -> None:
    refused(recordings["sound.wav"], "lasts 6.00 s: a clip cannot", start_s=start_s, end_s=end_s)  # type: ignore[arg-type]


def test_uploads_are_limited_in_size(monkeypatch: pytest.MonkeyPatch, recordings: dict[str, Path]) -> None:
    monkeypatch.setattr(containers, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"my\.wav has .* MB, over the limit"):
        Clip.from_bytes(recordings["sound.wav"].read_bytes(), name="my.wav")


def test_samples_of_a_wrong_shape() -> None:
    with pytest.raises(InputError, match="shape"):
        Clip.from_samples(np.zeros((2, 3, 4)), SAMPLE_RATE_HZ)
    with pytest.raises(InputError, match="shape"):
        Clip.from_samples(np.zeros(0), SAMPLE_RATE_HZ)
    with pytest.raises(InputError, match="sample rate"):
        Clip.from_samples(np.zeros(10), 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_of_any_kind_gives_sound_or_a_sentence(recordings: dict[str, Path], data: st.DataObject) -> None:
    content = bytearray(recordings[data.draw(st.sampled_from(sorted(recordings)))].read_bytes())
    place = st.integers(0, 400) | st.integers(0, len(content) - 1)
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=20)):
        content[at] = value
    kept = data.draw(st.just(len(content)) | st.integers(1, len(content)))
    try:
        samples = Clip.from_bytes(bytes(content[:kept])).samples()
    except InputError:
        return
    assert np.isfinite(samples).all()


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def with_number(recording: bytes, box: bytes, places: dict[int, int]) -> bytes:
    """Put 32-bit numbers into the first box of a kind, at bytes behind its name."""
    changed = bytearray(recording)
    start = changed.find(box) + len(box)
    assert start >= len(box)
    for offset, value in places.items():
        changed[start + offset : start + offset + 4] = value.to_bytes(4, "big")
    return bytes(changed)


@pytest.mark.parametrize("n_packets", [1 << 24, 1 << 26, (1 << 32) - 1])
def test_a_small_file_cannot_announce_millions_of_packets(
    sound: np.ndarray, n_packets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = through_ffmpeg("mp4", "aac")(sound[:, None], SAMPLE_RATE_HZ)
    pieces = through_ffmpeg("mp4", "aac", **FRAGMENTED)(sound[:, None], SAMPLE_RATE_HZ)
    assert len(decode(whole)) <= len(decode(pieces)) <= len(decode(whole)) + 1024
    monkeypatch.setattr(containers.AvContainer, "__init__", None)  # FFmpeg must not see what follows
    in_tables = with_number(with_number(whole, b"stsz", {4: 1, 8: n_packets}), b"stsc", {12: n_packets})
    refused(in_tables, f"tables announce {n_packets:,} packets")
    refused(with_number(pieces, b"trun", {4: n_packets}), "tables announce")


def test_tags_in_an_old_encoding_are_no_damage(sound: np.ndarray) -> None:
    plain = through_ffmpeg("avi", "pcm_s16le")(sound[:, None], SAMPLE_RATE_HZ)
    assert b"Lavf" in plain  # the program that wrote it is one of its tags
    np.testing.assert_array_equal(decode(plain.replace(b"Lavf", b"L\xe4vf")), decode(plain))


@pytest.mark.parametrize("channels", [9, 16, 24])
def test_many_channels_are_averaged_or_refused(channels: int) -> None:
    file = io.BytesIO()
    each = np.linspace(-0.5, 0.6, channels)
    soundfile.write(file, np.tile(each, (1600, 1)), SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    np.testing.assert_allclose(decode(file.getvalue()), each.mean(), atol=1e-3)
    in_film = through_ffmpeg("mov", "pcm_s16le")(np.zeros((1600, 1), np.float32), SAMPLE_RATE_HZ)
    places = [at for at in range(len(in_film)) if in_film[at : at + 4] == b"sowt"]
    claimed = bytearray(in_film)
    claimed[places[0] + 4 + 16 : places[0] + 4 + 18] = channels.to_bytes(2, "big")
    try:
        assert np.isfinite(decode(bytes(claimed))).all()
    except InputError:
        return
