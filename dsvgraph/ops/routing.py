"""Ops that send tokens to some of many copies of a block, and bring the results together."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, ratio
from dsvgraph.errors import Fault
from dsvgraph.ops.base import (
    CARD,
    AlongRow,
    Drawn,
    Kind,
    Positions,
    Product,
    SizeAttr,
    Types,
    Uncounted,
    Weightless,
    by_label,
    product_of,
)
from dsvgraph.ops.decoding import stateless
from dsvgraph.ops.shapes import need_float, need_int, need_rank, rows, same, shown_size
from dsvgraph.ops.tape import FLOAT, LONG, Execution, Storage, Tape, Value
from dsvgraph.types import NORMAL, ZEROS, AttentionPairs, ElementType, Type, Weight, WeightKind


class Routing(AlongRow):
    """Base of the ops that route tokens: each token goes its own way, whatever the others do."""

    kind: ClassVar[Kind] = Kind.ROUTING
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    decoding_state = stateless
    drawn: ClassVar[Drawn] = CARD
    details = by_label

    def shift(self) -> float:
        return 0

    def keeps_apart(self, lanes: int) -> bool:
        return True

    def mixed(self, ins: Types) -> list[Size]:
        return []


class RouterScore(StrEnum):
    """What makes scores of the logits of a router."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


class GroupScore(StrEnum):
    """By what groups of experts are compared: the sum of their two best, or their best."""

    TOP2_SUM = "top2_sum"
    MAX = "max"


