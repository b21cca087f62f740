"""Simplify Python syntax trees: replace names and attributes, decide conditions on constants."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

LEAVES = {"ctx", "op", "ops", "id", "attr", "name", "type_comment", "kind", "lineno", "type_ignores"}
"""Fields of syntax trees that hold contexts, operators, names or numbers."""


def constant(node: Any) -> bool:
    """Whether a tree is a literal: a number, a text, a truth value, None, or a mapping of these."""
    if isinstance(node, ast.Dict):
        return all(constant(v) for v in node.values) and all(constant(k) for k in node.keys)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and constant(node.operand)
    return isinstance(node, ast.Constant)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node of a tree but contexts and operators, in no order that means anything.

    `ast.walk` takes five times as long.
    """
    left = [tree]
    while left:
        yield (node := left.pop())
        kind: Any = type(node)
        for name in _children(kind):
            value = getattr(node, name, None)
            if isinstance(value, list):
                left += [v for v in value if isinstance(v, ast.AST)]
            elif isinstance(value, ast.AST):
                left.append(value)


@cache
def _children(kind: Any) -> tuple[str, ...]:
    """Return the fields of a class of nodes that may hold nodes other than contexts and operators."""
    return tuple(name for name in kind._fields if name not in LEAVES)


def acts(tree: ast.AST) -> bool:
    """Return whether computing an expression calls something."""
    return any(isinstance(n, ast.Call) for n in nodes(tree))


class Replace(ast.NodeTransformer):
    """Put what ``choose`` returns in the place of a node; where it returns None the node stays."""

    def __init__(self, choose: Callable[[ast.AST], ast.AST | None]) -> None:
        self.choose = choose

    def visit(self, node: ast.AST) -> Any:
        found = self.choose(node)
        return self.generic_visit(node) if found is None else copy.deepcopy(found)


def read_of(values: Mapping[str, ast.expr]) -> Callable[[ast.AST], ast.AST | None]:
    """Return a choice for `Replace`: the value of a name that is read."""
    return lambda node: values.get(node.id) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else None


def assigned(function: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    """Return (attribute, value) of the assignments to attributes of self at the top of a function."""
    return [pair for line in function.body for pair in _pairs(line) or ()]


def without(line: ast.stmt, gone: set[str]) -> list[ast.stmt]:
    """Return a line without its assignments to the attributes of self that are ``gone``."""
    pairs = _pairs(line)
    if pairs is None or not any(a in gone for a, _ in pairs):
        return [line]
    left = [(a, v) for a, v in pairs if a not in gone]
    if not left:
        return []
    targets: list[ast.expr] = [ast.Attribute(ast.Name("self", ast.Load()), a, ast.Store()) for a, _ in left]
    values = [v for _, v in left]
    single = len(left) == 1
    target = targets[0] if single else ast.Tuple(targets, ast.Store())
    value = values[0] if single else ast.Tuple(values, ast.Load())
    return [ast.fix_missing_locations(ast.Assign([target], value, lineno=0))]


def _pairs(line: ast.stmt) -> list[tuple[str, ast.expr]] | None:
    """Return (attribute, value) of `self.a, self.b = x, y`; None for anything else."""
    match line:
        case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)):
            pass
        case ast.Assign([ast.Attribute() as target], value):
            targets, values = [target], [value]
        case _:
            return None
    attributes = [t.attr for t in targets if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name)]
    return list(zip(attributes, values, strict=True)) if len(attributes) == len(targets) else None


def decided(test: ast.Compare, values: list[Any]) -> ast.Constant | None:
    """Return the result of a comparison if it is the same for all ``values`` of its left side, else None."""
    found = [_with(test, value) for value in values]
    results = {f.value if isinstance(f, ast.Constant) else None for f in found}
    return ast.Constant(results.pop()) if len(results) == 1 and None not in results else None


def _with(test: ast.Compare, value: Any) -> ast.AST | None:
    """Return a comparison with ``value`` as its left side, as far as it can be decided."""
    right = test.comparators[0]
    if constant(value) and constant(right):
        return _compared(ast.Compare(value, test.ops, test.comparators))
    kept = isinstance(value, ast.Attribute) and isinstance(right, ast.Constant) and right.value is None
    return ast.Constant(isinstance(test.ops[0], ast.IsNot)) if kept else None  # a weight is not None


