"""Cuts the runtime down to what one model uses: options that nothing passes become constants.

A small partial evaluator over Python's own syntax trees: a parameter that every call leaves at one
constant is replaced by it, conditions on constants are folded, and what is then unused is dropped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, Union

Function = Union[ast.FunctionDef, ast.ClassDef]
MISSING = object()


def specialise(code: str, definitions: dict[str, ast.stmt]) -> tuple[str, list[ast.stmt]]:
    """``code`` and the definitions that it needs, in their order, cut to how it uses them.

    ``definitions`` are consumed: their trees are changed in place.
    """
    main = ast.parse(code)
    places = [(c, _passed(c)) for c in ast.walk(main) if isinstance(c, ast.Call)]
    while True:
        kept = _reachable(main, definitions)
        trees = [main, *(definitions[n] for n in kept)]
        changed = [_bind(definitions[n], trees) for n in kept if isinstance(definitions[n], (ast.FunctionDef, ast.ClassDef))]
        for name in kept:
            definitions[name] = ast.fix_missing_locations(_Fold().visit(definitions[name]))
        changed.append(_inline(definitions, kept, trees))
        if not any(changed):
            return _patched(code, places), [definitions[n] for n in _reachable(main, definitions)]


def _inline(definitions: dict[str, ast.stmt], kept: list[str], trees: list[ast.AST]) -> bool:
    """Calls of functions that have become one constant are that constant; whether there were any."""
    constants = {n: c for n in kept if (c := _only_constant(definitions[n])) is not None}
    for tree in trees if constants else []:
        _InlineCalls(constants).visit(tree)
    for name in constants:
        del definitions[name]
    return bool(constants)


def _only_constant(definition: ast.stmt) -> ast.AST | None:
    if not isinstance(definition, ast.FunctionDef) or definition.args.args:
        return None
    body = [s for s in definition.body if not isinstance(s, ast.Expr)]
    single = body[0] if len(body) == 1 else None
    return single.value if isinstance(single, ast.Return) and _constant(single.value) else None


def _passed(call: ast.Call) -> int:
    return len(call.args) + len(call.keywords)


def _patched(code: str, places: list[tuple[ast.Call, int]]) -> str:
    """``code`` with the calls rewritten that lost arguments; all else stays as it is written."""
    lines = code.splitlines()
    changed = [call for call, before in places if _passed(call) != before]
    outer = [c for c in changed if not any(c is not o and c in ast.walk(o) for o in changed)]
    for call in sorted(outer, key=lambda c: (c.lineno, c.col_offset), reverse=True):
        line = lines[call.lineno - 1]
        lines[call.lineno - 1] = line[: call.col_offset] + ast.unparse(call) + line[call.end_col_offset :]
    return "\n".join(lines)


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
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _bind(definition: ast.stmt, trees: Iterable[ast.AST]) -> bool:
    """Replaces parameters that always have one constant value; whether there were any."""
    function = _constructor(definition) if isinstance(definition, ast.ClassDef) else definition
    if not isinstance(function, ast.FunctionDef) or function.args.vararg or _escapes(definition, trees):
        return False
    offset = 1 if isinstance(definition, ast.ClassDef) else 0
    calls = [c for t in trees for c in ast.walk(t) if _calls(c, definition.name)]  # type: ignore[attr-defined]
    values = {a.arg: _value(function, i, a.arg, calls, offset) for i, a in enumerate(function.args.args) if i >= offset}
    fixed = {n: v for n, v in values.items() if isinstance(v, ast.AST)}
    if not fixed or not calls:
        return False
    for call in calls:
        _drop_arguments(call, function, fixed, offset)
    _drop_parameters(function, fixed)
    target = definition if isinstance(definition, ast.ClassDef) else function
    if isinstance(definition, ast.ClassDef):
        _bind_attributes(definition, function, fixed)
    _Replace(fixed).visit(function)
    ast.fix_missing_locations(target)
    return True


def _constructor(definition: ast.ClassDef) -> ast.FunctionDef | None:
    return next((d for d in definition.body if isinstance(d, ast.FunctionDef) and d.name == "__init__"), None)


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _escapes(definition: Any, trees: Iterable[ast.AST]) -> bool:
    """Whether the function is used as a value, so that its calls are not all known."""
    uses = sum(isinstance(n, ast.Name) and n.id == definition.name for t in trees for n in ast.walk(t))
    calls = sum(_calls(n, definition.name) for t in trees for n in ast.walk(t))
    checks = sum(_is_check(n, definition.name) for t in trees for n in ast.walk(t))
    return uses != calls + checks


def _is_check(node: ast.AST, name: str) -> bool:
    """isinstance(x, Name) is a use that needs no arguments."""
    second = node.args[1] if _calls(node, "isinstance") and len(node.args) == 2 else None  # type: ignore[attr-defined]
    return isinstance(second, ast.Name) and second.id == name


def _value(function: ast.FunctionDef, i: int, name: str, calls: list[Any], offset: int) -> Any:
    """The constant that a parameter has in every call, or None."""
    given = [_given(call, i - offset, name) for call in calls]
    default = _default(function, i)
    given = [default if g is MISSING else g for g in given]
    texts = {ast.dump(g) if isinstance(g, ast.AST) else str(g) for g in given}
    first = given[0] if given else None
    if len(texts) != 1 or not _constant(first):
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


def _constant(node: Any) -> bool:
    if isinstance(node, ast.Dict):
        return all(_constant(v) for v in node.values) and all(_constant(k) for k in node.keys)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _constant(node.operand)
    return isinstance(node, ast.Constant)


def _drop_arguments(call: ast.Call, function: ast.FunctionDef, fixed: dict[str, Any], offset: int) -> None:
    parameters = [a.arg for a in function.args.args[offset:]]
    call.args = [a for name, a in zip(parameters, call.args) if name not in fixed]
    call.keywords = [k for k in call.keywords if k.arg not in fixed]


def _drop_parameters(function: ast.FunctionDef, fixed: dict[str, Any]) -> None:
    args = function.args
    first = len(args.args) - len(args.defaults)
    defaults = {a.arg: args.defaults[i - first] for i, a in enumerate(args.args) if i >= first}
    args.args = [a for a in args.args if a.arg not in fixed]
    args.defaults = [defaults[a.arg] for a in args.args if a.arg in defaults]


def _bind_attributes(definition: ast.ClassDef, init: ast.FunctionDef, fixed: dict[str, Any]) -> None:
    """``self.x = x`` of a fixed x: every read of self.x becomes the constant."""
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
            if constant and not _assigned(definition, attribute, init):
                found[attribute] = fixed[value.id]
            else:
                left.append((attribute, value))
        body += _assign(left)
    init.body = body
    _ReplaceSelf(found).visit(definition)


def _pairs(statement: ast.stmt) -> list[tuple[str, Any]] | None:
    """(attribute, value) of `self.a, self.b = x, y`; None for anything else."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    targets = target.elts if both else [target]  # type: ignore[attr-defined]
    values = value.elts if both else [value]  # type: ignore[attr-defined]
    attributes = [t.attr for t in targets if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name)]
    return list(zip(attributes, values)) if len(attributes) == len(targets) else None


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
        for n in ast.walk(m)
    )