class Router(Routing):
    """Scores every expert and chooses ``top_k``: x [B, T, d] -> index int[B, T, K], score [B, T, K].

    DeepSeek-V3, equations 12 to 16: scores are ``sigmoid`` or ``softmax`` of the logits in
    float32, which ``bias`` adds a trained bias to (gpt-oss); ``correction_bias`` adds
    e_score_correction_bias for the selection only; with ``groups`` only the ``top_groups`` best
    groups are open, a group counting its two best (``top2_sum``) or its best (``max``);
    ``normalize`` makes the chosen scores add up to one; ``scaling`` multiplies.
    FLOPs: 2 * rows * experts * d.
    """

    op: ClassVar[str] = "router"
    title: ClassVar[str] = "router"
    formula: ClassVar[str] = "index = topk(s(x weight^T + bias) + correction), score = scaling * s[index] / sum"
    wired_weights: ClassVar[tuple[str, ...]] = ()
    experts: SizeAttr
    top_k: SizeAttr
    groups: SizeAttr = 1
    top_groups: SizeAttr = 1
    score: Literal[RouterScore.SIGMOID, RouterScore.SOFTMAX] = RouterScore.SIGMOID
    normalize: bool = True
    scaling: float = Field(default=1.0, gt=0)
    correction_bias: bool = True
    bias: bool = False
    group_score: Literal[GroupScore.TOP2_SUM, GroupScore.MAX] = GroupScore.TOP2_SUM

    def details(self, ins: Types, outs: Types) -> list[str]:
        groups = f", {shown_size(self.top_groups)} of {shown_size(self.groups)} groups" if self.groups != 1 else ""
        bias = " + bias" if self.correction_bias else ""
        chosen = f"top {shown_size(self.top_k)} of {shown_size(self.experts)}"
        return [f"{self.score} router{bias}  ·  {chosen}{groups}"]

    def outputs(self, ins: Types) -> dict[str, Type]:
        x = ins["x"]
        need_float(x, "x")
        need_rank(x, 3, "x")
        self._check()
        chosen = x.with_last(self.top_k)
        return {"index": Type(chosen.shape, ElementType.INT), "score": chosen}

    def _check(self) -> None:
        e, k, g, kept = self.experts, self.top_k, self.groups, self.top_groups
        if any(isinstance(v, Poly) for v in (e, k, g, kept)):
            return
        if e % g:
            raise Fault(Code.INDIVISIBLE, f"{e} experts do not fall into {g} equal groups", about=[e, g])
        if kept > g:
            raise Fault(Code.INDIVISIBLE, f"`top_groups` is at most `groups`: {kept} against {g}", about=[kept, g])
        if k > e // g * kept:
            words = f"`top_k` is {k}, but only {e // g * kept} experts are open to a token"
            raise Fault(Code.INDIVISIBLE, words, about=[k, e // g * kept])
        if self.group_score is GroupScore.TOP2_SUM and g > 1 and e // g < 2:
            words = f"`top2_sum` needs groups of two experts or more, found {e // g}"
            raise Fault(Code.INDIVISIBLE, words, about=[e // g])

    def weights(self, ins: Types) -> dict[str, Weight]:
        need_rank(ins["x"], 1, "x")
        found = {"weight": Weight((self.experts, ins["x"].shape[-1]), NORMAL, WeightKind.CHOICE)}
        if self.bias:
            found["bias"] = Weight((self.experts,), ZEROS, WeightKind.CHOICE)
        if self.correction_bias:
            found["e_score_correction_bias"] = Weight((self.experts,), ZEROS, WeightKind.CHOICE, trained=False)
        return found

    def vectors(self, ins: Types) -> Size:
        return rows(ins["x"])

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        return [product_of(2 * (ins["x"].numel * self.experts), "x", "weight")]

    def keep(self, tape: Tape, execution: Execution) -> dict[str, Value]:
        """Note x, the scores of all experts, the chosen ones and their sum: in float32, whatever the precision."""
        x, chosen, tokens = tape.cast(execution.x, FLOAT), execution.outputs["index"].numel, rows(execution.types["x"])
        index = Value(Storage(chosen, LONG), chosen, LONG, False)
        if execution.ins["weight"].grad:
            tape.keep(x)
        if execution.grad:
            tape.keep(index)
            tape.keep_new(tokens * self.experts, FLOAT)
            if self.normalize:
                tape.keep_new(chosen + tokens, FLOAT)
            if tape.balanced:
                tape.keep_new(chosen, LONG)
                tape.keep_new(tokens + execution.types["x"].shape[0] * self.experts, FLOAT)
        return {"index": index, "score": tape.fresh(chosen, FLOAT, execution.grad)}


def _share(index: Type, experts: Size) -> Size:
    """Return how many tokens one expert receives on average: choices over experts."""
    return ratio(index.numel, experts)


class Dispatch(Weightless, Uncounted, Routing):
    """Sends every token to its experts: x [B, T, d], index int[B, T, K] -> [experts, S, d].

    S is the number of tokens an expert receives, B T K / experts on average; nothing is
    dropped and nothing is padded.
    """

    op: ClassVar[str] = "dispatch"
    title: ClassVar[str] = "dispatch"
    formula: ClassVar[str] = "y[e] = x[index == e]"
    ports: ClassVar[tuple[str, ...]] = ("x", "index")
    positions: ClassVar[Positions] = Positions(along=True, sorts="index")
    experts: SizeAttr

    def outputs(self, ins: Types) -> dict[str, Type]:
        x, index = ins["x"], ins["index"]
        need_float(x, "x")
        need_rank(x, 3, "x")
        need_int(index, "index")
        same(x.shape[:-1], index.shape[:-1], "x and index differ in positions")
        return {"y": Type((self.experts, _share(index, self.experts), x.shape[-1]))}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        if execution.x.grad:
            tape.keep_new(execution.ins["index"].numel, LONG)
        return tape.fresh(execution.out.numel, execution.x.width, execution.x.grad)


class Combine(Weightless, Uncounted, Routing):
    """Brings the experts' results back, weighted:
    x [experts, B*T*K/experts, d], index int[B, T, K], score [B, T, K] -> [B, T, d].
    """

    op: ClassVar[str] = "combine"
    title: ClassVar[str] = "combine"
    formula: ClassVar[str] = "y[t] = sum_k score[t, k] * x[index[t, k]]"
    ports: ClassVar[tuple[str, ...]] = ("x", "index", "score")
    positions: ClassVar[Positions] = Positions(along=False, unsorts="index")

    def outputs(self, ins: Types) -> dict[str, Type]:
        x, index, score = ins["x"], ins["index"], ins["score"]
        need_int(index, "index")
        if x.rank != 3:
            raise Fault(Code.AXES, f"`x` is [experts, tokens, size], found {x}", about=[x])
        same(index.shape, score.shape, "index and score differ")
        same(rows(x), index.numel, "tokens sent and tokens brought back differ")
        return {"y": score.with_last(x.shape[-1])}

    def keeps_first(self, port: str, ins: Types) -> bool:
        return ins[port].rank > 1

    def keep(self, tape: Tape, execution: Execution) -> Value:
        x, score = execution.ins["x"], execution.ins["score"]
        if x.grad:
            tape.keep_new(execution.ins["index"].numel, LONG)
        tape.product(tape.fresh(x.numel, x.width, x.grad), tape.cast(score, x.width))
        tape.fresh(x.numel, x.width)  # weighed, before it is summed
        return tape.fresh(execution.out.numel, x.width, execution.grad)
