"""Ops that look along the row: position encoding, attention, shift."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size
from dsvgraph.errors import Fault
from dsvgraph.ops.base import (
    CARD,
    AlongRow,
    Drawn,
    Kind,
    Product,
    SizeAttr,
    Types,
    Uncounted,
    Weightless,
    by_label,
    product_of,
)
from dsvgraph.ops.decoding import DecodingState, Past, stateless
from dsvgraph.ops.shapes import need_float, need_rank, rows, same, shown_size
from dsvgraph.ops.tape import FLOAT, HALF, Execution, Tape, Value
from dsvgraph.types import NORMAL, AttentionPairs, Type, Weight, WeightKind, shown

LARGEST = 1e24  # radians a position: a row of 2**40 positions stays below the largest float32
SCALINGS: dict[str, tuple[list[str], list[str]]] = {  # what each kind of scaling needs, and what else it may say
    "linear": (["factor"], []),
    "llama3": (["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"], []),
    "yarn": (
        ["factor", "original_max_position_embeddings"],
        ["beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"],
    ),
}


def _scaling(value: Any) -> Any:
    """Return the ``rope_scaling`` of a config.json as it is. Raise ValueError unless it is one that is known."""
    if not isinstance(value, dict):
        return value  # the type of the attribute says what is wrong
    given = {k: v for k, v in value.items() if v is not None}
    kinds = [given.pop(k) for k in ("rope_type", "type") if k in given]
    if kinds[1:] and kinds[0] != kinds[1]:
        words = f"`rope_type` is `{shown(kinds[0])}` and `type` is `{shown(kinds[1])}`"
        raise Fault(Code.BAD_VALUE, words, step="type")
    if kinds[:1] == ["default"] or not (kinds or given):
        return value
    kind, said = kinds[0] if kinds else None, next((k for k in ("rope_type", "type") if k in value), "")
    if not isinstance(kind, str) or kind not in SCALINGS:
        words = f"`type` of rope scaling is {', '.join(SCALINGS)} or default, found `{shown(kind)}`"
        raise Fault(Code.BAD_VALUE, words, step=said)
    needed, others = SCALINGS[kind]
    if lost := [k for k in needed if k not in given]:
        raise Fault(Code.MISSING_ATTRIBUTE, f"rope scaling `{kind}` needs `{lost[0]}`", step=said)
    for name, number in given.items():
        if name not in needed + others:
            words = f"rope scaling `{kind}` has no `{name}`; it has {', '.join(needed + others)}"
            raise Fault(Code.NO_ATTRIBUTE, words, step=name)
        _check_scale(name, number)
    if kind == "llama3" and not _below(given["low_freq_factor"], given["high_freq_factor"]):
        words = "`low_freq_factor` of rope scaling `llama3` is below `high_freq_factor`"
        raise Fault(Code.BAD_VALUE, words, step="high_freq_factor")
    return value


def _below(low: Any, high: Any) -> bool:
    """Return whether one number is below another; of numbers that are not known yet, whether they may be."""
    known = not any(isinstance(n, Poly) or math.isnan(n) for n in (low, high))
    return low < high if known else low is not high


def _check_scale(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` can be the number ``name`` of a scaling."""
    if name == "truncate":
        if not isinstance(value, bool):
            words = f"`truncate` of rope scaling is true or false, found `{shown(value)}`"
            raise Fault(Code.BAD_VALUE, words, step=name)
        return
    unknown = isinstance(value, float) and math.isnan(value)  # a config name that is symbolic
    if isinstance(value, Poly):
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Fault(Code.BAD_VALUE, f"`{name}` of rope scaling is a number, found `{shown(value)}`", step=name)
    if not unknown and value <= 0 and not name.startswith("mscale"):
        raise Fault(Code.BAD_VALUE, f"`{name}` of rope scaling is above zero, found {value}", step=name)


