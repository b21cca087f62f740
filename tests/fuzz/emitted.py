"""What emitted source may be made of, whatever the words of its spec: its own names, torch, and a few builtins.

`judge_source` looks at the syntax tree of a file that nobody vouches for; `structure` is what is left of a file
without its constants and the spelling of its names, so that two files can be compared.
"""

from __future__ import annotations

import ast

IMPORTS = {"hashlib", "math", "re", "typing", "torch", "torch.nn", "torch.nn.functional", "torch.utils.checkpoint"}
BUILTINS = {
    "ArithmeticError", "ValueError", "TypeError", "abs", "all", "any", "bool", "dict", "enumerate", "float", "getattr",
    "hasattr", "int", "isinstance", "len", "list", "map", "max", "min", "next", "range", "reversed", "set", "slice",
    "sorted", "str", "sum",
    "super", "tuple", "zip",
}  # fmt: skip
DUNDER = {"__init__", "__dict__"}
STATEMENTS = (
    ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr,
    ast.Return, ast.For, ast.If, ast.With, ast.Raise, ast.Try, ast.Assert,
)  # fmt: skip


class Foreign(AssertionError):
    """Emitted source holds something that no model needs."""


def judge_source(source: str) -> None:
    """Raises Foreign where emitted ``source`` is no Python, or holds more than models are made of."""
    if not all(c.isprintable() or c == "\n" for c in source) or len(source.splitlines()) != source.count("\n"):
        raise Foreign("characters that no line shows, or lines that are split elsewhere")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise Foreign(f"no Python: {error}") from None
    known = defined(tree) | BUILTINS
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
            raise Foreign(f"line {node.lineno}: a statement of the kind {type(node).__name__}")
        if isinstance(node, ast.Name) and node.id not in known:
            raise Foreign(f"line {node.lineno}: the name {node.id}, which is not defined")
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr not in DUNDER:
            raise Foreign(f"line {node.lineno}: the attribute {node.attr}")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {node.module} if isinstance(node, ast.ImportFrom) else {a.name for a in node.names}
            if not names <= IMPORTS:
                raise Foreign(f"line {node.lineno}: imports {names - IMPORTS}")
    for statement in tree.body:
        judge_top(statement)


def judge_top(statement: ast.stmt) -> None:
    """At the top of a file and of its classes nothing runs: there are definitions, constants and documentation."""
    match statement:
        case ast.ClassDef(body=body):
            for inner in body:
                judge_top(inner)
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AnnAssign(value=None):
            pass
        case ast.Expr(ast.Constant(str())):
            pass
        case ast.Assign(value=value) if literal(value):
            pass
        case _:
            raise Foreign(f"line {statement.lineno}: something runs when the file is read")


def literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(map(literal, node.elts))
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def defined(tree: ast.AST) -> set[str]:
    """Names that the file itself brings: imports, definitions, arguments, variables."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(name=name, asname=alias):
                found.add(alias or name.split(".")[0])
    return found


def structure(source: str) -> str:
    """The syntax tree of ``source`` without constants and spelling of names; a tuple of constants is one."""
    return ast.dump(Bare().visit(ast.parse(source)))


class Bare(ast.NodeTransformer):
    """Constants and names all alike."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(0)

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        return ast.Constant(0) if literal(node) else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "attr", "arg", "name"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "_")
        return super().generic_visit(node)
