"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from dsvgraph.errors import DsvError


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then renames it.

    A reader finds the old file or the new one. Raises DsvError on a full disk and the like.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        with told(path):
            write(temporary)
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` whole."""
    write_whole(path, lambda temporary: _write_text(temporary, text))


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


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns a failure of the file system into a DsvError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise DsvError(f"cannot write {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        why = str(error).removeprefix("Error while serializing: ").removeprefix("I/O error: ")
        raise DsvError(f"cannot write {path}: {why}") from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _to_disk(path: Path) -> None:
    """A rename must not reach the disk before the bytes do."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
