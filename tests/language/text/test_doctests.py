"""The examples in the documentation of dsvgraph run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dsvgraph

FOUND = [module.name for module in pkgutil.walk_packages(dsvgraph.__path__, "dsvgraph.")]
NAMES = ["dsvgraph", *(name for name in FOUND if not name.endswith("__main__"))]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


def test_there_are_examples() -> None:
    found = [test.name for name in NAMES for test in examples(importlib.import_module(name))]
    assert {"dsvgraph", "dsvgraph.dims.Poly", "dsvgraph.patterns.matches"} <= set(found)


@pytest.mark.parametrize("name", dsvgraph.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert name in dir(dsvgraph)
    assert ">>> " in (getattr(dsvgraph, name).__doc__ or "")


def test_passes_are_imported_when_they_are_asked_for() -> None:
    code = "import sys, dsvgraph; dir(dsvgraph); print([n for n in sys.modules if n.startswith('dsvgraph.passes')])"
    code += "; dsvgraph.cost; print('dsvgraph.passes.count.cost' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.splitlines() == ["[]", "True"]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(dsvgraph.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        f.names[i].name: f.module for f in checked.body if isinstance(f, ast.ImportFrom) for i in range(len(f.names))
    }
    assert typed == {name: f"dsvgraph.passes.{module}" for name, module in dsvgraph.PASSES.items()}
    assert set(typed) <= set(dsvgraph.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    for test in examples(module):
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0, test.name
