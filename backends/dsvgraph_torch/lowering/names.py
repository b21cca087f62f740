"""Names in emitted source: classes after blocks, variables after nodes."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dsvgraph.build.scope import BlockValue
from dsvgraph.errors import Span
from dsvgraph.graph import Graph, Model
from dsvgraph_torch.lowering.registry import RUNTIME
from dsvgraph_torch.lowering.source import one_line
from dsvgraph_torch.runtime.uses import names

OWN = [
    "self",
    "ctx",
    "torch",
    "nn",
    "F",
    "hashlib",
    "re",
    "math",
    "Linear",
    "NamedTuple",
    "checkpoint",
    "targets",
    "copy",
    "i",
    "runs",
]


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


def runtime(main: ast.AST) -> dict[str, ast.stmt]:
    """Return the definitions of the runtime files that ``main`` reads, directly or through others, by name, in order.

    The trees are the caller's own. Raise ValueError if two files define one name.
    """
    known, found = _definitions(tuple(RUNTIME)), set[str]()
    todo = names(main) & known.keys()
    while todo:
        found |= todo
        todo = {n for name in todo for n in known[name].names if n in known} - found
    kept = [name for name in known if name in found]
    return dict(zip(kept, ast.parse("\n".join(known[name].text for name in kept)).body, strict=True))


class Definition(NamedTuple):
    """A top-level definition of the runtime: its text, and the names that it reads or stores."""

    text: str
    names: set[str]


@lru_cache(maxsize=2)
def _definitions(files: tuple[Path, ...]) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        own = {name: s for s in ast.parse(text).body if (name := _defined(s))}
        if twice := found.keys() & own.keys():
            raise ValueError(f"`{min(twice)}` is defined by two files of helper functions")
        found |= {name: Definition(_lines(text, tree), names(tree)) for name, tree in own.items()}
    return found


def _lines(text: str, tree: Any) -> str:
    """Return the lines of a statement, its decorators included."""
    first = min([tree.lineno, *(d.lineno for d in getattr(tree, "decorator_list", ()))])
    return "\n".join(text.split("\n")[first - 1 : tree.end_lineno])


def _defined(statement: ast.stmt) -> str:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def runtime_names() -> tuple[str, ...]:
    """Return names that the runtime defines."""
    return tuple(_definitions(tuple(RUNTIME)))


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
