"""Types of ports: a shape of sizes, a kind of number, and how many tokens ahead a value has seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, names, product, ratio
from dsvgraph.errors import Fault

MAX_SIZE = 2**50
MAX_TERMS = 12


class ElementType(StrEnum):
    """The kind of the numbers at a port."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"


@dataclass(frozen=True)
class Interleaving:
    """Rows of ``tokens`` positions in which further tokens stand behind each: where, as positions, by lane.

    Lane 0 is the row's own token, whose ``ahead`` is 0; lanes 1, 2, ... are the tokens inserted behind it, at the
    position of their own token plus ``ahead``.
    """

    tokens: Size
    ahead: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return the number of lanes."""
        return len(self.ahead)

    @property
    def length(self) -> Size:
        """Return how many positions such a row has."""
        return self.tokens * self.count


@dataclass(frozen=True)
class Type:
    """What a port carries: ``[B, T, 7168]`` or ``int[B, T]``.

    ``order`` is empty for rows in the order of the text; tokens sent to experts are sorted by an
    index, and ``order`` names it, so that rows of different orders never meet. ``interleaving`` is set where the row
    has inserted tokens.
    """

    shape: tuple[Size, ...]
    dtype: ElementType = ElementType.FLOAT
    order: str = ""
    interleaving: Interleaving | None = None

    def __str__(self) -> str:
        head = "" if self.dtype is ElementType.FLOAT else self.dtype
        return f"{head}[{', '.join(str(s) for s in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Size:
        """Return the number of elements."""
        return product(self.shape)

    @property
    def own_tokens(self) -> Type:
        """Return the type without inserted tokens."""
        places = self.interleaving
        if places is None:
            return self
        along = names(places.tokens)
        shape = tuple(ratio(size, places.count) if names(size) & along else size for size in self.shape)
        return Type(shape, self.dtype, self.order)

    def names(self) -> frozenset[str]:
        """Return the named sizes that its shape depends on."""
        return frozenset[str]().union(*map(names, self.shape))

    def last(self, count: int) -> tuple[Size, ...]:
        """Return the sizes of the last ``count`` axes."""
        return self.shape[self.rank - count :]

    def with_last(self, *sizes: Size, drop: int = 1) -> Type:
        """Return the type with its last ``drop`` axes replaced by ``sizes``."""
        return Type(self.shape[: self.rank - drop] + sizes, self.dtype)


class AttentionPairs(StrEnum):
    """The pairs of a query and a key that count."""

    CAUSAL = "causal"  # those that a query sees
    FULL = "full"  # for each query as many as the most that one sees
    SQUARE = "square"  # all, whatever a mask hides, as torch counts them


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


class InitKind(StrEnum):
    """How the numbers of a weight are drawn before training."""

    NORMAL = "normal"
    ZEROS = "zeros"
    ONES = "ones"

    @property
    def takes_number(self) -> bool:
        """Return whether a number follows it: the standard deviation."""
        return self is InitKind.NORMAL


@dataclass(frozen=True)
class Init:
    """The initialisation of a weight; ``value`` is the standard deviation of a normal one."""

    kind: InitKind
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}({self.value:g})" if self.kind.takes_number else self.kind


ZEROS, ONES, NORMAL = Init(InitKind.ZEROS), Init(InitKind.ONES), Init(InitKind.NORMAL, 0.02)


@dataclass(frozen=True)
class Horizon:
    """What the value at a position has seen of one input.

    ``ahead`` is how many tokens ahead of its own position it has looked, infinite where it has looked at the whole
    row. ``fill`` is how many positions at the end of the row are made of the fill of shifts.
    """

    ahead: float = 0
    fill: float = 0

    def moved(self, by: float) -> Horizon:
        """Return the horizon after a shift by ``by`` tokens.

        No position of a whole row (``by`` is infinite) is more fill than another. A shift to the right does not
        lessen ``fill``: counting too many positions is safe, too few is not.
        """
        return Horizon(self.ahead + by, self.fill + max(by, 0)) if by < math.inf else Horizon(by)


def piece_name(port: str, number: int) -> str:
    """Return the name that stands in horizons for one piece, along the first axis, of a block's input."""
    return f"{port}[{number}]"


class Horizons:
    """The horizon of a value for each input of its block; an input that it does not depend on is absent.

    A join takes the largest and a shift adds, as in max-plus algebra, so a block is analysed once for all its copies.
    """

    __slots__ = ("by_input",)

    def __init__(self, by_input: Mapping[str, Horizon] | None = None) -> None:
        self.by_input = dict(by_input or {})

    @staticmethod
    def join(parts: Iterable[Horizons]) -> Horizons:
        """Return the horizons of a value that is made of all ``parts``."""
        joined: dict[str, Horizon] = {}
        for part in parts:
            for name, new in part.by_input.items():
                old = joined.get(name, new)
                joined[name] = Horizon(max(old.ahead, new.ahead), max(old.fill, new.fill))
        return Horizons(joined)

    def moved(self, by: float) -> Horizons:
        """Return the horizons after a shift by ``by`` tokens; an infinite one looks at the whole row."""
        return Horizons({name: horizon.moved(by) for name, horizon in self.by_input.items()})

    def after(self, inputs: Mapping[str, Horizons]) -> Horizons:
        """Return these horizons over a block's inputs in terms of what is wired into the block.

        A piece of an input (`piece_name`) that ``inputs`` does not name has seen what the whole input has.
        """
        found = []
        for name, own in self.by_input.items():
            outer = inputs.get(name, inputs.get(name.partition("[")[0], Horizons())).by_input
            found.append(Horizons({n: Horizon(h.ahead + own.ahead, h.fill + own.fill) for n, h in outer.items()}))
        return Horizons.join(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Horizons) and self.by_input == other.by_input

    def __repr__(self) -> str:
        return f"Horizons({self.by_input})"

    def ahead(self, name: str) -> float:
        """Return how many tokens of ``name`` ahead of its position it has seen; -inf if it does not depend on it."""
        return self.by_input[name].ahead if name in self.by_input else -math.inf

    @property
    def fill(self) -> int:
        """Return how many positions at the end of the row are made of fill."""
        return int(max((h.fill for h in self.by_input.values()), default=0))


def shown(value: Any) -> str:
    """Return a value as it is written in YAML."""
    if isinstance(value, float) and math.isnan(value):
        return "a number that is not known yet"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {shown(inner)}' for key, inner in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def as_size(value: Any, least: int = 1) -> Size:
    """Return ``value`` as a size. Raise ValueError if it is none."""
    if isinstance(value, Poly):
        if len(value.terms) > MAX_TERMS:
            raise Fault(
                Code.BAD_SIZE, f"a size is a sum of at most {MAX_TERMS} terms, found {len(value.terms)}", about=[value]
            )
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (Fraction, bool)) or not isinstance(value, int):
        raise Fault(Code.BAD_SIZE, f"a size is a whole number, found `{shown(value)}`")
    if value < least:
        raise Fault(Code.BAD_SIZE, f"a size is at least {least}, found {value}", about=[least, value])
    if value > MAX_SIZE:
        raise Fault(Code.BAD_SIZE, f"a size is at most 2**50, found {value}", about=[value])
    return value
