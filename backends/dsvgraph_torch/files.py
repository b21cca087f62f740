"""Files of a run: whole or not at all, and logs that grow by whole lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from dsvgraph import files
from dsvgraph.files import told

__all__ = ["append_line", "told", "write_text", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """dsvgraph.files.write_whole, where ``write`` may save tensors.

    Raises DsvError on a full disk and the like.
    """
    files.write_whole(path, lambda temporary: _plainly(write, temporary))


def _plainly(write: Callable[[Path], object], path: Path) -> None:
    """A failure of safetensors in the words of the file system."""
    try:
        write(path)
    except SafetensorError as error:
        why = str(error).removeprefix("Error while serializing: ").removeprefix("I/O error: ")
        raise OSError(errno.EIO, why) from error


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` whole."""
    files.write_atomic(path, text)


def append_line(path: Path, line: str) -> None:
    """Appends one line whole: what a failed write has left of it is cut off again."""
    with told(path), path.open("ab", buffering=0) as file:
        size, data = file.seek(0, os.SEEK_END), line.encode() + b"\n"
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            os.ftruncate(file.fileno(), size)
            raise
