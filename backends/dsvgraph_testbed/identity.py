"""What makes a run the run that it is: spec, options, data and versions. A run with the same identity is the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dsvgraph import __version__
from dsvgraph.errors import DsvError
from dsvgraph.files import opened

DEPEND_ON = ("torch", "numpy", "tokenizers")
"""Packages on which the numbers of a run depend, beside dsvgraph and Python."""

FROM_FILES = ("data", "tokenizer", "weights")
"""Options that may name files; `--tokenizer bpe:4096` names none."""

DIGITS = 16
"""Length of an identity, in hexadecimal digits."""


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "dsvgraph": __version__}
    for name in DEPEND_ON:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_identity(spec: str, options: Mapping[str, Any], data: str) -> str:
    """Return the identity of a run of the resolved text ``spec``, with ``data`` as from `data_digest`.

    Versions belong to it: after an update of torch, runs are trained anew and never compared with older ones.
    """
    fixed = {name: str(value) for name, value in options.items()}
    return digest_of(json.dumps([spec, fixed, data, versions()], sort_keys=True).encode())


def digest_of(content: bytes) -> str:
    """Return a short digest."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def data_digest(options: Mapping[str, Any]) -> str:
    """Return a digest of the content of every file and folder that the options of FROM_FILES name.

    Without the option `data`, runs read the standard library of this Python, or a task that the options say whole.
    Raise DsvError if a file cannot be read.
    """
    paths = {name: Path(str(options[name])) for name in FROM_FILES if name in options}
    found = {name: _content(path) for name, path in paths.items() if path.exists()}
    if "data" not in options:
        found["data"] = f"Python {sysconfig.get_python_version()}"
    return digest_of(json.dumps(found, sort_keys=True).encode())


def _content(path: Path) -> str:
    """Return the digest of a file, or of the names and contents below a folder."""
    whole = hashlib.sha256()
    for file in _files(path):
        whole.update(f"{file.relative_to(path)}\0".encode("utf-8", "backslashreplace"))
        try:
            with opened(file) as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DsvError(f"cannot read {file}: {error.strerror or error}") from error
    return whole.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Yield the regular files of a folder in the order of their names, hidden ones excepted; a file itself."""
    if not path.is_dir():
        yield path
        return
    for folder, names, found in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        shown = (Path(folder, name) for name in sorted(found) if not name.startswith("."))
        yield from (file for file in shown if file.is_file())
