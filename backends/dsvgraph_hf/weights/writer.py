"""Writing safetensors one tensor at a time. Files appear when they are complete, or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic, write_errors
from dsvgraph.tensorfile import TensorEntry, header
from dsvgraph_hf.weights.packed_experts import Shape
from dsvgraph_hf.weights.shards import INDEX, SINGLE

KINDS = {torch.float32: "F32", torch.bfloat16: "BF16"}
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Planned(NamedTuple):
    """A tensor that is to be written."""

    name: str
    shape: Shape
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return prod(self.shape) * int(self.dtype.itemsize)


class Place(NamedTuple):
    """The place of a tensor: a file, and the first byte in it."""

    file: str
    start: int
    planned: Planned


def bytes_of(size: int | str) -> int:
    """Return the bytes of `5GB`, `200MB` or a number. Raise DsvError if ``size`` is none of these."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*((?:[KMG]I?)?B|)", str(size).strip().upper())
    if found is None or float(found[1]) * UNITS[found[2]] < 1:
        raise DsvError(f"`{size}` is no size of a file: write it as 5GB or 200MB")
    return int(float(found[1]) * UNITS[found[2]])


def sharded(tensors: Iterable[Planned], most: int) -> dict[str, list[Planned]]:
    """Return tensors by file, in order; a file has at most ``most`` bytes, or one tensor."""
    shards: list[list[Planned]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.bytes > most:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    many = len(shards)
    return {f"model-{i:05}-of-{many:05}.safetensors" if many > 1 else SINGLE: s for i, s in enumerate(shards, 1)}


class Writer:
    """Writes a folder of safetensors: enter it, then ``put`` every tensor, in any order.

    Files are written to a temporary folder below ``folder`` and moved at the end; a failure leaves nothing behind.
    Raises DsvError if ``folder`` has weights already, has no room, or cannot be written.
    """

    def __init__(self, folder: Path, tensors: Iterable[Planned], most: int) -> None:
        self.folder, self.files = folder, sharded(tensors, most)
        self.temporary = folder / f".weights.{os.getpid()}.tmp"
        self.places: dict[str, Place] = {}
        self.missing: set[str] = set()
        self.size = sum(tensor.bytes for own in self.files.values() for tensor in own)

    def __enter__(self) -> Writer:
        self.made = not self.folder.exists()
        with write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._check_room()
                self.temporary.mkdir()
                for name, tensors in self.files.items():
                    self._begin(name, tensors)
            except BaseException:
                self._clear()
                raise
        self.missing = set(self.places)
        return self

    def _check_room(self) -> None:
        if found := sorted(p.name for p in self.folder.iterdir() if p.name.endswith((".safetensors", INDEX))):
            raise DsvError(f"{self.folder} holds weights already ({found[0]}): name another folder, or empty it")
        if (there := shutil.disk_usage(self.folder).free) < self.size:
            words = f"the weights take {self.size / 1e6:,.1f} MB; {there / 1e6:,.1f} MB are free"
            raise DsvError(f"no room in {self.folder}: {words}")

    def _begin(self, name: str, tensors: list[Planned]) -> None:
        """Write the header of a file, and set the places of its tensors."""
        entries = [TensorEntry(t.name, KINDS[t.dtype], t.shape, t.dtype.itemsize) for t in tensors]
        text, begins = header(entries, {"format": "pt"})
        (self.temporary / name).write_bytes(text)
        self.places |= {tensor.name: Place(name, begins[tensor.name], tensor) for tensor in tensors}

    def put(self, name: str, tensor: Tensor) -> int:
        """Write one tensor to its place with the planned dtype; return its bytes."""
        place = self.places[name]
        if tuple(tensor.shape) != place.planned.shape:
            raise ValueError(f"{name}: {tuple(tensor.shape)}, not {place.planned.shape}")
        numbers = tensor.detach().to("cpu", place.planned.dtype).contiguous().reshape(-1).view(torch.uint8)
        with write_errors(self.folder), (self.temporary / place.file).open("r+b") as file:
            file.seek(place.start)
            file.write(memoryview(numbers.numpy()))
        self.missing.discard(name)
        return place.planned.bytes

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._clear()

    def _finish(self) -> None:
        """Move the files to their names; the index is last, so that no reader finds half of a folder."""
        assert not self.missing, f"never written: {sorted(self.missing)[:3]}"
        with write_errors(self.folder):
            for name in self.files:
                with (self.temporary / name).open("rb") as file:
                    os.fsync(file.fileno())
            try:
                self._move()
            except BaseException:
                for name in self.files:
                    (self.folder / name).unlink(missing_ok=True)
                raise

    def _move(self) -> None:
        for name in self.files:
            os.replace(self.temporary / name, self.folder / name)
        if len(self.files) > 1:
            write_atomic(self.folder / INDEX, self._index())

    def _index(self) -> str:
        """Return the index as transformers writes it."""
        planned = [place.planned for place in self.places.values()]
        about = {"total_parameters": sum(prod(t.shape) for t in planned), "total_size": self.size}
        files = {name: place.file for name, place in sorted(self.places.items())}
        return json.dumps({"metadata": about, "weight_map": files}, indent=2) + "\n"

    def _clear(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        if self.made:
            with suppress(OSError):  # something was written to it
                self.folder.rmdir()
