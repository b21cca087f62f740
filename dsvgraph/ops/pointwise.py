"""Ops without weights that act on each position: arithmetic, activations, cutting and joining."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dsvgraph.codes import Code
from dsvgraph.dims import Size, total
from dsvgraph.errors import Fault
from dsvgraph.names import is_name, why_no_name
from dsvgraph.ops.base import (
    Drawn,
    Kind,
    Merge,
    PerPosition,
    Pointwise,
    Saved,
    SizeAttr,
    Types,
    Uncounted,
    Weightless,
    by_label,
)
from dsvgraph.ops.shapes import broadcast, need_float, need_rank, same
from dsvgraph.ops.tape import BYTE, Execution, Tape, Value
from dsvgraph.types import Type, as_size


class Add(Pointwise):
    """Sum of inputs of one shape (axes of size 1 stretch): [...], [...] -> [...]."""

    op: ClassVar[str] = "add"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "add"
    formula: ClassVar[str] = "y = x0 + x1 + ..."
    drawn: ClassVar[Drawn] = Drawn(sign="+")
    variadic: ClassVar[bool] = True
    saved: ClassVar[Saved] = Saved.NOTHING

    def outputs(self, ins: Types) -> dict[str, Type]:
        for port, x in ins.items():
            need_float(x, port)
        return {"y": broadcast(list(ins.values()))}


class Mul(Add):
    """Product of inputs of one shape (axes of size 1 stretch): [...], [...] -> [...]."""

    op: ClassVar[str] = "mul"
    kind: ClassVar[Kind] = Kind.ACTIVATION
    title: ClassVar[str] = "mul"
    formula: ClassVar[str] = "y = x0 * x1 * ..."
    drawn: ClassVar[Drawn] = Drawn(sign="×")

    def keep(self, tape: Tape, execution: Execution) -> Value:
        first, *others = execution.ins.values()
        for other in others:
            tape.product(first, other)
            first = tape.fresh(execution.out.numel, max(first.width, other.width), first.grad or other.grad)
        return first


class Times(Pointwise):
    """Multiplication by a number: [...] -> the same."""

    op: ClassVar[str] = "times"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "times"
    formula: ClassVar[str] = "y = by * x"
    saved: ClassVar[Saved] = Saved.NOTHING
    by: float


class Clamp(Pointwise):
    """Cuts off what is below ``min`` or above ``max``, either of which may be absent: [...] -> the same.

    The gradient of what is cut off is zero.
    """

    op: ClassVar[str] = "clamp"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "clamp"
    formula: ClassVar[str] = "y = min(max(x, min), max)"
    saved: ClassVar[Saved] = Saved.INPUT
    min: float | None = None
    max: float | None = None

    def label(self) -> str:
        ends = [f"{word} {end:g}" for word, end in (("from", self.min), ("to", self.max)) if end is not None]
        return " ".join([self.title, *ends])

    def outputs(self, ins: Types) -> dict[str, Type]:
        if self.min is None and self.max is None:
            raise Fault(Code.MISSING_ATTRIBUTE, "`clamp` needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Fault(Code.BAD_VALUE, f"`min` is at most `max`: {self.min} against {self.max}")
        return super().outputs(ins)


class Silu(Pointwise):
    """x * sigmoid(x), pointwise: [...] -> the same (arXiv 1702.03118)."""

    op: ClassVar[str] = "silu"
    kind: ClassVar[Kind] = Kind.ACTIVATION
    title: ClassVar[str] = "SiLU"
    formula: ClassVar[str] = "y = x / (1 + exp(-x))"
    saved: ClassVar[Saved] = Saved.INPUT


class Gelu(Pointwise):
    """x * Phi(x), pointwise: [...] -> the same (arXiv 1606.08415)."""

    op: ClassVar[str] = "gelu"
    kind: ClassVar[Kind] = Kind.ACTIVATION
    title: ClassVar[str] = "GELU"
    formula: ClassVar[str] = "y = x (1 + erf(x / sqrt(2))) / 2"
    saved: ClassVar[Saved] = Saved.INPUT


class Relu(Pointwise):
    """max(x, 0), pointwise: [...] -> the same."""

    op: ClassVar[str] = "relu"
    kind: ClassVar[Kind] = Kind.ACTIVATION
    title: ClassVar[str] = "ReLU"
    formula: ClassVar[str] = "y = max(x, 0)"
    saved: ClassVar[Saved] = Saved.OUTPUT


class Sigmoid(Pointwise):
    """Logistic function, pointwise: [...] -> the same."""

    op: ClassVar[str] = "sigmoid"
    kind: ClassVar[Kind] = Kind.ACTIVATION
    title: ClassVar[str] = "sigmoid"
    formula: ClassVar[str] = "y = 1 / (1 + exp(-x))"
    saved: ClassVar[Saved] = Saved.OUTPUT


class Tanh(Pointwise):
    """Hyperbolic tangent, pointwise: [...] -> the same."""

    op: ClassVar[str] = "tanh"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "tanh"
    formula: ClassVar[str] = "y = (exp(2 x) - 1) / (exp(2 x) + 1)"
    saved: ClassVar[Saved] = Saved.OUTPUT


class Dropout(Pointwise):
    """Sets a share ``p`` of the numbers to zero while training: [...] -> the same."""

    op: ClassVar[str] = "dropout"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "dropout"
    formula: ClassVar[str] = "y = x * bernoulli(1 - p) / (1 - p)"
    saved: ClassVar[Saved] = Saved.NOTHING
    p: float = Field(default=0.1, ge=0, lt=1)

    def keep(self, tape: Tape, execution: Execution) -> Value | dict[str, Value]:
        if not self.p:
            return execution.x
        if execution.grad:
            tape.keep_new(execution.out.numel, BYTE if tape.fused else execution.x.width)
        return super().keep(tape, execution)


class Detach(Pointwise):
    """Passes the value on and no gradient back: [...] -> the same."""

    op: ClassVar[str] = "detach"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "detach"
    formula: ClassVar[str] = "y = x, dx = 0"
    drawn: ClassVar[Drawn] = Drawn(view=True)
    differentiable: ClassVar[bool] = False
    saved: ClassVar[Saved] = Saved.NOTHING

    def outputs(self, ins: Types) -> dict[str, Type]:
        return {"y": ins["x"]}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        return replace(execution.x, grad=False)


class _LastAxis(Weightless, Uncounted, PerPosition):
    """Base of the ops that cut or join along the last axis."""

    differentiable: ClassVar[bool] = True

    def mixed(self, ins: Types) -> list[Size]:
        return [x.shape[-1] for x in ins.values()]


class _View(_LastAxis):
    """Base of the ops whose outputs are parts of the input, or the input again: no memory of their own."""

    def keep(self, tape: Tape, execution: Execution) -> dict[str, Value]:
        return {p: replace(execution.x, numel=t.numel, strided=True) for p, t in execution.outputs.items()}


class Concat(_LastAxis):
    """Joins inputs along the last axis: [..., a], [..., b] -> [..., a + b]."""

    op: ClassVar[str] = "concat"
    kind: ClassVar[Kind] = Kind.JOIN
    title: ClassVar[str] = "concat"
    formula: ClassVar[str] = "y = [x0; x1; ...]"
    drawn: ClassVar[Drawn] = Drawn(merge=Merge.READER)
    details = by_label
    variadic: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = True

    def outputs(self, ins: Types) -> dict[str, Type]:
        types = list(ins.values())
        for x in types:
            need_rank(x, 1, "x")
            same(types[0].shape[:-1], x.shape[:-1], "concat joins the last axis, the others differ")
            same(types[0].dtype, x.dtype, "concat joins one kind of number")
        return {"y": types[0].with_last(total(x.shape[-1] for x in types))}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        return tape.fresh(execution.out.numel, max(v.width for v in execution.ins.values()), execution.grad)


def _parts(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise Fault(Code.BAD_VALUE, "`into` names the parts and their sizes: {a: 64, b: 128}")
    for name in map(str, value):
        if not is_name(name):
            raise Fault(Code.NO_NAME, f"`{name}` is no name of a part: {why_no_name(name)}")
    return {str(name): as_size(size) for name, size in value.items()}


class Split(_View):
    """Cuts the last axis into named parts: [..., a + b] -> a: [..., a], b: [..., b]."""

    op: ClassVar[str] = "split"
    kind: ClassVar[Kind] = Kind.VIEW
    title: ClassVar[str] = "split"
    formula: ClassVar[str] = "[a; b; ...] = x"
    drawn: ClassVar[Drawn] = Drawn(view=True, merge=Merge.SOURCE)
    side_by_side: ClassVar[bool] = True
    into: Annotated[dict[str, Any], BeforeValidator(_parts)]

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 1, "x")
        same(total(self.into.values()), ins["x"].shape[-1], "the parts do not add up to the last axis")
        return {name: ins["x"].with_last(size) for name, size in self.into.items()}

    def details(self, ins: Types, outs: Types) -> list[str]:
        return []  # its cells say the parts


class Expand(_View):
    """Repeats the value along a new axis before the last: [..., d] -> [..., size, d]."""

    op: ClassVar[str] = "expand"
    kind: ClassVar[Kind] = Kind.VIEW
    title: ClassVar[str] = "expand"
    formula: ClassVar[str] = "y[..., j, :] = x"
    drawn: ClassVar[Drawn] = Drawn(view=True)
    details = by_label
    side_by_side: ClassVar[bool] = True
    size: SizeAttr

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 1, "x")
        return {"y": ins["x"].with_last(self.size, ins["x"].shape[-1])}
