"""Downloads are resumed, verified and unpacked without harm; a real server on this machine plays the source."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socketserver
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import otoscope as oto
from otoscope.audio.downloads import SOURCES, RemoteFile, Source, download, source
from otoscope.audio.downloads.fetching import fetch
from otoscope.audio.downloads.unpacking import unpack
from otoscope.cli.program import main
from otoscope.errors import InputError, OtoscopeError


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked."""

    content: bytes = b""
    etag: str | None = '"one"'
    has_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the line drops, answer by answer
    fail_with: list[int] = field(default_factory=list)
    redirect: str | None = None
    says_length: bool = True
    asked: list[str] = field(default_factory=list)  # the Range of each request
    url: str = ""


def answer(site: Site, handler: BaseHTTPRequestHandler) -> None:
    asked, content = handler.headers.get("Range"), site.content
    site.asked.append(asked or "")
    if site.fail_with:
        handler.send_error(site.fail_with.pop(0))
        return
    if site.redirect:
        handler.send_response(302)
        handler.send_header("Location", site.redirect)
        handler.end_headers()
        return
    start = 0
    is_same = handler.headers.get("If-Range") in (None, site.etag)
    if asked and site.has_ranges and is_same:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    if site.says_length:
        handler.send_header("Content-Length", str(len(content) - start))
    if site.etag:
        handler.send_header("ETag", site.etag)
    handler.end_headers()
    body = content[start:]
    handler.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(served, self)

        def log_message(self, *words: Any) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}/corpus.zip"
        yield served
        server.shutdown()
        thread.join()


def recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(4000) / 5), 8000, format="WAV")
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


DIGITS = {f"digits-1.0/recordings/{digit}_anna_0.wav": recording() for digit in range(3)} | {"digits-1.0/README": b"hi"}


def row(site: Site, *, checksum: bool = True, **changes: Any) -> Source:
    """The corpus of spoken digits that the server has."""
    sha256 = f"sha256:{hashlib.sha256(site.content).hexdigest()}" if checksum else None
    file = RemoteFile(site.url, len(site.content), sha256, is_exact=checksum, **changes)
    return Source("digits", "Three digits", "CC0", "http://localhost", "digits-1.0/recordings", (file,))


def no_wait(seconds: float) -> None:
    pass


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# fetching


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2"])
def test_what_was_downloaded_opens_as_a_corpus(site: Site, tmp_path: Path, kind: str) -> None:
    members = [(tarfile.TarInfo(name), content) for name, content in DIGITS.items()]
    site.content = zipped(DIGITS) if kind == "zip" else tarred(members, f"w:{kind[4:]}")
    seen: list[tuple[str, int, int]] = []
    folder = download(row(site), tmp_path / "data", progress=lambda *told: seen.append(told), wait=no_wait)
    clips = oto.corpus(folder)
    assert len(clips) == 3
    assert clips.speakers == ["anna"]
    assert clips[0].duration_s == pytest.approx(0.5)
    assert {stage for stage, _, _ in seen} == {"download corpus.zip", "unpack corpus.zip"}
    notes = json.loads((tmp_path / "data/.otoscope/digits.json").read_text())
    assert notes["licence"] == "CC0"
    assert ": CC0 (" in clips.licence
    assert notes["files"]["corpus.zip"]["sha256"] == hashlib.sha256(site.content).hexdigest()
    assert not list((tmp_path / "data").rglob("*.part*"))
    assert download(row(site), tmp_path / "data", wait=no_wait) == folder  # finished: nobody is asked again
    assert len(site.asked) == 1


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_dropped_line_is_taken_up_again(site: Site, tmp_path: Path, has_ranges: bool) -> None:
    site.content, site.has_ranges, site.cut_after = (
        np.random.default_rng(0).bytes(300_000),
        has_ranges,
        [100_000, 50_000],
    )
    waited: list[float] = []
    fetch(site.url, tmp_path / "a.part", wait=waited.append)
    assert (tmp_path / "a.part").read_bytes() == site.content
    assert site.asked == ["", "bytes=100000-", "bytes=150000-" if has_ranges else "bytes=50000-"]
    assert len(waited) == 2


def test_a_file_that_changed_meanwhile_begins_anew_and_is_not_mixed(site: Site, tmp_path: Path) -> None:
    site.content, site.cut_after = b"a" * 1000, [400]
    part = tmp_path / "a.part"

    def change(seconds: float) -> None:
        site.content, site.etag = b"b" * 900, '"two"'

    fetch(site.url, part, wait=change)
    assert part.read_bytes() == b"b" * 900
    assert site.asked == ["", "bytes=400-"]


