"""Attention: along the row, and along a stack at each position alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, product
from dsvgraph.errors import Fault
from dsvgraph.ops import masks
from dsvgraph.ops.base import (
    CARD,
    AlongRow,
    Drawn,
    Kind,
    PerPosition,
    Product,
    SizeAttr,
    Types,
    Weightless,
    product_of,
)
from dsvgraph.ops.decoding import DecodingState, Past
from dsvgraph.ops.shapes import need_float, rows, same, shown_size
from dsvgraph.ops.tape import FLOAT, Execution, Tape, Value
from dsvgraph.types import NORMAL, AttentionPairs, Type, Weight, WeightKind


class Attention(AlongRow):
    """Scaled dot-product attention: q [B, T, H, Q], k [B, T, G, Q], v [B, T, G, V] -> [B, T, H, V].

    Vaswani et al., arXiv 1706.03762; G divides H (grouped queries, arXiv 2305.13245). Keys and values
    may be of another row, [B, S, ...], where ``causal`` is false (an encoder's).
    ``window`` W lets a position see the last W, itself included; ``sinks`` adds a learned logit
    per head, [H], to the softmax's denominator, so that a head may look at nothing (gpt-oss;
    arXiv 2309.17453). FLOPs: 2 B H P (Q + V) for P pairs of a query and a key that it sees: T T / 2 if causal,
    T W - W W / 2 with a window W of at most T. ``full`` counts for each query as many keys as the one with
    the most has: P = T T, or T W.
    ``mask`` is a condition on the positions ``query`` and ``key`` in their document, such as `key // 8 == query // 8`,
    with + - * // %, comparisons, and, or, not; a key is seen where it and ``causal`` and ``window`` hold, and a query
    that sees none gives zeros. How far ahead it lets a query look is decided exactly, or the mask is refused. FLOPs do
    not deduct what it hides, which a kernel that takes a mask computes too.
    """

    op: ClassVar[str] = "attention"
    kind: ClassVar[Kind] = Kind.ATTENTION
    title: ClassVar[str] = "attention"
    formula: ClassVar[str] = "y = softmax(scale * q k^T + mask) v"
    drawn: ClassVar[Drawn] = CARD
    wired_weights: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    open_names: ClassVar[Mapping[str, tuple[str, ...]]] = {"mask": masks.NAMES}
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    scale: float | None = None
    causal: bool = True
    window: SizeAttr | None = None
    sinks: bool = False
    mask: str | None = None

    def details(self, ins: Types, outs: Types) -> list[str]:
        sinks = ", each a sink" if self.sinks else ""
        seen = [f"mask {self.mask}"] if self.mask else []
        return ["softmax( s · q kᵀ + mask ) v", f"{shown_size(outs['y'].shape[2])} heads{sinks}", *seen]

    def weights(self, ins: Types) -> dict[str, Weight]:
        self._check_ranks(ins)
        return {"sinks": Weight((ins["q"].shape[2],), NORMAL, WeightKind.OFFSET)} if self.sinks else {}

    def outputs(self, ins: Types) -> dict[str, Type]:
        self._check_ranks(ins)
        q, k, v = ins["q"], ins["k"], ins["v"]
        self._check_rows(q, k)
        same(k.shape[:3], v.shape[:3], "k and v differ in batch, positions or heads")
        same(q.shape[3], k.shape[3], "q and k differ in the size of a head")
        check_groups(q.shape[2], k.shape[2])
        self.shift()  # a mask of which it is not decided is refused
        return {"y": Type((*q.shape[:3], v.shape[3]))}

    def _check_rows(self, q: Type, k: Type) -> None:
        """Raise ValueError unless every query has keys: of its own row, or of another one as a whole."""
        if self.causal or self.window or self.mask:
            words = "q and k differ in batch or positions, so no key is before a query: "
            words += "attention over another row is `causal: false`, without a window or a mask"
            same(q.shape[:2], k.shape[:2], words)
        same(q.shape[:1], k.shape[:1], "q and k differ in batch")

    def _check_ranks(self, ins: Types) -> None:
        for port in self.ports:
            need_float(ins[port], port)
            if ins[port].rank != 4:
                words = f"`{port}` is [batch, positions, heads, size], found {ins[port]}"
                raise Fault(Code.AXES, words, about=[ins[port]])

    def vectors(self, ins: Types) -> Size:
        return rows(ins["q"], 2)

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        """Return the product of queries and keys, and that of attention weights and values."""
        batch, length, heads, size = ins["q"].shape
        keys = ins["k"].shape[1]
        twice = self._twice_pairs(length, pairs) if keys == length else 2 * length * keys
        scores, mixed = batch * heads * twice * size, batch * heads * twice * ins["v"].shape[3]
        return [product_of(scores, "q", "k"), product_of(mixed, "q k sinks", "v")]

    def _twice_pairs(self, length: Size, pairs: AttentionPairs) -> Size:
        """Return twice the number of pairs of a query and a key in one row. Assume that a window fits into the row."""
        square, window = length * length, length if self.window is None else self.window
        if pairs is AttentionPairs.SQUARE or (pairs is AttentionPairs.FULL and not self.causal):
            return 2 * square
        if pairs is AttentionPairs.FULL:
            return 2 * length * window
        hidden = length - window  # keys that the window keeps from the last query
        return (square - hidden * hidden) if self.causal else (2 * square - hidden * (hidden + 1))

    def keep(self, tape: Tape, execution: Execution) -> Value:
        """Note what a fused kernel keeps: queries, keys, values and the result at one width, and a number per row."""
        q, v = execution.types["q"], execution.types["v"]
        batch, length, heads, wide = *q.shape[:3], _wider(q.shape[-1], v.shape[-1])
        extra = 8 if self.sinks else 0
        if execution.grad:
            for port in self.ports:
                tape.keep_new(rows(execution.types[port], 1) * (wide + extra), tape.low)
            tape.keep_new(batch * length * heads, FLOAT)
            if self.sinks or self.window or self.mask:  # a mask that is written out
                tape.keep_new(length * execution.types["k"].shape[1], tape.low)
        whole = tape.fresh(batch * length * heads * (wide + extra), tape.low, execution.grad)
        if execution.grad:
            tape.keep(whole)
        if self.mask and not self.sinks:  # queries that see nothing are set to zero, in a copy
            return tape.fresh(execution.out.numel, tape.low, execution.grad)
        return replace(whole, numel=execution.out.numel, strided=bool(extra) or wide != v.shape[-1])

    @property
    def seen(self) -> str:
        """Return the mask, the causal one included; nothing where every query sees every key."""
        causal = "key <= query" if self.causal else ""
        return f"({self.mask}) and {causal}" if self.mask and causal else self.mask or causal

    def shift(self) -> float:
        return self._ahead(1)

    def _ahead(self, lanes: int) -> float:
        return masks.horizon(self.seen, lanes) if self.mask else 0 if self.causal else math.inf

    def looks(self, port: str, lanes: int = 1) -> float:
        """Return 0 for the query, which is of its own position; keys and values are of all positions that it sees."""
        return 0 if port == "q" else self._ahead(lanes)

    def keeps_apart(self, lanes: int) -> bool:
        return lanes == 1 or (self.window is None and masks.lanes_alone(self.seen or "key == key", lanes))

    def on_own_tokens(self) -> Attention:
        return self.model_copy(update={"causal": True, "mask": None})

    def decoding_state(self, ins: Types, outs: Types) -> DecodingState:
        """Return all keys and values, though a window reads only some: a draft's positions can be taken back."""
        kept = Past(read=self.window)
        return {"k": kept, "v": kept} if self.shift() <= 0 else {}

    def mixed(self, ins: Types) -> list[Size]:
        return [*ins["q"].shape[2:], *ins["v"].shape[2:]]


