"""The bundled blocks as they are: arguments, ports, cache, and weights with symbolic shapes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from dsvgraph import expr
from dsvgraph.build.builder import Builder
from dsvgraph.build.line import Line
from dsvgraph.build.ports import declared
from dsvgraph.build.ports import written as written_type
from dsvgraph.dims import Poly, product, symbol, total
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, join, walk
from dsvgraph.loader import bundled
from dsvgraph.passes.text.reference.entries import ReferenceEntry, first_sentence, paragraphs, written
from dsvgraph.spec import Spec, SpecPart, read_text, with_settings
from dsvgraph.types import Type

COPIES = re.compile(r"\[[^\]]*\]")  # numbers in a folded path
HEAD = re.compile(r"(\([^)]*\)|(?![:;] ).)*")
FRAME = """
include: [{files}]
config: {{{values}}}
graph:
  in: {{ids: "int[B, T]"}}
  body: {{e: {{embedding: ids, num: 1, dim: 1}}}}
  out: e
"""


class OwnWeight(NamedTuple):
    """A weight: its path (`*` for the numbers of copies), its shape, and of how many copies it is one."""

    path: str
    shape: str
    copies: str


@dataclass(frozen=True)
class BlockPage:
    """All of one block. Shapes are in the names of its arguments; empty where the block needs numbers."""

    name: str
    file: str
    summary: str
    doc: list[str]
    args: dict[str, str | None]  # the default as in YAML, None where it is required
    inputs: dict[str, str]
    outputs: dict[str, str]
    cache: dict[str, str]
    weights: list[OwnWeight]
    parameters: str
    cached_per_token: str
    calls: list[str]
    yaml: str

    def entries(self) -> Iterator[ReferenceEntry]:
        """Yield the arguments, ports, cached values and weights in this order."""
        for name, default in self.args.items():
            yield ReferenceEntry("argument", name, "", "required" if default is None else f"default {default}")
        for kind, types in (("in", self.inputs), ("out", self.outputs), ("cache", self.cache)):
            yield from (ReferenceEntry(kind, name, type_) for name, type_ in types.items())
        for weight in self.weights:
            yield ReferenceEntry(
                "weight", weight.path, weight.shape, f"times {weight.copies}" if weight.copies != "1" else ""
            )

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield label and text of what holds for the whole block."""
        yield "file", self.file
        if self.calls:
            yield "calls", ", ".join(self.calls)
        if self.parameters:
            yield "parameters", self.parameters
        if self.cached_per_token:
            yield "cached per token", self.cached_per_token

    def as_dict(self) -> dict[str, Any]:
        """Return the page for ``--json``."""
        return asdict(self) | {"weights": [weight._asdict() for weight in self.weights]}


@lru_cache(maxsize=1)
def blocks() -> dict[str, BlockPage]:
    """Return every block of the bundled library by name, in the order of files and lines."""
    return {name: _page(name, part) for name, part in _library().blocks.items()}


@lru_cache(maxsize=8)
def _library(names: tuple[str, ...] = ()) -> Spec:
    """Return a spec that includes every file of blocks, with ``names`` as symbolic config values."""
    home = bundled()
    files = ", ".join(p.relative_to(home).as_posix() for p in sorted((home / "blocks").rglob("*.yaml")))
    values = ", ".join(f"{name}: 1" for name in names)
    return with_settings(read_text(FRAME.format(files=files, values=values)), {}, frozenset(names))


