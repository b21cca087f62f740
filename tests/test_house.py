"""Ratchets: the layers, what may import what, the size of files, and what an installation puts where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import networkx
import pytest

from dsvgraph.graph import Mode, PortRole
from dsvgraph.ops.tape import LogitsForm
from dsvgraph.types import AttentionPairs, ElementType, InitKind

ROOT = Path(__file__).parents[1]
PACKAGES = {"dsvgraph": ROOT / "dsvgraph"} | {p.name: p for p in (ROOT / "backends").glob("dsvgraph_*")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

LAYERS = """
codes errors dims files names patterns tensorfile wanted
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
    "dsvgraph_hf": ["torch"],
    "dsvgraph_html": [],
    "dsvgraph_lsp": ["lsp"],
    "dsvgraph_torch": ["torch"],
}  # extras
MODULE_OF = {
    "ruamel.yaml": "ruamel",
    "pydantic": "pydantic pydantic_core",
    "pygls": "pygls lsprotocol",
}  # where it is not the package's name
BESIDE = {"dsvgraph_html": {"dsvgraph_graphviz"}}  # the page draws the cards of the pictures
FORMATS = {"json", "svg", "html"}  # of reports, and what notebooks ask for
LINES = 320


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, wherever it stands; `from a import b` names a.b."""
    here = path.relative_to(ROOT / "backends" if path.is_relative_to(ROOT / "backends") else ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            base += [node.module] if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def layer(name: str) -> str:
    """The line of LAYERS that a dotted name below dsvgraph belongs to."""
    part = name.split(".")[1] if "." in name else "__init__"
    return part if (ROOT / "dsvgraph" / part).is_dir() or (ROOT / "dsvgraph" / f"{part}.py").is_file() else "__init__"


CORE = sources("dsvgraph")
CODE = sources("dsvgraph", "backends", "tests", "benchmarks")


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
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lazy = {
        child.lineno for node in inside for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))
    }
    return {name for line, name in imports(path) if line not in lazy}


def test_records_of_many_fields_are_built_by_keyword() -> None:
    """In the passes and the command line: a class that is called with more than four values names each."""
    calls = [(path, node) for path in sources("dsvgraph/passes", "dsvgraph/cli") for node in calls_of_classes(path)]
    assert len(calls) > 200
    assert not [f"{ident(path)}:{node.lineno}" for path, node in calls if len(node.args) > 4]


def calls_of_classes(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.lstrip("_")[:1].isupper():
            yield node


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


def test_files_are_short() -> None:
    lengths = {p: p.read_text(encoding="utf-8").count("\n") for p in sources("dsvgraph", "backends", "benchmarks")}
    assert len(lengths) > 200
    assert not {ident(path): length for path, length in lengths.items() if length > LINES}


def test_nothing_is_left_for_later() -> None:
    wrong = list[str]()
    for path in [*CODE, *sorted((ROOT / "specs").rglob("*.yaml"))]:
        text = path.read_text(encoding="utf-8")
        wrong += [f"{ident(path)}: {m}" for m in re.findall(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", text)]
        empty = [node.name for node in functions(ast.parse(text)) if is_empty(node)] if path.suffix == ".py" else []
        wrong += [f"{ident(path)}: {name} does nothing" for name in empty]
    assert not wrong


OTHERS_MESSAGES = {
    "backends/dsvgraph_torch/training/preflight.py": "torch has no class for memory that the CPU has not",
    "backends/dsvgraph_torch/verification/report.py": "torch has no class for what the meta device cannot do",
    "backends/dsvgraph_hf/weights/shards.py": "a prefix of safetensors' message is not shown",
}  # files that read messages of other packages, which have nothing else


def test_nothing_decides_by_the_words_of_a_message() -> None:
    """No code compares, searches or takes apart the message of an error; what it needs is a field of the error."""
    found = {
        ident(path): lines
        for path in sources("dsvgraph", "backends")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (lines := read_messages(node))
    }
    assert found.keys() == OTHERS_MESSAGES.keys(), found
    code = "def f(error):\n    words = str(error)\n    return 'heads' in words or error.message.startswith('a')"
    assert len(read_messages(ast.parse(code).body[0])) == 2


def read_messages(function: ast.AST) -> list[int]:
    """Lines of a function that look into a message: by `in`, `==`, a method of texts that searches, or `re`."""
    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and is_message(node.value, set())]
    known = {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    found = list[int]()
    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and any(is_message(side, known) for side in (node.left, *node.comparators)):
            found.append(node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            searched = node.func.value if node.func.attr in SEARCHES else None
            given = node.args if ast.unparse(node.func.value) == "re" else []
            if any(is_message(text, known) for text in (searched, *given)):
                found.append(node.lineno)
    return found


SEARCHES = {
    "startswith", "endswith", "find", "rfind", "index", "count", "partition", "rpartition",
    "removeprefix", "removesuffix", "replace",
}  # fmt: skip


def is_message(node: ast.AST | None, known: set[str]) -> bool:
    """Whether an expression is the text of an error: `str(error)`, `error.message`, or a name for one, or a part."""
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.Attribute):
        return node.attr == "message"
    if isinstance(node, ast.Subscript):
        return is_message(node.value, known)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("splitlines", "lower")
    ):
        return is_message(node.func.value, known)
    is_text = isinstance(node, ast.Call) and ast.unparse(node.func) in ("str", "repr")
    return is_text and len(node.args) == 1 and ast.unparse(node.args[0]) in ("error", "problem", "failure", "caught")


def functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """The functions of a file, but for those of a Protocol and decorated ones (abstract, overload)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef) and not child.decorator_list:
            yield child
        if not (isinstance(child, ast.ClassDef) and "Protocol" in map(ast.unparse, child.bases)):
            yield from functions(child)


