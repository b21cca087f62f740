"""The examples in the documentation of dsvgraph run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
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


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    for test in examples(module):
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0, test.name
