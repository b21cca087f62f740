"""Calls of blocks: arguments are looked up, inputs bound, and equal calls share one graph."""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dsvgraph.build.body import Body
from dsvgraph.build.line import Line
from dsvgraph.build.ports import bind, declared, misread, unknown
from dsvgraph.build.scope import Given, Scope, freeze
from dsvgraph.build.state import BuildCache, BuildState, Wired
from dsvgraph.codes import Code
from dsvgraph.dims import Size
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Graph
from dsvgraph.ops import OPS
from dsvgraph.ops.base import RESERVED
from dsvgraph.spec import Spec, SpecPart
from dsvgraph.types import Type

MAX_CALLS = 32  # blocks inside blocks


class Builder(BuildState):
    """Build the blocks that lines call: look up arguments, bind inputs, run bodies."""

    def __init__(self, spec: Spec, cache: BuildCache | None = None) -> None:
        super().__init__(spec, cache)
        if not self.cache.graphs:  # else an earlier build of the spec has checked them
            check_blocks(spec)

    def call(
        self, line: Line, given: dict[str, Any], ins: dict[str, Type], scope: Scope, wired: Wired | None = None
    ) -> Graph:
        part = self.library.blocks[line.callee]
        if line.callee in self.stack or len(self.stack) >= MAX_CALLS:
            chain = " -> ".join([*self.stack, line.callee])
            words = f"`{line.callee}` contains itself" if line.callee in self.stack else "blocks nest too deep"
            raise DsvError(f"{words}: {chain}", line.at_key(line.key), code=Code.CALL_CIRCLE, path=self.path())
        args = self._arguments(part, line, given)
        key = (line.callee, freeze(args), tuple(ins.items()))
        if key in self.memo and self.memo[key] is None:  # an input that does not fit is this line's mistake too
            self._bind(part, line, ins, Scope(args, self.library, self._given(part, line, args, scope)), wired)
        return self.shared(key, lambda: self._build(part, line, args, ins, scope, wired))

    def _build(
        self, part: SpecPart, line: Line, args: dict[str, Any], ins: dict[str, Type], outer: Scope, wired: Wired | None
    ) -> Graph:
        scope = Scope(args, self.library, self._given(part, line, args, outer))
        bound = self._bind(part, line, ins, scope, wired)
        graph = Graph(line.callee, part.model.doc, args, ins, span=part.key())
        self.stack.append(line.callee)
        try:
            return Body(self, graph, part, scope.extended(bound)).run()
        except DsvError as error:
            raise _called(error, line) from None
        finally:
            self.stack.pop()

    def _given(self, part: SpecPart, line: Line, args: dict[str, Any], outer: Scope) -> dict[str, Given]:
        """Return where each argument got its value: on the line, in the config, or from its default."""
        found: dict[str, Given] = {}
        own = Scope(args, self.library, found)
        for name, default in part.model.args.items():
            if name in line.attributes:
                found[name] = Given(name, line.attributes[name], line.where(name), outer)
            elif name in self.config.config and name not in line.presets:
                found[name] = Given(name, name, None, self.config)
            elif name not in line.presets:
                found[name] = Given(name, default, part.value("args", name), own)
        return found

    def _arguments(self, part: SpecPart, line: Line, given: dict[str, Any]) -> dict[str, Any]:
        declared = part.model.args
        for name in given:
            if name not in declared:
                message, hint = unknown("argument", name, [*declared, "at", "repeat", "each"], line.callee)
                hint = misread(name, self.library) or hint
                notes = [("the block is here", part.key())]
                raise DsvError(
                    message, line.at_key(name), code=Code.NO_ATTRIBUTE, path=self.path(), notes=notes, hint=hint
                )
        args: dict[str, Any] = {}
        for name, default in declared.items():
            args[name] = self._argument(name, default, part, line, given, args)
        return args

    def _argument(
        self, name: str, default: Any, part: SpecPart, line: Line, given: dict[str, Any], so_far: dict[str, Any]
    ) -> Any:
        if name in given:
            return given[name]
        if name in self.config.values:
            self.used.add(name)
            return self.config.get(name)
        if default is not None:
            return Scope(so_far, self.library).value(default, part.value("args", name))
        raise DsvError(
            f"`{line.callee}` needs the argument `{name}`",
            line.at_key(line.key),
            code=Code.MISSING_ATTRIBUTE,
            path=self.path(),
            notes=[("declared here", part.key("args", name))],
            hint=f"give `{name}` on this line or in `config`",
        )

    def _bind(
        self, part: SpecPart, line: Line, ins: dict[str, Type], scope: Scope, wired: Wired | None
    ) -> dict[str, Size]:
        bound: dict[str, Size] = {}
        for port, raw in part.model.inputs.items():
            try:
                bind(raw, ins[port], scope, bound, part.value("in", port))
            except ValueError as error:
                where = line.where(line.key, port) if isinstance(line.wired, dict) else line.where(line.key)
                notes = [("declared here", part.key("in", port)), *scope.origins(declared(raw, None)[1])]
                notes = list(dict.fromkeys([*notes, *(wired(port, error) if wired else ())]))
                words = f"input `{port}` of `{line.callee}`: "
                raise DsvError.of(error, where, Code.MISFIT, words, path=self.path(), notes=notes) from None
        return bound


def _called(error: DsvError, line: Line) -> DsvError:
    """Return the error of a block's inside, with the call that led there."""
    note = (f"in `{line.callee}`, called from here", line.span)
    error.diagnostics = tuple(replace(d, notes=(*d.notes, note)) for d in error.diagnostics)
    return error


def check_blocks(spec: Spec) -> None:
    """Raise DsvError if blocks contain each other, or have a name that is taken."""
    calls: dict[str, dict[str, Span | None]] = {}
    for name, part in spec.blocks.items():
        if name in OPS:
            raise DsvError(f"`{name}` is a primitive op, so no block can be called so", part.key(), code=Code.TAKEN)
        for arg in part.model.args:
            if arg in (*RESERVED, "index"):
                words = f"`{arg}` is a word of the language, so no argument can be called so"
                raise DsvError(words, part.key("args", arg), code=Code.TAKEN)
        for node, line in part.model.body.items():
            if line.callee in spec.blocks and line.callee not in part.model.args:
                calls.setdefault(name, {}).setdefault(line.callee, part.key("body", node))
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        chain = error.args[1][::-1]
        words = f"blocks contain each other: {' -> '.join(chain)}"
        raise DsvError(words, calls[chain[0]][chain[1]], code=Code.CALL_CIRCLE) from None
