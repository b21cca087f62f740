"""What `--csv` writes: one header, one row a thing, plain numbers."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsvgraph.files import write_atomic

UNITS = (
    ("cache_per_token", "byte/token"), ("memory.", "byte"),
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
    """Writes a table as CSV, `-` to standard output. Raises DsvError where it cannot."""
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(columns)
    sheet.writerows(["" if value is None else value for value in row] for row in rows)
    if str(path) == "-":
        sys.stdout.write(text.getvalue())
    else:
        write_atomic(path, text.getvalue())


def facts(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Every number and word of nested data as (name, value, unit); what is in lists has its place as a name."""
    for name, value in data.items():
        path = f"{prefix}{name}"
        inner = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
        if isinstance(inner, Mapping):
            yield from facts({str(key): part for key, part in inner.items()}, f"{path}.")
        else:
            yield path, value, unit(path, value)


def unit(path: str, value: object) -> str:
    """The unit of a quantity by its name; none for words, and for counts that their names tell."""
    if isinstance(value, (str, bool)) or value is None:
        return ""
    return next((u for part, u in UNITS if part in path), "")
