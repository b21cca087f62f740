"""Ops that know the place of a position in its row: rotary encoding, shift, overwriting."""

from __future__ import annotations

import math
from functools import partial
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
    Types,
    Uncounted,
    Weightless,
    by_label,
)
from dsvgraph.ops.decoding import DecodingState, Past, stateless
from dsvgraph.ops.shapes import need_float, need_rank, shown_size
from dsvgraph.ops.tape import BYTE, FLOAT, HALF, Execution, Tape, Value
from dsvgraph.types import Type, as_size, shown

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

    def keeps_apart(self, lanes: int) -> bool:
        return True

    def mixed(self, ins: Types) -> list[Size]:
        return [ins["x"].shape[-1]]


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


class Overwrite(Weightless, Uncounted, AlongRow):
    """Puts a number in place of every position from ``start`` on: [B, T, ...] -> the same.

    Positions count from 0 in every document where rows are packed. With the id of a token that stands for nothing,
    inputs of an answer that begins at a fixed position are hidden, and all its tokens are predicted from the prompt
    alone (teacherless training; Bachmann and Nagarajan, arXiv 2403.06963, section 5).
    """

    op: ClassVar[str] = "overwrite"
    kind: ClassVar[Kind] = Kind.ARITHMETIC
    title: ClassVar[str] = "overwrite"
    formula: ClassVar[str] = "y[i] = x[i] where i < start, value elsewhere"
    drawn: ClassVar[Drawn] = CARD
    details = by_label
    side_by_side: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    decoding_state = stateless
    start: Annotated[Any, BeforeValidator(partial(as_size, least=0))]
    value: int = 0

    def label(self) -> str:
        return f"{self.title} from {shown_size(self.start)}"

    def outputs(self, ins: Types) -> dict[str, Type]:
        need_rank(ins["x"], 2, "x")
        return {"y": ins["x"]}

    def keep(self, tape: Tape, execution: Execution) -> Value:
        """Note which positions are overwritten, where a gradient passes the others."""
        if execution.grad:
            tape.keep_new(execution.out.shape[1], BYTE)
        return tape.fresh(execution.out.numel, execution.x.width, execution.grad)

    def shift(self) -> float:
        return 0

    def mixed(self, ins: Types) -> list[Size]:
        return []
