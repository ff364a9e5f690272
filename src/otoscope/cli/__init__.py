"""The command line: one file per verb; `main` is the entry point of the `otoscope` program."""

from otoscope.cli.program import main

__all__ = ["main"]
