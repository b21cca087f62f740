"""textDocument/definition: where the line, input, block, value or file under the cursor was written."""

from __future__ import annotations

from dsvgraph import loader
from dsvgraph.errors import DsvError, Source, Span
from dsvgraph_lsp.cursor import NAME
from dsvgraph_lsp.scope import Scope, SyntaxKind, mapping


def definition(scope: Scope) -> Span | None:
    """Return the definition of the word under the cursor, or None; that of a config key is the value it overrides."""
    kind = scope.kind
    if kind is SyntaxKind.FILE:
        return _file(scope)
    if kind is SyntaxKind.REFERENCE:
        return _reference(scope, *name_and_port(scope))
    if kind is SyntaxKind.CALLEE:
        return _named(scope, scope.cursor.word)
    if kind in (SyntaxKind.ATTRIBUTE, SyntaxKind.PORT, SyntaxKind.INPUT):
        return _parameter(scope, "args" if kind is SyntaxKind.ATTRIBUTE else "in")
    if kind is SyntaxKind.CONFIG:
        entry = scope.config.get(identifier(scope))
        return next((span for span in entry.overrides if span), None) if entry else None
    if kind in (SyntaxKind.OUTPUT, SyntaxKind.TARGET):
        graph = scope.spec and scope.with_current_spans(scope.spec.graph)
        return graph.key("out" if kind is SyntaxKind.OUTPUT else "in", scope.cursor.word) if graph else None
    if kind in (SyntaxKind.VALUE, SyntaxKind.SIZE) or scope.inside[:1] == ("args",):
        return _named(scope, identifier(scope))
    return None


def identifier(scope: Scope) -> str:
    """Return the name under the cursor, without what follows its dot."""
    return name_and_port(scope)[0]


def name_and_port(scope: Scope) -> tuple[str, str]:
    """Return the name under the cursor and, if the cursor is behind its dot, the port named there."""
    cursor = scope.cursor
    for match in NAME.finditer(cursor.line):
        if match.start() <= cursor.column <= match.end():
            name, dot, port = match[0].partition(".")
            return name, port if dot and cursor.column > match.start() + len(name) else ""
    return "", ""


def _reference(scope: Scope, name: str, port: str) -> Span | None:
    """Return where a reference points: a line, an input, or the port of the block that the line calls."""
    if name in scope.inputs:
        return scope.key_span("in", name)
    block = scope.blocks.get(scope.called(scope.line_of(name).callee))
    if block and port in mapping(block.model.out):
        return block.key("out", port)
    if block and port in block.model.inputs:
        return block.key("in", port)
    return scope.key_span("body", name) if scope.line_of(name) else None


def _parameter(scope: Scope, section: str) -> Span | None:
    """Return where the called block declares the argument (section `args`) or the input (`in`) under the cursor."""
    block = scope.blocks.get(scope.callee)
    if block is None:
        return None
    declared = block.model.args if section == "args" else block.model.inputs
    return block.key(section, scope.cursor.word) if scope.cursor.word in declared else None


def _named(scope: Scope, name: str) -> Span | None:
    """Return where a name gets its value: as an argument of this block, in the config, or as a block."""
    declares = scope.inside[:1] == ("args",) and scope.cursor.is_key
    if name in mapping(scope.raw.get("args")) and not declares:
        return scope.key_span("args", name)
    if name in scope.config and (declares or scope.owner in ((), ("graph",))):
        return scope.config[name].span
    return scope.blocks[name].key() if name in scope.blocks else None


def _file(scope: Scope) -> Span | None:
    start, end = scope.cursor.token
    try:
        found = loader.find(scope.cursor.line[start:end].strip("\"'"), scope.file.parent)
    except (DsvError, OSError, ValueError):
        return None
    return Span(Source(str(found), ("",)), 1, 1)
