"""The op: everything that dsvgraph asks of it but how it runs."""

from __future__ import annotations

from typing import ClassVar

from dsvgraph.codes import Code
from dsvgraph.dims import Size
from dsvgraph.errors import Fault
from dsvgraph.ops.base import CARD, AlongRow, Drawn, Kind, Product, Types, by_label, product_of
from dsvgraph.ops.decoding import DecodingState, State
from dsvgraph.ops.shapes import need_float, rows, same
from dsvgraph.ops.tape import FLOAT, Execution, Tape, Value
from dsvgraph.types import ONES, ZEROS, AttentionPairs, Type, Weight, WeightKind


class GatedDelta(AlongRow):
    """Gated delta rule: q [B, T, H, K], k [B, T, H, K], v [B, T, H, V], a [B, T, H], b [B, T, H] -> [B, T, H, V].

    Yang et al., arXiv 2412.06464. A head's state S is a matrix [K, V], zero before the first position;
    it forgets by exp(-exp(A_log) softplus(a + dt_bias)) and writes with strength sigmoid(b). Queries and
    keys have unit length, queries are then divided by sqrt(K). FLOPs: 4 B T H K V, for reading the state
    by key and by query; decay and update are pointwise.
    """

    op: ClassVar[str] = "gated_delta"
    kind: ClassVar[Kind] = Kind.ATTENTION
    title: ClassVar[str] = "gated delta rule"
    formula: ClassVar[str] = "S = decay S; S = S + k (strength (v - S^T k))^T; y = S^T q"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    ports: ClassVar[tuple[str, ...]] = ("q", "k", "v", "a", "b")
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    wired_weights: ClassVar[tuple[str, ...]] = ("A_log", "dt_bias")

    def outputs(self, ins: Types) -> dict[str, Type]:
        self._check_ranks(ins)
        q, k, v, a, b = (ins[port] for port in self.ports)
        same(q.shape, k.shape, "q and k differ")
        same(k.shape[:3], v.shape[:3], "k and v differ in batch, positions or heads")
        same(v.shape[:3], a.shape, "v and a differ in batch, positions or heads")
        same(a.shape, b.shape, "a and b differ")
        return {"y": v}

    def _check_ranks(self, ins: Types) -> None:
        for port in self.ports:
            need_float(ins[port], port)
            if ins[port].rank != (3 if port in "ab" else 4):
                axes = "[batch, positions, heads]" if port in "ab" else "[batch, positions, heads, size]"
                raise Fault(Code.AXES, f"`{port}` is {axes}, found {ins[port]}")

    def weights(self, ins: Types) -> dict[str, Weight]:
        self._check_ranks(ins)
        heads = (ins["q"].shape[2],)
        return {"A_log": Weight(heads, ZEROS, WeightKind.OFFSET), "dt_bias": Weight(heads, ONES, WeightKind.OFFSET)}

    def vectors(self, ins: Types) -> Size:
        return rows(ins["a"])

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        once = 2 * ins["q"].numel * ins["v"].shape[3]
        return [
            product_of(once, "k", "k v a b A_log dt_bias"),
            product_of(once, "q", "k v a b A_log dt_bias"),
        ]

    def keep(self, tape: Tape, execution: Execution) -> Value:
        """In float32 whatever the precision: two states a position and the first, and the vectors between them."""
        q, v = execution.types["q"], execution.types["v"]
        gates, keys = execution.types["a"].numel, execution.types["k"].numel
        states = (2 * q.shape[1] + 1) * (q.shape[0] * q.shape[2] * q.shape[3] * v.shape[3])
        if execution.grad:
            tape.keep(*(tape.cast(execution.ins[port], FLOAT) for port in "qk"))
            tape.keep_new(states + 6 * gates + 3 * keys + 2 * v.numel + 2 * q.shape[2], FLOAT)
        return tape.fresh(execution.out.numel, FLOAT, execution.grad)

    def shift(self) -> float:
        return 0

    def decoding_state(self, ins: Types, outs: Types) -> DecodingState:
        q, v = ins["q"], ins["v"]
        return {"state": State(Type((q.shape[0], q.shape[2], q.shape[3], v.shape[3])))}

    def mixed(self, ins: Types) -> list[Size]:
        return [*ins["q"].shape[2:], ins["v"].shape[3]]
