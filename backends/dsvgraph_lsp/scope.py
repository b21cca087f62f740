"""What a place in a spec means: whose line it is, what it calls, and which names are visible there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dsvgraph.build.losses.lines import KINDS
from dsvgraph.errors import Span
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.ops import OPS
from dsvgraph.spec import Entry, Part, Spec
from dsvgraph_lsp.cursor import Place
from dsvgraph_lsp.standalone import alone
from dsvgraph_lsp.workspace import Desk, place_of


class Scene:
    """One place of one open file, with the last spec and graph that came of it."""

    def __init__(self, desk: Desk, path: Path, place: Place) -> None:
        self.desk, self.file, self.place = desk, path, place
        self.doc = desk.doc(path)
        self.spec: Spec | None = desk.spec(path)
        self.is_spec = desk.is_spec(path)

    # -- whose line it is -------------------------------------------------------------------

    @cached_property
    def owner(self) -> tuple[str, ...]:
        """`("graph",)`, `("blocks", name)`, or nothing."""
        path = self.place.path
        if path[:1] == ("graph",):
            return ("graph",)
        return path[:2] if path[:1] == ("blocks",) and len(path) > 1 else ()

    @property
    def inside(self) -> tuple[Any, ...]:
        """The path below the owner, or the whole."""
        return self.place.path[len(self.owner) :]

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The owner as it is written, or was when it last could be read."""
        return mapping(self.at(*self.owner)) if self.owner else {}

    def at(self, *path: Any) -> Any:
        """What the file holds at a path."""
        found: Any = self.doc.data if self.doc else None
        for step in path:
            found = mapping(found).get(step)
        return found

    def key_span(self, *path: Any) -> Span | None:
        """Where a key of the owner stands in this file."""
        return self.doc.key(*self.owner, *path) if self.doc else None

    @property
    def node(self) -> str:
        """The name of the line, in a body."""
        return str(self.inside[1]) if self.inside[:1] == ("body",) and len(self.inside) > 1 else ""

    @cached_property
    def line(self) -> dict[str, Any]:
        """The line as it is written, or was."""
        return mapping(mapping(self.raw.get("body")).get(self.node))

    @cached_property
    def key(self) -> str:
        """The first key of the line: what it calls, or an argument that holds that."""
        written = self.place.above.get((*self.owner, "body", self.node), ())
        return written[0] if written else next(iter(self.line), "")

    @property
    def callee(self) -> str:
        """The op or block that the line calls."""
        return self.called(self.key)

    def called(self, key: str) -> str:
        """The op or block that a first key means: itself, or what the argument of this name holds unless told."""
        held = mapping(self.raw.get("args")).get(key)
        if isinstance(held, dict):
            held = next(iter(held), None)
        return held if isinstance(held, str) else key

    # -- what is wanted here ------------------------------------------------------------------

    @cached_property
    def wanted(self) -> str:
        """What belongs here: reference, callee, attribute, port, value, size, file, ... or nothing."""
        inside, is_key = self.inside, self.place.is_key
        if self.owner:
            return self._in_block(inside, is_key)
        if not inside:
            return "section" if is_key else ""
        head = str(inside[0])
        if head in ("include", "extends"):
            return "" if is_key else "file"
        if head == "loss" and len(inside) > 1:
            return self._in_loss(inside[2:], is_key)
        if head in ("init", "trained"):
            return "pattern" if is_key and len(inside) == 1 else f"{head} value"
        if head == "published":
            return "published" if is_key else "convention" if inside[-1] == "active_counts" else ""
        return {"config": "config" if is_key else "value"}.get(head, "")

    def _in_block(self, inside: tuple[Any, ...], is_key: bool) -> str:
        if not inside:
            return "part" if is_key else ""
        head = inside[0]
        if head == "body":
            return self._in_line(inside[2:], is_key) if len(inside) > 1 else ""
        if head in ("out", "cache"):
            return "" if is_key else "reference"
        return "" if is_key else {"in": "size", "args": "value"}.get(head, "")

    def _in_line(self, rest: tuple[Any, ...], is_key: bool) -> str:
        if not rest:
            return ("attribute" if self.place.siblings else "callee") if is_key else ""
        if rest[0] == self.key:
            return "port" if is_key else "reference"
        if rest[0] in ("slice", "share"):
            return "input"
        cls = OPS.get(self.callee)
        if cls and rest[0] in cls.wired_weights:
            return "reference"
        return "" if rest[0] == "at" else "value"

    def _in_loss(self, rest: tuple[Any, ...], is_key: bool) -> str:
        if is_key:
            return "loss" if not rest else ""
        if not rest:
            return ""
        return {"cross_entropy": "output", "target": "target"}.get(rest[0], "router" if rest[0] in KINDS else "value")

    # -- names ------------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, Entry]:
        """The config values: those of the last spec, under those of the text as it is now."""
        found = dict(self.spec.config) if self.spec else {}
        for name, value in mapping(self.at("config")).items():
            old = found.get(name)
            here = old is None or (old.span is not None and place_of(old.span) == self.file)
            below = () if old is None else old.overrides if here else (old.span, *old.overrides)
            found[name] = Entry(value, self.doc.value("config", name) if self.doc else None, below)
        return found

    @cached_property
    def blocks(self) -> dict[str, Part]:
        """The blocks that can be called, with places in the text as it is now."""
        return {name: self.fresh(part) for name, part in self.spec.blocks.items()} if self.spec else {}

    def fresh(self, part: Part) -> Part:
        """A part of this file with the positions of the text as it is now."""
        return replace(part, doc=self.doc) if self.doc and file_of(part) == self.file else part

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of the owner."""
        return mapping(self.raw.get("in"))

    def above(self) -> list[str]:
        """The lines that stand before this one in its body; all of them for what follows the body."""
        if self.inside[:1] != ("body",):
            return list(mapping(self.raw.get("body")))
        names = self.place.above.get((*self.owner, "body"), ())
        return [name for name in names if name != self.node]

    def callee_ports(self, callee: str) -> list[str]:
        """The inputs of an op or a block."""
        if callee in OPS:
            return [] if OPS[callee].variadic else list(OPS[callee].ports)
        return list(self.blocks[callee].model.inputs) if callee in self.blocks else []

    # -- graphs -----------------------------------------------------------------------------

    @cached_property
    def graphs(self) -> list[tuple[Model | None, Graph]]:
        """The graphs that the owner became in the last models that were right, or what a block is by itself."""
        found: list[tuple[Model | None, Graph]] = list(self.desk.graphs(self.file, self.owner)) if self.owner else []
        if not found and self.owner[:1] == ("blocks",) and self.spec and self.owner[1] in self.spec.blocks:
            graph = alone(self.spec, self.owner[1])
            found = [(None, graph)] if graph else []
        return found

    def nodes(self, name: str) -> Iterator[tuple[Model | None, Graph, Node]]:
        """The nodes that a line became."""
        for model, graph in self.graphs:
            if name in graph.nodes:
                yield model, graph, graph.nodes[name]

    def line_of(self, name: str) -> dict[str, Any]:
        """Another line of the same body, as it is written."""
        return mapping(mapping(self.raw.get("body")).get(name))

    def outputs_of(self, callee: str, line: dict[str, Any]) -> list[str]:
        """The names of the outputs of a line that has no node yet."""
        if callee in self.blocks:
            out = self.blocks[callee].model.out
            return list(out) if isinstance(out, dict) else ["y"]
        return list(mapping(line.get("into"))) if callee == "split" else []


def file_of(part: Part) -> Path:
    """The file that a part stands in."""
    return Path(part.doc.source.name).resolve()


def mapping(value: Any) -> dict[str, Any]:
    """A value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
