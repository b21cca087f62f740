"""What asks a run to end, signals or output that nobody reads: it takes the step that it began, saves, and exits."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import IO, Any, cast

from rich.console import Console

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

    def heed(self, console: Console) -> None:
        """Take it as a request, too, that nobody reads the output of ``console`` any more."""
        console.file = cast("IO[str]", _Output(console.file, self))

    def unread(self) -> None:
        """Note that nobody reads the output any more."""
        self.requested = self.requested or getattr(signal, "SIGPIPE", signal.SIGTERM)


class _Output:
    """Writes to ``file`` as long as its reader is there, and nowhere then."""

    def __init__(self, file: IO[str], stop: StopSignal) -> None:
        self.file, self.stop = file, stop

    def write(self, text: str) -> int:
        try:
            return self.file.write(text)
        except BrokenPipeError:
            self._leave()
        return len(text)

    def flush(self) -> None:
        try:
            self.file.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        self.stop.unread()
        with suppress(OSError, ValueError):
            if (stream := self.file.fileno()) in (1, 2):  # whose text is written again when the process ends
                silence(stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def leave_terminal() -> None:
    """Let output go nowhere where its terminal is gone: a failing write would end the run before it is saved."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            silence(stream)


def silence(stream: int) -> None:
    """Let what is written to the descriptor ``stream`` go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
