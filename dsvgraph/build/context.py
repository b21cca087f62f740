"""What a line of a body is built in: the graph so far, what its references name, and the mistakes found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dsvgraph.build.line import Line, check_inputs
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope
from dsvgraph.build.state import BuildState, Fatal, Poisoned
from dsvgraph.codes import Code
from dsvgraph.errors import MAX_ERRORS, DsvError, Span
from dsvgraph.graph import Graph, Ref
from dsvgraph.names import nearest
from dsvgraph.spec import SpecPart
from dsvgraph.types import shown

MAX_INPUTS = 1000  # of one line


class Context:
    """A graph that is being built line by line; mistakes are collected, what follows from them is not."""

    def __init__(self, state: BuildState, graph: Graph, part: SpecPart, scope: Scope) -> None:
        self.state, self.graph, self.part, self.scope = state, graph, part, scope
        self.poisoned: set[str] = set()
        self.errors: list[DsvError] = []
        self.numbering: dict[str, Any] = {}

    def guard(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Poisoned:
            self.poisoned.add(name)
        except Fatal:
            raise
        except DsvError as error:
            self.poisoned.add(name)
            self.errors.append(error)
            if len(self.errors) >= MAX_ERRORS:
                raise Fatal.collect(self.errors) from None

    def given(self, line: Line, scope: Scope) -> dict[str, Any]:
        """Return the arguments on a line that calls a block, those of the block argument first."""
        found = {
            k: self.state.value(v, line.where(k), scope, partial(line.where, k)) for k, v in line.attributes.items()
        }
        return {**line.presets, **found}

    # -- references -------------------------------------------------------------------------

    def ref(self, text: Any, span: Span | None) -> Ref:
        """Return what a reference names; raise DsvError with the nearest name."""
        if not isinstance(text, str):
            raise DsvError(
                f"`{shown(text)}` is no reference", span, code=Code.BAD_REFERENCE, hint="write name or name.port"
            )
        name, dot, port = text.partition(".")
        if name in self.poisoned:
            raise Poisoned
        if name in self.graph.inputs and not dot:
            return Ref(name, name)
        if name in self.graph.inputs:
            raise DsvError(f"`{name}` is an input, it has no ports", span, code=Code.NO_PORT, hint=f"write `{name}`")
        if name not in self.graph.nodes:
            raise self._no_such(name, span)
        node = self.graph.nodes[name]
        if not dot:
            return Ref(name, node.first)
        if port in node.outputs or port in node.weights:
            return Ref(name, port)
        if port in node.sources:
            return node.sources[port]
        message, hint = unknown("port", port, [*node.outputs, *node.weights, *node.sources], name)
        raise DsvError(message, span, code=Code.NO_PORT, hint=hint)

    def _no_such(self, name: str, span: Span | None) -> DsvError:
        known = [*self.graph.inputs, *self.graph.nodes]
        hint = nearest(name, known) or nearest(name, self.part.model.body) or unknown("", name, known)[1]
        if name in self.part.model.body:
            hint = f"`{name}` stands further down; a line reads only what is above it"
        return DsvError(
            f"there is no node or input `{name}` here", span, code=Code.NO_NODE, path=self.state.path(), hint=hint
        )

    def wire(self, line: Line, ports: list[str], variadic: bool = False) -> dict[str, Ref]:
        """Return the inputs of a line by port; raise DsvError if one is missing or unknown."""
        raw = line.wired
        check_inputs(line, ports, variadic)
        if variadic and raw is not None and raw != []:
            items = raw if isinstance(raw, list) else [raw]
            if len(items) > MAX_INPUTS:
                words = f"a line has at most {MAX_INPUTS:,} inputs, found {len(items):,}"
                raise DsvError(words, line.where(line.key), code=Code.TOO_MUCH)
            return {f"x{i}": self.ref(r, line.where(line.key, i)) for i, r in enumerate(items)}
        given = raw if isinstance(raw, dict) else {ports[0]: raw or None}
        missing = [p for p in ports if p not in given or given[p] is None]
        if missing:
            raise DsvError(
                f"input `{missing[0]}` of `{line.callee}` is not wired",
                line.at_key(line.key),
                code=Code.NOT_WIRED,
                path=self.state.path(),
                notes=self.state.declared_here(line.callee, "in", missing[0]),
            )
        return {p: self.ref(given[p], line.where(line.key, p)) for p in ports}