class Fold(ast.NodeTransformer):
    """Conditions on constants are decided."""

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        truth = _truth(node.test)
        return node if truth is None else node.body if truth else node.orelse

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        truth = _truth(node.test)
        return node if truth is None else (node.body if truth else node.orelse) or None

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        if len(node.ops) != 1 or not (constant(node.left) and constant(node.comparators[0])):
            return node
        return _compared(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        self.generic_visit(node)
        deciding = isinstance(node.op, ast.Or)
        values: list[Any] = []
        for value in node.values:
            truth = _truth(value)
            if truth is not None and truth is not deciding and value is not node.values[-1]:
                continue  # a constant that decides nothing
            values.append(value)
            if truth is deciding:
                break
        last = _truth(values[-1])
        if len(values) > 1 and last is not None and all(isinstance(v, ast.Compare) for v in values[:-1]):
            if last is not deciding:
                values.pop()  # comparisons have truth values themselves
            elif all(map(_harmless, values)):
                return ast.Constant(deciding)
        node.values = values
        return values[0] if len(values) == 1 else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        truth = _truth(node.operand)
        return ast.Constant(not truth) if isinstance(node.op, ast.Not) and truth is not None else node

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        f = node.func
        if isinstance(f, ast.Attribute) and f.attr == "get" and isinstance(f.value, ast.Dict):
            default = node.args[1] if len(node.args) > 1 else ast.Constant(None)
            return _item(f.value, node.args[0], default)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        match node:
            case ast.BinOp(left, ast.Mult(), ast.Constant(float(one))) if one == 1:
                return left
        return node

    def visit_Slice(self, node: ast.Slice) -> Any:
        self.generic_visit(node)
        if isinstance(node.upper, ast.Constant) and node.upper.value is None:
            node.upper = None
        return node

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        self.generic_visit(node)
        node.elts = [e for element in node.elts for e in _spread(element)]
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        return _item(node.value, node.slice, node) if isinstance(node.value, ast.Dict) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        node.body = _returned_at_once(_until_return(node.body))
        _inline_constants(node)
        read = {n.id for n in nodes(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for line in node.body:
            _drop_unread(line, read)
        return node


def _spread(element: ast.expr) -> list[ast.expr]:
    """The values of `*{...}.values()`, and none of constant items, by which nothing can differ; else the element."""
    match element:
        case ast.Starred(ast.Call(ast.Attribute(ast.Dict(_, values), "values"), [], [])):
            return values
        case ast.Starred(ast.Call(ast.Attribute(ast.Dict() as items, "items"), [], [])) if constant(items):
            return []
    return [element]


def _harmless(node: ast.AST) -> bool:
    """Whether a condition can be left out: it compares names and constants, and calls nothing."""
    known = (ast.Name, ast.Constant, ast.Compare, ast.Is, ast.IsNot, ast.expr_context)
    return all(isinstance(n, known) for n in nodes(node))


def _truth(node: Any) -> bool | None:
    if isinstance(node, ast.Dict) and constant(node):
        return bool(node.keys)
    return bool(node.value) if isinstance(node, ast.Constant) else None


def _compared(node: ast.Compare) -> ast.AST:
    try:
        left, right = ast.literal_eval(node.left), ast.literal_eval(node.comparators[0])
    except ValueError:
        return node
    results = {
        ast.Is: left is right,
        ast.IsNot: left is not right,
        ast.Eq: left == right,
        ast.NotEq: left != right,
    }
    op = type(node.ops[0])
    if op in results:
        return ast.Constant(results[op])
    ordered = isinstance(left, (int, float)) and isinstance(right, (int, float))
    if not ordered or op not in (ast.Lt, ast.LtE, ast.Gt, ast.GtE):
        return node
    return ast.Constant(
        {ast.Lt: left < right, ast.LtE: left <= right, ast.Gt: left > right, ast.GtE: left >= right}[op]
    )


def _item(mapping: ast.Dict, key: Any, default: Any) -> Any:
    for k, v in zip(mapping.keys, mapping.values, strict=True):
        if isinstance(k, ast.Constant) and isinstance(key, ast.Constant) and k.value == key.value:
            return v
    return default


def _until_return(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements behind a return never run."""
    for i, statement in enumerate(body):
        if isinstance(statement, (ast.Return, ast.Raise)):
            return body[: i + 1]
    return body


def _returned_at_once(body: list[ast.stmt]) -> list[ast.stmt]:
    """`y = x; return y` is `return x`."""
    match body:
        case [*before, ast.Assign([ast.Name(stored)], value), ast.Return(ast.Name(read))] if stored == read:
            return [*before, ast.Return(value)]
    return body


def _drop_unread(line: ast.stmt, read: set[str]) -> None:
    """Leave out the names of `a, b = x, y` that are not read, if computing their values calls nothing."""
    match line:
        case ast.Assign([ast.Tuple(targets) as left], ast.Tuple(values) as right):
            pairs = zip(targets, values, strict=False)
            kept = [(t, v) for t, v in pairs if not isinstance(t, ast.Name) or t.id in read or acts(v)]
            if len(values) == len(targets) > len(kept) > 1:
                left.elts, right.elts = [t for t, _ in kept], [v for _, v in kept]
            elif len(values) == len(targets) > len(kept) == 1:
                line.targets, line.value = [kept[0][0]], kept[0][1]


def _inline_constants(function: ast.FunctionDef) -> None:
    """Replace a local that is set once, to a constant, by it."""
    stores = [n.id for n in nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    found: dict[str, Any] = {}
    body = []
    for s in function.body:
        single = isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], ast.Name)
        if single and isinstance(s.value, ast.Constant) and stores.count(s.targets[0].id) == 1:  # type: ignore[attr-defined]
            found[s.targets[0].id] = s.value  # type: ignore[attr-defined]
        else:
            body.append(s)
    if found and body:
        function.body = body
        Replace(read_of(found)).visit(function)