def is_empty(node: ast.FunctionDef) -> bool:
    """Nothing remains without docstring, `pass` and `...`."""
    return all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_packages_are_typed(name: str) -> None:
    assert (PACKAGES[name] / "py.typed").is_file()


def test_entry_points_name_what_is_there() -> None:
    """Each names a module of the project, and in brackets an extra that it has."""
    groups = PROJECT["entry-points"]
    declared = [(name, value, group) for group, points in groups.items() for name, value in points.items()]
    assert len(declared) > 15
    for name, value, group in declared:
        point = EntryPoint(name, value, group)
        assert {*point.extras} <= PROJECT["optional-dependencies"].keys()
        folder = PACKAGES[point.module.split(".")[0]].joinpath(*point.module.split(".")[1:])
        assert (folder / "__init__.py").is_file() or folder.with_suffix(".py").is_file()


def test_the_recipe_names_every_contract() -> None:
    """The table of CONTRIBUTING.md has the Protocols of contracts.py, and the groups of pyproject.toml."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?([^|`]+)`? \| `(dsvgraph\.\w+)` \|", recipe, re.MULTILINE)
    text = (ROOT / "dsvgraph/backends/contracts.py").read_text(encoding="utf-8")
    stated = re.findall(r"^class (\w+)\(Protocol\):\n    \"\"\"[^\"]*?Group\s+`(dsvgraph\.\w+)`", text, re.MULTILINE)
    assert len(stated) > 8 and {*stated} == {row for row in rows if row[0].isidentifier()}
    assert {group for _, group in rows} == {group for group in PROJECT["entry-points"] if group.startswith("dsvgraph.")}


def test_the_core_names_no_backend() -> None:
    """Neither a package below backends/ nor its entry points stand in the core, but for the words of commands."""
    names = {name for name in PACKAGES if name != "dsvgraph"}
    assert not [f"{ident(path)}: {name}" for path in CORE for name in names if name in path.read_text(encoding="utf-8")]
    entries = {name for points in PROJECT["entry-points"].values() for name in points} | {"graphviz", "hf"}
    literals = [
        (path, node.lineno, node.value)
        for path in CORE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    wrong = [f"{ident(path)}:{line}: {text}" for path, line, text in literals if text in entries - FORMATS]
    assert len(literals) > 2000 and not wrong


def isolated(code: str, cwd: Path) -> str:
    """What Python prints, run away from the checkout with nothing but the installation on its path."""
    return subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def test_only_the_packages_can_be_imported(tmp_path: Path) -> None:
    names = [*PACKAGES, "backends", "specs", "tests", "benchmarks", "docs"]
    code = f"""
from importlib.util import find_spec
for name in {names!r}:
    spec = find_spec(name)
    if spec and any(place.startswith({str(ROOT)!r}) for place in spec.submodule_search_locations or []):
        print(name)
"""
    assert sorted(isolated(code, tmp_path).split()) == sorted(PACKAGES)


def test_importing_the_command_line_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, dsvgraph.cli; print(*{'torch', 'numpy', 'transformers', 'sympy'} & set(sys.modules))"
    assert isolated(code, tmp_path).split() == []


def test_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling, of the extra `dev`")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == set(PACKAGES)
    assert names >= {f"dsvgraph/{ident(p)}" for p in (ROOT / "specs").rglob("*.yaml")}
    assert names >= {f"{package}/py.typed" for package in PACKAGES}


def test_closed_sets_are_compared_by_member() -> None:
    """What an enum names is not compared with its text: a slip in a text would only be false."""
    enums = {
        "mode": Mode,
        "role": PortRole,
        "roles": PortRole,
        "dtype": ElementType,
        "init": InitKind,
        "pairs": AttentionPairs,
        "logits": LogitsForm,
    }
    found, wrong = 0, list[str]()
    for path in sources("dsvgraph", "backends", "benchmarks"):
        for compare in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Compare)):
            names = {getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(compare)} & enums.keys()
            texts = {n.value for n in ast.walk(compare) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            found += bool(names)
            wrong += [f"{ident(path)}:{compare.lineno}" for name in names if texts & {*map(str, enums[name])}]
    assert found > 50 and not wrong
