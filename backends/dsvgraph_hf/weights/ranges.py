"""Names that differ in numbers only as ranges, so that thousands of names are a few lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate, groupby

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
Numbers = tuple[int, ...]
Product = tuple[tuple[str, ...], int]


def as_ranges(names: Iterable[str], others: Iterable[str] = ()) -> dict[str, int]:
    """Return names with ranges in place of numbers, each with the number of names that it stands for.

    With ``others``, a part of the tree that has none of them becomes one name that ends in `**`.

    >>> as_ranges(["layers.3.gate", "layers.4.gate", "layers.4.norm", "head"])
    {'layers.[3-4].gate': 2, 'layers.4.norm': 1, 'head': 1}
    >>> as_ranges(["layers.3.gate", "layers.4.gate", "layers.4.norm"], ["layers.3.norm"])
    {'layers.3.gate': 1, 'layers.4.**': 2}
    """
    taken = {prefix for name in others for prefix in _prefixes(name)}
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(_shortest(name, taken) if taken else name, []).append(name)
    rows: dict[str, dict[Numbers, int]] = {}
    for part, own in parts.items():
        name, count = part if len(own) > 1 else own[0], len(own)
        numbers = tuple(int(n) for n in NUMBER.findall(name))
        rows.setdefault(NUMBER.sub("{}", name.translate({123: "{{", 125: "}}"})), {})[numbers] = count
    return {text.format(*spans): count for text, own in rows.items() for spans, count in _products(own)}


def _prefixes(name: str) -> Iterable[str]:
    return accumulate(name.split("."), lambda head, step: f"{head}.{step}")


def _shortest(name: str, taken: set[str]) -> str:
    """Return the first prefix that is not ``taken``, as a pattern."""
    prefix = next((p for p in _prefixes(name) if p not in taken), name)
    return name if prefix == name else f"{prefix}.**"


def _products(rows: Mapping[Numbers, int]) -> list[Product]:
    """Return tuples of numbers as products of ranges: first numbers with the same rest are joined."""
    if () in rows:
        return [((), rows[()])]
    firsts: dict[tuple[Product, ...], list[int]] = {}
    for first, own in groupby(sorted(rows), lambda numbers: numbers[0]):
        firsts.setdefault(tuple(_products({row[1:]: rows[row] for row in own})), []).append(first)
    return [((span(own), *tail), len(own) * count) for rest, own in firsts.items() for tail, count in rest]


def span(numbers: list[int]) -> str:
    """Return increasing numbers as ranges: `7`, `[3-60]`, `[0-2,5]`; of more than six, some are left out."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda p: p[1] - p[0])]
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    shown = texts if len(texts) <= 6 else [*texts[:3], "...", texts[-1]]
    return texts[0] if len(numbers) == 1 else f"[{','.join(shown)}]"
