"""`otoscope doctor`: does everything work on this machine?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import JsonOption, ModelOption, WorkspaceOption, open_model, workspace_if_any
from otoscope.cli.terminal import megabytes, out, print_json
from otoscope.errors import OtoscopeError

if TYPE_CHECKING:
    from otoscope.workspace import Workspace

PACKAGES = (
    "torch",
    "tokenizers",
    "numpy",
    "numba",
    "soundfile",
    "soxr",
    "av",
    "pyarrow",
    "pandas",
    "scikit-learn",
    "jiwer",
    "matplotlib",
    "fastapi",
)
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
MIN_FREE_BYTES = 1e9


@dataclass(frozen=True)
class Check:
    """One line of the report. `ok` None is for information only."""

    name: str
    ok: bool | None
    found: str


def run(
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged files of atlases again.")] = False,
    json: JsonOption = False,
) -> None:
    """Check this machine and installation, and every byte of the workspace's atlases.

    The exit code is 1 if something is wrong.
    """
    checks = []
    for check in _checks(model, workspace, repair, progress=not json):
        checks.append(check)
        if not json:
            mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]·[/]"}[check.ok]
            out().print(f"{mark} [bold]{check.name:<14}[/] {check.found}", soft_wrap=True)
    if json:
        print_json([{"check": c.name, "ok": c.ok, "found": c.found} for c in checks])
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _checks(model: str | None, workspace: Path | None, repair: bool, progress: bool) -> Iterator[Check]:
    yield _try("versions", _versions)
    yield Check("processor", None, _processor())
    yield _try("arithmetic", _arithmetic)
    yield _try("codecs", _codecs)
    yield _try("log-mel", _log_mel)
    yield _try("model", lambda: _model(model, workspace))
    yield _try("mini corpus", _mini)
    yield _try("browser app", _browser_app)
    yield _try("writing", lambda: _writing(workspace))
    yield from _atlases(workspace, repair, progress)


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except Exception as error:  # whatever is broken on a stranger's machine becomes a line of the report
        text = " ".join(str(error).split()) or type(error).__name__
        return Check(name, False, text if isinstance(error, OtoscopeError) else f"{type(error).__name__}: {text}")


def _versions() -> str:
    from otoscope import __version__

    versions = [f"otoscope {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*versions, *(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)])


def _processor() -> str:
    flags = _cpu_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{platform.machine()}, {cores} cores, {' '.join(f for f in CPU_FLAGS if f in flags) or 'no known extensions'}"
    )


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}


def _arithmetic() -> str:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    a = torch.eye(64, dtype=torch.bfloat16)
    if not torch.equal(a @ a, a):
        raise OtoscopeError("torch multiplies bfloat16 matrices wrongly on this processor.")
    return f"{', '.join(devices)}; {torch.get_num_threads()} threads"


def _codecs() -> str:
    """Write a tone in every format and read it back through the package's own decoder."""
    import numpy as np
    import soundfile

    from otoscope.audio import Clip

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    formats = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, subtype in formats.items():
            path = Path(folder) / f"tone.{suffix}"
            container = "OGG" if suffix == "opus" else suffix.upper()
            try:
                soundfile.write(path, tone, 24000, format=container, subtype=subtype)
                if abs(float(np.abs(Clip.from_file(path).samples()).mean()) - 0.5 * 2 / np.pi) > 0.05:
                    missing.append(suffix)
            except (OtoscopeError, soundfile.SoundFileError, ValueError):
                missing.append(suffix)
    import av

    video = [name for name in ("mp4", "webm") if name not in av.formats_available]
    if missing or video:
        raise OtoscopeError(f"cannot read {', '.join([*missing, *video])}.")
    return f"{', '.join(formats)}, and m4a, mp4, webm through PyAV {av.__version__}"


