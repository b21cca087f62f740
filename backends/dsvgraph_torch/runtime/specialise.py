"""Reduce the runtime to what one model uses: the functions and classes that it calls, without unused options.

A partial evaluator of Python's syntax trees. It replaces parameters and attributes that always hold one constant,
decides conditions on them, writes out what is called once and is one expression, and leaves out what nothing reads.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import nn

from dsvgraph_torch.runtime.fold import Fold, decided
from dsvgraph_torch.runtime.rounds import CountedTree, Round
from dsvgraph_torch.runtime.trees import Replace, acts, assigned, constant, equal, nodes, read_of, without
from dsvgraph_torch.runtime.uses import MISSING, Target, Uses, names

ARITHMETIC = {"math": math, "max": max, "min": min}  # what a function of constants may call
PUBLIC = {"initialise"}  # methods that callers of an emitted model use


def specialise(main: ast.Module, definitions: dict[str, ast.stmt]) -> list[ast.stmt]:
    """Return the definitions that ``main`` needs, in their order, reduced to how it uses them.

    The trees of ``definitions`` and ``main`` are changed in place.
    """
    top, parts = CountedTree(main), {name: CountedTree(tree) for name, tree in definitions.items()}
    last: Round | None = None
    while True:
        helpers = [parts[n] for n in reachable(top, parts)]
        if last and last.helpers == helpers and not any(helper.changed for helper in helpers):
            return [helper.tree for helper in helpers]
        for part in (top, *helpers):
            part.changed_before, part.changed = part.changed, False
        last = Round(top, helpers, last)
        _reduce(last, parts)


def reachable(main: CountedTree, parts: dict[str, CountedTree]) -> list[str]:
    """Return the names of the definitions that ``main`` reads, directly or through others, in their order."""
    found: set[str] = set()
    todo = main.uses.names & parts.keys()
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= (parts[name].uses.names & parts.keys()) - found
    return [n for n in parts if n in found]


def _reduce(now: Round, parts: dict[str, CountedTree]) -> None:
    """Apply each rule once; what a rule makes possible for those before it is left to the next round."""
    _drop_methods(now)
    for part, target in now.targets():
        if not now.settled(part, target):
            _bind(part, target, now)
    _bind_attributes(now)
    _drop_attributes(now)
    for helper in now.helpers:
        _fold(helper)
    _inline_constants(now, parts)
    _inline_expressions(now, parts)


def _fold(helper: CountedTree) -> None:
    if helper.folded:
        return
    helper.visit(fold := Fold())
    if isinstance(helper.tree, ast.ClassDef):
        kept = [s for s in helper.tree.body if not (isinstance(s, ast.FunctionDef) and not s.body)]
        if len(kept) < len(helper.tree.body):
            helper.tree.body = kept
            helper.note()
            return
    helper.folded = not fold.changed


# -- parameters ------------------------------------------------------------------------------------


def _bind(part: CountedTree, target: Target, now: Round) -> None:
    """Replace parameters that always have one constant value, decide conditions on the others, drop unread ones."""
    function = target.function
    stored = {n.id for n in nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    columns = {name: target.values(name) for name in target.parameters if name not in stored}
    fixed = {name: values[0] for name, values in columns.items() if _one_constant(target, name, values, now.lines)}
    if fixed:
        part.visit(Replace(read_of(fixed)), function)
    _decide(part, target, columns, now.uses)
    read = {n.id for n in nodes(function) if isinstance(n, ast.Name)}
    gone = {name for name in target.parameters if name in fixed or (name not in read and target.pure(name))}
    if target.drop(gone):
        part.note()
    for caller in now.calling(target) if gone else ():
        caller.note()


def _one_constant(target: Target, name: str, values: list[Any], lines: set[int]) -> bool:
    """Return whether all calls give one constant, and it is no number that ``lines``, calls by the model, pass."""
    if not values or not all(map(constant, values)) or not all(equal(values[0], v) for v in values[1:]):
        return False
    number = isinstance(values[0], ast.Constant) and type(values[0].value) in (int, float)
    passed = [call for call, g in zip(target.calls, target.given(name), strict=True) if g is not MISSING]
    return not (number and any(id(call) in lines for call in passed))


def _decide(part: CountedTree, target: Target, columns: dict[str, list[Any]], uses: Uses) -> None:
    """Replace comparisons of parameters, or of attributes that hold them, that have one result in all calls."""
    held = {a: columns.get(v.id, []) for a, v in assigned(target.function) if isinstance(v, ast.Name)}
    held = {a: values for a, values in held.items() if uses.stores[a] == 1 and values}

    def of_name(node: ast.AST) -> ast.AST | None:
        match node:
            case ast.Compare(ast.Name(name), [_], [_]) if columns.get(name):
                return decided(node, columns[name])
        return None

    def of_attribute(node: ast.AST) -> ast.AST | None:
        match node:
            case ast.Compare(ast.Attribute(ast.Name("self"), name), [_], [_]) if name in held:
                return decided(node, held[name])
        return None

    if any(columns.values()):
        part.visit(Replace(of_name), target.function)
    if held:
        part.visit(Replace(of_attribute))


# -- attributes ------------------------------------------------------------------------------------


def _drop_methods(now: Round) -> None:
    """Leave out methods that nothing calls, other than those that torch calls."""
    for helper in now.helpers:
        if isinstance(helper.tree, ast.ClassDef):
            own = [s for s in helper.tree.body if isinstance(s, ast.FunctionDef)]
            gone = {s for s in own if not (now.uses.loads[s.name] or hasattr(nn.Module, s.name) or s.name in PUBLIC)}
            if gone:
                helper.tree.body = [s for s in helper.tree.body if s not in gone]
                helper.note()


def _bind_attributes(now: Round) -> None:
    """Replace attributes that are set once, by a constructor to a constant."""
    for helper in now.helpers:
        if isinstance(helper.tree, ast.ClassDef) and (init := constructor(helper.tree)):
            pairs = [(a, v) for a, v in assigned(init) if constant(v) and not isinstance(v, ast.Dict)]
            fixed = {a: v for a, v in pairs if helper.uses.stores[a] == 1 and not now.uses.outside[a]}
            for part in (now.parts if not helper.tree.bases else [helper]) if fixed else ():
                if fixed.keys() & part.uses.loads.keys():
                    part.visit(Replace(lambda node, fixed=fixed: _attribute(node, fixed)))  # type: ignore[misc]


def _attribute(node: ast.AST, values: dict[str, Any]) -> ast.AST | None:
    read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    return values.get(node.attr) if read else None  # type: ignore[attr-defined]


def _drop_attributes(now: Round) -> None:
    """Leave out attributes that nothing reads, where computing them has no effect."""
    for helper in now.helpers:
        if isinstance(helper.tree, ast.ClassDef) and (init := constructor(helper.tree)):
            gone = {a for a, v in assigned(init) if not now.uses.loads[a] and not acts(v)}
            if gone:
                init.body = [s for line in init.body for s in without(line, gone)]
                helper.note()


def constructor(definition: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the ``__init__`` of a class, if it has one."""
    return next((d for d in definition.body if isinstance(d, ast.FunctionDef) and d.name == "__init__"), None)


