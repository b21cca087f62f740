"""Where each value comes from: the line that set it, and those that it overrides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dsvgraph.errors import Span, clipped
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.spec import ConfigEntry, Spec, SpecPart, WrittenLine
from dsvgraph.types import shown


@dataclass(frozen=True)
class Origin:
    """One value: ``how`` it was set (file, --set; line, config, default, block), where, and what that overrides."""

    name: str
    value: str
    how: str
    span: Span | None
    overridden: tuple[Span, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the origin for ``--json``; texts are as they were written."""
        over = [{"text": span.text, "at": str(span)} for span in self.overridden]
        at = str(self.span) if self.span else None
        return {"name": self.name, "value": self.value, "how": self.how, "at": at, "over": over}


@dataclass(frozen=True)
class BlockCall:
    """A line that calls a block, with its arguments; copies that differ are calls of their own."""

    line: str
    block: str
    span: Span | None
    arguments: tuple[Origin, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the call for ``--json``."""
        at = str(self.span) if self.span else None
        arguments = [origin.as_dict() for origin in self.arguments]
        return {"line": self.line, "block": self.block, "at": at, "arguments": arguments}


def config_origins(model: Model) -> list[Origin]:
    """Return every config value in the order of the spec; none where the model was not made from one."""
    config = model.spec.config if model.spec else {}
    return [_entry(name, model.config.get(name), entry) for name, entry in config.items()]


def _entry(name: str, value: Any, entry: ConfigEntry) -> Origin:
    how = "--set" if entry.span and entry.span.source.name == "--set" else "file"
    return Origin(
        name=name,
        value=_text(value),
        how=how,
        span=entry.span,
        overridden=tuple(span for span in entry.overrides if span),
    )


def argument_origins(model: Model) -> Iterator[BlockCall]:
    """Yield every line that calls a block, in every distinct graph, callers first."""
    if model.spec is None:
        return
    for graph in reversed(model.graphs()):
        part = model.spec.graph if graph is model else model.spec.blocks.get(graph.name)
        for node in graph.nodes.values() if part else ():
            for inner in dict.fromkeys(copies.graph for copies in node.copies):
                block = model.spec.blocks.get(inner.name)
                if part and block and inner.name == node.callee and inner.args:
                    yield _block_call(model.spec, part, graph, node, inner, block)


def _block_call(spec: Spec, part: SpecPart, graph: Graph, node: Node, inner: Graph, block: SpecPart) -> BlockCall:
    found = []
    for name, value in inner.args.items():
        (how, span), *over = _sources(spec, part, graph, node, block, name)
        found.append(
            Origin(name=name, value=_text(value), how=how, span=span, overridden=tuple(s for _, s in over if s))
        )
    return BlockCall(f"{graph.name} > {node.name}", inner.name, node.span, tuple(found))


def _sources(
    spec: Spec, part: SpecPart, graph: Graph, node: Node, block: SpecPart, name: str
) -> Iterator[tuple[str, Span | None]]:
    """Yield where an argument may come from, the first one wins: line, block argument, config, default."""
    line: WrittenLine = part.model.body[node.name]
    values = graph.config if isinstance(graph, Model) else graph.args
    if name in line:
        yield "line", part.value("body", node.name, name)
    if name in dict(getattr(values.get(line.callee), "presets", ())):
        yield "block", node.span
    if name in spec.config:
        yield "config", spec.config[name].span
    if block.model.args[name] is not None:
        yield "default", block.value("args", name)


def _text(value: Any) -> str:
    return clipped(shown(value), 60)
