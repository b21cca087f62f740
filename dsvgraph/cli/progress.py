"""Progress on a terminal: nothing is drawn where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from dsvgraph.cli import output


@contextmanager
def bytes_done(words: str, stream: TextIO | None) -> Iterator[Callable[[int, int], object]]:
    """Show a bar on ``stream``; yield a function to call with the number of bytes that are done, and of all."""
    if not output.coloured(stream):
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn(words, markup=False), BarColumn(24), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=output.console(stream), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def items_done(total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error; yield a function to call with the number of items that are done."""
    if not output.coloured(sys.stderr):
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=output.console(sys.stderr))
    task = bar.add_task("", total=total)

    def advance(done: int) -> None:
        bar.start()  # not before the first result: worker processes are started until then
        bar.update(task, completed=done)

    try:
        yield advance
    finally:
        bar.stop()


@contextmanager
def parts_done() -> Iterator[Callable[[str, int, int], object]]:
    """Show a bar on standard error; yield a function to call with what begins, and the parts done and of all."""
    if not output.coloured(sys.stderr):
        yield lambda words, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda words, done, total: shown.update(task, description=words, completed=done, total=total)


@contextmanager
def status(words: str) -> Iterator[Callable[[str], object]]:
    """Show on standard error what is being done; yield a function to call with other words."""
    if not output.coloured(sys.stderr):
        yield lambda _: None
        return
    with output.console(sys.stderr).status(words) as shown:
        yield shown.update
