"""Files of `torch.save` are read without running anything in them; what is no such file is refused with the reason."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.dictionaries import load_dictionary
from otoscope.dictionaries.formats.unpickling import StoredTensor, read_tensors, read_torch_file
from otoscope.errors import InputError, OtoscopeError

WEIGHTS = {"encoder_bias": torch.arange(4.0), "decoder.weight": torch.arange(12.0).reshape(3, 4)}


def archive(path: Path, pickled: bytes, **members: bytes) -> Path:
    """A zip archive laid out as torch.save lays it out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            file.writestr(name, content)
    return path


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_everything_that_training_programs_save_beside_weights_is_read(tmp_path: Path) -> None:
    linear = torch.nn.Linear(3, 4)
    optimiser = torch.optim.Adam(linear.parameters())
    linear(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    held = {
        "model": linear.state_dict(),
        "optimizer": optimiser.state_dict(),
        "best_val_loss": np.float64(0.125),
        "small": np.float32(1.5),
        "count": np.int64(-3),
        "hparams": {"text": "ü", "none": None, "flags": [True, False], "pair": (1, 2.5), "set": {1}},
        "transposed": torch.arange(6).reshape(2, 3).T,
        "half": torch.ones(3).bfloat16(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "view": torch.arange(10.0)[3:7:2],
        "empty": torch.empty(0, 3),
        "ordered": OrderedDict(a=1),
    }
    torch.save(held, tmp_path / "run.pth")
    read = read_torch_file(tmp_path / "run.pth")
    assert {name: read[name] for name in ("best_val_loss", "small", "count", "hparams", "ordered")} == {
        name: held[name] for name in ("best_val_loss", "small", "count", "hparams", "ordered")
    }
    for name, value in read_tensors(read["model"], tmp_path).items():
        assert torch.equal(value, linear.state_dict()[name])
    for name in ("transposed", "half", "parameter", "view", "empty"):
        assert torch.equal(read[name].read(), held[name].detach())
        assert read[name].read().dtype == held[name].dtype


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_that_calls_a_function_is_refused_and_the_function_is_not_called(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "was-run"
    for number, call in enumerate(
        (
            Runs(os.system, f"touch {trace}"),
            Runs(exec, f"open({str(trace)!r}, 'w')"),
            Runs(eval, f"open({str(trace)!r}, 'w')"),
            Runs(getattr, os, "system"),
            Runs(torch.load, str(trace)),
        )
    ):
        if number == 3:
            pickled = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
        else:
            pickled = pickle.dumps({"model": WEIGHTS | {"more": call}}, protocol=protocol)
        path = archive(tmp_path / f"{number}.pth", pickled)
        with pytest.raises(InputError, match="which could run code and are not loaded"):
            load_dictionary(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Runs(os.system, f"touch {trace}")))  # noqa: S301  the control: an ordinary pickle does run
    assert trace.exists()


def test_names_of_torch_and_numpy_that_are_not_on_the_list_are_refused(tmp_path: Path) -> None:
    for name in (b"torch\nload", b"torch.hub\nload", b"numpy\nload", b"torch.jit\nload", b"builtins\ngetattr"):
        path = archive(tmp_path / "a.pt", b"\x80\x02c" + name + b"\nX\x01\x00\x00\x00x\x85R.")
        with pytest.raises(InputError, match="holds Python objects"):
            read_torch_file(path)


def test_a_whole_module_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "mo.bestval.pt")
    with pytest.raises(InputError, match=r"torch\.nn\.modules.*could run code.*state_dict\(\) alone"):
        load_dictionary(tmp_path / "mo.bestval.pt")


def test_a_tensor_cannot_be_changed_after_it_was_checked(tmp_path: Path) -> None:
    """Pickles may set attributes of what they made; a shape set so would reach past the storage."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    with zipfile.ZipFile(buffer) as file:
        root = next(name for name in file.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        text, data = file.read(f"{root}data.pkl"), file.read(f"{root}data/0")
    call = text.rindex(b"R")
    forged = text[: call + 1] + b"}X\x05\x00\x00\x00shapeK\x09\x85sb" + text[call + 1 :]
    path = archive(tmp_path / "forged.pt", forged, **{"archive/data/0": data})
    with pytest.raises(InputError, match="sets attributes of a tensor"):
        read_torch_file(path)
    plain = archive(tmp_path / "plain.pt", text, **{"archive/data/0": data})
    assert torch.equal(read_torch_file(plain)["a"].read(), torch.ones(2))


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}))
        file.writestr("archive/data/0", bytes(50_000_000))
    assert os.path.getsize(tmp_path / "bomb.pt") < 100_000
    with pytest.raises(InputError, match=r"compressed member \(archive/data.*may unpack to any size"):
        load_dictionary(tmp_path / "bomb.pt")


def test_an_oversized_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otoscope.dictionaries.formats.unpickling.LARGEST_PICKLE", 1000)
    path = archive(tmp_path / "a.pt", pickle.dumps("x" * 2000))
    with pytest.raises(InputError, match=r"data\.pkl of 2,0\d\d bytes"):
        read_torch_file(path)


def test_a_short_pickle_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".")
    with pytest.raises(OtoscopeError, match="it remembers 2147483647 things"):
        read_torch_file(path)
    path = archive(tmp_path / "b.pt", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".")
    with pytest.raises(OtoscopeError):
        read_torch_file(path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "archive/../../x", "..\\x", "C:/x"])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.pt", pickle.dumps({}), **{name: b"x"})
    with pytest.raises(InputError, match="has a member named"):
        read_torch_file(path)


def test_a_tensor_larger_than_its_bytes_is_damage_not_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        root = next(name for name in file.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        text = file.read(f"{root}data.pkl")
    many = text.replace(b"M" + struct.pack("<H", 1000), b"J" + struct.pack("<i", 2**31 - 1))
    assert many != text
    path = archive(tmp_path / "many.pt", many, **{"archive/data/0": bytes(4000)})
    with pytest.raises(OtoscopeError, match="damaged or cut short"):
        read_torch_file(path)["a"].read()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_named(tmp_path: Path, share: float) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OtoscopeError, match=r"cut\.pt is (damaged or cut short|not a file of torch\.save)"):
        load_dictionary(tmp_path / "cut.pt")


def test_bytes_that_changed_are_noticed(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    at = content.index(WEIGHTS["decoder.weight"].numpy().tobytes())
    content[at + 9] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(OtoscopeError, match=r"damaged or cut short \(data/\d cannot be read\)"):
        load_dictionary(tmp_path / "a.pt")


def test_files_of_other_kinds_say_what_they_are_not(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}, protocol=2))
    with pytest.raises(InputError, match=r"old\.pt is not a file of torch\.save as torch writes it since 1\.6"):
        load_dictionary(tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"There is no dictionary at .*none\.pt"):
        load_dictionary(tmp_path / "none.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match=r"has 0 members named data\.pkl"):
        load_dictionary(tmp_path / "zip.pt")


def test_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "deep.pt", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    read = read_torch_file(path)
    with pytest.raises(InputError, match="holds no table of weights"):
        load_dictionary(path)
    assert isinstance(read, list)


def test_tensors_stay_on_disk_until_they_are_asked_for(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS}, tmp_path / "a.pt")
    held = read_torch_file(tmp_path / "a.pt")["model"]
    assert all(isinstance(value, StoredTensor) for value in held.values())
