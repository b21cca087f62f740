"""Names in emitted source: classes after blocks, variables after nodes."""

from __future__ import annotations

import ast
import keyword
from functools import lru_cache
from pathlib import Path
from typing import Any

from dsvgraph.build.scope import BlockValue
from dsvgraph.graph import Graph, Model

RUNTIME = ("runtime.py", "base.py")


def camel(name: str) -> str:
    """decoder_layer -> DecoderLayer."""
    words = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).split("_")
    text = "".join(w[:1].upper() + w[1:] for w in words if w)
    return text if text and not text[0].isdigit() else f"Model{text}"


def class_names(model: Model) -> dict[Graph, str]:
    """One class name per distinct graph: the block's, with what tells it from its namesakes."""
    graphs = list(model.graphs())
    taken = set(runtime_names())
    names: dict[Graph, str] = {}
    for graph in graphs:
        alike = [g for g in graphs if g.name == graph.name and g is not model]
        base = camel(model.name) if graph is model else camel(graph.name)
        if len(alike) > 1:
            base += "".join(camel(v.name) for v in _telling(graph, alike))
        names[graph] = _unique(base, taken)
    return names


def _telling(graph: Graph, alike: list[Graph]) -> list[BlockValue]:
    """The blocks given as arguments that differ between graphs of one block."""
    blocks = [(k, v) for k, v in graph.args.items() if isinstance(v, BlockValue)]
    return [v for k, v in blocks if any(g.args.get(k) != v for g in alike)]


def _unique(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken or keyword.iskeyword(name):
        name, number = f"{base}{number}", number + 1
    taken.add(name)
    return name


def variable(name: str, taken: set[str]) -> str:
    """A local name that hides nothing."""
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


@lru_cache(maxsize=1)
def runtime() -> dict[str, tuple[ast.stmt, str]]:
    """The top-level definitions of the runtime files: tree and text by name, in order."""
    found: dict[str, tuple[ast.stmt, str]] = {}
    for file in RUNTIME:
        text = (Path(__file__).parent / file).read_text(encoding="utf-8")
        for statement in ast.parse(text).body:
            name = _defined(statement)
            if name:
                found[name] = (statement, _source(text, statement))
    return found


def _defined(statement: ast.stmt) -> str:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def _source(text: str, statement: Any) -> str:
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    return "\n".join(text.splitlines()[first - 1 : statement.end_lineno])


def runtime_names() -> list[str]:
    """Names that the runtime defines."""
    return list(runtime())


def needed(code: str) -> list[str]:
    """The runtime definitions that ``code`` uses, directly or through others, in order."""
    defined = runtime()
    found: set[str] = set()
    todo = _names(ast.parse(code)) & defined.keys()
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= (_names(defined[name][0]) & defined.keys()) - found
    return [name for name in defined if name in found]


def _names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
