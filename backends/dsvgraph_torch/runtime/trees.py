"""Python syntax trees: walk them, compare them, replace parts of them."""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Mapping
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


def nodes(tree: ast.AST) -> list[Any]:
    """Return every node of a tree but contexts and operators, in no order that means anything.

    `ast.walk` takes ten times as long.
    """
    found: list[Any] = []
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        found.append(node)
        kind: Any = type(node)
        for name in children(kind):
            value = getattr(node, name, None)
            if isinstance(value, list):
                left += [v for v in value if isinstance(v, ast.AST)]
            elif isinstance(value, ast.AST):
                left.append(value)
    return found


@cache
def children(kind: Any) -> tuple[str, ...]:
    """Return the fields of a class of nodes that may hold nodes other than contexts and operators."""
    return tuple(name for name in kind._fields if name not in LEAVES)


def equal(ours: Any, theirs: Any) -> bool:
    """Return whether two trees are one code, wherever they stand; to compare what `ast.dump` says takes longer."""
    if (kind := type(ours)) is not type(theirs):
        return False
    if kind is list:
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if not isinstance(ours, ast.AST):
        return ours is theirs or repr(ours) == repr(theirs)
    for name in ours._fields:
        one, other = getattr(ours, name, None), getattr(theirs, name, None)
        if one is not other and not equal(one, other):
            return False
    return True


PURE = {"diff", "cumsum", "pad"}
"""Methods and functions of torch that the runtime calls in values that nothing may read: they change nothing."""


def acts(tree: ast.AST) -> bool:
    """Return whether computing an expression calls something that may change what others read."""
    return any(isinstance(n, ast.Call) and getattr(n.func, "attr", "") not in PURE for n in nodes(tree))


class Transformer:
    """An `ast.NodeTransformer` that leaves contexts and operators alone and says whether it ``changed`` a tree."""

    changed = False

    def visit(self, node: Any) -> Any:
        """Return what takes the place of a node: a node, or in a list several of them."""
        raise NotImplementedError

    def below(self, node: Any) -> Any:
        """Visit what stands below a node; return the node."""
        kind: Any = type(node)
        for name in children(kind):
            value = getattr(node, name, None)
            if isinstance(value, list):
                self._each(value)
            elif isinstance(value, ast.AST):
                new = self.visit(value)
                if new is not value:
                    self.changed = True
                    setattr(node, name, new)
        return node

    def _each(self, values: list[Any]) -> None:
        new = [self.visit(v) if isinstance(v, ast.AST) else v for v in values]
        if any(map(operator.is_not, new, values)):
            self.changed = True
            values[:] = [n for one in new for n in (one if isinstance(one, list) else [one])]


class Replace(Transformer):
    """Put copies of what ``choose`` returns in the place of nodes; where it returns None a node stays."""

    def __init__(self, choose: Callable[[Any], ast.AST | None]) -> None:
        self.choose = choose

    def visit(self, node: Any) -> Any:
        found = self.choose(node)
        return self.below(node) if found is None else copy.deepcopy(found)


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
