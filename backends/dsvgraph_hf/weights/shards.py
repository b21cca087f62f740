"""Reading a folder of safetensors: one file, or shards with their index. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph.files import opened as regular
from dsvgraph.names import listed
from dsvgraph_hf.config.config_file import parse_int

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FILE_NAME = re.compile(r"\w[\w.-]*")
"""The name of a file in the folder itself."""

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
"""Bytes of one number by the name of its type in safetensors; other types are not read."""

READ_BYTES = 64 * 2**20
"""Bytes that are read before a file is opened again: mapped pages count as memory while it is open."""


class ShardEntry(NamedTuple):
    """A tensor in a file."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return prod(self.shape) * SIZES.get(self.dtype, 1)


class Folder:
    """The tensors of a folder by name; only headers are read before ``read`` is called.

    Raises DsvError if the folder, its index, its config.json or one of its files is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        names = _files(self.path)
        config = self.path / "config.json"
        self.config = _json(config) if os.path.lexists(config) else {}
        self.entries: dict[str, ShardEntry] = {}
        for file, promised in names.items():
            self._add(self.path / file, promised)

    def _add(self, path: Path, promised: set[str]) -> None:
        """Read the header of one file, which has to hold the names that the index ``promised``."""
        with opened(path) as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            own = {name: ShardEntry(path, tuple(s.get_shape()), s.get_dtype()) for name, s in found.items()}
        if lost := promised - own.keys():
            raise DsvError(f"{self.path / INDEX} is damaged: {path.name} does not hold {listed(sorted(lost), 3)}")
        if twice := own.keys() & self.entries.keys():
            name = min(twice)
            raise DsvError(f"`{name}` is in two files: {self.entries[name].file.name} and {path.name}")
        self.entries |= own

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield the named tensors, file by file.

        Each is a view of the file and has to be copied before the next is asked for.
        """
        for path, own in groupby(sorted(names, key=self._place), lambda name: self.entries[name].file):
            for batch in self._batches(own):
                with opened(path) as file:
                    for name in batch:
                        yield name, file.get_tensor(name)

    def _place(self, name: str) -> tuple[Path, str]:
        return self.entries[name].file, name

    def _batches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Yield the names in lists of about READ_BYTES bytes."""
        batch, size = list[str](), 0
        for name in names:
            batch.append(name)
            size += self.entries[name].bytes
            if size >= READ_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file. Raise DsvError if it is missing or damaged."""
    try:
        with regular(path), safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError:
        raise DsvError(f"{path} does not exist") from None
    except OSError as error:
        raise DsvError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        why = str(error).removeprefix("Error while deserializing header: ")
        raise DsvError(f"{path} is damaged: {why}") from error


def _files(folder: Path) -> dict[str, set[str]]:
    """Return the files of a folder, each with the names that the index says it holds."""
    if not folder.is_dir():
        words = "is a file: name the folder that it is in" if folder.exists() else "does not exist"
        raise DsvError(f"the folder of weights {folder} {words}")
    if os.path.lexists(folder / SINGLE):
        return {SINGLE: set()}
    if os.path.lexists(folder / INDEX):
        return _indexed(folder)
    if any(folder.glob("*.safetensors")):
        raise DsvError(f"{folder} holds neither {SINGLE} nor {INDEX}: which of its files are the model is not said")
    if any(folder.glob("*.bin")):
        hint = "save it anew with transformers: save_pretrained writes safetensors"
        raise DsvError(f"{folder} holds pickled weights only (*.bin), which may run code: not read", hint=hint)
    raise DsvError(f"{folder} holds no weights: there is no {SINGLE} and no {INDEX} in it")


def _indexed(folder: Path) -> dict[str, set[str]]:
    """Return the files of the index. Raise DsvError if one is missing."""
    path, files = folder / INDEX, dict[str, set[str]]()
    weight_map = _json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DsvError(f"{path} is damaged: there is no `weight_map` in it")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not FILE_NAME.fullmatch(file):
            raise DsvError(f"{path} is damaged: `{name}` is in {json.dumps(file)}, which is no name of a file")
        files.setdefault(file, set()).add(name)
    if lost := sorted(file for file in files if not (folder / file).is_file()):
        raise DsvError(f"{folder} is not whole: {len(lost)} of its {len(files)} files are missing: {listed(lost, 3)}")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        with regular(path) as file:
            found = json.loads(file.read().decode("utf-8"), parse_int=parse_int)
    except OSError as error:
        raise DsvError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DsvError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DsvError(f"{path} is damaged: it holds no JSON object")
    return found
