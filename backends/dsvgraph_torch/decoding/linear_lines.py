"""Whether lines of emitted source are linear in some of their variables, by their structure alone.

What is not known to be linear is taken as not linear.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

MOVES = {
    "unflatten", "flatten", "split", "chunk", "unbind", "unsqueeze", "squeeze", "expand", "transpose", "permute",
    "movedim", "reshape", "view", "repeat_interleave", "contiguous",
}  # fmt: skip
"""Methods of a tensor that put its numbers elsewhere."""

JOINS = {"torch.cat", "torch.stack"}


def bias_free(definition: ast.stmt) -> set[str]:
    """Return the submodules of a class that are linear maps without a bias, as its source names them."""
    made = [n for n in ast.walk(definition) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
    return {ast.unparse(n.targets[0]) for n in made if _bias_free(n.value)}


def _bias_free(made: ast.expr) -> bool:
    match made:
        case ast.Call(function, _, [ast.keyword("bias", ast.Constant(False))]):
            return ast.unparse(function) in ("nn.Linear", "Linear")
    return False


def is_linear(lines: Sequence[ast.stmt], variables: set[str], modules: set[str]) -> bool:
    """Return whether all that ``lines`` assign is linear in ``variables``; ``modules`` are known to be linear."""
    names = set(variables)
    for line in lines:
        if not isinstance(line, ast.Assign) or not _linear(line.value, names, modules):
            return False
        names |= {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return True


def _linear(value: ast.expr, names: set[str], modules: set[str]) -> bool:
    def linear(one: ast.expr) -> bool:
        return _linear(one, names, modules)

    def fixed(one: ast.AST) -> bool:
        return not any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(one))

    match value:
        case ast.Name(name):
            return name in names
        case ast.UnaryOp(ast.USub(), one) | ast.Subscript(one, _):
            return linear(one)
        case ast.BinOp(a, ast.Add() | ast.Sub(), b):
            return linear(a) and linear(b)
        case ast.BinOp(a, ast.Mult(), b):
            return (linear(a) and fixed(b)) or (fixed(a) and linear(b))
        case ast.Call(ast.Attribute(one, name), args, options) if name in MOVES and linear(one):
            return all(map(fixed, [*args, *options]))
        case ast.Call(function, [ast.List(parts), *others], options) if ast.unparse(function) in JOINS:
            return all(map(linear, parts)) and all(map(fixed, [*others, *options]))
        case ast.Call(function, [one], []) if ast.unparse(function) in modules:
            return linear(one)
        case ast.Call(function, [one, weight], []) if ast.unparse(function) == "F.linear":
            return linear(one) and fixed(weight)
    return False
