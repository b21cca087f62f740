"""Files of a run: regular ones, written whole or not at all, and logs that grow by whole lines."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsvgraph import files
from dsvgraph.errors import DsvError
from dsvgraph.files import open_regular, opened, write_errors


def read(path: Path) -> bytes:
    """Return all of a regular file. Raise DsvError if it is none or cannot be read."""
    try:
        with opened(path) as file:
            return file.read()
    except OSError as error:
        raise DsvError(f"cannot read {path}: {error.strerror}") from error


def check_regular(path: Path) -> None:
    """Raise DsvError if ``path`` is there and is no regular file: a pipe would be waited for."""
    if os.path.lexists(path) and not path.is_file():
        raise DsvError(f"{path} is not a regular file")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """dsvgraph.files.write_whole for a file of the run, which may be one that was read.

    Raise DsvError on a full disk and the like, and where ``path`` is no regular file.
    """
    check_regular(path)
    files.write_whole(path, write, in_place=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` whole."""
    write_whole(path, lambda temporary: temporary.write_bytes(text.encode("utf-8", "backslashreplace")))


def append_line(path: Path, line: str) -> None:
    """Append one line whole: what a failed write has left of it is cut off again."""
    with (
        write_errors(path),
        os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab", buffering=0) as file,
    ):
        size, data = file.seek(0, os.SEEK_END), line.encode() + b"\n"
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            os.ftruncate(file.fileno(), size)
            raise


# -- one training at a time ----------------------------------------------------------------------

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the system lets go of it when the process ends, however it does.

    Raise DsvError if another training holds it.
    """
    path = folder / LOCK
    with write_errors(path):
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
    with write_errors(folder / LOCK):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
