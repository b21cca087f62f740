"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsvgraph.errors import DsvError


def write_atomic(path: Path, data: str | bytes) -> None:
    """Writes ``data`` whole; text as UTF-8 with Unix line ends.

    Raises DsvError on a full disk, a missing folder and the like.
    """
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
    write_whole(path, lambda temporary: temporary.write_bytes(raw))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then renames it.

    A reader finds the old file or the new one. A link stays a link, and what is no file (a pipe,
    /dev/stdout) is written to as it is. Raises DsvError on a full disk and the like.
    """
    with told(path):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if path.exists() and not path.is_file():
            write(path)
        else:
            _replace(Path(os.path.realpath(path)), write)


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        write(temporary)
        _to_disk(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns a failure of the file system into a DsvError that names ``path``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DsvError(f"cannot write {path}: {error.strerror or error}") from error


def _to_disk(path: Path) -> None:
    """A rename must not reach the disk before the bytes do."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