def _log_mel() -> str:
    """Compare the log-mel of a chirp with the definition, written out in double precision."""
    import numpy as np

    from otoscope.audio import log_mel
    from otoscope.audio.mel import HOP, N_FFT, mel_filters

    time = np.arange(16000) / 16000
    chirp = (0.3 * np.sin(2 * np.pi * (100 + 3000 * time) * time)).astype(np.float32)
    padded = np.pad(chirp.astype(np.float64), N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    frames = np.stack([padded[i * HOP : i * HOP + N_FFT] * window for i in range(len(chirp) // HOP)])
    power = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters(80).T
    log = np.log10(np.maximum(power, 1e-10)).T
    expected = (np.maximum(log, log.max() - 8) + 4) / 4
    difference = float(np.abs(log_mel(chirp, 80).numpy() - expected).max())
    if not difference < 1e-4:
        raise OtoscopeError(f"the log-mel differs from its definition by {difference:.1e} (at most 1e-4 expected).")
    return f"equals its definition to {difference:.0e}"


def _model(model: str | None, workspace: Path | None) -> str:
    import numpy as np

    from otoscope.audio import Clip

    loaded = open_model(model, workspace_if_any(workspace))
    silence = Clip.from_samples(np.zeros(16000, dtype=np.float32), 16000, clip_id="silence")
    site = f"encoder.{loaded.dims.n_layers - 1}.resid_post"
    read = loaded.run(silence, read=[site])[site]
    if not bool(read.isfinite().all()):
        raise OtoscopeError(f"{loaded.name} gives NaN at {site}.")
    return f"{loaded!r}"


def _mini() -> str:
    from otoscope.audio import corpus

    clips = corpus("mini")
    clips[0].samples()
    return f"{clips!r}"


def _browser_app() -> str:
    folder = Path(__file__).resolve().parent.parent / "server" / "web"
    page = folder / "index.html"
    if not page.is_file():
        raise OtoscopeError(f"{page} is missing; reinstall otoscope.")
    return f"{sum(file.is_file() for file in folder.rglob('*'))} files in {folder}"


def _atlases(workspace: Path | None, repair: bool, progress: bool) -> Iterator[Check]:
    """Check every atlas of the workspace, and repair those that are damaged if asked to."""
    try:
        found = workspace_if_any(workspace)
    except OtoscopeError as error:
        yield Check("workspace", False, str(error))
        return
    if found is not None:
        from otoscope.workspace.repairing import atlas_folders

        for name in atlas_folders(found):
            yield _try(f"atlas {name}", lambda name=name: _atlas(found, name, repair, progress))  # type: ignore[misc]


def _atlas(workspace: Workspace, name: str, repair: bool, progress: bool) -> str:
    """Read an atlas whole; say what is damaged, or what became of it.

    Raises:
        OtoscopeError: it is damaged still.
    """
    from otoscope.atlas.building.repairing import contents, find_damage

    folder = workspace.path("atlases", name)
    damage = find_damage(folder, progress)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if not damage:
        return f"every byte of {megabytes(size)} is as it was built"
    if not repair:
        lines = []
        for each in damage:
            holds = contents(folder, each.file)
            where = f"bytes {each.start:,} to {each.stop:,}" if each.stop else ""
            told = "; ".join(text for text in (where, holds and f"it holds {holds}") if text)
            lines.append(f"{each.file}: {each.what}{f' ({told})' if told else ''}")
        raise OtoscopeError(f"{'. '.join(lines)}. `otoscope doctor --repair` makes what it can again.")
    from otoscope.workspace.repairing import repair as mend

    outcomes = mend(workspace, name, progress)
    text = ". ".join(
        f"{each.file}: {'repaired ' if each.repaired else 'NOT repaired: '}{each.how}" for each in outcomes
    )
    if left := [each for each in outcomes if not each.repaired]:
        raise OtoscopeError(f"{text}. Build the atlas again for {'it' if len(left) == 1 else 'these'}.")
    return text


def _writing(workspace: Path | None) -> str:
    where: Any = workspace or os.environ.get("OTOSCOPE_WORKSPACE") or "."
    folder = Path(where).absolute()
    while not folder.exists():
        folder = folder.parent
    with tempfile.NamedTemporaryFile(dir=folder):
        pass
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise OtoscopeError(f"only {megabytes(free)} free in {folder}; a workspace wants {megabytes(MIN_FREE_BYTES)}.")
    return f"{folder}, {megabytes(free)} free"
