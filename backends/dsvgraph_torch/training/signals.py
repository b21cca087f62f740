"""Signals that ask a run to end: it takes the step that it has begun, saves, and exits."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignal:
    """Defer Ctrl-C, SIGTERM and SIGHUP: the first signal only sets ``requested``, a second one interrupts at once.

    A SIGHUP that the process ignores already, as `nohup` does, stays ignored.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._on_signal) for s in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        found = signal.Signals(number)
        if found.name == "SIGHUP":
            leave_terminal()
        if self.requested:
            raise KeyboardInterrupt
        self.requested = found


def leave_terminal() -> None:
    """Let output go nowhere where its terminal is gone: a failing write would end the run before it is saved."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
