"""Markers that tests get from what they import and use, so that `make quick` can leave out the heavy ones."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

MARKERS = {
    "torch": "imports torch, in its module or, where marked by hand, while it runs",
    "slow": "takes more than a second, or starts processes",
    "browser": "opens pages in a browser",
    "gpu": "needs a GPU",
}
TORCH = {"torch", "transformers", "safetensors", "dsvgraph_torch"}
"""Packages that are torch or import it."""

EXTRAS = {"hatchling", "jsonschema", "matplotlib", "numpy", "pygls", "scipy", "sympy", "tokenizers", *TORCH} - {
    "dsvgraph_torch"
}
"""Packages of extras, by the names that they are imported by."""

FIXTURES = {"browser": "browser", "v3": "browser", "editor": "slow", "installed": "slow", "program": "slow"}
"""Markers of the tests that use a fixture."""

SLOW = {"fuzz", "graphviz"}
"""Folders of tests that take long together."""


@cache
def files(folder: Path) -> dict[str, Path]:
    """Return the modules below a folder of tests by the names that tests import them by."""
    return {path.stem: path for path in folder.rglob("*.py")}


@cache
def needed(path: Path) -> frozenset[str]:
    """Return the top-level names of the packages that a test file imports, itself or by its helper modules."""
    helpers = {stem: p for folder in path.parents if folder.name == "tests" for stem, p in files(folder).items()}
    names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
    own = {helpers[name] for name in names & helpers.keys() if not name.startswith("test_")} - {path}
    return frozenset(names).union(*map(needed, own))


def needs_torch(path: Path) -> bool:
    """Return whether a test file imports torch."""
    return bool(needed(path) & TORCH)


@cache
def installed(name: str) -> bool:
    """Return whether a package is installed; a folder of its name, such as tests/torch, is none."""
    if name in sys.modules:
        return sys.modules[name] is not None
    found = find_spec(name)
    return found is not None and found.origin is not None


def missing(path: Path) -> list[str]:
    """Return the packages of extras that a test file imports and that are not installed."""
    names = {"torch" if name == "dsvgraph_torch" else name for name in needed(path)}
    return sorted(name for name in names & EXTRAS if not installed(name))


class Skipped(pytest.Module):
    """A test file of which the imports are not installed."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"needs {', '.join(missing(self.path))}", allow_module_level=True)


def imported(module: ast.Module) -> Iterator[str]:
    """Yield the top-level names of the packages that a module imports when it is imported, importorskip included."""
    for node in module.body:
        match node:
            case ast.Import(names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(str(name)):
                yield name.partition(".")[0]
            case ast.Expr(call) | ast.Assign(value=call):
                yield from _skipping(call)


def _skipping(node: ast.AST) -> Iterator[str]:
    """Yield what a call of importorskip imports."""
    match node:
        case ast.Call(ast.Attribute(ast.Name("pytest"), "importorskip"), [ast.Constant(str(name)), *_]):
            yield name.partition(".")[0]


def left_out(marker: str, config: pytest.Config) -> bool:
    """Return whether `-m` leaves out all tests with a marker."""
    return f"not {marker}" in (config.getoption("-m") or "")


def mark(item: pytest.Item) -> None:
    """Add the markers that follow from the file, the fixtures and the body of a test."""
    found = {FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES}
    body = getattr(getattr(item, "function", None), "__code__", None)
    used = {*body.co_names, *(c for c in body.co_consts if isinstance(c, str))} if body else set()
    given = getattr(item, "callspec", None)
    words = {str(value).partition(" ")[0] for value in given.params.values()} if given else set()
    if needs_torch(item.path) or used & TORCH or words & {"compile", "generate", *TORCH}:
        found.add("torch")
    if item.path.parent.name in SLOW:
        found.add("slow")
    for name in sorted(found):
        item.add_marker(name)
