"""Rules that an op keeps beyond its own shapes: what it does along rows and positions, and what its weights are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from dsvgraph.codes import Code
from dsvgraph.dims import Size, names
from dsvgraph.errors import Fault
from dsvgraph.ops import Op
from dsvgraph.types import Interleaving, Type, Weight

MAX_WEIGHT = 2**44  # numbers of one weight: stacked over all copies of a line, torch can still count its bytes


def check_positions(
    op: Op, ins: Mapping[str, Type], weights: Mapping[str, Weight], running: Set[str], lengths: Sequence[Size]
) -> None:
    """Raise ValueError if ``op`` would mix positions, or look along an axis that is none.

    ``running`` names the sizes that are known only when the model runs, ``lengths`` are those of rows.
    """
    first = ins.get(op.ports[0])
    if op.positions.along and first and (not is_row(first, lengths) or first.order):
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


def is_row(type_: Type, lengths: Sequence[Size]) -> bool:
    """Return whether axis 1 of a value counts positions."""
    return bool({*type_.shape[1:2]} & {*lengths, *([type_.interleaving.length] if type_.interleaving else [])})


def interleaving(op: Op, ins: Mapping[str, Type]) -> Interleaving | None:
    """Return the inserted tokens of rows that an op is given.

    Raise ValueError if rows with other ones meet, or if the row's own tokens would become others than without the
    inserted ones, which decoding leaves out.
    """
    found = dict.fromkeys(type_.interleaving for type_ in ins.values() if type_.interleaving)
    if len(found) > 1:
        raise Fault(Code.POSITIONS, "rows meet in which tokens are inserted otherwise")
    places = next(iter(found), None)
    if places and not op.keeps_apart(places.count):
        n = places.count
        words = f"`{op.op}` does not keep the row's own tokens as they are without the {n - 1} inserted behind each"
        hint = f"a mask such as `key % {n} == 0 or key == query` does" if "mask" in op.open_names else ""
        raise Fault(Code.POSITIONS, f"{words}: {hint or '`separate_tokens` takes them apart'}")
    return places


def _counted(size: Size, lengths: Sequence[Size]) -> str:
    """Return what an axis of a size that is known only when the model runs counts."""
    return "positions" if any(names(size) & names(length) for length in lengths) else "rows of the batch"


def check_countable(weights: Mapping[str, Weight]) -> None:
    """Raise ValueError if a weight has more numbers than an allocator can count."""
    for name, weight in weights.items():
        if isinstance(weight.numel, int) and weight.numel > MAX_WEIGHT:
            raise Fault(
                Code.BAD_SIZE, f"a weight has at most 2**44 numbers, `{name}` is {weight.type}", about=[weight.type]
            )


def check_tied(op: Op, weights: dict[str, Weight], tied: dict[str, Type]) -> None:
    """Raise ValueError if a wired weight is not one that ``op`` can share, or has another shape."""
    for name, type_ in tied.items():
        if name not in weights:
            raise Fault(Code.NO_INPUT, f"`{op.op}` has no weight `{name}` here; it has {', '.join(weights) or 'none'}")
        if name not in op.wired_weights:
            raise Fault(Code.NO_INPUT, f"`{op.op}` owns its weight `{name}`: it cannot be wired")
        if weights[name].type != type_:
            wanted = weights[name].type
            raise Fault(Code.TIED_MISFIT, f"the wired `{name}` is {type_}, expected {wanted}", wanted, type_)
