"""Write tables as CSV for `--csv`: a header, and rows of plain numbers."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsvgraph.files import write_atomic

UNITS = (
    ("cache_per_token", "byte/token"), ("break_even_batch", "row"), ("paying_batches", "row"), ("memory.", "byte"),
    ("mfu", "1"), ("share", "1"), ("speedup", "1"), ("acceptance", "1"), ("copies", "1"),
    ("tokens_per_second", "token/s"), ("tokens_per_step", "token"), ("device_hours", "hour"), ("seconds", "s"),
    ("peak_flops", "FLOP/s"), ("bandwidth", "byte/s"), ("intensity", "FLOP/byte"),
    ("bytes_per_token", "byte/token"), ("elements_per_token", "number/token"),
    ("elements_per_row", "number/row"),
    ("_per_token", "FLOP/token"), ("bytes", "byte"),
    ("parameters", "weight"), ("active", "weight"), ("flops", "FLOP"), ("backward", "FLOP"),
    ("batch", "row"), ("seq", "token"), ("context", "token"), ("tokens", "token"),
)  # fmt: skip


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV; `-` is standard output. Raise DsvError if the file cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    if str(path) == "-":
        sys.stdout.write(text.getvalue())
    else:
        write_atomic(path, text.getvalue())


def facts(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Yield every leaf of nested data as (name, value, unit); an item of a list has its index as its name."""
    for name, value in data.items():
        path = f"{prefix}{name}"
        inner = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
        if isinstance(inner, Mapping):
            yield from facts({str(key): part for key, part in inner.items()}, f"{path}.")
        else:
            yield path, value, unit(path, value)


def unit(path: str, value: object) -> str:
    """Return the unit of a quantity by its name; nothing for words and for plain counts."""
    if isinstance(value, (str, bool)) or value is None:
        return ""
    return next((u for part, u in UNITS if part in path), "")
