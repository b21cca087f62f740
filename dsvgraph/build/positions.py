"""Rows of the batch and positions stay what they are: no op mixes them with features, or parts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from dsvgraph.codes import Code
from dsvgraph.dims import Size, names
from dsvgraph.errors import Fault
from dsvgraph.ops import Op
from dsvgraph.types import Type, Weight


def check(
    op: Op, ins: Mapping[str, Type], weights: Mapping[str, Weight], running: Set[str], lengths: Sequence[Size]
) -> None:
    """Raise ValueError if ``op`` would mix positions, or look along an axis that is none.

    ``running`` names the sizes that are known only when the model runs, ``lengths`` are those of rows.
    """
    first = ins.get(op.ports[0])
    if op.positions.along and first and (not {*first.shape[1:2]} & {*lengths} or first.order):
        raise Fault(
            Code.POSITIONS, f"`{op.op}` looks along axis 1, which must be positions, found {first}", about=[first]
        )
    for size in op.mixed(ins):
        if names(size) & running:
            words = f"would mix along {size}, which counts {_counted(size, lengths)}, not features"
            raise Fault(Code.POSITIONS, f"`{op.op}` {words}", about=[size])
    for size in op.moved(ins):
        if names(size) & running:
            words = f"would move {size}, which counts {_counted(size, lengths)}"
            words = f"{words}: rows and positions stay side by side, in this order"
            raise Fault(Code.POSITIONS, f"`{op.op}` {words}", about=[size])
    for name, weight in weights.items():
        if any(names(size) & running for size in weight.shape):
            raise Fault(
                Code.TOO_LATE, f"the size of `{name}` would depend on the input: {weight.type}", about=[weight.type]
            )


def _counted(size: Size, lengths: Sequence[Size]) -> str:
    """Return what an axis of a size that is known only when the model runs counts."""
    return "positions" if any(names(size) & names(length) for length in lengths) else "rows of the batch"
