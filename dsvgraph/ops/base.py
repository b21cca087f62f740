"""The op: one class holds its attributes, ports, weights, shape rule, FLOPs and documentation.

Everything that a pass needs to know of an op is declared on its class; `dsvgraph.ops.registry` refuses a
class that leaves something out. How an op runs is not here: each backend has a lowering of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from dsvgraph.dims import Size, total
from dsvgraph.ops.decoding import DecodingState, stateless
from dsvgraph.ops.shapes import need_float, rows
from dsvgraph.ops.tape import Execution, Tape, Value
from dsvgraph.types import AttentionPairs, Type, Weight, as_size

RESERVED = ("at", "repeat", "each", "slice", "share", "tied")
"""Keys that every line of a body may have, whatever it calls."""

Types = Mapping[str, Type]
SizeAttr = Annotated[Any, BeforeValidator(as_size)]


class Kind(StrEnum):
    """What an op is, for pictures and for sums by role."""

    LOOKUP = "lookup"  # reads rows of a table
    LINEAR = "linear"  # a matrix product with a weight
    NORM = "norm"
    POSITION = "position"  # encodes positions
    ATTENTION = "attention"  # mixes positions: attention, a recurrence, a convolution along the row
    ROUTING = "routing"  # chooses experts, sends tokens to them, brings results back
    ACTIVATION = "activation"  # the nonlinearity of a feed-forward network, or the product that it gates by
    VIEW = "view"  # another look at the same numbers
    JOIN = "join"  # puts values side by side
    ARITHMETIC = "arithmetic"  # everything else


@dataclass(frozen=True)
class Positions:
    """How an op treats the axis of positions, axis 1.

    ``along`` is set where it looks along that axis, which must then be positions. ``sorts`` names the input by which
    the rows of its output are sorted (tokens sent to experts), ``unsorts`` the input by which the rows of its first
    input were sorted.
    """

    along: bool
    sorts: str = ""
    unsorts: str = ""


EACH, ROW = Positions(along=False), Positions(along=True)


class Merge(StrEnum):
    """Where a picture may draw an op, if nothing else reads what it shares with its neighbour."""

    NONE = "none"  # on a card of its own
    SOURCE = "source"  # on the card of the linear op that it reads: its outputs are cells there
    READER = "reader"  # on the card of the linear op that reads it: its inputs are cells there
    CELL = "cell"  # in such a cell of a reader, for the value that it makes


@dataclass(frozen=True)
class Drawn:
    """How a picture shows an op.

    ``view``: its outputs hold numbers of its input and no others, so that they count as no activations.
    ``merge`` says whether it may share the card of a neighbour. An op with a ``sign`` that has several inputs is a
    circle with that sign.
    """

    view: bool = False
    merge: Merge = Merge.NONE
    sign: str = ""


CARD = Drawn()
"""How a picture shows most ops: each on a card of its own."""


def by_label(op: Op, ins: Types, outs: Types) -> list[str]:
    """Return the label of an op: the `details` of most."""
    return [op.label()]


@dataclass(frozen=True)
class Product:
    """A product y = a b ...: its forward FLOPs, and for each operand the ports (inputs, weights) that it is made of.

    The backward pass costs ``flops`` once for each operand that needs a gradient.
    """

    flops: Size
    operands: tuple[frozenset[str], ...]


def product_of(flops: Size, *operands: str) -> Product:
    """Return a product whose operands are made of one port each, or of several, written "q k"."""
    return Product(flops, tuple(frozenset(ports.split()) for ports in operands))


class Op(BaseModel):
    """A primitive op. Subclasses are frozen records of attributes; the class is the rule.

    A subclass, or a base between it and this class, declares all of `registry.DECLARATIONS`. ``variadic``
    ops take a list of inputs, as ports x0, x1, ... An attribute in ``open_names`` is a condition or an expression,
    whose text may read these names beside values. ``may_be_empty`` are inputs that may be a stack of no copies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    op: ClassVar[str] = ""
    kind: ClassVar[Kind]
    title: ClassVar[str]
    formula: ClassVar[str]
    ports: ClassVar[tuple[str, ...]] = ("x",)
    variadic: ClassVar[bool] = False
    open_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    positions: ClassVar[Positions]
    may_be_empty: ClassVar[tuple[str, ...]] = ()
    side_by_side: ClassVar[bool]
    differentiable: ClassVar[bool]
    wired_weights: ClassVar[tuple[str, ...]]
    drawn: ClassVar[Drawn]

    @property
    def cumulative(self) -> bool:
        """Return whether a piece along the first axis of the outputs reads no later piece of any input.

        Where neither this nor `keeps_first` holds, every piece may have read all.
        """
        return False

    def label(self) -> str:
        """Return what a picture calls this op with its attributes; by default its title."""
        return self.title

    def details(self, ins: Types, outs: Types) -> list[str]:
        """Return what a card of a picture says of this op under its name; of a linear op or a lookup it says the sizes.

        `by_label` is the label alone.
        """
        raise NotImplementedError

    def outputs(self, ins: Types) -> dict[str, Type]:
        """Return the types of the outputs in order. Raise ValueError in plain words if shapes do not fit."""
        raise NotImplementedError

    def weights(self, ins: Types) -> dict[str, Weight]:
        """Return the weights that the op owns unless they are wired."""
        raise NotImplementedError

    def vectors(self, ins: Types) -> Size:
        """Return how many vectors of its input meet the weights: the share of tokens that use them follows."""
        raise NotImplementedError

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        """Return the products of the op, a multiply-add counted as two FLOPs; ``ins`` has the wired weights too.

        Counted are products with weights (a norm's gain included) and those of attention; other
        pointwise work is left out, as in the 6N rule.
        """
        raise NotImplementedError

    def flops(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> Size:
        """Return the forward FLOPs: the sum over `products`."""
        return total(found.flops for found in self.products(ins, outs, pairs))

    def keep(self, tape: Tape, execution: Execution) -> Value | dict[str, Value]:
        """Note on ``tape`` what autograd keeps of the forward for the backward; return the outputs."""
        raise NotImplementedError

    def shift(self) -> float:
        """Return how many positions ahead of its inputs the op looks: ``inf`` for the whole row."""
        raise NotImplementedError

    def looks(self, port: str, lanes: int = 1) -> float:
        """Return how many positions ahead of its own the op looks at one input.

        Where tokens are interleaved, ``lanes`` positions of the row are one token, and tokens are counted.
        """
        ahead = self.shift()
        return ahead if lanes == 1 or math.isinf(ahead) else -(-ahead // lanes)

    def keeps_apart(self, lanes: int) -> bool:
        """Return whether the first of every ``lanes`` positions of a row are made as if there were no others.

        An op that looks along the row takes no rows with inserted tokens where it does not.
        """
        return not self.positions.along

    def on_own_tokens(self) -> Op:
        """Return the op as it acts on the first of every lanes alone, which it keeps apart."""
        return self

    def decoding_state(self, ins: Types, outs: Types) -> DecodingState:
        """Return what the op needs of earlier positions while decoding: inputs by port, and states that it carries."""
        raise NotImplementedError

    def keeps_first(self, port: str, ins: Types) -> bool:
        """Return whether the pieces along the first axis of an input stay apart, if that axis stays."""
        raise NotImplementedError

    def moved(self, ins: Types) -> list[Size]:
        """Return the sizes of the axes that the op puts elsewhere; none of them may be positions."""
        raise NotImplementedError

    def mixed(self, ins: Types) -> list[Size]:
        """Return the sizes of the axes that the op mixes; none of them may be positions."""
        raise NotImplementedError


class Weightless(Op):
    """Base of the ops that own no weights."""

    wired_weights: ClassVar[tuple[str, ...]] = ()

    def weights(self, ins: Types) -> dict[str, Weight]:
        return {}

    def vectors(self, ins: Types) -> Size:
        return rows(next(iter(ins.values())))


class Uncounted(Op):
    """Base of the ops whose work is not counted: they have no products."""

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        return []


class PerPosition(Op):
    """Base of the ops that treat each position alone and leave all but the last axis where it is."""

    positions: ClassVar[Positions] = EACH
    decoding_state = stateless

    def shift(self) -> float:
        return 0

    def keeps_first(self, port: str, ins: Types) -> bool:
        return ins[port].rank > 1

    def moved(self, ins: Types) -> list[Size]:
        return []


class AlongRow(Op):
    """Base of the ops that look along the row, with axis 1 as positions."""

    positions: ClassVar[Positions] = ROW

    def keeps_first(self, port: str, ins: Types) -> bool:
        return False

    def moved(self, ins: Types) -> list[Size]:
        return []


class Saved(StrEnum):
    """What autograd keeps of a pointwise op for its backward."""

    NOTHING = "nothing"
    INPUT = "input"
    OUTPUT = "output"


class Pointwise(Weightless, Uncounted, PerPosition):
    """Base of the ops that act on every number alone and keep the shape of one input, or of several.

    ``saved`` is what autograd keeps of it.
    """

    side_by_side: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    saved: ClassVar[Saved]

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        return {"y": ins["x"]}

    def mixed(self, ins: Types) -> list[Size]:
        return []

    def keep(self, tape: Tape, execution: Execution) -> Value | dict[str, Value]:
        found = tape.fresh(execution.out.numel, max(v.width for v in execution.ins.values()), execution.grad)
        if execution.grad and self.saved is not Saved.NOTHING:
            tape.keep(execution.x if self.saved is Saved.INPUT else found)
        return found
