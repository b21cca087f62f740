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

from dsvgraph_torch.runtime.fold import Fold, Replace, acts, assigned, constant, decided, nodes, read_of, without
from dsvgraph_torch.runtime.uses import MISSING, Target, Uses, names, targets

ARITHMETIC = {"math": math, "max": max, "min": min}  # what a function of constants may call
PUBLIC = {"initialise"}  # methods that callers of an emitted model use


def specialise(main: ast.Module, definitions: dict[str, ast.stmt]) -> list[ast.stmt]:
    """Return the definitions that ``main`` needs, in their order, reduced to how it uses them.

    The trees of ``definitions`` and ``main`` are changed in place.
    """
    before = ""
    while True:
        helpers = [definitions[n] for n in reachable(main, definitions)]
        now = "".join(map(ast.dump, helpers))
        if now == before:
            return helpers
        _reduce(main, helpers, definitions)
        before = now


def reachable(main: ast.AST, definitions: dict[str, ast.stmt]) -> list[str]:
    """Return the names of the definitions that ``main`` reads, directly or through others, in their order."""
    found: set[str] = set()
    todo = names(main) & definitions.keys()
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= (names(definitions[name]) & definitions.keys()) - found
    return [n for n in definitions if n in found]


def _reduce(main: ast.Module, helpers: list[ast.stmt], definitions: dict[str, ast.stmt]) -> None:
    """Apply each rule once; what a rule makes possible for those before it is left to the next round."""
    uses, lines = Uses([main, *helpers]), {id(n) for n in nodes(main) if isinstance(n, ast.Call)}
    _drop_methods(helpers, uses)
    for target in targets(helpers, uses):
        _bind(target, uses, lines)
    _bind_attributes(main, helpers, uses)
    _drop_attributes(helpers, uses)
    for helper in helpers:
        ast.fix_missing_locations(Fold().visit(helper))
        if isinstance(helper, ast.ClassDef):
            helper.body = [s for s in helper.body if not (isinstance(s, ast.FunctionDef) and not s.body)]
    _inline_constants(main, helpers, definitions)
    _inline_expressions(helpers, definitions, uses, lines)


# -- parameters ------------------------------------------------------------------------------------


