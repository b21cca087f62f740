"""One training at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsvgraph.errors import DsvError
from dsvgraph.files import open_regular, told

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds ``folder`` for this process; the system lets go of it when the process ends, however it does.

    Raises DsvError where another training holds it.
    """
    path = folder / NAME
    with told(path):
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        who = f"process {holder}" if holder.isdecimal() else "another process"
        hint = "wait for it, stop it, or name another folder"
        raise DsvError(f"--out: {who} is training into {folder}", hint=hint) from None
    except OSError as error:
        raise DsvError(f"--out: {folder} cannot be locked: {error.strerror}") from error
    with told(folder / NAME):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
