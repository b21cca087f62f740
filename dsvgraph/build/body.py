"""A block's body becomes a graph: references are looked up, every port gets its type."""

from __future__ import annotations

from functools import partial

from dsvgraph.build import copies, nodes
from dsvgraph.build.checks import modules
from dsvgraph.build.context import Context
from dsvgraph.build.decoding.cuts import choose_cache
from dsvgraph.build.line import is_op, take
from dsvgraph.codes import Code
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Graph
from dsvgraph.spec import SpecPart, WrittenLine


class Body(Context):
    """Builds the graph of one body, line by line."""

    def run(self) -> Graph:
        """Return the finished graph; raise DsvError with every independent mistake."""
        for name, line in self.part.model.body.items():
            self.guard(name, partial(self._line, name, line))
        self._outputs()
        choose_cache(self)
        if not self.errors:
            self.guard("at", partial(modules.check_claims, self.graph, not self.state.stack))
        if self.errors:
            raise DsvError.collect(self.errors)
        return self.graph

    def _line(self, name: str, line: WrittenLine) -> None:
        try:
            self._add(name, line)
        except DsvError as error:
            raise error.on_line(self.scope.config_names(line.options)) from None

    def _add(self, name: str, written: WrittenLine) -> None:
        """Add the node of one line; raise DsvError if the line is wrong."""
        part = SpecPart(written, self.part.doc, (*self.part.path, "body", name))
        self.state.counted(self.graph, part.key())
        if name in self.graph.inputs:
            raise DsvError(f"`{name}` is already an input of this block", part.key(), code=Code.TAKEN)
        line = take(name, written, part, self.scope)
        self.state.trail.append(name)
        try:
            if line.repeat is not None or line.each is not None:
                node = copies.build(self, line)
            else:
                node = nodes.of_op(self, line) if is_op(line.callee) else nodes.of_call(self, line)
        finally:
            self.state.trail.pop()
        modules.check_reads(self.graph, node, len(self.state.stack), self.state.path())
        self.state.opened(node, self.graph, part.key())
        self.graph.link(node)

    def _outputs(self) -> None:
        out = self.part.model.out
        named = out if isinstance(out, dict) else {"y": out}
        if not named:
            self.errors.append(
                DsvError("`out` is empty: a block has one output or more", self.part.value("out"), code=Code.WRONG_KIND)
            )
        for name, text in named.items():
            span = self.part.value("out", name) if isinstance(out, dict) else self.part.value("out")
            self.guard("out", partial(self._output, name, text, span))

    def _output(self, name: str, text: str, span: Span | None) -> None:
        ref = self.ref(text, span)
        if self.graph.type(ref).order.startswith(f"{len(self.state.stack)}:"):
            words = f"the rows of `{text}` are sorted by expert, so they cannot leave this body"
            raise DsvError(words, span, code=Code.ROW_ORDER, hint="bring them back with `combine`")
        self.graph.outputs[name] = ref
        self.graph.horizons[name] = self.graph.horizons_of(ref)
