"""Ops with weights that act on one position at a time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dsvgraph.codes import Code
from dsvgraph.dims import Size, product
from dsvgraph.errors import Fault
from dsvgraph.ops.base import (
    CARD,
    Drawn,
    Kind,
    Merge,
    PerPosition,
    Product,
    SizeAttr,
    Types,
    Uncounted,
    by_label,
    product_of,
)
from dsvgraph.ops.shapes import need_float, need_int, need_rank, rows
from dsvgraph.ops.tape import FLOAT, Execution, LogitsForm, Tape, Value
from dsvgraph.types import NORMAL, ONES, ZEROS, AttentionPairs, Type, Weight, WeightKind, as_size


def _sizes(value: object) -> tuple[Size, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(as_size(v) for v in items)


class Embedding(Uncounted, PerPosition):
    """Looks up one row of a table per token id: int[...] -> [..., dim].

    A lookup has no FLOPs.
    """

    op: ClassVar[str] = "embedding"
    kind: ClassVar[Kind] = Kind.LOOKUP
    title: ClassVar[str] = "embedding"
    formula: ClassVar[str] = "y = weight[x]"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    wired_weights: ClassVar[tuple[str, ...]] = ("weight",)
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    num: SizeAttr = None
    dim: SizeAttr = None

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_int(ins["x"], "x")
        return {"y": Type((*ins["x"].shape, self.weights(ins)["weight"].shape[1]))}

    def weights(self, ins: Types) -> dict[str, Weight]:
        if "weight" in ins:
            return {"weight": self._wired(ins["weight"])}
        if self.num is None or self.dim is None:
            raise Fault(Code.MISSING_ATTRIBUTE, "an embedding needs `num` and `dim`, or a wired `weight`")
        return {"weight": Weight((self.num, self.dim), NORMAL, WeightKind.TABLE)}

    def _wired(self, table: Type) -> Weight:
        if table.rank != 2:
            raise Fault(Code.AXES, f"an embedding's weight has two axes, [num, dim], found {table}", about=[table])
        return Weight((self.num or table.shape[0], self.dim or table.shape[1]), NORMAL, WeightKind.TABLE)

    def vectors(self, ins: Types) -> Size:
        return ins["x"].numel

    def keep(self, tape: Tape, execution: Execution) -> Value:
        if execution.ins["weight"].grad:
            tape.keep(execution.x)
        return tape.fresh(execution.out.numel, FLOAT, execution.ins["weight"].grad)

    def mixed(self, ins: Types) -> list[Size]:
        return []


class Linear(PerPosition):
    """Matrix product over the last ``contract`` axes: [..., in] -> [..., out].

    ``out`` is a size or a list of sizes; the weight is [prod(out), prod(in)], as checkpoints
    store it. FLOPs: 2 * rows * in * out.
    """

    op: ClassVar[str] = "linear"
    kind: ClassVar[Kind] = Kind.LINEAR
    title: ClassVar[str] = "linear"
    formula: ClassVar[str] = "y = x weight^T + bias"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    wired_weights: ClassVar[tuple[str, ...]] = ("weight",)
    side_by_side: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    out: Annotated[tuple[Any, ...], BeforeValidator(_sizes)]
    contract: int = Field(default=1, ge=1, le=8)
    bias: bool = False

    def outputs(self, ins: Types) -> dict[str, Type]:
        x = ins["x"]
        need_float(x, "x")
        need_rank(x, self.contract, "x")
        return {"y": x.with_last(*self.out, drop=self.contract)}

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], self.contract, "x")
        width = product(ins["x"].last(self.contract))
        found = {"weight": Weight((product(self.out), width), NORMAL, WeightKind.PRODUCT)}
        if self.bias:
            found["bias"] = Weight((product(self.out),), ZEROS, WeightKind.OFFSET)
        return found

    def vectors(self, ins: Types) -> Size:
        return rows(ins["x"], self.contract)

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        width = product(ins["x"].last(self.contract))
        return [product_of(2 * self.vectors(ins) * width * product(self.out), "x", "weight")]

    def keep(self, tape: Tape, execution: Execution) -> Value:
        weight, x = execution.ins["weight"], execution.x
        cut = execution.ahead > 1 and tape.batch > 1  # positions without a target are cut off each row
        for copied in (self.contract > 1 and x.strided, cut):
            x = tape.fresh(x.numel, x.width, x.grad) if copied else x
        if execution.logits is LogitsForm.CHUNKS:
            tape.keep(x)
        else:
            x = tape.cast(x, tape.low)
            tape.product(x, tape.cast(weight, tape.low))
        if execution.logits is not LogitsForm.NONE:  # the loss makes them
            tape.keep_for_loss(x)
            return tape.fresh(0, tape.low, execution.grad)
        return tape.fresh(execution.out.numel, tape.low, execution.grad)

    def keeps_first(self, port: str, ins: Types) -> bool:
        return ins[port].rank > self.contract

    def mixed(self, ins: Types) -> list[Size]:
        return list(ins["x"].last(self.contract))


class Affine(Uncounted, PerPosition):
    """A learned gain and offset: [..., a, b] -> the same, with numbers of their own along the last ``axes``.

    With ``scalar`` one gain serves all, [1] (ReZero, arXiv 2003.04887; else LayerScale, arXiv
    2103.17239); ``bias`` false leaves out the offset. No FLOPs: it is pointwise.
    """

    op: ClassVar[str] = "affine"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "affine"
    formula: ClassVar[str] = "y = weight * x + bias"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    wired_weights: ClassVar[tuple[str, ...]] = ("weight",)
    side_by_side: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    axes: int = Field(default=1, ge=1, le=8)
    scalar: bool = False
    bias: bool = True

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        need_rank(ins["x"], self.axes, "x")
        return {"y": ins["x"]}

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], self.axes, "x")
        own = ins["x"].last(self.axes)
        found = {"weight": Weight((1,) if self.scalar else own, ONES, WeightKind.OFFSET)}
        return {**found, "bias": Weight(own, ZEROS, WeightKind.OFFSET)} if self.bias else found

    def vectors(self, ins: Types) -> Size:
        return rows(ins["x"])

    def keep(self, tape: Tape, execution: Execution) -> Value:
        tape.product(execution.x, execution.ins["weight"])
        return tape.fresh(execution.out.numel, max(execution.x.width, FLOAT), execution.grad)

    def mixed(self, ins: Types) -> list[Size]:
        return list(ins["x"].last(self.axes))


class RMSNorm(PerPosition):
    """Scales each vector to unit root mean square, then by a gain: [..., d] -> [..., d].

    Zhang and Sennrich, arXiv 1910.07467. FLOPs: 2 per element, for the gain, as the 6N rule
    counts every weight.
    """

    op: ClassVar[str] = "rms_norm"
    kind: ClassVar[Kind] = Kind.NORM
    title: ClassVar[str] = "RMSNorm"
    formula: ClassVar[str] = "y = x / sqrt(mean(x**2) + eps) * weight"
    drawn: ClassVar[Drawn] = Drawn(merge=Merge.CELL)
    details = by_label
    wired_weights: ClassVar[tuple[str, ...]] = ("weight",)
    side_by_side: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    eps: float = Field(default=1e-6, gt=0)

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        need_rank(ins["x"], 1, "x")
        return {"y": ins["x"]}

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], 1, "x")
        return {"weight": Weight((ins["x"].shape[-1],), ONES, WeightKind.PRODUCT)}

    def vectors(self, ins: Types) -> Size:
        return rows(ins["x"])

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        return [product_of(2 * ins["x"].numel, "x", "weight")]

    def keep(self, tape: Tape, execution: Execution) -> Value:
        x = tape.cast(execution.x, FLOAT)
        if x.grad or (tape.fused and execution.grad):
            tape.keep(x)
            tape.keep_new(rows(execution.types["x"]), FLOAT)
        if execution.ins["weight"].grad and not tape.fused:
            tape.keep_new(x.numel, FLOAT)
        if execution.grad and execution.side_by_side:  # the gains are gathered row by row
            tape.keep_new(x.numel, FLOAT)
            tape.keep_new(x.numel, FLOAT)
        return tape.fresh(execution.out.numel, FLOAT, execution.grad)

    def mixed(self, ins: Types) -> list[Size]:
        return [ins["x"].shape[-1]]


class LayerNorm(RMSNorm):
    """Centres each vector, scales it to unit variance, then gain and bias: [..., d] -> [..., d]."""

    op: ClassVar[str] = "layer_norm"
    title: ClassVar[str] = "LayerNorm"
    formula: ClassVar[str] = "y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias"
    wired_weights: ClassVar[tuple[str, ...]] = ("weight", "bias")
    side_by_side: ClassVar[bool] = True
    eps: float = Field(default=1e-5, gt=0)

    def weights(self, ins: Types) -> dict[str, Weight]:
        gain = super().weights(ins)["weight"]
        return {"weight": gain, "bias": Weight(gain.shape, ZEROS, WeightKind.OFFSET)}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        x = tape.cast(execution.x, FLOAT)
        if execution.grad:
            tape.keep(x)
            tape.keep_new(rows(execution.types["x"]), 2 * FLOAT)
        return tape.fresh(execution.out.numel, FLOAT, execution.grad)
