"""The folders of the backends that draw: imports between them point one way, and the page uses only what is public."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dsvgraph_graphviz", reason="needs `pip install 'dsvgraph[draw]'`")

BACKENDS = Path(__file__).parents[2] / "backends"
ROOMS = ("style", "model", "text", "scene", "dot", "formats")  # each may import itself and those before it


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names; a folder is its `__init__.py`."""
    paths = sorted((BACKENDS / package).rglob("*.py"))
    return {".".join(p.relative_to(BACKENDS).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every `from module import name`, wherever it stands, also under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module and not node.level
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


DRAWING = modules("dsvgraph_graphviz")


def target(module: str, name: str) -> str:
    """What `from module import name` imports: a module of the package, or the module that has the name."""
    return f"{module}.{name}" if f"{module}.{name}" in DRAWING else module


@pytest.mark.parametrize("name", [name for name in DRAWING if name.count(".") > 1])
def test_a_folder_imports_only_itself_and_those_before_it(name):
    allowed = ROOMS[: ROOMS.index(name.split(".")[1]) + 1]
    for found in (target(*one) for one in imported(DRAWING[name])):
        if found.startswith("dsvgraph_graphviz"):
            assert found.split(".")[1:2] and found.split(".")[1] in allowed, f"{name} imports {found}"


@pytest.mark.parametrize("name", modules("dsvgraph_html"))
def test_the_page_imports_what_is_public(name):
    scene = importlib.import_module("dsvgraph_graphviz.scene")
    for module, what in imported(modules("dsvgraph_html")[name]):
        if module.startswith("dsvgraph_graphviz"):
            assert not what.startswith("_")
            assert not module.startswith("dsvgraph_graphviz.scene."), f"{name}: take {what} from the package `scene`"
            assert module != "dsvgraph_graphviz.scene" or what in scene.__all__