def _bind(target: Target, uses: Uses, lines: set[int]) -> None:
    """Replace parameters that always have one constant value, decide conditions on the others, drop unread ones.

    ``lines`` are the calls by lines of the model.
    """
    function = target.function
    stored = {n.id for n in nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    columns = {name: target.values(name) for name in target.parameters if name not in stored}
    fixed = {name: values[0] for name, values in columns.items() if _one_constant(target, name, values, lines)}
    if fixed:
        Replace(read_of(fixed)).visit(function)
    _decide(target, columns, uses)
    read = {n.id for n in nodes(function) if isinstance(n, ast.Name)}
    target.drop({name for name in target.parameters if name in fixed or (name not in read and target.pure(name))})


def _one_constant(target: Target, name: str, values: list[Any], lines: set[int]) -> bool:
    """Whether all calls give one constant. Numbers that the lines of a model pass stay where a reader expects them."""
    if not values or not all(map(constant, values)) or len({ast.dump(v) for v in values}) != 1:
        return False
    number = isinstance(values[0], ast.Constant) and type(values[0].value) in (int, float)
    passed = [call for call, g in zip(target.calls, target.given(name), strict=True) if g is not MISSING]
    return not (number and any(id(call) in lines for call in passed))


def _decide(target: Target, columns: dict[str, list[Any]], uses: Uses) -> None:
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
        Replace(of_name).visit(target.function)
    if held:
        Replace(of_attribute).visit(target.owner)


# -- attributes ------------------------------------------------------------------------------------


def _drop_methods(helpers: list[ast.stmt], uses: Uses) -> None:
    """Leave out methods that nothing calls, other than those that torch calls."""
    for helper in helpers:
        if isinstance(helper, ast.ClassDef):
            own = [s for s in helper.body if isinstance(s, ast.FunctionDef)]
            gone = {s for s in own if not (uses.loads[s.name] or hasattr(nn.Module, s.name) or s.name in PUBLIC)}
            helper.body = [s for s in helper.body if s not in gone]


def _bind_attributes(main: ast.Module, helpers: list[ast.stmt], uses: Uses) -> None:
    """Replace attributes that are set once, by a constructor to a constant."""
    for helper in helpers:
        if isinstance(helper, ast.ClassDef) and (init := constructor(helper)):
            pairs = assigned(init)
            own = Uses([helper]).stores
            fixed = {a: v for a, v in pairs if constant(v) and own[a] == 1 and not uses.outside[a]}
            fixed = {a: v for a, v in fixed.items() if not isinstance(v, ast.Dict)}
            everywhere = [main, *helpers] if not helper.bases else [helper]
            for tree in everywhere if fixed else ():
                Replace(lambda node, fixed=fixed: _attribute(node, fixed)).visit(tree)  # type: ignore[misc]


def _attribute(node: ast.AST, values: dict[str, Any]) -> ast.AST | None:
    read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    return values.get(node.attr) if read else None  # type: ignore[attr-defined]


def _drop_attributes(helpers: list[ast.stmt], uses: Uses) -> None:
    """Leave out attributes that nothing reads, where computing them has no effect."""
    for helper in helpers:
        if isinstance(helper, ast.ClassDef) and (init := constructor(helper)):
            gone = {a for a, v in assigned(init) if not uses.loads[a] and not acts(v)}
            init.body = [s for line in init.body for s in without(line, gone)]


def constructor(definition: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the ``__init__`` of a class, if it has one."""
    return next((d for d in definition.body if isinstance(d, ast.FunctionDef) and d.name == "__init__"), None)


# -- calls -----------------------------------------------------------------------------------------


def _inline_constants(main: ast.Module, helpers: list[ast.stmt], definitions: dict[str, ast.stmt]) -> None:
    """Replace the calls of functions that compute one constant."""
    for helper in helpers:
        value = _only_constant(helper)
        if value is not None and isinstance(helper, ast.FunctionDef):
            for tree in (main, *helpers):
                Replace(lambda node, f=helper, v=value: v if _calls(node, f) else None).visit(tree)  # type: ignore[misc]
            del definitions[helper.name]


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
    exec(compile(ast.Module([definition], []), definition.name, "exec"), known := dict[str, Any](ARITHMETIC))
    with suppress(ArithmeticError, ValueError, AttributeError, TypeError):  # an emitted file fails at the same numbers
        value = known[definition.name]()
        return ast.Constant(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    return None


def _inline_expressions(helpers: list[ast.stmt], definitions: dict[str, ast.stmt], uses: Uses, lines: set[int]) -> None:
    """Write out functions that are one expression and that one helper calls, once."""
    for target in targets(helpers, uses):
        match [s for s in target.function.body if not _documents(s)]:
            case [ast.Return(ast.expr() as value)] if len(target.calls) == 1 and id(target.calls[0]) not in lines:
                if _inlined(target, value, helpers) and target.owner is target.function:
                    definitions.pop(target.function.name, None)


def _documents(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def _inlined(target: Target, value: ast.expr, helpers: list[ast.stmt]) -> bool:
    """Replace the one call of ``target`` by its expression; whether that could be done."""
    (call,) = target.calls
    caller = next((f for f in _functions(helpers) if any(n is call for n in nodes(f))), None)
    if caller is None:  # a line that is gone by now
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
    Replace(lambda node: holder.value if node is call else None).visit(caller)
    return True


def _of_self(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(ast.Name("self")):
            return True
    return False


def _functions(helpers: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Yield every function and method."""
    for helper in helpers:
        for tree in helper.body if isinstance(helper, ast.ClassDef) else (helper,):
            if isinstance(tree, ast.FunctionDef):
                yield tree
