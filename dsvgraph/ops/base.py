"""The op: one class holds its attributes, ports, weights, shape rule, FLOPs and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from dsvgraph.codes import Code
from dsvgraph.dims import Size, product
from dsvgraph.errors import Fault
from dsvgraph.ops.memory import Memory
from dsvgraph.types import Type, Weight, as_size

Types = Mapping[str, Type]
SizeAttr = Annotated[Any, BeforeValidator(as_size)]


class Op(BaseModel):
    """A primitive op. Subclasses are frozen records of attributes; the class is the rule.

    ``ports`` are the inputs in order; ``variadic`` ops take a list instead, with ports x0, x1, ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    op: ClassVar[str] = ""
    ports: ClassVar[tuple[str, ...]] = ("x",)
    variadic: ClassVar[bool] = False
    formula: ClassVar[str] = ""
    along: ClassVar[bool] = False  # looks along axis 1, which must be positions
    sorts: ClassVar[str] = ""  # the input by which the rows of the output are sorted
    unsorts: ClassVar[str] = ""  # the input by which the first input's rows were sorted

    def outputs(self, ins: Types) -> dict[str, Type]:
        """Types of the outputs in order; raises ValueError in plain words where shapes do not fit."""
        raise NotImplementedError

    def weights(self, ins: Types) -> dict[str, Weight]:
        """The weights that the op owns unless they are wired."""
        return {}

    def flops(self, ins: Types, outs: Types, attention: str = "causal") -> Size:
        """Forward FLOPs, a multiply-add counted as two.

        Counted are products with weights (a norm's gain included) and the two products of
        attention; other pointwise work is left out, as in the 6N rule.
        """
        return 0

    def shift(self) -> float:
        """How many positions ahead of its inputs the op looks."""
        return 0

    def remembers(self, ins: Types, outs: Types) -> Memory:
        """What the op needs of earlier positions while decoding, by input, and the states that it carries.

        Every op says so; ``nothing`` in dsvgraph.ops.memory is for those that act on one position at a time.
        """
        raise NotImplementedError

    def keeps_first(self, port: str) -> bool:
        """Whether the pieces along the first axis of an input stay apart, where that axis stays."""
        return not self.along

    def moved(self, ins: Types) -> list[Size]:
        """Sizes of the axes that the op puts elsewhere; none of them may be positions."""
        return []

    def mixed(self, ins: Types) -> list[Size]:
        """Sizes of the axes that the op mixes; none of them may be positions."""
        return []


def rows(x: Type, used: int = 1) -> Size:
    """Number of vectors in ``x`` when its last ``used`` axes are one vector."""
    return product(x.shape[: x.rank - used])


def same(a: Any, b: Any, what: str) -> None:
    """Raises ValueError unless two sizes or shapes are equal."""
    if a != b:
        raise Fault(Code.DIFFERENT, f"{what}: {show(a)} against {show(b)}", show(b), show(a))


def show(value: Any) -> str:
    """A size or a shape as a reader writes it."""
    return f"[{', '.join(str(v) for v in value)}]" if isinstance(value, tuple) else str(value)


def need_rank(x: Type, least: int, port: str) -> None:
    """Raises ValueError where ``x`` has fewer axes than ``least``."""
    if x.rank < least:
        raise Fault(Code.AXES, f"`{port}` needs at least {least} axes, found {x}")


def need_float(x: Type, port: str) -> None:
    """Raises ValueError where ``x`` holds no floating-point numbers."""
    if x.dtype != "float":
        raise Fault(Code.NUMBER_KIND, f"`{port}` must be floating point, found {x}")


def need_int(x: Type, port: str) -> None:
    """Raises ValueError where ``x`` holds no whole numbers."""
    if x.dtype != "int":
        raise Fault(Code.NUMBER_KIND, f"`{port}` must be whole numbers (token ids or indices), found {x}")


def broadcast(types: list[Type]) -> Type:
    """The common type of pointwise operands: equal shapes, or axes of size 1 that stretch."""
    first = types[0]
    for other in types[1:]:
        pairs = list(zip(first.shape, other.shape, strict=False))
        if other.rank != first.rank or any(a != b and 1 not in (a, b) for a, b in pairs):
            raise Fault(Code.DIFFERENT, f"operands have different shapes: {first} against {other}", first, other)
        first = Type(tuple(b if a == 1 else a for a, b in pairs), first.dtype)
    return first
