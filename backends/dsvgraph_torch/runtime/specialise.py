"""Cuts the runtime down to what one model uses: options that nothing passes become constants.

A small partial evaluator over Python's own syntax trees: a parameter that every call leaves at one
constant is replaced by it, conditions on constants are folded, and what is then unused is dropped.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from dsvgraph_torch.runtime.fold import Fold, InlineCalls, Replace, ReplaceSelf, constant, nodes

MISSING = object()
ARITHMETIC = {"math": math, "max": max, "min": min}  # what a function of constants may call


def specialise(main: ast.Module, definitions: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The definitions that ``main`` needs, in their order, cut to how it uses them.

    ``definitions`` and ``main`` are consumed: their trees are changed in place.
    """
    _drop_methods(main, definitions)
    changed = set(definitions)
    while changed:
        kept = _reachable(main, definitions)
        trees = [main, *(definitions[n] for n in kept)]
        uses = Uses(trees)
        functions = [d for n in kept if isinstance(d := definitions[n], (ast.FunctionDef, ast.ClassDef))]
        bound = {function.name for function in functions if _bind(function, uses)}
        for name in kept:
            if name in changed | bound:
                definitions[name] = ast.fix_missing_locations(Fold().visit(definitions[name]))
        changed = set(definitions) if _inline(definitions, kept, trees) else bound
    return [definitions[n] for n in _reachable(main, definitions)]


def _drop_methods(main: ast.Module, definitions: dict[str, ast.stmt]) -> None:
    """Leave out the methods of plain classes whose names nobody speaks of."""
    trees = [main, *(definitions[n] for n in _reachable(main, definitions))]
    spoken = {n.attr for tree in trees for n in nodes(tree) if isinstance(n, ast.Attribute)}
    for definition in trees:
        if isinstance(definition, ast.ClassDef) and not definition.bases:
            methods = {s for s in definition.body if isinstance(s, ast.FunctionDef) and not s.name.startswith("__")}
            definition.body = [s for s in definition.body if s not in methods or s.name in spoken]


def _inline(definitions: dict[str, ast.stmt], kept: list[str], trees: list[ast.AST]) -> bool:
    """Calls of functions that have become one constant are that constant; whether there were any."""
    constants = {n: c for n in kept if (c := _only_constant(definitions[n])) is not None}
    for tree in trees if constants else []:
        InlineCalls(constants).visit(tree)
    for name in constants:
        del definitions[name]
    return bool(constants)


