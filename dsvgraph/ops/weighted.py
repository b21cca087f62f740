"""Ops with weights that act on one position at a time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dsvgraph.codes import Code
from dsvgraph.dims import Size, product
from dsvgraph.errors import Fault
from dsvgraph.ops.base import Op, SizeAttr, Types, need_float, need_int, need_rank, rows
from dsvgraph.ops.memory import nothing
from dsvgraph.types import NORMAL, ONES, ZEROS, Type, Weight, as_size


def _sizes(value: object) -> tuple[Size, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(as_size(v) for v in items)


class Embedding(Op):
    """Looks up one row of a table per token id: int[...] -> [..., dim].

    A lookup has no FLOPs.
    """

    op: ClassVar[str] = "embedding"
    formula: ClassVar[str] = "y = weight[x]"
    remembers = nothing
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
        return {"weight": Weight((self.num, self.dim), NORMAL)}

    def _wired(self, table: Type) -> Weight:
        if table.rank != 2:
            raise Fault(Code.AXES, f"an embedding's weight has two axes, [num, dim], found {table}")
        return Weight((self.num or table.shape[0], self.dim or table.shape[1]), NORMAL)


class Linear(Op):
    """Matrix product over the last ``contract`` axes: [..., in] -> [..., out].

    ``out`` is a size or a list of sizes; the weight is [prod(out), prod(in)], as checkpoints
    store it. FLOPs: 2 * rows * in * out.
    """

    op: ClassVar[str] = "linear"
    formula: ClassVar[str] = "y = x weight^T + bias"
    remembers = nothing
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
        width = product(ins["x"].shape[ins["x"].rank - self.contract :])
        found = {"weight": Weight((product(self.out), width), NORMAL)}
        if self.bias:
            found["bias"] = Weight((product(self.out),), ZEROS)
        return found

    def flops(self, ins: Types, outs: Types, attention: str = "causal") -> Size:
        width = product(ins["x"].shape[ins["x"].rank - self.contract :])
        return 2 * rows(ins["x"], self.contract) * width * product(self.out)

    def mixed(self, ins: Types) -> list[Size]:
        return list(ins["x"].shape[ins["x"].rank - self.contract :])


class Affine(Op):
    """A learned gain and offset: [..., a, b] -> the same, with numbers of their own along the last ``axes``.

    With ``scalar`` one gain serves all, [1] (ReZero, arXiv 2003.04887; else LayerScale, arXiv
    2103.17239); ``bias`` false leaves out the offset. No FLOPs: it is pointwise.
    """

    op: ClassVar[str] = "affine"
    formula: ClassVar[str] = "y = weight * x + bias"
    remembers = nothing
    axes: int = Field(default=1, ge=1, le=8)
    scalar: bool = False
    bias: bool = True

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        need_rank(ins["x"], self.axes, "x")
        return {"y": ins["x"]}

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], self.axes, "x")
        own = ins["x"].shape[ins["x"].rank - self.axes :]
        found = {"weight": Weight((1,) if self.scalar else own, ONES)}
        return {**found, "bias": Weight(own, ZEROS)} if self.bias else found

    def mixed(self, ins: Types) -> list[Size]:
        return list(ins["x"].shape[ins["x"].rank - self.axes :])


class RMSNorm(Op):
    """Scales each vector to unit root mean square, then by a gain: [..., d] -> [..., d].

    Zhang and Sennrich, arXiv 1910.07467. FLOPs: 2 per element, for the gain, as the 6N rule
    counts every weight.
    """

    op: ClassVar[str] = "rms_norm"
    formula: ClassVar[str] = "y = x / sqrt(mean(x**2) + eps) * weight"
    remembers = nothing
    eps: float = Field(default=1e-6, gt=0)

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_float(ins["x"], "x")
        need_rank(ins["x"], 1, "x")
        return {"y": ins["x"]}

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], 1, "x")
        return {"weight": Weight((ins["x"].shape[-1],), ONES)}

    def flops(self, ins: Types, outs: Types, attention: str = "causal") -> Size:
        return 2 * ins["x"].numel

    def mixed(self, ins: Types) -> list[Size]:
        return [ins["x"].shape[-1]]


class LayerNorm(RMSNorm):
    """Centres each vector, scales it to unit variance, then gain and bias: [..., d] -> [..., d]."""

    op: ClassVar[str] = "layer_norm"
    formula: ClassVar[str] = "y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias"
    eps: float = Field(default=1e-5, gt=0)

    def weights(self, ins: Types) -> dict[str, Weight]:
        gain = super().weights(ins)["weight"]
        return {"weight": gain, "bias": Weight(gain.shape, ZEROS)}
