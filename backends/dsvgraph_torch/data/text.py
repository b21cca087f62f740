"""The text of files: what is read of a folder, what is left out of it, and what is refused."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from dsvgraph.errors import DsvError
from dsvgraph.files import opened
from dsvgraph_torch.data.stream import TextCorpus, split

LIBRARY_SKIPS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
"""Folders of the standard library that are not read: other people's code, and tests."""


def load_corpus(path: Path | None, batch: int, seq: int, run: Path | None = None) -> TextCorpus:
    """Return the bytes of a text file, of a folder of them (but for the folder ``run``), or of the standard library.

    Raise DsvError if there is no text, or less than one batch of it.
    """
    source, left_out = name_of(path), list[str]()
    with reading(source):
        text = _read(path, run, left_out) if path else _join(library_files(), library_root(), [])
    return replace(split(text, source, batch, seq), left_out=tuple(left_out))


def name_of(path: Path | None) -> str:
    """Return what is read at ``path``, for people."""
    return str(path or f"the standard library of Python {sysconfig.get_python_version()}")


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn a failure to read ``source`` into a DsvError."""
    try:
        yield
    except FileNotFoundError:
        raise DsvError(f"--data: {source} does not exist") from None
    except OSError as error:
        place = error.filename or source
        raise DsvError(f"--data: cannot read {place}: {error.strerror or error}") from None


def library_root() -> Path:
    """Return the folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def library_files() -> list[Path]:
    """Return the standard library's modules, less what differs between machines with one Python."""
    root = library_root()
    files = []
    for folder, names, found in os.walk(root):
        names[:] = sorted(n for n in names if n not in LIBRARY_SKIPS and not n.startswith("config-"))
        files += [Path(folder, f) for f in found if f.endswith(".py") and not f.startswith("_sysconfigdata")]
    if not files:
        hint = "give a text file or a folder"
        raise DsvError(f"--data: this Python has no library sources under {root}", hint=hint)
    return _by_name(files, root)


def _read(path: Path, run: Path | None, left_out: list[str]) -> bytes | bytearray:
    """Return the text of a file, or of every text file below a folder."""
    if path.is_dir():
        return _read_folder(path, run, left_out)
    if path.exists() and not path.is_file():
        raise DsvError(f"--data: {path} is neither a file nor a folder")
    text = read_bytes(path)
    if not text:
        raise DsvError(f"--data: {path} is empty")
    if why := not_text(text):
        raise DsvError(f"--data: {path} is not text: {why}", hint="a text file is UTF-8, without NUL bytes")
    return text


def read_bytes(path: Path) -> bytes:
    with opened(path) as file:
        return file.read()


def _read_folder(root: Path, run: Path | None, left_out: list[str]) -> bytearray:
    """Return the text of a folder; what is no text is put to ``left_out``."""
    files = visible_files(root, run, left_out)
    text = _join(files, root, left_out)
    if not text:
        found = f"{len(files)} files, none of them text" if files else "no files"
        raise DsvError(f"--data: no text under {root}: it holds {found} (hidden ones are not read)")
    return text


def visible_files(root: Path, run: Path | None, left_out: list[str]) -> list[Path]:
    """Regular files below ``root`` in the order of their names, but for hidden ones and those of ``run``."""
    files, hidden, own = list[Path](), 0, run and run.resolve()
    for folder, names, found in os.walk(root, onerror=_raise):
        paths = [Path(folder, name) for name in sorted((*names, *found))]
        shown = [p for p in paths if not p.name.startswith(".") and p.name != "__pycache__"]
        hidden += len(paths) - len(shown)
        files += [p for p in shown if p.is_file()]
        left_out += [f"{p.relative_to(root)}: {_kind(p)}" for p in shown if not p.is_file() and _kind(p)]
        names[:] = [p.name for p in shown if p.name in names and not (own and p.resolve() == own)]
    left_out += [f"{hidden} hidden"] if hidden else []
    return _by_name(files, root)


def _kind(path: Path) -> str:
    """Return why what is no file is not read, or nothing for a folder that is gone through."""
    if path.is_symlink():
        return "a link to a folder" if path.is_dir() else "a broken link"
    return "" if path.is_dir() else "not a regular file"


def _raise(error: OSError) -> NoReturn:
    raise error


def _by_name(files: list[Path], root: Path) -> list[Path]:
    """``files`` in one order on every machine."""
    return sorted(files, key=lambda f: f.relative_to(root).as_posix())


def _join(files: list[Path], root: Path, left_out: list[str]) -> bytearray:
    """Return the text of those files that are text, one after the other; the others are put to ``left_out``."""
    text = bytearray()
    for file in files:
        content = read_bytes(file)
        if why := not_text(content):
            left_out.append(f"{file.relative_to(root)}: {why}")
        else:
            text += content
    return text


def not_text(content: bytes) -> str:
    """Return why ``content`` is not text, or nothing."""
    if (at := content.find(b"\0")) >= 0:
        return f"a NUL byte at offset {at:,}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"no UTF-8 at offset {error.start:,}"
    return ""
