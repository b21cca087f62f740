"""Checks of shapes and kinds of numbers that the shape rules of ops share."""

from __future__ import annotations

from typing import Any

from dsvgraph.codes import Code
from dsvgraph.dims import Size, product
from dsvgraph.errors import Fault
from dsvgraph.types import ElementType, Type


def rows(x: Type, used: int = 1) -> Size:
    """Return the number of vectors in ``x`` when its last ``used`` axes are one vector."""
    return product(x.shape[: x.rank - used])


def same(a: Any, b: Any, what: str) -> None:
    """Raise ValueError unless two sizes or shapes are equal."""
    if a != b:
        sizes = [size for side in (a, b) for size in (side if isinstance(side, tuple) else (side,))]
        raise Fault(Code.DIFFERENT, f"{what}: {show(a)} against {show(b)}", show(b), show(a), about=sizes)


def show(value: Any) -> str:
    """Return a size or a shape as a reader writes it."""
    return f"[{', '.join(str(v) for v in value)}]" if isinstance(value, tuple) else str(value)


def shown_size(size: Size) -> str:
    """Return a size as pictures have it: 129,280, or 2·hidden_size.

    >>> shown_size(129280)
    '129,280'
    """
    return f"{size:,}" if isinstance(size, int) else str(size).replace("**", "^").replace("*", "·")


def need_rank(x: Type, least: int, port: str) -> None:
    """Raise ValueError if ``x`` has fewer axes than ``least``."""
    if x.rank < least:
        raise Fault(Code.AXES, f"`{port}` needs at least {least} axes, found {x}", about=[least, x])


def need_float(x: Type, port: str) -> None:
    """Raise ValueError if ``x`` holds no floating-point numbers."""
    if x.dtype is not ElementType.FLOAT:
        raise Fault(Code.NUMBER_KIND, f"`{port}` must be floating point, found {x}", about=[x])


def need_int(x: Type, port: str) -> None:
    """Raise ValueError if ``x`` holds no whole numbers."""
    if x.dtype is not ElementType.INT:
        words = f"`{port}` must be whole numbers (token ids or indices), found {x}"
        raise Fault(Code.NUMBER_KIND, words, about=[x])


def broadcast(types: list[Type]) -> Type:
    """Return the common type of pointwise operands: equal shapes, or axes of size 1 that stretch."""
    first = types[0]
    for other in types[1:]:
        pairs = list(zip(first.shape, other.shape, strict=False))
        if other.rank != first.rank or any(a != b and 1 not in (a, b) for a, b in pairs):
            raise Fault(Code.DIFFERENT, f"operands have different shapes: {first} against {other}", first, other)
        first = Type(tuple(b if a == 1 else a for a, b in pairs), first.dtype)
    return first
