"""Refresh and verify the browser libraries kept in `src/otoscope/server/web/vendor`.

    python tools/vendor.py verify     compare every file with VENDOR.toml; needs no network
    python tools/vendor.py refresh    fetch the packages VENDOR.toml names from npm and write their files again

`VENDOR.toml` is the list: package, version, licence, npm's integrity hash of the archive, and for each file its place
in the archive, its SHA-256 here and the replacements made in it (a browser without an import map needs relative
imports). To move to another version, change `version` and `integrity`, run `refresh`, and enter the hashes it prints.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).resolve().parents[1] / "src" / "otoscope" / "server" / "web" / "vendor"
REGISTRY = "https://registry.npmjs.org"


def packages() -> list[dict[str, Any]]:
    return list(tomllib.loads((VENDOR / "VENDOR.toml").read_text("utf-8"))["package"])


def folder(package: dict[str, Any]) -> Path:
    return VENDOR / f"{package['name']}@{package['version']}"


def differences() -> Iterator[str]:
    """Yield one sentence for each file that is missing, changed or not listed."""
    listed = {VENDOR / "VENDOR.toml"}
    for package in packages():
        for file in package["file"]:
            path = folder(package) / file["name"]
            listed.add(path)
            if not path.is_file():
                yield f"{path.relative_to(VENDOR)} is missing; run: python tools/vendor.py refresh"
            elif (found := hashlib.sha256(path.read_bytes()).hexdigest()) != file["sha256"]:
                yield f"{path.relative_to(VENDOR)} has SHA-256 {found}, VENDOR.toml says {file['sha256']}"
    for path in sorted(VENDOR.rglob("*")):
        if path.is_file() and path not in listed:
            yield f"{path.relative_to(VENDOR)} is not listed in VENDOR.toml"


def refresh(package: dict[str, Any]) -> None:
    """Fetch one package, check npm's hash, and write its files with their replacements."""
    name, version = package["name"], package["version"]
    with urllib.request.urlopen(f"{REGISTRY}/{name}/-/{name}-{version}.tgz", timeout=60) as answer:
        archive = answer.read()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if integrity != package["integrity"]:
        raise SystemExit(
            f"{name} {version} from npm has integrity {integrity}, VENDOR.toml says otherwise; nothing written."
        )
    folder(package).mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for file in package["file"]:
            member = tar.extractfile(f"package/{file['from']}")
            assert member is not None, file["from"]
            text = member.read().decode("utf-8")
            for change in file.get("replace", []):
                if change["old"] not in text:
                    raise SystemExit(f"{name}/{file['from']} does not contain {change['old']!r}; check VENDOR.toml.")
                text = text.replace(change["old"], change["new"])
            (folder(package) / file["name"]).write_text(text, "utf-8")


def main(arguments: list[str]) -> int:
    if arguments not in (["verify"], ["refresh"]):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments == ["refresh"]:
        for package in packages():
            refresh(package)
    found = list(differences())
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"vendored files agree with VENDOR.toml ({', '.join(folder(p).name for p in packages())})")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
