"""Accelerators by name: peak rates from a table, or from a file of the user's in the same form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsvgraph import loader
from dsvgraph.errors import DsvError
from dsvgraph.loader.files import text_of

TABLE = Path(__file__).with_name("devices.yaml")
FORM = "{name: ..., flops: {bfloat16: 1e15}, bandwidth: 3e12, memory: 80e9, source: ...}"


@dataclass(frozen=True)
class Device:
    """Peak rates: FLOPs per second by dtype, bytes per second and bytes of the memory.

    >>> Device("mine", {"bfloat16": 1e15}, bandwidth=2e12, memory=64e9).peak("bfloat16")
    1000000000000000.0
    """

    name: str
    flops: Mapping[str, float]
    bandwidth: float
    memory: float
    source: str = ""

    def peak(self, dtype: str) -> float:
        """Return FLOPs per second in ``dtype``. Raise DsvError if the table has none."""
        if dtype not in self.flops:
            raise DsvError(f"{self.name} has no peak rate for {dtype}; it has {', '.join(self.flops)}")
        return self.flops[dtype]


def device(name: str) -> Device:
    """Return the device of a name in the table, or the one in a YAML file.

    Raise DsvError if there is neither, or if the file is not of the table's form.

    >>> device("h200").memory
    141000000000.0
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        found = _read(path)
        if len(found) != 1:
            raise DsvError(f"{name}: a file for --device holds one device, found {len(found)}")
        return next(iter(found.values()))
    known = _read(TABLE)
    if name.lower() not in known:
        hint = f"there are {', '.join(known)}; or a YAML file with a line such as mine: {FORM}"
        raise DsvError(f"no device is called `{name}`", hint=hint)
    return known[name.lower()]


def devices() -> dict[str, Device]:
    """Return the bundled table."""
    return _read(TABLE)


def _read(path: Path) -> dict[str, Device]:
    data = loader.parse(text_of(path), str(path)).data
    if not isinstance(data, Mapping):
        raise DsvError(f"{path}: devices by name are expected, such as mine: {FORM}")
    return {str(name): _device(path, str(name), entry) for name, entry in data.items()}


def _device(path: Path, name: str, entry: Any) -> Device:
    try:
        flops = {str(dtype): _rate(rate) for dtype, rate in entry["flops"].items()}
        rates = _rate(entry["bandwidth"]), _rate(entry["memory"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DsvError(f"{path}: `{name}` is not of the form {FORM}") from None
    return Device(str(entry.get("name", name)), flops, *rates, str(entry.get("source", "")))


def _rate(value: Any) -> float:
    """Return a number above zero. Raise ValueError if it is none."""
    rate = float(value)
    if not 0 < rate < float("inf"):
        raise ValueError(value)
    return rate
