"""Ratchets of size: the files of a folder, the lines of a file and of a function."""

from __future__ import annotations

import ast
import statistics
from collections import Counter

from sources import ident, nodes, sources

FILES = 15
LINES = 320
MEDIAN, MOST = 8, 45


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function: those of its body, and one for its head, however many parameters it has."""
    return (node.end_lineno or 0) - node.body[0].lineno + 2


def test_folders_are_small() -> None:
    files = [path for path in sources("dsvgraph", "backends", "tests") if path.name != "__init__.py"]
    folders = Counter(ident(path.parent) for path in files)
    assert len(folders) > 30
    assert not {folder: count for folder, count in folders.items() if count > FILES}


def test_functions_are_short() -> None:
    lengths = {
        f"{ident(path)}:{node.lineno} {node.name}": length(node)
        for path in sources("dsvgraph", "backends")
        for node in nodes(path)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(lengths) > 2000 and statistics.median(lengths.values()) <= MEDIAN
    assert not {name: count for name, count in lengths.items() if count > MOST}


def test_files_are_short() -> None:
    lengths = {p: p.read_text(encoding="utf-8").count("\n") for p in sources("dsvgraph", "backends", "benchmarks")}
    assert len(lengths) > 200
    assert not {ident(path): length for path, length in lengths.items() if length > LINES}
