"""Ops that put further tokens between those of a row, and take them apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from dsvgraph import expr
from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size
from dsvgraph.errors import Fault
from dsvgraph.ops.base import CARD, AlongRow, Drawn, Kind, Types, Uncounted, Weightless, by_label
from dsvgraph.ops.decoding import stateless
from dsvgraph.ops.shapes import need_rank, same, shown_size
from dsvgraph.ops.tape import Execution, Tape, Value
from dsvgraph.types import Interleaving, Type, shown

MAX_INSERTED, MAX_AHEAD = 64, 1024


def _number(value: Any) -> Any:
    """Return a number as the text of an expression."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class InterleaveTokens(Weightless, Uncounted, AlongRow):
    """Puts N tokens behind each token of a row: x [B, T, ...], inserted [N, B, T, ...] -> [B, (N+1)*T, ...].

    Token j of ``inserted`` stands j + 1 places behind the one of ``x`` that it belongs to (register tokens: MuToR,
    arXiv 2505.10518). A rotary encoding turns it by the position of that token plus ``ahead``, a number or an
    expression of ``lane``, which is 0 for the tokens of ``x`` and j + 1 for the others. A mask sees it as one more
    position: `key % 2 == 0` are the tokens of ``x`` where N is 1. Decoding leaves the inserted tokens out, where masks
    show that the tokens of ``x`` never see them.
    """

    op: ClassVar[str] = "interleave_tokens"
    kind: ClassVar[Kind] = Kind.JOIN
    title: ClassVar[str] = "interleave"
    formula: ClassVar[str] = "y[(N+1) i] = x[i], y[(N+1) i + j + 1] = inserted[j][i]"
    drawn: ClassVar[Drawn] = CARD
    ports: ClassVar[tuple[str, ...]] = ("x", "inserted")
    may_be_empty: ClassVar[tuple[str, ...]] = ("inserted",)
    open_names: ClassVar[Mapping[str, tuple[str, ...]]] = {"ahead": ("lane",)}
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    decoding_state = stateless
    ahead: Annotated[str | None, BeforeValidator(_number)] = None

    def details(self, ins: Types, outs: Types) -> list[str]:
        count = shown_size(ins["inserted"].shape[0])
        return [f"{count} behind each token", *([f"position + {self.ahead}"] if self.ahead else [])]

    def outputs(self, ins: Types) -> dict[str, Type]:
        x, inserted = ins["x"], ins["inserted"]
        need_rank(x, 2, "x")
        same(inserted.shape[1:], x.shape, "the inserted tokens, but for their first axis, and x differ")
        same(inserted.dtype, x.dtype, "x and the inserted tokens are other kinds of numbers")
        count = inserted.shape[0]
        if isinstance(count, Poly):  # of a page on the op; nothing takes such rows apart
            return {"y": Type((x.shape[0], x.shape[1] * (count + 1), *x.shape[2:]), x.dtype)}
        if count > MAX_INSERTED:
            words = f"behind a token stand at most {MAX_INSERTED} others, found {count}"
            raise Fault(Code.NUMBER_LIMIT, words, about=[inserted])
        places = Interleaving(x.shape[1], (0, *(self._ahead(lane) for lane in range(1, count + 1))))
        return {"y": Type((x.shape[0], places.length, *x.shape[2:]), x.dtype, interleaving=places)}

    def _ahead(self, lane: int) -> int:
        """Return how far ahead of its token's position the token of a lane stands."""
        found = expr.evaluate(expr.parse(self.ahead or "0"), lambda name: lane)
        if isinstance(found, bool) or not isinstance(found, int) or abs(found) > MAX_AHEAD:
            words = f"`ahead` is a whole number of at most {MAX_AHEAD}, found {shown(found)} at lane {lane}"
            raise Fault(Code.BAD_VALUE, words)
        return found

    def keep(self, tape: Tape, execution: Execution) -> Value:
        width = max(value.width for value in execution.ins.values())
        return tape.fresh(execution.out.numel, width, execution.grad)

    def shift(self) -> float:
        return 0

    def mixed(self, ins: Types) -> list[Size]:
        return []


class SeparateTokens(Weightless, Uncounted, AlongRow):
    """Takes inserted tokens apart: [B, (N+1)*T, ...] -> own [B, T, ...], inserted [N, B, T, ...].

    The other way round than `interleave_tokens`; the row must be one that this made.
    """

    op: ClassVar[str] = "separate_tokens"
    kind: ClassVar[Kind] = Kind.VIEW
    title: ClassVar[str] = "separate"
    formula: ClassVar[str] = "own[i] = x[(N+1) i], inserted[j][i] = x[(N+1) i + j + 1]"
    drawn: ClassVar[Drawn] = Drawn(view=True)
    details = by_label
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    decoding_state = stateless

    def outputs(self, ins: Types) -> dict[str, Type]:
        x = ins["x"]
        places = x.interleaving
        if places is None or x.shape[1] != places.length:
            raise Fault(Code.POSITIONS, f"`x` is no row with inserted tokens, found {x}", about=[x])
        own = Type((x.shape[0], places.tokens, *x.shape[2:]), x.dtype)
        return {"own": own, "inserted": Type((places.count - 1, *own.shape), x.dtype)}

    def keep(self, tape: Tape, execution: Execution) -> dict[str, Value]:
        """Note nothing: both outputs are views, whose rows are not contiguous."""
        whole = execution.x
        return {
            port: Value(whole.storage, type_.numel, whole.width, execution.grad, strided=True)
            for port, type_ in execution.outputs.items()
        }

    def shift(self) -> float:
        return 0

    def keeps_apart(self, lanes: int) -> bool:
        return True

    def mixed(self, ins: Types) -> list[Size]:
        return []
