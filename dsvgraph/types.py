"""Types of ports: a shape of sizes, a kind of number, and how far along the row a value has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, product
from dsvgraph.errors import Fault

MAX_SIZE = 2**50
MAX_TERMS = 12


@dataclass(frozen=True)
class Type:
    """What a port carries: ``[B, T, 7168]`` or ``int[B, T]``.

    ``order`` is empty for rows in the order of the text; tokens sent to experts are sorted by an
    index, and ``order`` names it, so that rows of different orders never meet.
    """

    shape: tuple[Size, ...]
    dtype: str = "float"
    order: str = ""

    def __str__(self) -> str:
        head = "" if self.dtype == "float" else self.dtype
        return f"{head}[{', '.join(str(s) for s in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    def with_last(self, *sizes: Size, drop: int = 1) -> Type:
        """The type with its last ``drop`` axes replaced by ``sizes``."""
        return Type(self.shape[: self.rank - drop] + sizes, self.dtype)


class WeightKind(StrEnum):
    """How an op uses a weight."""

    PRODUCT = "product"  # multiplied with the vectors that meet it: a matrix, or a gain
    OFFSET = "offset"  # added to them, or scales them without a product that is counted
    TABLE = "table"  # rows are looked up
    CHOICE = "choice"  # chooses experts


@dataclass(frozen=True)
class Weight:
    """A weight that an op declares: shape, initialisation, how it is used, and whether gradients train it."""

    shape: tuple[Size, ...]
    init: Init
    kind: WeightKind
    trained: bool = True

    @property
    def type(self) -> Type:
        return Type(self.shape)

    @property
    def numel(self) -> Size:
        return product(self.shape)


@dataclass(frozen=True)
class Init:
    """How a weight begins: ``normal`` (std), ``zeros`` or ``ones``."""

    kind: str
    value: float = 0.0

    def __str__(self) -> str:
        return self.kind if self.kind in ("zeros", "ones") else f"{self.kind}({self.value:g})"


ZEROS, ONES, NORMAL = Init("zeros"), Init("ones"), Init("normal", 0.02)


@dataclass(frozen=True)
class Sight:
    """How far ahead of its own position a value has seen, and how many last positions are fill."""

    horizon: float = 0
    tail: float = 0

    def moved(self, by: float) -> Sight:
        return Sight(self.horizon + by, self.tail + max(by, 0)) if by < math.inf else Sight(by)


class Reach:
    """What a port has seen, per input of its block: joins take the largest, shifts add.

    Horizons compose as in max-plus algebra, so a block is analysed once for all its copies.
    """

    __slots__ = ("seen",)

    def __init__(self, seen: Mapping[str, Sight] | None = None) -> None:
        self.seen = dict(seen or {})

    @staticmethod
    def join(reaches: list[Reach]) -> Reach:
        seen: dict[str, Sight] = {}
        for reach in reaches:
            for name, span in reach.seen.items():
                old = seen.get(name, span)
                seen[name] = Sight(max(old.horizon, span.horizon), max(old.tail, span.tail))
        return Reach(seen)

    def moved(self, by: float) -> Reach:
        """The reach after a shift; ``inf`` looks at the whole row, of which no position is more fill than another.

        A shift to the right takes nothing off the tail: fill may stand where it need not be counted.
        """
        return Reach({name: sight.moved(by) for name, sight in self.seen.items()})

    def after(self, inputs: Mapping[str, Reach]) -> Reach:
        """This reach, over a block's inputs, in terms of what those inputs have seen."""
        found = []
        for name, own in self.seen.items():
            outer = inputs.get(name, Reach()).seen
            found.append(Reach({n: Sight(s.horizon + own.horizon, s.tail + own.tail) for n, s in outer.items()}))
        return Reach.join(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reach) and self.seen == other.seen

    def __repr__(self) -> str:
        return f"Reach({self.seen})"

    def horizon(self, name: str) -> float:
        """How far ahead of its position it has seen of ``name``; -inf if it never looks."""
        return self.seen[name].horizon if name in self.seen else -math.inf

    @property
    def tail(self) -> int:
        """How many of the last positions are made of fill."""
        return int(max((s.tail for s in self.seen.values()), default=0))


def shown(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, float) and math.isnan(value):
        return "a number that is not known yet"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(inner)}' for key, inner in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def as_size(value: Any, least: int = 1) -> Size:
    """``value`` as a size; raises ValueError where it is none."""
    if isinstance(value, Poly):
        if len(value.terms) > MAX_TERMS:
            raise Fault(Code.BAD_SIZE, f"a size is a sum of at most {MAX_TERMS} terms, found {len(value.terms)}")
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (Fraction, bool)) or not isinstance(value, int):
        raise Fault(Code.BAD_SIZE, f"a size is a whole number, found `{shown(value)}`")
    if value < least:
        raise Fault(Code.BAD_SIZE, f"a size is at least {least}, found {value}")
    if value > MAX_SIZE:
        raise Fault(Code.BAD_SIZE, f"a size is at most 2**50, found {value}")
    return value
