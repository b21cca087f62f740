"""Types of ports as written, and how they bind to what is wired."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from dsvgraph.build.refused import REFUSED
from dsvgraph.build.scope import At, Library, Scope
from dsvgraph.codes import Code
from dsvgraph.dims import Size, symbol
from dsvgraph.errors import DsvError, Fault, Span
from dsvgraph.names import NAME, listed, nearest
from dsvgraph.spec import SpecPart
from dsvgraph.types import ElementType, Type, shown

TEXT = re.compile(r"(int|float|bool)?\s*\[(.*)\]\Z")
HINT = "types are written [B, T, hidden_size] or int[B, T]"
ROOT = "inputs of the graph are [B, T, ...] or int[B, T]"


def declared(raw: Any, span: Span | None) -> tuple[ElementType, list[Any]]:
    """Return the kind of number and the sizes of a port's type as written."""
    if isinstance(raw, list):
        return ElementType.FLOAT, raw
    match = TEXT.match(raw.strip())
    if not match:
        raise DsvError(f"`{raw}` is no type", span, code=Code.NO_TYPE, hint=HINT)
    inner = match.group(2).strip()
    return ElementType(match.group(1) or "float"), [part.strip() for part in inner.split(",")] if inner else []


def is_free(raw: Any, known: Mapping[str, Any]) -> bool:
    """Return whether a size as written is a name that nothing gives a value."""
    return isinstance(raw, str) and bool(NAME.match(raw)) and raw not in known


# -- inputs of the whole graph ----------------------------------------------------------------


def root_inputs(part: SpecPart, scope: Scope) -> dict[str, Type]:
    """Return types of the graph's inputs: [batch, positions, ...], the first two axes names without a value.

    Every input has the same two, so that position i of one is position i of the other.
    """
    found: dict[str, Type] = {}
    errors: list[DsvError] = []
    axes: list[str] = []
    for name, raw in part.model.inputs.items():
        try:
            found[name] = _root_input(raw, axes, scope, partial(part.value, "in", name))
        except DsvError as error:
            errors.append(error)
    if errors:
        raise DsvError.collect(errors)
    return found


def _root_input(raw: Any, axes: list[str], scope: Scope, at: At) -> Type:
    dtype, sizes = declared(raw, at())
    running = [_running(size, axis, axes, scope, at(axis)) for axis, size in enumerate(sizes[:2])]
    if len(set(running)) < len(running):
        raise DsvError(
            f"`{running[0]}` cannot count both rows of the batch and positions", at(1), code=Code.ROOT_AXES, hint=ROOT
        )
    axes += running[len(axes) :]
    return Type((*map(symbol, running), *(scope.size(size, at(i)) for i, size in enumerate(sizes[2:], 2))), dtype)


def _running(raw: Any, axis: int, axes: list[str], scope: Scope, span: Span | None) -> str:
    """Return the name of axis 0 or 1: sizes that are known only when the model runs."""
    counts = ("rows of the batch", "positions")[axis]
    if not is_free(raw, scope.values):
        words = f"axis {axis} counts {counts}, a name without a value such as {'BT'[axis]}, found `{shown(raw)}`"
        raise DsvError(words, span, code=Code.ROOT_AXES, notes=scope.origins(raw), hint=ROOT)
    if axis == 0 and axes and axes[0] != raw:  # positions may be others, of a row of its own
        words = f"axis {axis} counts {counts}, `{axes[0]}` in the inputs before, found `{raw}`"
        raise DsvError(words, span, code=Code.ROOT_AXES, hint=ROOT)
    return str(raw)


# -- inputs of a block ------------------------------------------------------------------------


def bind(raw: Any, actual: Type, scope: Scope, bound: dict[str, Size], span: Span | None) -> None:
    """Match a declared type with what was wired; new names are bound into ``bound``.

    Raise ValueError in plain words where they do not fit.
    """
    dtype, sizes = declared(raw, span)
    story = f"expected {written(raw)}, found {actual}"
    if dtype != actual.dtype:
        raise Fault(Code.NUMBER_KIND, f"{story}: another kind of number", written(raw), actual)
    sizes = _without_ellipsis(sizes, actual, story, span)
    for want, got in zip(sizes, actual.shape[actual.rank - len(sizes) :], strict=True):
        if is_free(want, {**scope.values, **bound}):
            bound[want] = got
        elif (size := scope.extended(bound).size(want, span)) != got:
            known = f" (= {size})" if str(want) != str(size) else ""
            words = f"{story}: `{want}`{known} against {got}"
            raise Fault(Code.MISFIT, words, f"{want}{known}", got, about=[size, actual])


def _without_ellipsis(sizes: list[Any], actual: Type, story: str, span: Span | None) -> list[Any]:
    open_ended = bool(sizes) and sizes[0] == "..."
    sizes = sizes[1:] if open_ended else sizes
    if "..." in sizes:
        raise DsvError(
            "`...` stands for leading axes, so it comes first", span, code=Code.NO_TYPE, hint="[..., hidden_size]"
        )
    if len(sizes) > actual.rank or (not open_ended and len(sizes) != actual.rank):
        raise Fault(Code.AXES, f"{story}: another number of axes", about=[actual])
    return sizes


def written(raw: Any) -> str:
    """Return a declared type as the reader wrote it."""
    return f"[{', '.join(str(r) for r in raw)}]" if isinstance(raw, list) else str(raw)


def unknown(what: str, name: str, known: Any, on: str = "") -> tuple[str, str]:
    """Message and hint for a name, of something on ``on``, that is not among the known ones."""
    names = list(dict.fromkeys(known))
    where = f" on `{on}`" if on else ""
    hint = REFUSED.get(name) or nearest(name, names) or f"there are: {listed(names)}"
    return f"there is no {what} `{name}`{where}", hint


def misread(key: str, library: Library) -> str:
    """Return what a key that is no attribute was meant to be, where that is plain."""
    name, sign, value = (part.strip() for part in key.partition("="))
    if sign:
        return f"write `{name}: {value}`"
    return f"a line calls one thing: give `{key}` a line of its own" if key in library else ""
