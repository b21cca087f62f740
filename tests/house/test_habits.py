"""Ratchets of habits: records, empty functions, messages of errors, the core without backends, enums."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sources import CODE, CORE, PACKAGES, PROJECT, ROOT, ident, nodes, sources, tree

from dsvgraph.graph import Mode, PortRole
from dsvgraph.ops.tape import LogitsForm
from dsvgraph.types import AttentionPairs, ElementType, InitKind

FORMATS = {"json", "svg", "html"}  # of reports, and what notebooks ask for


def test_records_of_many_fields_are_built_by_keyword() -> None:
    """In the passes and the command line: a class that is called with more than four values names each."""
    calls = [(path, node) for path in sources("dsvgraph/passes", "dsvgraph/cli") for node in calls_of_classes(path)]
    assert len(calls) > 200
    assert not [f"{ident(path)}:{node.lineno}" for path, node in calls if len(node.args) > 4]


def calls_of_classes(path: Path) -> Iterator[ast.Call]:
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.lstrip("_")[:1].isupper():
            yield node


def test_nothing_is_left_for_later() -> None:
    wrong = list[str]()
    for path in [*CODE, *sorted((ROOT / "specs").rglob("*.yaml"))]:
        text = path.read_text(encoding="utf-8")
        wrong += [f"{ident(path)}: {m}" for m in re.findall(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", text)]
        empty = [node.name for node in functions(tree(path)) if is_empty(node)] if path.suffix == ".py" else []
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
        for node in nodes(path)
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


def test_the_core_names_no_backend() -> None:
    """Neither a package below backends/ nor its entry points stand in the core, but for the words of commands."""
    names = {name for name in PACKAGES if name != "dsvgraph"}
    assert not [f"{ident(path)}: {name}" for path in CORE for name in names if name in path.read_text(encoding="utf-8")]
    entries = {name for points in PROJECT["entry-points"].values() for name in points} | {"graphviz", "hf"}
    literals = [
        (path, node.lineno, node.value)
        for path in CORE
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    wrong = [f"{ident(path)}:{line}: {text}" for path, line, text in literals if text in entries - FORMATS]
    assert len(literals) > 2000 and not wrong


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
        for compare in (n for n in nodes(path) if isinstance(n, ast.Compare)):
            names = {getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(compare)} & enums.keys()
            texts = {n.value for n in ast.walk(compare) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            found += bool(names)
            wrong += [f"{ident(path)}:{compare.lineno}" for name in names if texts & {*map(str, enums[name])}]
    assert found > 50 and not wrong