class StackAttention(Weightless, PerPosition):
    """Attention along a stack: q [N, B, T, H, Q], k [N, B, T, G, Q], v [N, B, T, G, V] -> [N, B, T, H, V].

    Each position is for itself: a piece of the stack sees the pieces of its position up to its own, or all of them
    where ``causal`` is false, and no other position. G divides H. So a head reads what heads before it read (JTP,
    arXiv 2503.21801), and a layer reads the layers before it.
    FLOPs: 2 B T H P (Q + V) for P pairs of pieces: N (N + 1) / 2 if causal. ``full`` counts N N.
    """

    op: ClassVar[str] = "stack_attention"
    kind: ClassVar[Kind] = Kind.ATTENTION
    title: ClassVar[str] = "attention along the stack"
    formula: ClassVar[str] = "y[i] = sum over j <= i of softmax_j(scale * q[i] k[j]) v[j]"
    drawn: ClassVar[Drawn] = CARD
    ports: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    scale: float | None = None
    causal: bool = True

    @property
    def cumulative(self) -> bool:
        return self.causal

    def details(self, ins: Types, outs: Types) -> list[str]:
        count, heads = outs["y"].shape[0], outs["y"].shape[3]
        seen = "pieces up to its own" if self.causal else "pieces"
        return [f"softmax( s · q kᵀ ) v over {seen}", f"{shown_size(count)} pieces, {shown_size(heads)} heads"]

    def outputs(self, ins: Types) -> dict[str, Type]:
        q, k, v = (ins[port] for port in self.ports)
        for port in self.ports:
            need_float(ins[port], port)
            if ins[port].rank != 5:
                words = f"`{port}` is [pieces, batch, positions, heads, size], found {ins[port]}"
                raise Fault(Code.AXES, words, about=[ins[port]])
        same(q.shape[:3], k.shape[:3], "q and k differ in pieces, batch or positions")
        same(k.shape[:4], v.shape[:4], "k and v differ in pieces, batch, positions or heads")
        same(q.shape[4], k.shape[4], "q and k differ in the size of a head")
        check_groups(q.shape[3], k.shape[3])
        return {"y": Type((*q.shape[:4], v.shape[4]))}

    def products(self, ins: Types, outs: Types, pairs: AttentionPairs = AttentionPairs.CAUSAL) -> list[Product]:
        count, batch, length, heads, size = ins["q"].shape
        causal = self.causal and pairs is AttentionPairs.CAUSAL
        each = batch * length * heads * (count * (count + 1) if causal else 2 * count * count)
        return [product_of(each * size, "q", "k"), product_of(each * ins["v"].shape[4], "q k", "v")]

    def keep(self, tape: Tape, execution: Execution) -> Value:
        """Note what a fused kernel keeps: see `Attention.keep`. Rows are positions, their keys the pieces."""
        q, v = execution.types["q"], execution.types["v"]
        wide = _wider(q.shape[-1], v.shape[-1])
        if execution.grad:
            for port in self.ports:
                tape.keep_new(product(execution.types[port].shape[:4]) * wide, tape.low)
            tape.keep_new(product(q.shape[:4]), FLOAT)
        whole = tape.fresh(product(q.shape[:4]) * wide, tape.low, execution.grad)
        if execution.grad:
            tape.keep(whole)
        return replace(whole, numel=execution.out.numel, strided=True)

    def keeps_first(self, port: str, ins: Types) -> bool:
        return False

    def mixed(self, ins: Types) -> list[Size]:
        return [ins["q"].shape[0], *ins["q"].shape[3:], *ins["v"].shape[3:]]


def check_groups(heads: Size, groups: Size) -> None:
    """Raise ValueError unless groups of keys and values share the query heads evenly."""
    symbolic = isinstance(heads, Poly) or isinstance(groups, Poly)
    if not symbolic and heads % groups:  # type: ignore[operator]
        words = f"{heads} query heads cannot be shared by {groups} key-value heads"
        raise Fault(Code.INDIVISIBLE, words, about=[heads, groups])


def _wider(a: Size, b: Size) -> Size:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else a
