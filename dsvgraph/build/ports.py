"""Types of ports as written, and how they bind to what is wired."""

from __future__ import annotations

import re
from typing import Any

from dsvgraph import expr
from dsvgraph.dims import Size, symbol
from dsvgraph.errors import DsvError, Span, nearest
from dsvgraph.build.scope import Scope
from dsvgraph.types import Type

TEXT = re.compile(r"(int|float|bool)?\s*\[(.*)\]$")


def declared(raw: Any, span: Span | None) -> tuple[str, list[Any]]:
    """The kind of number and the sizes of a port's type as written."""
    if isinstance(raw, list):
        return "float", raw
    match = TEXT.match(raw.strip())
    if not match:
        raise DsvError(f"`{raw}` is no type", span, hint="types are written [B, T, hidden_size] or int[B, T]")
    inner = match.group(2).strip()
    return match.group(1) or "float", [part.strip() for part in inner.split(",")] if inner else []


def root_type(raw: Any, scope: Scope, span: Span | None) -> Type:
    """The type of an input of the whole graph: names without a value are its sizes."""
    dtype, sizes = declared(raw, span)
    return Type(tuple(_root_size(s, scope, span) for s in sizes), dtype)


def _root_size(raw: Any, scope: Scope, span: Span | None) -> Size:
    free = isinstance(raw, str) and raw.isidentifier() and raw not in scope.values
    return symbol(raw) if free else scope.size(raw, span)


def bind(raw: Any, actual: Type, scope: Scope, bound: dict[str, Size], span: Span | None) -> None:
    """Matches a declared type with what was wired; new names are bound into ``bound``.

    Raises ValueError in plain words where they do not fit.
    """
    dtype, sizes = declared(raw, span)
    if dtype != actual.dtype:
        raise ValueError(f"expected {shown(raw)}, found {actual}: another kind of number")
    sizes = _without_ellipsis(sizes, actual, raw)
    for axis, (want, got) in enumerate(zip(sizes, actual.shape[actual.rank - len(sizes) :])):
        _bind_size(want, got, scope, bound, span, f"expected {shown(raw)}, found {actual}", axis)


def _without_ellipsis(sizes: list[Any], actual: Type, raw: Any) -> list[Any]:
    open_ended = bool(sizes) and sizes[0] == "..."
    sizes = sizes[1:] if open_ended else sizes
    if len(sizes) > actual.rank or (not open_ended and len(sizes) != actual.rank):
        raise ValueError(f"expected {shown(raw)}, found {actual}: another number of axes")
    return sizes


def _bind_size(
    want: Any, got: Size, scope: Scope, bound: dict[str, Size], span: Span | None, story: str, axis: int
) -> None:
    if isinstance(want, str) and want.isidentifier() and want not in scope.values and want not in bound:
        bound[want] = got
        return
    inner = scope.extended(bound)
    size = inner.size(want, span)
    if size != got:
        known = f" (= {size})" if str(want) != str(size) else ""
        raise ValueError(f"{story}: `{want}`{known} against {got}")


def shown(raw: Any) -> str:
    """A declared type as the reader wrote it."""
    return f"[{', '.join(str(r) for r in raw)}]" if isinstance(raw, list) else str(raw)


def free_names(text: Any) -> frozenset[str]:
    """Names that a raw value reads, as far as it is an expression."""
    if isinstance(text, list):
        return frozenset().union(*(free_names(t) for t in text))
    if isinstance(text, dict):
        return frozenset().union(*(free_names(t) for t in text.values()))
    if not isinstance(text, str):
        return frozenset()
    try:
        return expr.parse(text).names()
    except ValueError:
        return frozenset()


def unknown(what: str, name: str, known: Any) -> tuple[str, str]:
    """Message and hint for a name that is not among the known ones."""
    names = list(known)
    return f"there is no {what} `{name}`", nearest(name, names) or f"there are: {', '.join(names) or 'none'}"
