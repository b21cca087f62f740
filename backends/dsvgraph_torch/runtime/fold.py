"""Simplify Python syntax trees: decide conditions on constants, leave out what has no effect."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from dsvgraph_torch.runtime.trees import Replace, Transformer, acts, constant, nodes, read_of


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


class Fold(Transformer):
    """Decide conditions on constants, and leave out what they leave without effect."""

    def visit(self, node: Any) -> Any:
        self.below(node)
        if isinstance(node, ast.FunctionDef):
            self.changed |= _shorten(node)
            return node
        rule = RULES.get(type(node))
        return rule(node) if rule else node


def _if_exp(node: ast.IfExp) -> Any:
    truth = _truth(node.test)
    return node if truth is None else node.body if truth else node.orelse


def _if(node: ast.If) -> Any:
    truth = _truth(node.test)
    return node if truth is None else node.body if truth else node.orelse


def _compare(node: ast.Compare) -> Any:
    single = len(node.ops) == 1 and constant(node.left) and constant(node.comparators[0])
    return _compared(node) if single else node


def _bool_op(node: ast.BoolOp) -> Any:
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
    if len(values) == len(node.values):
        return node
    return values[0] if len(values) == 1 else ast.BoolOp(node.op, values)


def _unary_op(node: ast.UnaryOp) -> Any:
    truth = _truth(node.operand)
    return ast.Constant(not truth) if isinstance(node.op, ast.Not) and truth is not None else node


def _call(node: ast.Call) -> Any:
    match node:
        case ast.Call(ast.Attribute(ast.Dict() as mapping, "get"), [key, *default]):
            return _item(mapping, key, default[0] if default else ast.Constant(None))
    return node


def _bin_op(node: ast.BinOp) -> Any:
    match node:
        case ast.BinOp(left, ast.Mult(), ast.Constant(float(one))) if one == 1:
            return left
    return node


def _slice(node: ast.Slice) -> Any:
    nothing = isinstance(node.upper, ast.Constant) and node.upper.value is None
    return ast.Slice(node.lower, None, node.step) if nothing else node


def _tuple(node: ast.Tuple) -> Any:
    spread = any(isinstance(element, ast.Starred) for element in node.elts)
    elements = [e for element in node.elts for e in _spread(element)] if spread else node.elts
    return node if elements == node.elts else ast.Tuple(elements, node.ctx)


def _subscript(node: ast.Subscript) -> Any:
    return _item(node.value, node.slice, node) if isinstance(node.value, ast.Dict) else node


RULES: dict[type, Callable[[Any], Any]] = {
    ast.IfExp: _if_exp,
    ast.If: _if,
    ast.Compare: _compare,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _unary_op,
    ast.Call: _call,
    ast.BinOp: _bin_op,
    ast.Slice: _slice,
    ast.Tuple: _tuple,
    ast.Subscript: _subscript,
}


def _shorten(function: ast.FunctionDef) -> bool:
    """Leave out statements and names of a function that have no effect; return whether there were any."""
    body = _returned_at_once(_until_return(function.body))
    changed = body is not function.body
    function.body = body
    return any([changed, _inline_constants(function), _drop_unread(function)])


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
    for i, statement in enumerate(body[:-1]):
        if isinstance(statement, (ast.Return, ast.Raise)):
            return body[: i + 1]
    return body


def _returned_at_once(body: list[ast.stmt]) -> list[ast.stmt]:
    """`y = x; return y` is `return x`."""
    match body:
        case [*before, ast.Assign([ast.Name(stored)], value), ast.Return(ast.Name(read))] if stored == read:
            return [*before, ast.Return(value)]
    return body


def _drop_unread(function: ast.FunctionDef) -> bool:
    """Leave out the names of `a, b = x, y` that are not read, if computing their values calls nothing."""
    lines: list[Any] = [line for line in function.body if _several(line)]
    read = {n.id for n in nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} if lines else ()
    changed = False
    for line in lines:
        (left,), right = line.targets, line.value
        pairs = list(zip(left.elts, right.elts, strict=False))
        kept = [(t, v) for t, v in pairs if not isinstance(t, ast.Name) or t.id in read or acts(v)]
        if len(right.elts) == len(left.elts) > len(kept) > 0:
            changed = True
            if len(kept) > 1:
                left.elts, right.elts = [t for t, _ in kept], [v for _, v in kept]
            else:
                line.targets, line.value = [kept[0][0]], kept[0][1]
    return changed


def _several(line: Any) -> bool:
    match line:
        case ast.Assign([ast.Tuple()], ast.Tuple()):
            return True
    return False


def _inline_constants(function: ast.FunctionDef) -> bool:
    """Replace locals that are set once, to a constant, by it; return whether there were any."""
    found = {name: value for line in function.body for name, value in _constant_local(line)}
    if found:
        stores = [n.id for n in nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        found = {name: value for name, value in found.items() if stores.count(name) == 1}
    body = [line for line in function.body if not any(name in found for name, _ in _constant_local(line))]
    if not (found and body):
        return False
    function.body = body
    Replace(read_of(found)).visit(function)
    return True


def _constant_local(line: ast.stmt) -> list[tuple[str, ast.expr]]:
    """Return the name and the value of `name = constant`, and nothing for any other line."""
    match line:
        case ast.Assign([ast.Name(name)], ast.Constant() as value):
            return [(name, value)]
    return []
