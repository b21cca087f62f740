"""Classes of a model in which mixtures of experts run through `mixtures`, recognised by their structure.

A class of experts fits if its input only goes into linear maps, and its result is one, all without biases. Where such
experts stand between `dispatch` and `combine`, and nothing else reads what is sent, the three become one call.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

METHOD = "mixture"


def rewritten(classes: list[ast.stmt]) -> list[ast.stmt]:
    """Return copies of ``classes`` in which mixtures that fit are one call."""
    found = [copy.deepcopy(one) for one in classes]
    definitions = [one for one in found if isinstance(one, ast.ClassDef)]
    fitting = {one.name for one in definitions if _add_method(one)}
    for one in definitions:
        experts = {attribute for attribute, value in _built(one) if _called(value) in fitting}
        for function in _methods(one, "forward"):
            _rewrite(function, experts)
    return found


def _methods(definition: ast.ClassDef, name: str) -> list[ast.FunctionDef]:
    return [one for one in definition.body if isinstance(one, ast.FunctionDef) and one.name == name]


def _built(definition: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield the attributes that the constructor sets, and what to."""
    for function in _methods(definition, "__init__"):
        for line in function.body:
            match line:
                case ast.Assign([ast.Attribute(ast.Name("self"), attribute)], value):
                    yield attribute, value


def _called(value: ast.expr) -> str:
    match value:
        case ast.Call(ast.Name(name)):
            return name
    return ""


# -- experts ------------------------------------------------------------------------------------------


def _add_method(definition: ast.ClassDef) -> bool:
    """Add the method that goes from tokens to what they get back. Return whether the class fits."""
    linear = {name for name, value in _built(definition) if _called(value) == "Linears" and _bias_free(value)}
    forwards = _methods(definition, "forward")
    if [ast.unparse(base) for base in definition.bases] != ["Each"] or len(forwards) != 1:
        return False
    lines = _mixture(forwards[0], linear)
    if lines:
        method = ast.parse(f"def {METHOD}(self, sent, score): pass").body[0]
        assert isinstance(method, ast.FunctionDef)
        method.body = lines
        definition.body.append(method)
    return bool(lines)


def _bias_free(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and len(value.args) == 3 and not value.keywords


def _mixture(forward: ast.FunctionDef, linear: set[str]) -> list[ast.stmt]:
    """Return the lines of the method; none where the class does not fit."""
    _, x, *others = [one.arg for one in forward.args.args]
    *lines, last = [line for line in forward.body if not _is_text(line)]
    first = [line for line in lines if _product(line, x, linear)]
    rest = [line for line in lines if line not in first]
    if others != ["sent"] or not first or x in _loaded(rest) | _loaded([last]) or {"score"} & _names(forward):
        return []
    match last:
        case ast.Return(ast.Call(ast.Attribute(ast.Name("self"), name), [ast.Name(value), ast.Name("sent")], [])):
            if name not in linear:
                return []
            targets = ", ".join(str(_product(line, x, linear)) for line in first)
            weights = ", ".join(f"self.{line.value.func.attr}.weight" for line in first)  # type: ignore[attr-defined]
            begin = f"({targets},) = first_products(sent, {weights})"
            end = f"return last_product(sent, {value}, self.{name}.weight, score)"
            return [*_parsed(begin), *copy.deepcopy(rest), *_parsed(f"def f():\n    {end}")[0].body]  # type: ignore[attr-defined]
    return []


def _product(line: ast.stmt, x: str, linear: set[str]) -> str:
    """Return the name of what a line makes of ``x`` by a linear map; nothing where it does something else."""
    match line:
        case ast.Assign(
            [ast.Name(target)],
            ast.Call(ast.Attribute(ast.Name("self"), name), [ast.Name(source), ast.Name("sent")], []),
        ):
            return target if source == x and name in linear else ""
    return ""


# -- mixtures -----------------------------------------------------------------------------------------


def _rewrite(forward: ast.FunctionDef, experts: set[str]) -> None:
    """Let ``forward`` call the method of its ``experts`` where they fit."""
    for line in list(forward.body):
        match line:
            case ast.Assign(
                [ast.Name(result)],
                ast.Call(
                    ast.Attribute(ast.Name(sent), "_replace"),
                    [],
                    [
                        ast.keyword(
                            "x",
                            ast.Call(
                                ast.Attribute(ast.Name("self"), name),
                                [ast.Attribute(ast.Name(rows), "x"), ast.Name(order)],
                                [],
                            ),
                        )
                    ],
                ),
            ) if sent == rows == order and name in experts:
                _join(forward, line, sent, result, name)


def _join(forward: ast.FunctionDef, line: ast.stmt, sent: str, result: str, name: str) -> None:
    """Replace dispatch, ``line`` and combine by `ordered` and the method of the experts, if nothing else reads them."""
    calls = [one for one in ast.walk(forward) if isinstance(one, ast.Call)]
    sends = [one for one in forward.body if _sends(one, sent)]
    combines = [one for one in calls if _called(one) == "combine" and ast.unparse(one.args[0]) == result]
    loaded = [n.id for n in ast.walk(forward) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    if len(sends) != 1 or len(combines) != 1 or loaded.count(sent) != 3 or loaded.count(result) != 1:
        return
    sends[0].value.func.id = "ordered"  # type: ignore[attr-defined]
    combines[0].func = ast.parse(f"self.{name}.{METHOD}", mode="eval").body
    combines[0].args[0] = ast.Name(sent, ast.Load())
    forward.body.remove(line)


def _sends(line: ast.stmt, name: str) -> bool:
    match line:
        case ast.Assign([ast.Name(target)], ast.Call(ast.Name("dispatch"))):
            return target == name
    return False


# -- trees --------------------------------------------------------------------------------------------


def _parsed(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def _names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _loaded(lines: list[ast.stmt]) -> set[str]:
    return {n.id for line in lines for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
