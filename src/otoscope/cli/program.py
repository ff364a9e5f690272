"""The `otoscope` program: finds and runs the verb; every failure is one sentence and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from otoscope.cli.terminal import err
from otoscope.errors import InputError, OtoscopeError, nearest

VERBS = (
    "demo",
    "models",
    "sites",
    "corpus",
    "download",
    "align",
    "harvest",
    "train",
    "dictionary",
    "evaluate",
    "atlas",
    "search",
    "features",
    "sql",
    "export",
    "notes",
    "interpret",
    "edit",
    "transcribe",
    "serve",
    "doctor",
)
"""In the order of `--help`; each is the file of the same name, with a function `run` or a Typer `app`."""

EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141


class Verbs(TyperGroup):
    """A group that imports a verb's file when it is used; the files import their rooms when run.

    A verb whose options follow from settings in those rooms makes them in `with_settings`, when it is named.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the verb's command; an unknown verb is refused with the nearest ones."""
        if cmd_name not in VERBS:
            if cmd_name.startswith("-"):
                return None
            raise InputError(
                f"There is no verb {cmd_name!r}{nearest(cmd_name, VERBS) or '; `otoscope --help` lists all'}"
            )
        module = importlib.import_module(f"otoscope.cli.{cmd_name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
            generated = getattr(module, "with_settings", None) if cmd_name in ctx.obj["words"] else None
            run = module.run if generated is None else generated()
            app.command(cmd_name, no_args_is_help=False)(run)
        command = get_command(app)
        command.name = cmd_name
        return command


def _program() -> Any:
    app = typer.Typer(
        name="otoscope",
        cls=Verbs,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback(epilog="Every verb has --help; add --debug to any command for a traceback.")
    def otoscope(
        version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    ) -> None:
        """Look inside speech models: find what their units respond to, hear it, name it, edit it."""

    return get_command(app)


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code.

    0 done, 2 bad input, 1 failure, 130 interrupted, 141 nobody reads the output any more.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    if words == ["--version"]:
        from otoscope import __version__

        print(f"otoscope {__version__}")
        return 0
    # Threads that spin while they wait (OpenMP's default) make a busy machine ten times slower; sleeping costs little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _quiet_libraries(debug)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt as stop:
        if debug:
            raise
        return _stopped(stop)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt):
            return _stopped(error.__cause__)  # Ctrl-C while compiled code was being called
        return _explain(error)


def _run(words: list[str]) -> int:
    program = _program()
    try:
        with program.make_context("otoscope", words, obj={"words": words}) as context:
            program.invoke(context)
    except typer.Exit as stop:
        return int(stop.exit_code)
    return 0


def _explain(error: Exception) -> int:
    """Print one sentence for `error` and return the exit code."""
    if isinstance(error, InputError):
        return _say(str(error), EXIT_BAD_INPUT)
    if isinstance(error, OtoscopeError):
        return _say(str(error), EXIT_FAILURE)
    if isinstance(error, typer.Abort):
        return _say("stopped", EXIT_INTERRUPTED, style="yellow")
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return _say(f"{usage().rstrip('.')}; add --help to see how it is used.", EXIT_BAD_INPUT)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" while writing {error.filename}" if error.filename else ""
        return _say(f"The disk is full{where}; free some space and run the same command again.", EXIT_FAILURE)
    if isinstance(error, OSError) and error.filename:
        return _say(f"{error.filename}: {error.strerror or error}.", EXIT_FAILURE)
    if isinstance(error, MemoryError):
        return _say("There is not enough memory for this; use a smaller corpus or fewer sites.", EXIT_FAILURE)
    text = " ".join(str(error).split()) or "no message"
    return _say(f"Unexpected {type(error).__name__}: {text} (add --debug for the traceback)", EXIT_FAILURE)


def _stopped(stop: KeyboardInterrupt) -> int:
    return _say(str(stop) or "stopped; run the same command again to resume", EXIT_INTERRUPTED, style="yellow")


def _say(sentence: str, code: int, style: str = "red") -> int:
    err().print(f"[bold {style}]otoscope:[/] ", end="")
    err().print(sentence, markup=False, soft_wrap=True)
    return code


def _drop_stdout() -> None:
    """Point standard output nowhere, so that the interpreter's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def _quiet_libraries(debug: bool) -> None:
    """Keep advice of libraries to their own users off the terminal; ours comes as one line."""
    if debug:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        err().print(f"[bold yellow]otoscope:[/] {message}", soft_wrap=True)

    warnings.showwarning = show