def _only_constant(definition: ast.stmt) -> ast.AST | None:
    """The number that a function without parameters gives, if it is made of constants alone."""
    if not isinstance(definition, ast.FunctionDef) or definition.args.args:
        return None
    stored = {n.id for n in nodes(definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    open_ = any(isinstance(n, ast.Subscript) for n in nodes(definition))  # of options that nobody gave
    if open_ or not names(definition) - stored <= ARITHMETIC.keys():
        return None
    exec(compile(ast.Module([definition], []), definition.name, "exec"), known := dict[str, Any](ARITHMETIC))
    with suppress(ArithmeticError, ValueError, AttributeError, TypeError):  # an emitted file fails at the same numbers
        value = known[definition.name]()
        return ast.Constant(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    return None


def _reachable(main: ast.AST, definitions: dict[str, ast.stmt]) -> list[str]:
    found: set[str] = set()
    todo = names(main) & definitions.keys()
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= (names(definitions[name]) & definitions.keys()) - found
    return [n for n in definitions if n in found]


def names(tree: ast.AST) -> set[str]:
    """Every name that a tree reads."""
    return {n.id for n in nodes(tree) if isinstance(n, ast.Name)}


class Uses:
    """Every use of every name, found in one walk: how often it is read, and where it is called."""

    def __init__(self, trees: Iterable[ast.AST]) -> None:
        self.reads: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.calls: dict[str, list[ast.Call]] = {}
        self.attributes: set[str] = set()  # read from outside: ctx.collect
        for node in (n for tree in trees for n in nodes(tree)):
            if isinstance(node, ast.Name):
                self.reads[node.id] += 1
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self.attributes |= {node.attr} if node.value.id != "self" else set()
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                self.calls.setdefault(node.func.id, []).append(node)
                self.checks[_checked(node)] += 1

    def escapes(self, name: str) -> bool:
        """Whether ``name`` is used as a value, so that its calls are not all known."""
        return self.reads[name] != len(self.calls.get(name, [])) + self.checks[name]


def _checked(call: ast.Call) -> str:
    """Name of isinstance(x, Name), a use that needs no arguments."""
    second = call.args[1] if len(call.args) == 2 else None
    known = isinstance(call.func, ast.Name) and call.func.id == "isinstance"
    return second.id if known and isinstance(second, ast.Name) else ""


def _bind(definition: ast.FunctionDef | ast.ClassDef, uses: Uses) -> bool:
    """Replaces parameters that always have one constant value; whether there were any."""
    function = _constructor(definition) if isinstance(definition, ast.ClassDef) else definition
    if function is None or function.args.vararg or uses.escapes(definition.name):
        return False
    offset = 1 if isinstance(definition, ast.ClassDef) else 0
    calls = uses.calls.get(definition.name, [])
    values = {a.arg: _value(function, i, a.arg, calls, offset) for i, a in enumerate(function.args.args) if i >= offset}
    fixed = {n: v for n, v in values.items() if isinstance(v, ast.AST)}
    if not fixed or not calls:
        return False
    for call in calls:
        _drop_arguments(call, function, fixed, offset)
    _drop_parameters(function, fixed)
    target = definition if isinstance(definition, ast.ClassDef) else function
    if isinstance(definition, ast.ClassDef):
        _bind_attributes(definition, function, fixed, uses)
    Replace(fixed).visit(function)
    ast.fix_missing_locations(target)
    return True


def _constructor(definition: ast.ClassDef) -> ast.FunctionDef | None:
    return next((d for d in definition.body if isinstance(d, ast.FunctionDef) and d.name == "__init__"), None)


def _value(function: ast.FunctionDef, i: int, name: str, calls: list[Any], offset: int) -> Any:
    """The constant that a parameter has in every call, or None."""
    given = [_given(call, i - offset, name) for call in calls]
    default = _default(function, i)
    given = [default if g is MISSING else g for g in given]
    texts = {ast.dump(g) if isinstance(g, ast.AST) else str(g) for g in given}
    first = given[0] if given else None
    if len(texts) != 1 or not constant(first):
        return None
    # Numbers that calls pass stay where a reader looks for them.
    telling = isinstance(first, ast.Constant) and type(first.value) in (int, float)
    return None if telling and any(_given(c, i - offset, name) is not MISSING for c in calls) else first


def _given(call: ast.Call, position: int, name: str) -> Any:
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return None
    if position < len(call.args):
        return call.args[position]
    return next((k.value for k in call.keywords if k.arg == name), MISSING)


def _default(function: ast.FunctionDef, i: int) -> Any:
    args = function.args
    back = i - (len(args.args) - len(args.defaults))
    return args.defaults[back] if back >= 0 else MISSING


def _drop_arguments(call: ast.Call, function: ast.FunctionDef, fixed: dict[str, Any], offset: int) -> None:
    parameters = [a.arg for a in function.args.args[offset:]]
    call.args = [a for name, a in zip(parameters, call.args, strict=False) if name not in fixed]
    call.keywords = [k for k in call.keywords if k.arg not in fixed]


def _drop_parameters(function: ast.FunctionDef, fixed: dict[str, Any]) -> None:
    args = function.args
    first = len(args.args) - len(args.defaults)
    defaults = {a.arg: args.defaults[i - first] for i, a in enumerate(args.args) if i >= first}
    args.args = [a for a in args.args if a.arg not in fixed]
    args.defaults = [defaults[a.arg] for a in args.args if a.arg in defaults]


def _bind_attributes(definition: ast.ClassDef, init: ast.FunctionDef, fixed: dict[str, Any], uses: Uses) -> None:
    """``self.x = x`` of a fixed x: every read of self.x becomes the constant; nobody else may read it."""
    found: dict[str, Any] = {}
    body = []
    for statement in init.body:
        pairs = _pairs(statement)
        if pairs is None:
            body.append(statement)
            continue
        left = []
        for attribute, value in pairs:
            constant = isinstance(value, ast.Name) and value.id in fixed
            if constant and attribute not in uses.attributes and not _assigned(definition, attribute, init):
                found[attribute] = fixed[value.id]
            else:
                left.append((attribute, value))
        body += _assign(left)
    init.body = body
    ReplaceSelf(found).visit(definition)


def _pairs(statement: ast.stmt) -> list[tuple[str, Any]] | None:
    """(attribute, value) of `self.a, self.b = x, y`; None for anything else."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    targets = target.elts if both else [target]  # type: ignore[attr-defined]
    values = value.elts if both else [value]  # type: ignore[attr-defined]
    attributes = [t.attr for t in targets if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name)]
    return list(zip(attributes, values, strict=True)) if len(attributes) == len(targets) else None


def _assign(pairs: list[tuple[str, Any]]) -> list[ast.stmt]:
    """`self.a, self.b = x, y` of what is left of it."""
    if not pairs:
        return []
    targets: list[Any] = [ast.Attribute(ast.Name("self", ast.Load()), a, ast.Store()) for a, _ in pairs]
    values = [v for _, v in pairs]
    single = len(pairs) == 1
    target = targets[0] if single else ast.Tuple(targets, ast.Store())
    value = values[0] if single else ast.Tuple(values, ast.Load())
    return [ast.fix_missing_locations(ast.Assign([target], value, lineno=0))]


def _assigned(definition: ast.ClassDef, attribute: str, init: ast.FunctionDef) -> bool:
    """Whether another method sets the attribute."""
    methods = [d for d in definition.body if d is not init]
    return any(
        isinstance(n, ast.Attribute) and n.attr == attribute and isinstance(n.ctx, ast.Store)
        for m in methods
        for n in nodes(m)
    )
