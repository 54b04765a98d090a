"""Ctrl-C and SIGTERM, turned into a stop between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after its state was saved in ``folder``; it is a ``KeyboardInterrupt``."""

    def __init__(self, folder: Path, signal_number: int) -> None:
        """Say where the run lies and which signal stopped it."""
        super().__init__(f"stopped; go on with resume={str(folder)!r}")
        self.folder = folder
        self.signal_number = signal_number


class StopRequest:
    """Remembers that somebody asked the run to stop; ``signal_number`` is 0 until then."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.signal_number = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the first asks to stop, a second one stops at once, saved or not."""
        del frame
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number


@contextlib.contextmanager
def stop_on_signals() -> Generator[StopRequest]:
    """Within the block SIGINT and SIGTERM only set the request, which the run reads between steps.

    Python takes signals in the main thread alone, so in any other thread nothing is installed. The handlers that were
    there before come back at the end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request.receive)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
