"""Ops without weights that act on each position: arithmetic, activations, cutting and joining."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dsvgraph.codes import Code
from dsvgraph.dims import Size, total
from dsvgraph.errors import Fault
from dsvgraph.ops.base import Op, SizeAttr, Types, broadcast, need_float, need_rank, same
from dsvgraph.ops.memory import nothing
from dsvgraph.types import Type, as_size


class Pointwise(Op):
    """Base of the ops that keep the shape of one input."""

    remembers = nothing

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        return {"y": ins["x"]}


class Add(Op):
    """Sum of inputs of one shape (axes of size 1 stretch): [...], [...] -> [...]."""

    op: ClassVar[str] = "add"
    formula: ClassVar[str] = "y = x0 + x1 + ..."
    variadic: ClassVar[bool] = True
    remembers = nothing

    def outputs(self, ins: Types) -> dict[str, Type]:
        for port, x in ins.items():
            need_float(x, port)
        return {"y": broadcast(list(ins.values()))}


class Mul(Add):
    """Product of inputs of one shape (axes of size 1 stretch): [...], [...] -> [...]."""

    op: ClassVar[str] = "mul"
    formula: ClassVar[str] = "y = x0 * x1 * ..."


class Times(Pointwise):
    """Multiplication by a number: [...] -> the same."""

    op: ClassVar[str] = "times"
    formula: ClassVar[str] = "y = by * x"
    by: float


class Clamp(Pointwise):
    """Cuts off what is below ``min`` or above ``max``, either of which may be absent: [...] -> the same.

    The gradient of what is cut off is zero.
    """

    op: ClassVar[str] = "clamp"
    formula: ClassVar[str] = "y = min(max(x, min), max)"
    min: float | None = None
    max: float | None = None

    def outputs(self, ins: Types) -> dict[str, Type]:
        if self.min is None and self.max is None:
            raise Fault(Code.MISSING_ATTRIBUTE, "`clamp` needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Fault(Code.BAD_VALUE, f"`min` is at most `max`: {self.min} against {self.max}")
        return super().outputs(ins)


class Silu(Pointwise):
    """x * sigmoid(x), pointwise: [...] -> the same (arXiv 1702.03118)."""

    op: ClassVar[str] = "silu"
    formula: ClassVar[str] = "y = x / (1 + exp(-x))"


class Gelu(Pointwise):
    """x * Phi(x), pointwise: [...] -> the same (arXiv 1606.08415)."""

    op: ClassVar[str] = "gelu"
    formula: ClassVar[str] = "y = x (1 + erf(x / sqrt(2))) / 2"


class Relu(Pointwise):
    """max(x, 0), pointwise: [...] -> the same."""

    op: ClassVar[str] = "relu"
    formula: ClassVar[str] = "y = max(x, 0)"


class Sigmoid(Pointwise):
    """Logistic function, pointwise: [...] -> the same."""

    op: ClassVar[str] = "sigmoid"
    formula: ClassVar[str] = "y = 1 / (1 + exp(-x))"


class Tanh(Pointwise):
    """Hyperbolic tangent, pointwise: [...] -> the same."""

    op: ClassVar[str] = "tanh"
    formula: ClassVar[str] = "y = (exp(2 x) - 1) / (exp(2 x) + 1)"


class Dropout(Pointwise):
    """Sets a share ``p`` of the numbers to zero while training: [...] -> the same."""

    op: ClassVar[str] = "dropout"
    formula: ClassVar[str] = "y = x * bernoulli(1 - p) / (1 - p)"
    p: float = Field(default=0.1, ge=0, lt=1)


class Detach(Pointwise):
    """Passes the value on and no gradient back: [...] -> the same."""

    op: ClassVar[str] = "detach"
    formula: ClassVar[str] = "y = x, dx = 0"

    def outputs(self, ins: Types) -> dict[str, Type]:
        return {"y": ins["x"]}


class Concat(Op):
    """Joins inputs along the last axis: [..., a], [..., b] -> [..., a + b]."""

    op: ClassVar[str] = "concat"
    formula: ClassVar[str] = "y = [x0; x1; ...]"
    variadic: ClassVar[bool] = True
    remembers = nothing

    def outputs(self, ins: Types) -> dict[str, Type]:
        types = list(ins.values())
        for x in types:
            need_rank(x, 1, "x")
            same(types[0].shape[:-1], x.shape[:-1], "concat joins the last axis, the others differ")
            same(types[0].dtype, x.dtype, "concat joins one kind of number")
        return {"y": types[0].with_last(total(x.shape[-1] for x in types))}

    def mixed(self, ins: Types) -> list[Size]:
        return [x.shape[-1] for x in ins.values()]


def _parts(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise Fault(Code.BAD_VALUE, "`into` names the parts and their sizes: {a: 64, b: 128}")
    return {str(name): as_size(size) for name, size in value.items()}


class Split(Op):
    """Cuts the last axis into named parts: [..., a + b] -> a: [..., a], b: [..., b]."""

    op: ClassVar[str] = "split"
    formula: ClassVar[str] = "[a; b; ...] = x"
    remembers = nothing
    into: Annotated[dict[str, Any], BeforeValidator(_parts)]

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 1, "x")
        same(total(self.into.values()), ins["x"].shape[-1], "the parts do not add up to the last axis")
        return {name: ins["x"].with_last(size) for name, size in self.into.items()}

    def mixed(self, ins: Types) -> list[Size]:
        return [x.shape[-1] for x in ins.values()]


class Expand(Op):
    """Repeats the value along a new axis before the last: [..., d] -> [..., size, d]."""

    op: ClassVar[str] = "expand"
    formula: ClassVar[str] = "y[..., j, :] = x"
    remembers = nothing
    size: SizeAttr

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 1, "x")
        return {"y": ins["x"].with_last(self.size, ins["x"].shape[-1])}

    def mixed(self, ins: Types) -> list[Size]:
        return [x.shape[-1] for x in ins.values()]
