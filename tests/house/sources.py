"""The files of the project, and their syntax trees, which the tests of this folder read again and again."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"dsvgraph": ROOT / "dsvgraph"} | {p.name: p for p in (ROOT / "backends").glob("dsvgraph_*")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def sources(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "node_modules" not in path.parts)


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def forget() -> None:
    """Free the trees."""
    tree.cache_clear()
    nodes.cache_clear()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import, wherever it stands; `from a import b` names a.b."""
    here = path.relative_to(ROOT / "backends" if path.is_relative_to(ROOT / "backends") else ROOT).parts
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            base += [node.module] if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


CORE = sources("dsvgraph")
CODE = sources("dsvgraph", "backends", "tests", "benchmarks")
