"""Ctrl-C during training: the step that is under way is finished, a checkpoint is written, and then the run stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interruption:
    """Whether the user asked to stop."""

    asked = False

    def stop_here(self, step: int, steps: int, *, saved: bool) -> None:
        """Stop, if that was asked for, at a place where the state is whole.

        Raises:
            KeyboardInterrupt: it was; the message says how to go on.
        """
        if self.asked:
            how = "run the same again to go on from there" if saved else "nothing was saved, for want of a folder"
            raise KeyboardInterrupt(f"stopped after step {step:,} of {steps:,}; {how}")


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Take note of Ctrl-C in place of raising at once; a second one raises.

    Only the main thread hears signals; elsewhere nothing changes.
    """
    interruption = Interruption()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interruption
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.asked:
            before(number, frame)
        interruption.asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
