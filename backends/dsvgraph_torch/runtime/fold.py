"""Folding Python syntax trees: names by constants, conditions on constants decided."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def constant(node: Any) -> bool:
    """Whether a tree is a literal: a number, a text, a truth value, None, or a mapping of these."""
    if isinstance(node, ast.Dict):
        return all(constant(v) for v in node.values) and all(constant(k) for k in node.keys)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and constant(node.operand)
    return isinstance(node, ast.Constant)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree, in no order that means anything: `ast.walk` takes three times as long."""
    left = [tree]
    while left:
        yield (node := left.pop())
        for value in vars(node).values():
            if isinstance(value, list):
                left += [v for v in value if isinstance(v, ast.AST)]
            elif isinstance(value, ast.AST):
                left.append(value)


class Replace(ast.NodeTransformer):
    """Names by constants."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> Any:
        return self.values[node.id] if node.id in self.values and isinstance(node.ctx, ast.Load) else node


class ReplaceSelf(Replace):
    """Attributes of self by constants."""

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        own = isinstance(node.value, ast.Name) and node.value.id == "self" and isinstance(node.ctx, ast.Load)
        return self.values[node.attr] if own and node.attr in self.values else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        return node


class InlineCalls(Replace):
    """Calls without arguments by constants."""

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        known = isinstance(node.func, ast.Name) and node.func.id in self.values and not node.args
        return self.values[node.func.id] if known else node  # type: ignore[attr-defined]

    def visit_Name(self, node: ast.Name) -> Any:
        return node


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
    if isinstance(node, ast.BoolOp) and all(map(_harmless, node.values)):
        last, deciding = _truth(node.values[-1]), isinstance(node.op, ast.Or)
        return last if last is deciding else None
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


def _inline_constants(function: ast.FunctionDef) -> None:
    """A local that is set once, to a constant, is replaced by it."""
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
        Replace(found).visit(function)
