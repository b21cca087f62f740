"""Ratchets of size: the files of a folder, and the lines of a function."""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = 15
MEDIAN, MOST = 8, 45


def sources(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "node_modules" not in path.parts)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function: those of its body, and one for its head, however many parameters it has."""
    return (node.end_lineno or 0) - node.body[0].lineno + 2


def test_folders_are_small() -> None:
    files = [path for path in sources("dsvgraph", "backends", "tests") if path.name != "__init__.py"]
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    assert len(folders) > 30
    assert not {folder: count for folder, count in folders.items() if count > FILES}


def test_functions_are_short() -> None:
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}": length(node)
        for path in sources("dsvgraph", "backends")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(lengths) > 2000 and statistics.median(lengths.values()) <= MEDIAN
    assert not {name: count for name, count in lengths.items() if count > MOST}