def test_a_server_that_goes_on_elsewhere_than_asked_is_not_believed(site: Site, tmp_path: Path) -> None:
    site.content, site.etag = b"abc" * 1000, None
    (tmp_path / "a.part").write_bytes(b"x" * 500)  # of an unknown version
    fetch(site.url, tmp_path / "a.part", wait=no_wait)
    assert (tmp_path / "a.part").read_bytes() == site.content
    assert site.asked == [""]


def test_a_complete_part_is_recognised(site: Site, tmp_path: Path) -> None:
    site.content = b"x" * 500
    for _ in range(2):
        fetch(site.url, tmp_path / "a.part", wait=no_wait)
    assert (tmp_path / "a.part").read_bytes() == site.content
    assert site.asked == ["", "bytes=500-"]


def test_waits_grow_and_giving_up_keeps_the_part(site: Site, tmp_path: Path) -> None:
    site.content, site.cut_after, site.fail_with = b"x" * 1000, [300], []
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        site.fail_with = [503]

    with pytest.raises(OtoscopeError, match=r"after 6 attempts .*503.*300 bytes are kept"):
        fetch(site.url, tmp_path / "a.part", wait=wait)
    assert waited == [1, 2, 4, 8, 16]
    assert (tmp_path / "a.part").stat().st_size == 300


def test_a_refusal_is_final(site: Site, tmp_path: Path) -> None:
    site.fail_with = [404]
    with pytest.raises(OtoscopeError, match="the server says 404"):
        fetch(site.url, tmp_path / "a.part", wait=no_wait)
    assert len(site.asked) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
    with pytest.raises(OtoscopeError, match=r"after 6 attempts .*refused"):
        fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a.part", wait=no_wait)


@pytest.mark.parametrize("address", ["http://example.org/a.zip", "file:///etc/passwd", "ftp://example.org/a"])
def test_only_https_is_used_and_redirects_stay_with_it(site: Site, tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="not an https address"):
        fetch(address, tmp_path / "a.part", wait=no_wait)
    site.redirect = address
    with pytest.raises(OtoscopeError, match=r"not an https address|Redirection .* is not allowed"):
        fetch(site.url, tmp_path / "a.part", wait=no_wait)
    assert not (tmp_path / "a.part").exists()


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(site: Site, tmp_path: Path) -> None:
    site.content, site.cut_after = (
        zipped({**DIGITS, "digits-1.0/noise": np.random.default_rng(0).bytes(90_000)}),
        [50_000],
    )

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(row(site), tmp_path, wait=interrupt)
    assert (tmp_path / ".otoscope/digits/corpus.zip.part").stat().st_size == 50_000
    assert len(oto.corpus(download(row(site), tmp_path, wait=no_wait))) == 3
    assert site.asked == ["", "bytes=50000-"]


def test_ctrl_c_while_unpacking_leaves_nothing_half_unpacked(site: Site, tmp_path: Path) -> None:
    site.content = zipped({**DIGITS, "digits-1.0/long": bytes(3_000_000)})

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage.startswith("unpack") and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(row(site), tmp_path, progress=interrupt, wait=no_wait)
    assert [entry.name for entry in tmp_path.iterdir()] == [".otoscope"]
    download(row(site), tmp_path, wait=no_wait)
    assert len(site.asked) == 1  # the verified archive was kept


# verifying