class Rope(Weightless, Uncounted, AlongRow):
    """Rotary position embedding of the last axis: [B, T, ..., R] -> the same.

    Su et al., arXiv 2104.09864. ``interleave`` rotates adjacent pairs (DeepSeek's layout),
    otherwise halves (Llama's). ``scaling`` is Hugging Face's ``rope_scaling``: `linear`, `llama3` or
    `yarn` with their numbers.
    """

    op: ClassVar[str] = "rope"
    kind: ClassVar[Kind] = Kind.POSITION
    title: ClassVar[str] = "RoPE"
    formula: ClassVar[str] = "y[2i:2i+2] = rotation(position * theta**(-2i/R)) x[2i:2i+2]"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    decoding_state = stateless
    theta: float = Field(default=10000.0, gt=0)
    interleave: bool = False
    scaling: Annotated[dict[str, Any] | None, BeforeValidator(_scaling)] = None

    @property
    def scaled(self) -> dict[str, Any] | None:
        """Return the scaling as its type and its numbers alone; None if nothing is scaled."""
        given = {k: v for k, v in (self.scaling or {}).items() if v is not None}
        kinds = [given.pop(k) for k in ("rope_type", "type") if k in given]
        return {"type": kinds[0], **given} if kinds and kinds[0] != "default" else None

    def outputs(self, ins: Types) -> dict[str, Type]:
        x = ins["x"]
        need_float(x, "x")
        need_rank(x, 3, "x")
        self._check_range()
        if self.theta == 1 and (self.scaled or {}).get("type") == "yarn":
            raise Fault(Code.BAD_VALUE, "`yarn` divides by the logarithm of `theta`, so `theta` is not 1")
        if isinstance(x.shape[-1], int) and x.shape[-1] % 2:
            words = f"rope turns pairs, so the last axis must be even, found {x}"
            raise Fault(Code.INDIVISIBLE, words, "an even number", x.shape[-1], about=[x])
        return {"y": x}

    def _check_range(self) -> None:
        """Raise ValueError if an angle of a long row would be no number in float32."""
        factor = (self.scaled or {}).get("factor", 1)
        known = 1 if isinstance(factor, Poly) or math.isnan(factor) else factor
        if not math.isnan(self.theta) and max(1.0, 1 / self.theta) / min(1, known) > LARGEST:
            raise Fault(Code.BAD_VALUE, f"the angles of `rope` overflow: `theta` {self.theta:g}, factor {known:g}")

    def keep(self, tape: Tape, execution: Execution) -> Value:
        """Note cosines and sines: in 32 bits all layers share them, in 16 each has its own copy."""
        tables = execution.out.shape[1] * execution.out.shape[-1]
        if execution.grad and execution.x.width == HALF:
            tape.keep_new(tables, HALF)
        elif execution.grad:
            what = ("rope", execution.out.shape[1], execution.out.shape[-1], self.theta, repr(self.scaling))
            tape.keep_shared(what, tables, FLOAT)
        return tape.fresh(execution.out.numel, execution.x.width, execution.grad)

    def shift(self) -> float:
        return 0

    def mixed(self, ins: Types) -> list[Size]:
        return [ins["x"].shape[-1]]


