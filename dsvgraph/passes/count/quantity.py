"""A number with the formula that gives it, and how records of them become plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from typing import Any

from dsvgraph.dims import Size, evaluate


@dataclass(frozen=True)
class Quantity:
    """A number, and the formula in Python's arithmetic that gives it.

    The formula is in the names of the input's sizes (B, T) and, of a decoding step, C for its context.

    >>> print(Quantity(12, "2*B*T"), Quantity(12, "2*B*T").over(4), sep="; ")
    12 = 2*B*T; 3.0 = (2*B*T)/4
    """

    value: float
    formula: str

    @classmethod
    def of(cls, size: Size, values: Mapping[str, int]) -> Quantity:
        """Return a size as a quantity, with ``values`` for its names."""
        return cls(number(size, values), str(size))

    def __str__(self) -> str:
        return f"{self.value} = {self.formula}"

    def over(self, rate: float) -> Quantity:
        """Return the quantity divided by a rate."""
        return Quantity(self.value / rate, over(self.formula, rate))

    def per(self, other: Quantity) -> Quantity:
        """Return the quantity divided by another."""
        return Quantity(self.value / other.value, f"({self.formula})/({other.formula})")

    def whole(self) -> Quantity:
        """Return the quantity with its number cut to a whole one."""
        return Quantity(int(self.value), self.formula)


def over(formula: str, rate: float) -> str:
    """Return a formula divided by a rate."""
    return f"({formula})/{rate:.12g}"


def number(size: Size, values: Mapping[str, int]) -> int | float:
    """Return the value of a size: an int where it is whole."""
    value = Fraction(evaluate(size, values))
    return int(value) if value.denominator == 1 else float(value)


def largest(sizes: Iterable[Size], values: Mapping[str, int]) -> Size:
    """Return the size with the largest value, the first of equal ones; 0 if there is none."""
    return max(sizes, key=lambda size: number(size, values), default=0)


def plain(value: Any) -> Any:
    """Return ``value`` as data for JSON: dataclasses as dictionaries, without the fields that `repr` leaves out.

    A field `x` that is a Quantity gives two keys: its number as `x`, its formula as `x_formula`. The formulas
    stand behind all numbers, those of optional quantities last; both are None where the field is.
    """
    if is_dataclass(value):
        return dict(_items(value))
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _items(record: Any) -> Iterator[tuple[str, Any]]:
    kinds = {field.name: str(field.type) for field in fields(record) if field.repr}
    for name in kinds:
        found = getattr(record, name)
        yield name, found.value if isinstance(found, Quantity) else plain(found)
    for kind in ("Quantity", "Quantity | None"):  # annotations are text
        for name in (name for name in kinds if kinds[name] == kind):
            found = getattr(record, name)
            yield f"{name}_formula", found and found.formula
