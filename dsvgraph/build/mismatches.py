"""The error of types that do not fit: what was wired to each input, and where the sizes on these lines were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dsvgraph.build.context import Context
from dsvgraph.build.line import Line
from dsvgraph.build.scope import Scope, free_names
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Fault, Note, Span
from dsvgraph.graph import Node, Ref
from dsvgraph.types import Type

MAX_NOTES = 4  # sizes that are traced to where they were written
SIZES = ("out", "into", "dim", "size")  # attributes that give sizes


def error_of(context: Context, error: ValueError, node: Node, line: Line) -> DsvError:
    """Return the error of an op whose types do not fit, at its line."""
    notes, read = list[Note](), set(free_names(line.attributes))
    for port, ref in node.inputs.items():
        notes.append(_wired(context, port, ref))
        read |= _sizes(context, ref)
    found = DsvError.of(
        error, line.span, Code.DIFFERENT, path=context.state.path(), notes=notes + _written(context.scope, read, error),
        origins=_origins(context.scope, read, error),
    )  # fmt: skip
    if found.diagnostics[0].code is Code.NUMBER_KIND:  # of an input: all that reads it is wrong for one reason
        context.poisoned |= {ref.node for ref in node.inputs.values() if ref.node in context.graph.inputs}
    return found


def notes(context: Context, sources: Mapping[str, Ref], port: str, error: ValueError) -> list[Note]:
    """Return the notes for an input that does not fit: what was wired to it, and where its sizes were written."""
    ref = sources[port]
    return [_wired(context, port, ref), *_written(context.scope, _sizes(context, ref), error)]


def _wired(context: Context, port: str, ref: Ref) -> Note:
    node = context.graph.nodes.get(ref.node)
    return f"`{port}` is {context.graph.type(ref)}, from `{ref}`", node.span if node else context.part.key(
        "in", ref.node
    )


def _sizes(context: Context, ref: Ref) -> frozenset[str]:
    """Return the names that give sizes on the line that ``ref`` reads."""
    maker = context.part.model.body.get(ref.node) or {}
    return free_names({key: value for key, value in maker.items() if key in SIZES})


def _written(scope: Scope, read: Iterable[str], error: ValueError) -> list[Note]:
    """Return where the sizes of these names were written, those that the mistake is about first."""
    about = _numbers(error)
    sizes = sorted(_whole(scope, read), key=lambda name: scope.values[name] not in about)
    return scope.origins(sizes[:MAX_NOTES])


def _origins(scope: Scope, read: Iterable[str], error: ValueError) -> Iterator[Span]:
    """Yield the places where values equal to what ``error`` has found were written."""
    for name in _whole(scope, read):
        given = scope.source(name)
        if given and given.span and isinstance(error, Fault) and str(scope.values[name]) == error.found:
            yield given.span


def _whole(scope: Scope, read: Iterable[str]) -> list[str]:
    return [name for name in sorted(read) if type(scope.values.get(name)) is int]


def _numbers(error: ValueError) -> set[int]:
    """Return the whole numbers among the sizes that a mistake is about."""
    about = error.about if isinstance(error, Fault) else ()
    sizes = [size for value in about for size in (value.shape if isinstance(value, Type) else (value,))]
    return {size for size in sizes if isinstance(size, int)}
