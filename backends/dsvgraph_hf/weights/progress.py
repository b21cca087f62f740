"""A bar for what takes its time, where there is a terminal to draw it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextmanager
def bar(console: Console | None, words: str) -> Iterator[Callable[[int, int], None]]:
    """What to call with bytes done and bytes of all; it draws nothing where ``console`` is no terminal."""
    if console is None or not console.is_terminal or console.is_dumb_terminal or console.no_color:
        yield lambda done, total: None
        return
    columns = TextColumn(words, markup=False), BarColumn(24), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
