"""The folder tree explains the program: imports run one way, start-up is light, nothing unsafe is used."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "otoscope"
FOUNDATION = ("errors", "storage", "progress")
ORDER = (
    "audio",
    "models",
    "alignment",
    "activations",
    "dictionaries",
    "evaluation",
    "atlas",
    "workspace",
    "server",
    "cli",
)
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "web" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@functools.cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Every import in a file, wherever it stands."""
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in found if isinstance(node, ast.Import | ast.ImportFrom)]


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in imports(path):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif node.module:
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("otoscope.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    allowed = set(FOUNDATION) | {"__version__"}
    if room in ORDER:
        allowed |= set(ORDER[: ORDER.index(room) + 1])
    assert imported_rooms(path) <= allowed


def test_every_room_is_in_the_order() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__", "assets"}
    assert rooms == set(ORDER) | set(FOUNDATION)


@pytest.mark.parametrize("heavy", ["torch", "transformers", "pandas", "pyarrow", "numba", "fastapi"])
def test_importing_the_package_and_its_cli_is_light(heavy: str) -> None:
    code = f"import sys, otoscope, otoscope.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_pickle_and_no_unsafe_load() -> None:
    unsafe = re.compile(r"pickle\.loads?\(|weights_only=False|allow_pickle=True|\beval\(|shell=True")
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        found = [line for line in text.splitlines() if unsafe.search(line) and ".eval()" not in line]
        assert not found, f"{path}: {found}"


def test_no_machine_specific_paths() -> None:
    for path in MODULES:
        assert "/work" + "/" not in path.read_text(encoding="utf-8"), path


FROM_OTHERS = {
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "click": "typer",
    "datasets": "datasets",
    "duckdb": "duckdb",
    "wandb": "wandb",
    "triton": "torch",
    "scipy": "scikit-learn",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Packages that come with a dependency (`triton` with torch's CUDA builds), or with an extra."""
WITH_EXTRAS = {"datasets", "duckdb", "wandb"}


def dependencies() -> set[str]:
    """What a user's installation has: the base dependencies, without the extras that the tests install."""
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    return {re.split(r"[<>=!~ \[]", line, maxsplit=1)[0] for line in project["dependencies"]}


def test_the_package_imports_only_what_an_installation_has() -> None:
    known = dependencies() | sys.stdlib_module_names | {"otoscope", "__future__"}
    foreign = set()
    for path in MODULES:
        for node in imports(path):
            if isinstance(node, ast.Import):
                foreign |= {alias.name.split(".")[0] for alias in node.names}
            elif node.module:
                foreign.add(node.module.split(".")[0])
    assert {name for name in foreign - known if FROM_OTHERS.get(name) not in known | WITH_EXTRAS} == set()


def test_the_doctor_asks_for_no_more_than_that() -> None:
    from otoscope.cli.doctor import PACKAGES

    assert set(PACKAGES) <= dependencies()
