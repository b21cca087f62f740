"""Ratchets of imports: the layers, cycles, what may import what."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import networkx
from sources import CORE, PACKAGES, PROJECT, ROOT, ident, imports, nodes, sources

LAYERS = """
codes errors dims files names patterns processes tensorfile wanted
expr
types
ops
loader spec
graph
build
passes backends
__init__
cli __main__
"""  # a module imports its own line and those above; __init__ is what `from dsvgraph import load` means
RANK = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}

MAY_IMPORT = {
    "dsvgraph": ["plot"],
    "dsvgraph_graphviz": ["draw"],
    "dsvgraph_hf": ["torch", "hf"],
    "dsvgraph_html": [],
    "dsvgraph_lsp": ["lsp"],
    "dsvgraph_testbed": ["testbed"],
    "dsvgraph_torch": ["torch", "data", "triton"],
}  # extras
MODULE_OF = {
    "ruamel.yaml": "ruamel",
    "pydantic": "pydantic pydantic_core",
    "pygls": "pygls lsprotocol",
}  # where it is not the package's name
BESIDE = {"dsvgraph_html": {"dsvgraph_graphviz"}}  # the page draws the cards of the pictures


def layer(name: str) -> str:
    """The line of LAYERS that a dotted name below dsvgraph belongs to."""
    part = name.split(".")[1] if "." in name else "__init__"
    return part if (ROOT / "dsvgraph" / part).is_dir() or (ROOT / "dsvgraph" / f"{part}.py").is_file() else "__init__"


def test_imports_point_down() -> None:
    found = [(path, line, name) for path in CORE for line, name in imports(path) if name.split(".")[0] == "dsvgraph"]
    owns = {path: path.relative_to(ROOT / "dsvgraph").parts[0].removesuffix(".py") for path in CORE}
    placeless = {*owns.values(), *(layer(name) for _, _, name in found)} - RANK.keys()
    assert not placeless, "these modules of dsvgraph have no place in LAYERS"
    wrong = [f"{ident(p)}:{line}: {name}" for p, line, name in found if RANK[layer(name)] > RANK[owns[p]]]
    assert len(found) > 300 and not wrong


def test_imports_have_no_cycle() -> None:
    """Neither at import time nor under TYPE_CHECKING; what a function imports when it is called is left out."""
    files = {module(path): path for path in sources("dsvgraph", "backends")}
    graph = networkx.DiGraph()
    for name, path in files.items():
        found = [target if target in files else target.rpartition(".")[0] for target in outside_functions(path)]
        graph.add_edges_from((name, target) for target in found if target in files and target != name)
    assert graph.number_of_edges() > 800
    assert not [part for part in networkx.strongly_connected_components(graph) if len(part) > 1]


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = (
        path.relative_to(ROOT / "backends" if path.is_relative_to(ROOT / "backends") else ROOT).with_suffix("").parts
    )
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def outside_functions(path: Path) -> set[str]:
    """What a file imports outside of its functions."""
    inside = [node for node in nodes(path) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lazy = {
        child.lineno for node in inside for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))
    }
    return {name for line, name in imports(path) if line not in lazy}


def test_imports_are_declared() -> None:
    """Core imports no torch and no backend, a backend not another but BESIDE: only what pyproject.toml gives each."""
    extras, wrong = PROJECT["optional-dependencies"], list[str]()
    for package, folder in PACKAGES.items():
        wanted = PROJECT["dependencies"] + [need for extra in MAY_IMPORT[package] for need in extras[extra]]
        names = [re.match(r"[\w.-]+", need)[0] for need in wanted]
        known = {m for name in names for m in MODULE_OF.get(name, name.replace("-", "_")).split()}
        known |= {"dsvgraph", package, *BESIDE.get(package, ()), *sys.stdlib_module_names}
        found = [(path, *one) for path in sources(ident(folder)) for one in imports(path)]
        assert found
        wrong += [f"{ident(path)}:{line}: {name}" for path, line, name in found if name.split(".")[0] not in known]
    assert not wrong


def test_files_of_tests_have_names_of_their_own() -> None:
    """Tests import helper modules by name alone, and pytest their files: two of one name are one module."""
    names = Counter(path.name for path in sources("tests") if path.name != "conftest.py")
    assert len(names) > 150
    assert not [name for name, count in names.items() if count > 1]
