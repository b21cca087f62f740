"""Processes that end with the one that started them, however that ends: killed processes tell nobody."""

from __future__ import annotations

import os
import signal
import sys
import threading

VARIABLE = "DSVGRAPH_END_WITH_INPUT"
"""Of the environment: a process that has it ends when its input does, a pipe whose other end its parent holds."""


def end_with_input() -> None:
    """Ask this process to end, as SIGTERM does, when its standard input ends, where `VARIABLE` says so."""
    if os.environ.pop(VARIABLE, ""):  # not for processes that this one starts
        threading.Thread(target=_wait_for_end, args=(sys.stdin.fileno(),), daemon=True).start()


def _wait_for_end(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
