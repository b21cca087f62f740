"""Names in emitted source: classes after blocks, variables after nodes."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import textwrap
from functools import lru_cache
from pathlib import Path

from dsvgraph.build.scope import BlockValue
from dsvgraph.errors import Span
from dsvgraph.graph import Graph, Model
from dsvgraph_torch.lowering.registry import RUNTIME
from dsvgraph_torch.lowering.source import one_line

OWN = ["self", "ctx", "torch", "nn", "F", "re", "math", "Linear", "NamedTuple", "checkpoint", "targets", "copy", "i"]


def camel(name: str) -> str:
    """decoder_layer -> DecoderLayer."""
    words = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).split("_")
    text = "".join(w[:1].upper() + w[1:] for w in words if w)
    return text if text and not text[0].isdigit() else f"Model{text}"


def class_names(model: Model) -> dict[Graph, str]:
    """Return one class name per distinct graph: the block's, with what tells it from its namesakes."""
    graphs = list(model.graphs())
    taken = reserved()
    names: dict[Graph, str] = {}
    for graph in graphs:
        alike = [g for g in graphs if g.name == graph.name and g is not model]
        base = camel(model.name) if graph is model else camel(graph.name)
        if len(alike) > 1:
            base += "".join(camel(v.name) for v in _distinguishing_blocks(graph, alike))
        names[graph] = _unique(base, taken)
    return names


def _distinguishing_blocks(graph: Graph, alike: list[Graph]) -> list[BlockValue]:
    """Return the blocks given as arguments that differ between graphs of one block."""
    blocks = [(k, v) for k, v in graph.args.items() if isinstance(v, BlockValue)]
    return [v for k, v in blocks if any(g.args.get(k) != v for g in alike)]


def _unique(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken or keyword.iskeyword(name):
        name, number = f"{base}{number}", number + 1
    taken.add(name)
    return name


def variable(name: str, taken: set[str]) -> str:
    """Return a local name that hides nothing; what no identifier can hold becomes ``_``."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = name if name.isidentifier() else f"_{name}"
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def runtime() -> dict[str, ast.stmt]:
    """Return the top-level definitions of the runtime files by name, in order; the trees are the caller's own.

    Raise ValueError if two files define one name.
    """
    found: dict[str, ast.stmt] = {}
    for text in _texts(tuple(RUNTIME)):
        own = {name: s for s in ast.parse(text).body if (name := _defined(s))}
        if twice := found.keys() & own.keys():
            raise ValueError(f"`{min(twice)}` is defined by two files of helper functions")
        found |= own
    return found


@lru_cache(maxsize=2)
def _texts(files: tuple[Path, ...]) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in files]


def _defined(statement: ast.stmt) -> str:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


@lru_cache(maxsize=2)
def _names(files: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(runtime())


def runtime_names() -> tuple[str, ...]:
    """Return names that the runtime defines."""
    return _names(tuple(RUNTIME))


def reserved() -> set[str]:
    """Return names that a class or a local variable must not hide."""
    return {*OWN, *dir(builtins), *runtime_names()}


def first_sentence(doc: str) -> str:
    """Return the first sentence of a block's documentation, for a docstring."""
    words = one_line(doc)
    end = next((m.end() - 1 for m in re.finditer(r"(?<!arXiv)[.] (?=[A-Z])", words)), len(words))
    return words[:end].rstrip(".") + "." if words else ""


def document(graph: Graph) -> str:
    """Return a docstring of one line: what the block is."""
    return textwrap.shorten(first_sentence(graph.doc) or graph.name, 110, placeholder=" ...")


def where(span: Span) -> str:
    """Return the file and the line of a place in a spec."""
    return f"{one_line(span.source.name).rsplit('/', 1)[-1]}:{span.line}"