def _page(name: str, part: SpecPart) -> BlockPage:
    model, graph = part.model, _graph(name, part)
    cached = {name: graph.type(ref) for name, ref in zip(model.cache, graph.cache, strict=True)} if graph else {}
    return BlockPage(
        name, _file(part), _summary(model.doc), paragraphs(model.doc),
        args={n: None if default is None else written(default) for n, default in model.args.items()},
        inputs={port: written_type(raw) for port, raw in model.inputs.items()},
        outputs={o: str(graph.type(graph.outputs[o])) if graph else "" for o in _out(part)},
        cache={name: str(cached.get(name, "")) for name in model.cache},
        weights=_weights(graph) if graph else [],
        parameters=_parameters(graph) if graph else "",
        cached_per_token=str(total(product(t.shape[2:]) for t in cached.values())) if cached else "",
        calls=_calls(part),
        yaml=_yaml(part),
    )  # fmt: skip


def _summary(doc: str) -> str:
    """Return the first sentence as far as its first colon outside of brackets: what follows is the wiring."""
    return HEAD.match(first_sentence(doc))[0].rstrip(".")  # type: ignore[index]  # it matches any text


def _file(part: SpecPart) -> str:
    """Return the file as an `include` names it."""
    return Path(part.doc.source.name).resolve().relative_to(bundled().resolve()).as_posix()


def _out(part: SpecPart) -> list[str]:
    return list(part.model.out) if isinstance(part.model.out, dict) else ["y"]


def _calls(part: SpecPart) -> list[str]:
    """Return the blocks that lines call, and those that an argument holds unless another is given."""
    args = part.model.args
    heads = [line.callee for line in part.model.body.values()]
    names = [*(head for head in heads if head not in args), *(d for d in args.values() if isinstance(d, str))]
    return list(dict.fromkeys(name for name in names if name in _library().blocks))


def _yaml(part: SpecPart) -> str:
    """Return the block's own lines of its file, comments too."""
    span = part.key()
    assert span is not None
    lines = list(span.source.lines[span.line - 1 :])
    inner = takewhile(lambda line: not line.strip() or line.startswith(" " * span.column), lines[1:])
    return textwrap.dedent("\n".join([lines[0], *inner])).strip()


# -- the block built with names for its sizes ---------------------------------------------------


def _graph(name: str, part: SpecPart) -> Graph | None:
    """Return the block with its arguments left as names; None where it needs numbers."""
    needed = [n for block in _reached(name) for n, default in block.model.args.items() if default is None]
    derived = [n for n, default in part.model.args.items() if _is_size(default, part)]
    spec = _library(tuple(sorted({*needed, *derived})))
    builder = Builder(spec)
    builder.positions, builder.lengths = frozenset("BT"), (symbol("T"),)
    ins = {port: _type(raw) for port, raw in part.model.inputs.items()}
    try:
        return builder.call(Line.calling(name, spec.graph), {}, ins, builder.config)
    except DsvError:
        return None


def _reached(name: str) -> list[SpecPart]:
    """Return the block and all that it calls, each once."""
    library, found, pending = _library().blocks, [name], [name]
    while pending:
        pending = [n for block in pending for n in _calls(library[block]) if n not in found]
        found += dict.fromkeys(pending)
    return [library[block] for block in found]


def _is_size(default: Any, part: SpecPart) -> bool:
    """Return whether a default is a size computed from other arguments: it stays a name of its own."""
    try:
        tree = expr.parse(default) if isinstance(default, str) else None
        inner = tree and tree.names() <= part.model.args.keys() and expr.evaluate(tree, symbol)
    except ValueError:
        return False
    return isinstance(inner, Poly)


def _type(raw: Any) -> Type:
    dtype, sizes = declared(raw, None)
    return Type(tuple(symbol("...") if s == "..." else expr.evaluate(expr.parse(s), symbol) for s in sizes), dtype)


def _weights(graph: Graph) -> list[OwnWeight]:
    """Return the weights that the block and the blocks below it own, equal copies folded."""
    return [
        OwnWeight(COPIES.sub("*", join(v.path, name)), str(w.type), str(v.copies))
        for v in walk(graph)
        for name, w in v.node.weights.items()
    ]


def _parameters(graph: Graph) -> str:
    return str(total(v.copies * w.numel for v in walk(graph) for w in v.node.weights.values()))
