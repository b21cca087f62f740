"""Files: an input is a regular file, an output is there whole or not at all, and no output replaces an input."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from dsvgraph.errors import DsvError

Identity = tuple[int, int]


@dataclass
class _Inputs:
    """What a command reads: files by device and inode, whatever their names, and whole folders."""

    files: dict[Identity, Path] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)


_inputs: ContextVar[_Inputs | None] = ContextVar("inputs", default=None)

# -- reading ------------------------------------------------------------------------------------


@contextmanager
def inputs_kept() -> Iterator[None]:
    """Within, no writer of this module replaces a file that was read (or that ``note_input`` names)."""
    token = _inputs.set(_Inputs())
    try:
        yield
    finally:
        _inputs.reset(token)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The regular file ``path``, open for reading; it is an input from now on.

    Raise OSError if it cannot be read or is a folder, a pipe or a device: reading a pipe would wait for ever.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        _note(os.fstat(file.fileno()), path)
        yield file


def open_regular(path: Path, flags: int) -> int:
    """The descriptor of a regular file, opened with ``flags`` and without waiting. Raises OSError where it is none."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except ValueError as error:  # NUL in its name
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from error
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENXIO):  # a folder, or a pipe without a reader, opened for writing
            raise _irregular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def _irregular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(path))


def note_input(path: Path) -> None:
    """Make ``path`` an input of the command, before somebody reads it: a file, or all files of a folder."""
    with suppress(OSError, ValueError):
        about, inputs = path.stat(), _inputs.get()
        if inputs is not None and stat.S_ISDIR(about.st_mode):
            inputs.folders.append(path.resolve())
        _note(about, path)


def _note(about: os.stat_result, path: Path) -> None:
    inputs = _inputs.get()
    if inputs is not None and stat.S_ISREG(about.st_mode):
        inputs.files[about.st_dev, about.st_ino] = path


def refuse_input(path: Path) -> None:
    """Raise DsvError if ``path`` is a file that the command reads, under this name or another."""
    inputs = _inputs.get()
    if inputs is None or not path.is_file():
        return
    about, real = path.stat(), path.resolve()
    read = inputs.files.get((about.st_dev, about.st_ino))
    if read is None or not _same(read, path):  # the number of a file that is gone may be another's by now
        read = next((folder for folder in inputs.folders if real.is_relative_to(folder)), None)
    if read is not None:
        same = "" if read == path else f" (as {read})"
        raise DsvError(f"cannot write {path}: this command reads it{same}", hint="name another file for the output")


def _same(read: Path, path: Path) -> bool:
    return read.exists() and os.path.samefile(read, path)


# -- writing ------------------------------------------------------------------------------------


def write_atomic(path: Path, data: str | bytes, in_place: bool = False) -> None:
    """Write ``data`` whole; text as UTF-8 with Unix line ends. ``in_place`` may replace what the command has read.

    Raise DsvError on a full disk, a missing folder and the like.
    """
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
    write_whole(path, lambda temporary: temporary.write_bytes(raw), in_place)


def write_whole(path: Path, write: Callable[[Path], object], in_place: bool = False) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then renames it.

    A reader finds the old file or the new one. A link stays a link, and what is no file (a pipe,
    /dev/stdout) is written to as it is. Raise DsvError on a full disk and the like, and where
    ``path`` is an input of the command, unless ``in_place`` means it to be changed.
    """
    with write_errors(path):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if not in_place:
            refuse_input(path)
        if path.exists() and not path.is_file():
            write(path)
        else:
            _replace(Path(os.path.realpath(path)), write)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary folder beside ``path``, which is not there yet, then renames it.

    A reader finds the whole folder or none, after a loss of power too. Raise DsvError on a full disk and the like.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path):
        try:
            temporary.mkdir()
            write(temporary)
            for entry in (*temporary.iterdir(), temporary):
                to_disk(entry)
            os.rename(temporary, path)
            to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove what `write_folder` was writing for ``path`` in processes that were killed."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(temporary, ignore_errors=True)


def _runs(process: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        write(temporary)
        to_disk(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into a DsvError that names ``path``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DsvError(f"cannot write {path}: {error.strerror or error}") from error


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a rename must not be there before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