class Attention(AlongRow):
    """Scaled dot-product attention: q [B, T, H, Q], k [B, T, G, Q], v [B, T, G, V] -> [B, T, H, V].

    Vaswani et al., arXiv 1706.03762; G divides H (grouped queries, arXiv 2305.13245). Keys and values
    may be of another row, [B, S, ...], where ``causal`` is false (an encoder's).
    ``window`` W lets a position see the last W, itself included; ``sinks`` adds a learned logit
    per head, [H], to the softmax's denominator, so that a head may look at nothing (gpt-oss;
    arXiv 2309.17453). FLOPs: 2 B H P (Q + V) for P pairs of a query and a key that it sees: T T / 2 if causal,
    T W - W W / 2 with a window W of at most T. ``full`` counts for each query as many keys as the one with
    the most has: P = T T, or T W.
    """

    op: ClassVar[str] = "attention"
    kind: ClassVar[Kind] = Kind.ATTENTION
    title: ClassVar[str] = "attention"
    formula: ClassVar[str] = "y = softmax(scale * q k^T + mask) v"
    drawn: ClassVar[Drawn] = CARD
    wired_weights: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    scale: float | None = None
    causal: bool = True
    window: SizeAttr | None = None
    sinks: bool = False

    def details(self, ins: Types, outs: Types) -> list[str]:
        sinks = ", each a sink" if self.sinks else ""
        return ["softmax( s · q kᵀ + mask ) v", f"{shown_size(outs['y'].shape[2])} heads{sinks}"]

    def weights(self, ins: Types) -> dict[str, Weight]:
        self._check_ranks(ins)
        return {"sinks": Weight((ins["q"].shape[2],), NORMAL, WeightKind.OFFSET)} if self.sinks else {}

    def outputs(self, ins: Types) -> dict[str, Type]:
        self._check_ranks(ins)
        q, k, v = ins["q"], ins["k"], ins["v"]
        self._check_rows(q, k)
        same(k.shape[:3], v.shape[:3], "k and v differ in batch, positions or heads")
        same(q.shape[3], k.shape[3], "q and k differ in the size of a head")
        self._check_groups(q.shape[2], k.shape[2])
        return {"y": Type((*q.shape[:3], v.shape[3]))}

    def _check_rows(self, q: Type, k: Type) -> None:
        """Raise ValueError unless every query has keys: of its own row, or of another one as a whole."""
        if self.causal or self.window:
            words = "q and k differ in batch or positions, so no key is before a query: "
            words += "attention over another row is `causal: false`, without a window"
            same(q.shape[:2], k.shape[:2], words)
        same(q.shape[:1], k.shape[:1], "q and k differ in batch")

    def _check_ranks(self, ins: Types) -> None:
        for port in self.ports:
            need_float(ins[port], port)
            if ins[port].rank != 4:
                words = f"`{port}` is [batch, positions, heads, size], found {ins[port]}"
                raise Fault(Code.AXES, words, about=[ins[port]])

    @staticmethod
    def _check_groups(heads: Size, groups: Size) -> None:
        symbolic = isinstance(heads, Poly) or isinstance(groups, Poly)
        if not symbolic and heads % groups:  # type: ignore[operator]
            words = f"{heads} query heads cannot be shared by {groups} key-value heads"
            raise Fault(Code.INDIVISIBLE, words, about=[heads, groups])

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
            if self.sinks or self.window:  # a mask that is written out
                tape.keep_new(length * execution.types["k"].shape[1], tape.low)
        whole = tape.fresh(batch * length * heads * (wide + extra), tape.low, execution.grad)
        if execution.grad:
            tape.keep(whole)
        return replace(whole, numel=execution.out.numel, strided=bool(extra) or wide != v.shape[-1])

    def shift(self) -> float:
        return 0 if self.causal else math.inf

    def looks(self, port: str) -> float:
        """Return 0 for the query, which is of its own position; keys and values are of all positions that it sees."""
        return 0 if port == "q" else self.shift()

    def decoding_state(self, ins: Types, outs: Types) -> DecodingState:
        """Return all keys and values, though a window reads only some: a draft's positions can be taken back."""
        kept = Past(read=self.window)
        return {"k": kept, "v": kept} if self.causal else {}

    def mixed(self, ins: Types) -> list[Size]:
        return [*ins["q"].shape[2:], *ins["v"].shape[2:]]


def _wider(a: Size, b: Size) -> Size:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else a


class Shift(Weightless, Uncounted, AlongRow):
    """Moves a row ``by`` positions to the left: [B, T, ...] -> the same.

    Position i holds what i + by held; the last ``by`` positions, of every document where rows are
    packed, are ``fill``. This is how a multi-token-prediction depth reads a future token
    (DeepSeek-V3, arXiv 2412.19437, 2.2).
    """

    op: ClassVar[str] = "shift"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "shift"
    formula: ClassVar[str] = "y[i] = x[i + by]"
    drawn: ClassVar[Drawn] = Drawn(view=True)
    details = by_label
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    by: int = Field(default=1, ge=-1024, le=1024)
    fill: int = 0

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 2, "x")
        return {"y": ins["x"]}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        return tape.fresh(execution.out.numel, execution.x.width, execution.grad)

    def shift(self) -> float:
        return self.by

    def decoding_state(self, ins: Types, outs: Types) -> DecodingState:
        return {"x": Past(-self.by, 1 - self.by)} if self.by < 0 else {}

    def mixed(self, ins: Types) -> list[Size]:
        return []