def test_a_wrong_checksum_names_both_and_keeps_nothing(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    expected = row(site)
    site.content = site.content[:-1] + b"!"
    with pytest.raises(OtoscopeError, match="came with checksum sha256:") as caught:
        download(expected, tmp_path, wait=no_wait)
    assert hashlib.sha256(site.content).hexdigest() in str(caught.value)
    assert str(expected.files[0].checksum) in str(caught.value)
    assert tree(tmp_path) == {".otoscope/digits/lock": b""}


def test_md5_is_understood(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    file = RemoteFile(site.url, len(site.content), f"md5:{hashlib.md5(site.content).hexdigest()}")
    digits = Source("digits", "", "CC0", "", "digits-1.0/recordings", (file,))
    assert download(digits, tmp_path, wait=no_wait).is_dir()


def test_another_size_than_the_checksum_belongs_to_is_refused_before_downloading(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    expected = row(site)
    site.content += b"more"
    with pytest.raises(OtoscopeError, match="the source has changed; nothing was downloaded"):
        download(expected, tmp_path, wait=no_wait)


def test_without_a_checksum_the_first_one_is_trusted_and_must_stay(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    open_row = row(site, checksum=False)
    folder = download(open_row, tmp_path, wait=no_wait)
    shutil.rmtree(folder)
    download(open_row, tmp_path, wait=no_wait)  # the same again
    shutil.rmtree(folder)
    site.content, site.etag = zipped({**DIGITS, "digits-1.0/new": b""}), '"two"'
    with pytest.raises(OtoscopeError, match="but what came the first time is sha256:"):
        download(open_row, tmp_path, wait=no_wait)
    assert not folder.exists()


def test_too_little_room_is_said_before_the_first_byte(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))  # type: ignore[attr-defined]
    with pytest.raises(OtoscopeError, match=r"needs about 12\.97 GB .* 1\.00 GB are free"):
        download("librispeech-train-clean-100", tmp_path / "data")
    assert not site.asked
    assert not (tmp_path / "data").exists()


def test_an_archive_that_is_there_already_is_used_and_left(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    (tmp_path / "corpus.zip").write_bytes(site.content)
    assert len(oto.corpus(download(row(site), tmp_path, wait=no_wait))) == 3
    assert not site.asked
    assert (tmp_path / "corpus.zip").exists()


def test_tables_that_are_no_archives_are_put_in_place_and_never_over_others(site: Site, tmp_path: Path) -> None:
    site.content = b"id,start,end\n"
    (tmp_path / "corpus.zip").write_bytes(b"mine")
    table = Source("table", "", "CC0", "", ".", row(site, checksum=False, unpack=False).files)
    with pytest.raises(OtoscopeError, match="exists with other content"):
        download(table, tmp_path, wait=no_wait)
    assert (tmp_path / "corpus.zip").read_bytes() == b"mine"
    download(table, tmp_path / "new", wait=no_wait)
    assert (tmp_path / "new/corpus.zip").read_bytes() == site.content


# unpacking


def test_what_the_user_has_is_kept(site: Site, tmp_path: Path) -> None:
    site.content = zipped(DIGITS)
    mine = tmp_path / "digits-1.0/recordings/mine.wav"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (mine.parent / "0_anna_0.wav").write_bytes(recording())  # identical: counts as unpacked
    download(row(site), tmp_path, wait=no_wait)
    assert mine.read_bytes() == b"mine"
    before = tree(tmp_path)
    (mine.parent / "1_anna_0.wav").write_bytes(b"edited")
    (mine.parent / "2_anna_0.wav").unlink()
    with pytest.raises(OtoscopeError, match=r"1_anna_0\.wav exist with other content; nothing was overwritten"):
        download(row(site), tmp_path, again=True, wait=no_wait)
    assert (mine.parent / "1_anna_0.wav").read_bytes() == b"edited"
    assert not (mine.parent / "2_anna_0.wav").exists()
    (mine.parent / "1_anna_0.wav").unlink()
    download(row(site), tmp_path, again=True, wait=no_wait)
    names = [name for name in before if not name.startswith(".otoscope")]
    assert {name: tree(tmp_path)[name] for name in names} == {name: before[name] for name in names}


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL_TARS: dict[str, Callable[[], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "climbs": lambda: [(entry("a/../../outside"), b"x")],
    "absolute": lambda: [(entry("/tmp/outside"), b"x")],
    "backslashes": lambda: [(entry("..\\outside"), b"x")],
    "drive": lambda: [(entry("C:/outside"), b"x")],
    "symlink out": lambda: [(entry("link", tarfile.SYMTYPE, "/etc"), b""), (entry("link/passwd"), b"x")],
    "symlink climbs": lambda: [(entry("a/link", tarfile.SYMTYPE, "../../outside"), b"")],
    "hard link out": lambda: [(entry("link", tarfile.LNKTYPE, "../outside"), b"")],
    "link to nothing": lambda: [(entry("link", tarfile.SYMTYPE, "nowhere"), b"")],
    "links in a circle": lambda: [(entry("a", tarfile.SYMTYPE, "b"), b""), (entry("b", tarfile.SYMTYPE, "a"), b"")],
    "device": lambda: [(entry("dev", tarfile.CHRTYPE), b"")],
    "pipe": lambda: [(entry("pipe", tarfile.FIFOTYPE), b"")],
    "twice": lambda: [(entry("a"), b"x"), (entry("a"), b"y")],
    "file as folder": lambda: [(entry("a"), b"x"), (entry("a/b"), b"y")],
}


@pytest.mark.parametrize("evil", EVIL_TARS, ids=lambda evil: evil.replace(" ", "-"))
def test_an_evil_tar_changes_nothing(tmp_path: Path, evil: str) -> None:
    archive = tmp_path / "evil.tar.gz"
    archive.write_bytes(tarred([(entry("first"), b"fine"), *EVIL_TARS[evil]()]))
    before = tree(tmp_path)
    with pytest.raises(OtoscopeError, match=r"not unpacked|cannot be unpacked|Could not unpack"):
        unpack(archive, tmp_path / "to")
    assert tree(tmp_path) == before
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", "..\\outside", "C:\\outside"])
def test_an_evil_zip_changes_nothing(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    archive.write_bytes(zipped({"first": b"fine", name: b"x"}))
    with pytest.raises(OtoscopeError, match="would lie outside; it is not unpacked"):
        unpack(archive, tmp_path / "to")
    assert list(tree(tmp_path)) == ["evil.zip"]


def test_links_and_secrets_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(OtoscopeError, match="a link or device"):
        unpack(tmp_path / "evil.zip", tmp_path / "to")
    data = bytearray(zipped({"a": b"x"}))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(OtoscopeError, match="is encrypted"):
        unpack(tmp_path / "secret.zip", tmp_path / "to")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_bombs_are_stopped(tmp_path: Path, kind: str) -> None:
    bomb, many = bytes(5_000_000), {str(i): b"" for i in range(50)}
    pack = zipped if kind == "zip" else lambda files: tarred([(entry(name), data) for name, data in files.items()])
    (tmp_path / "bomb").write_bytes(pack({"bomb": bomb}))
    (tmp_path / "many").write_bytes(pack(many))
    with pytest.raises(OtoscopeError, match="would unpack to more than 1,000,000 bytes"):
        unpack(tmp_path / "bomb", tmp_path / "to", max_bytes=1_000_000)
    with pytest.raises(OtoscopeError, match="more than 49 entries"):
        unpack(tmp_path / "many", tmp_path / "to", max_files=49)
    assert not list((tmp_path / "to").iterdir())
    assert len(unpack(tmp_path / "many", tmp_path / "to", max_files=50)) == 50


def test_a_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    pax = entry("pax", tarfile.XHDTYPE)
    pax.size = 1 << 34
    archive = tmp_path / "bomb.tar"
    archive.write_bytes(pax.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(OtoscopeError, match=r"a header of 17,179,869,184 bytes|damaged"):
        unpack(archive, tmp_path / "to")


def test_links_inside_become_copies(tmp_path: Path) -> None:
    members = [
        (entry("a/x"), b"sound"),
        (entry("b/y", tarfile.SYMTYPE, "../a/x"), b""),
        (entry("z", tarfile.LNKTYPE, "a/x"), b""),
    ]
    (tmp_path / "links.tar.gz").write_bytes(tarred(members))
    unpack(tmp_path / "links.tar.gz", tmp_path / "to")
    assert tree(tmp_path / "to") == {"a/x": b"sound", "b/y": b"sound", "z": b"sound"}
    assert not any(path.is_symlink() for path in (tmp_path / "to").rglob("*"))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_damaged_archives_are_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    whole = zipped({"a": noise}) if kind == "zip" else tarred([(entry("a"), noise)])
    for damaged in (whole[:10_000], whole[:5_000] + bytes(100) + whole[5_100:], b"nothing of the kind"):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(OtoscopeError, match=r"damaged archive|Could not unpack"):
            unpack(tmp_path / "damaged", tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


# the list


def test_every_row_is_complete() -> None:
    assert len({row.name for row in SOURCES}) == len(SOURCES)
    for row in SOURCES:
        assert row.licence, row.name
        assert row.homepage.startswith("https://"), row.name
        assert bool(row.files) != bool(row.by_hand), row.name
        for file in row.files:
            assert file.url.startswith("https://"), file.url
            assert file.size_bytes > 10_000, file.url
            assert file.checksum is not None or "checksum" in row.note, file.url
            if file.checksum:
                method, _, digits = file.checksum.partition(":")
                assert len(bytes.fromhex(digits)) == {"md5": 16, "sha256": 32}[method], file.url


def test_corpora_that_need_a_login_say_how() -> None:
    with pytest.raises(InputError, match="sign in, choose a language"):
        download("common-voice")
    with pytest.raises(InputError, match="LDC93S1"):
        download("timit")
    with pytest.raises(InputError, match="did you mean librispeech-dev-clean"):
        source("librispeech-devclean")


def test_the_command_shows_the_licence_before_it_begins(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.content = zipped(DIGITS)
    monkeypatch.setattr("otoscope.audio.downloads.sources.SOURCES", (row(site),))
    assert main(["download", "digits", "--to", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert shown.index("CC0") < shown.index("✓")
    assert str(tmp_path / "data/digits-1.0/recordings") in shown
    assert main(["download", "unknown"]) == 2
    assert main(["download", "digits", "--to", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["licence"] == "CC0"