class _Replace(ast.NodeTransformer):
    """Names by constants."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> Any:
        return self.values[node.id] if node.id in self.values and isinstance(node.ctx, ast.Load) else node


class _ReplaceSelf(_Replace):
    """Attributes of self by constants."""

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        own = isinstance(node.value, ast.Name) and node.value.id == "self" and isinstance(node.ctx, ast.Load)
        return self.values[node.attr] if own and node.attr in self.values else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        return node


class _InlineCalls(_Replace):
    """Calls without arguments by constants."""

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        known = isinstance(node.func, ast.Name) and node.func.id in self.values and not node.args
        return self.values[node.func.id] if known else node  # type: ignore[attr-defined]

    def visit_Name(self, node: ast.Name) -> Any:
        return node


class _Fold(ast.NodeTransformer):
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
        if len(node.ops) != 1 or not (_constant(node.left) and _constant(node.comparators[0])):
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

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        return _item(node.value, node.slice, node) if isinstance(node.value, ast.Dict) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        node.body = _until_return(node.body)
        _inline_constants(node)
        return node


def _truth(node: Any) -> bool | None:
    if isinstance(node, ast.Dict) and _constant(node):
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
    return ast.Constant({ast.Lt: left < right, ast.LtE: left <= right, ast.Gt: left > right, ast.GtE: left >= right}[op])


def _item(mapping: ast.Dict, key: Any, default: Any) -> Any:
    for k, v in zip(mapping.keys, mapping.values):
        if isinstance(k, ast.Constant) and isinstance(key, ast.Constant) and k.value == key.value:
            return v
    return default


def _until_return(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements behind a return never run."""
    for i, statement in enumerate(body):
        if isinstance(statement, (ast.Return, ast.Raise)):
            return body[: i + 1]
    return body


def _inline_constants(function: ast.FunctionDef) -> None:
    """A local that is set once, to a constant, is replaced by it."""
    stores = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
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
        _Replace(found).visit(function)