# -- calls -----------------------------------------------------------------------------------------


def _inline_constants(now: Round, parts: dict[str, CountedTree]) -> None:
    """Replace the calls of functions that compute one constant."""
    for helper in now.helpers:
        value = _only_constant(helper.tree)
        if value is not None:
            for part in now.parts:
                part.visit(Replace(lambda node, f=helper.tree, v=value: v if _calls(node, f) else None))  # type: ignore[misc]
            del parts[helper.tree.name]


def _calls(node: ast.AST, function: ast.FunctionDef) -> bool:
    match node:
        case ast.Call(ast.Name(name), [], []):
            return name == function.name
    return False


def _only_constant(definition: ast.stmt) -> ast.expr | None:
    """Return the number that a function without parameters computes, if it reads nothing but constants."""
    if not isinstance(definition, ast.FunctionDef) or definition.args.args:
        return None
    stored = {n.id for n in nodes(definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    missing = any(isinstance(n, ast.Subscript) for n in nodes(definition))  # of options that nobody gave
    if missing or not names(definition) - stored <= ARITHMETIC.keys():
        return None
    module = ast.fix_missing_locations(ast.Module([definition], []))
    exec(compile(module, definition.name, "exec"), known := dict[str, Any](ARITHMETIC))
    with suppress(ArithmeticError, ValueError, AttributeError, TypeError):  # an emitted file fails at the same numbers
        value = known[definition.name]()
        return ast.Constant(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    return None


def _inline_expressions(now: Round, parts: dict[str, CountedTree]) -> None:
    """Write out functions that are one expression and that one helper calls, once."""
    for _, target in now.targets():
        match [s for s in target.function.body if not _documents(s)]:
            case [ast.Return(ast.expr() as value)] if len(target.calls) == 1 and id(target.calls[0]) not in now.lines:
                if _inlined(target, value, now.helpers) and target.owner is target.function:
                    parts.pop(target.function.name, None)


def _documents(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def _inlined(target: Target, value: ast.expr, helpers: list[CountedTree]) -> bool:
    """Replace the one call of ``target`` by its expression; whether that could be done."""
    (call,) = target.calls
    part, caller = next((pair for pair in _functions(helpers) if any(n is call for n in nodes(pair[1]))), (None, None))
    if part is None or caller is None:  # a line that is gone by now
        return False
    own = target.function.args.args[0].arg if target.offset else ""
    if target.owner is not target.function and not (own == "self" and _of_self(call)):
        return False
    given = dict(zip(target.parameters, (v[0] for v in map(target.values, target.parameters)), strict=True))
    reads = [n.id for n in nodes(value) if isinstance(n, ast.Name)]
    bound = {n.id for n in nodes(caller) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {a.arg for n in nodes(caller) if isinstance(n, ast.arguments) for a in n.args}
    hidden = set(reads) - given.keys() - {own}
    plain = all(v is not None and (reads.count(p) < 2 or not acts(v)) for p, v in given.items())
    if not plain or hidden & bound or any(isinstance(n, (ast.Lambda, ast.comprehension)) for n in nodes(value)):
        return False
    holder = Replace(read_of(given)).visit(ast.Expr(value))
    part.visit(Replace(lambda node: holder.value if node is call else None), caller)
    return True


def _of_self(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(ast.Name("self")):
            return True
    return False


def _functions(helpers: list[CountedTree]) -> Iterator[tuple[CountedTree, ast.FunctionDef]]:
    """Yield every function and method, with the definition that it is or that holds it."""
    for helper in helpers:
        for tree in helper.tree.body if isinstance(helper.tree, ast.ClassDef) else (helper.tree,):
            if isinstance(tree, ast.FunctionDef):
                yield helper, tree
