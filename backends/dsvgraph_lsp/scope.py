"""The meaning of a cursor in a spec: the line it is in, what that line calls, and the names that are visible there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dsvgraph.build.losses.kinds import KINDS
from dsvgraph.errors import Span
from dsvgraph.graph import Graph, LossKind, Model, Node
from dsvgraph.ops import OPS
from dsvgraph.spec import ConfigEntry, Spec, SpecPart, WrittenLine
from dsvgraph_lsp.cursor import Cursor
from dsvgraph_lsp.standalone import standalone
from dsvgraph_lsp.workspace import Workspace, file_of


class SyntaxKind(StrEnum):
    """What is expected at a cursor."""

    NONE = ""
    SECTION = "section"
    FILE = "file"
    CONFIG = "config"
    BLOCK_SECTION = "block section"
    CALLEE = "callee"
    ATTRIBUTE = "attribute"
    PORT = "port"
    INPUT = "input"
    REFERENCE = "reference"
    VALUE = "value"
    SIZE = "size"
    LOSS = "loss"
    OUTPUT = "output"
    TARGET = "target"
    ROUTER = "router"
    PATTERN = "pattern"
    INIT_VALUE = "init value"
    TRAINED_VALUE = "trained value"
    PUBLISHED = "published"
    CONVENTION = "convention"


BLOCK_VALUES = {
    "in": SyntaxKind.SIZE, "args": SyntaxKind.VALUE, "out": SyntaxKind.REFERENCE, "cache": SyntaxKind.REFERENCE,
}  # fmt: skip


class Scope:
    """A cursor in an open file, with the last spec and graphs that were built from the file."""

    def __init__(self, workspace: Workspace, path: Path, cursor: Cursor) -> None:
        self.workspace, self.file, self.cursor = workspace, path, cursor
        self.doc = workspace.doc(path)
        self.spec: Spec | None = workspace.spec(path)
        self.is_spec = workspace.is_spec(path)

    # -- the line ---------------------------------------------------------------------------

    @cached_property
    def owner(self) -> tuple[str, ...]:
        """The section that has the body around the cursor: `("graph",)`, `("blocks", name)`, or `()`."""
        path = self.cursor.path
        if path[:1] == ("graph",):
            return ("graph",)
        return path[:2] if path[:1] == ("blocks",) and len(path) > 1 else ()

    @property
    def inside(self) -> tuple[Any, ...]:
        """The path of the cursor below the owner; the whole path without one."""
        return self.cursor.path[len(self.owner) :]

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The owner as it is written, or was when the text could last be read."""
        return mapping(self.at(*self.owner)) if self.owner else {}

    def at(self, *path: Any) -> Any:
        """Return the value at a path of the file, or None."""
        found: Any = self.doc.data if self.doc else None
        for step in path:
            found = mapping(found).get(step)
        return found

    def key_span(self, *path: Any) -> Span | None:
        """Return the span of a key of the owner in this file."""
        return self.doc.key(*self.owner, *path) if self.doc else None

    @property
    def node(self) -> str:
        """The name of the line around the cursor; empty outside of a body."""
        return str(self.inside[1]) if self.inside[:1] == ("body",) and len(self.inside) > 1 else ""

    @cached_property
    def line(self) -> WrittenLine:
        """The line around the cursor as it is written, or last was."""
        return self.line_of(self.node)

    @cached_property
    def key(self) -> str:
        """The first key of the line: the callee, or the argument that holds it."""
        written = self.cursor.keys_before.get((*self.owner, "body", self.node), ())
        return written[0] if written else self.line.callee

    @property
    def callee(self) -> str:
        """The op or block that the line calls."""
        return self.called(self.key)

    def called(self, key: str) -> str:
        """Return the op or block that a first key names: the default of that argument, or the key itself."""
        held = mapping(self.raw.get("args")).get(key)
        if isinstance(held, dict):
            held = WrittenLine.of(held).callee or None
        return held if isinstance(held, str) else key

    # -- what is expected at the cursor -----------------------------------------------------------

    @cached_property
    def kind(self) -> SyntaxKind:
        """What is expected at the cursor."""
        inside, is_key = self.inside, self.cursor.is_key
        if self.owner:
            return self._in_block(inside, is_key)
        if not inside:
            return SyntaxKind.SECTION if is_key else SyntaxKind.NONE
        head = str(inside[0])
        if head in ("include", "extends"):
            return SyntaxKind.NONE if is_key else SyntaxKind.FILE
        if head == "loss" and len(inside) > 1:
            return self._in_loss(inside[2:], is_key)
        if head in ("init", "trained"):
            value = SyntaxKind.INIT_VALUE if head == "init" else SyntaxKind.TRAINED_VALUE
            return SyntaxKind.PATTERN if is_key and len(inside) == 1 else value
        if head == "published":
            return self._in_published(inside[-1], is_key)
        return SyntaxKind.NONE if head != "config" else SyntaxKind.CONFIG if is_key else SyntaxKind.VALUE

    @staticmethod
    def _in_published(key: Any, is_key: bool) -> SyntaxKind:
        if is_key:
            return SyntaxKind.PUBLISHED
        return SyntaxKind.CONVENTION if key == "active_counts" else SyntaxKind.NONE

    def _in_block(self, inside: tuple[Any, ...], is_key: bool) -> SyntaxKind:
        if not inside:
            return SyntaxKind.BLOCK_SECTION if is_key else SyntaxKind.NONE
        head = inside[0]
        if head == "body":
            return self._in_line(inside[2:], is_key) if len(inside) > 1 else SyntaxKind.NONE
        if is_key:
            return SyntaxKind.NONE
        return BLOCK_VALUES.get(head, SyntaxKind.NONE)

    def _in_line(self, rest: tuple[Any, ...], is_key: bool) -> SyntaxKind:
        if not rest and is_key:
            return SyntaxKind.ATTRIBUTE if self.cursor.siblings else SyntaxKind.CALLEE
        if not rest:
            return SyntaxKind.NONE
        if rest[0] == self.key:
            return SyntaxKind.PORT if is_key else SyntaxKind.REFERENCE
        if rest[0] in ("slice", "share"):
            return SyntaxKind.INPUT
        cls = OPS.get(self.callee)
        if cls and rest[0] in cls.wired_weights:
            return SyntaxKind.REFERENCE
        return SyntaxKind.NONE if rest[0] == "at" else SyntaxKind.VALUE

    def _in_loss(self, rest: tuple[Any, ...], is_key: bool) -> SyntaxKind:
        if is_key or not rest:
            return SyntaxKind.LOSS if is_key and not rest else SyntaxKind.NONE
        found = {"against": SyntaxKind.OUTPUT, "target": SyntaxKind.TARGET}.get(rest[0])
        if found or rest[0] not in KINDS:
            return found or SyntaxKind.VALUE
        return SyntaxKind.ROUTER if LossKind(rest[0]).of_routers else SyntaxKind.OUTPUT

    # -- names ------------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, ConfigEntry]:
        """The config values of the last spec, overridden by those of the text as it is now."""
        found = dict(self.spec.config) if self.spec else {}
        for name, value in mapping(self.at("config")).items():
            old = found.get(name)
            here = old is None or (old.span is not None and file_of(old.span.source) == self.file)
            below = () if old is None else old.overrides if here else (old.span, *old.overrides)
            found[name] = ConfigEntry(value, self.doc.value("config", name) if self.doc else None, below)
        return found

    @cached_property
    def blocks(self) -> dict[str, SpecPart]:
        """The blocks that can be called, with spans in the text as it is now."""
        return {name: self.with_current_spans(part) for name, part in self.spec.blocks.items()} if self.spec else {}

    def with_current_spans(self, part: SpecPart) -> SpecPart:
        """Return a part with the spans of the text as it is now, if it is of this file."""
        return replace(part, doc=self.doc) if self.doc and file_of(part.doc.source) == self.file else part

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that the owner declares."""
        return mapping(self.raw.get("in"))

    def lines_before(self) -> list[str]:
        """Return the names of the lines before the cursor's in its body; outside of the body, of all lines."""
        if self.inside[:1] != ("body",):
            return list(mapping(self.raw.get("body")))
        names = self.cursor.keys_before.get((*self.owner, "body"), ())
        return [name for name in names if name != self.node]

    def callee_ports(self, callee: str) -> list[str]:
        """Return the inputs of an op or a block."""
        if callee in OPS:
            return [] if OPS[callee].variadic else list(OPS[callee].ports)
        return list(self.blocks[callee].model.inputs) if callee in self.blocks else []

    # -- graphs -----------------------------------------------------------------------------

    @cached_property
    def graphs(self) -> list[tuple[Model | None, Graph]]:
        """The graphs of the owner in the last models, or that of a block that none of them calls."""
        found: list[tuple[Model | None, Graph]] = (
            list(self.workspace.graphs(self.file, self.owner)) if self.owner else []
        )
        if not found and self.owner[:1] == ("blocks",) and self.spec and self.owner[1] in self.spec.blocks:
            graph = standalone(self.spec, self.owner[1])
            found = [(None, graph)] if graph else []
        return found

    def nodes(self, name: str) -> Iterator[tuple[Model | None, Graph, Node]]:
        """Yield the nodes that a line became."""
        for model, graph in self.graphs:
            if name in graph.nodes:
                yield model, graph, graph.nodes[name]

    def line_of(self, name: str) -> WrittenLine:
        """Return another line of the same body, as it is written."""
        return WrittenLine.of(mapping(mapping(self.raw.get("body")).get(name)))

    def outputs_of(self, callee: str, line: WrittenLine) -> list[str]:
        """Return the names of the outputs of a line that has no node yet."""
        if callee in self.blocks:
            out = self.blocks[callee].model.out
            return list(out) if isinstance(out, dict) else ["y"]
        return list(mapping(line.get("into"))) if callee == "split" else []


def mapping(value: Any) -> dict[str, Any]:
    """Return a value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
