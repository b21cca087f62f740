"""The value of a syntax tree: numbers, symbolic sizes, and what config values hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from dsvgraph import dims
from dsvgraph.codes import Code
from dsvgraph.dims import Poly
from dsvgraph.errors import Fault
from dsvgraph.expr.syntax import COMPARISONS, MAX_MAGNITUDE, Expr

MAX_POWER = 64
MAX_TERMS = 100  # of a symbolic size

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "cos": math.cos,
    "floor": math.floor,
    "ceil": math.ceil,
    "int": int,
}


def evaluate(tree: Expr, lookup: Callable[[str], Any]) -> Any:
    """Return the value of ``tree``, names answered by ``lookup``; raise ValueError in plain words."""
    if tree.op == "number":
        return tree.args[0]
    if tree.op == "name":
        return lookup(tree.args[0])
    if tree.op == "if":
        value, test, other = tree.args
        return evaluate(value if _truth(evaluate(test, lookup)) else other, lookup)
    if tree.op in ("field", "item"):
        return _member(evaluate(tree.args[0], lookup), tree, lookup)
    if tree.op in ("and", "or"):
        left = _truth(evaluate(tree.args[0], lookup))
        return left if left == (tree.op == "or") else _truth(evaluate(tree.args[1], lookup))
    function = [tree.args[0]] if tree.op == "call" else []
    operands = [evaluate(a, lookup) for a in tree.args[len(function) :]]
    return _apply(function[0] if function else tree.op, operands)


def _truth(value: Any) -> bool:
    if isinstance(value, Poly):
        raise Fault(Code.NO_RESULT, f"`{value}` is symbolic here, so it can decide nothing", about=[value])
    if isinstance(value, str) or value != value:
        raise Fault(Code.NO_RESULT, f"`{value}` is neither true nor false")
    return bool(value)


def _member(value: Any, tree: Expr, lookup: Callable[[str], Any]) -> Any:
    if tree.op == "field":
        if not isinstance(value, Mapping) or tree.args[1] not in value:
            raise Fault(Code.NO_MEMBER, f"there is no field `{tree.args[1]}`")
        return value[tree.args[1]]
    index = evaluate(tree.args[1], lookup)
    if not isinstance(value, (list, tuple)) or not isinstance(index, int) or not 0 <= index < len(value):
        raise Fault(Code.NO_MEMBER, f"there is no item {index}")
    return value[index]


def _apply(op: str, operands: list[Any]) -> Any:
    if op not in ("==", "!="):
        for value in operands:
            if not isinstance(value, (int, float, Poly, Fraction)):
                raise Fault(Code.NO_RESULT, f"a number is expected, found `{_shown(value)}`")
    if any(isinstance(value, float) and math.isnan(value) for value in operands):
        return _unknown(op)
    result: Any
    try:
        result = OPERATIONS[op](*operands)
    except ZeroDivisionError:
        raise Fault(Code.NO_RESULT, "division by zero") from None
    except ValueError as error:
        if isinstance(error, Fault) or op not in FUNCTIONS:
            raise
        shown = ", ".join(map(str, operands))
        raise Fault(Code.NO_RESULT, f"`{op}` of {shown} is no real number") from None
    except (OverflowError, TypeError) as error:
        raise Fault(Code.NO_RESULT, f"`{op}` cannot be computed here ({error})") from None
    if isinstance(result, Poly):
        _check_size(result)
    elif isinstance(result, (int, float)) and not -MAX_MAGNITUDE <= result <= MAX_MAGNITUDE and result == result:
        raise Fault(Code.NUMBER_LIMIT, f"a number is at most 1e30 in magnitude, `{op}` gives a larger one")
    return result


def _unknown(op: str) -> float:
    """Return what depends on a number that is not known yet is not known either, and decides nothing."""
    if op in COMPARISONS or op == "not":
        raise Fault(Code.NO_RESULT, "a number that is symbolic here can decide nothing")
    return math.nan


def _check_size(size: Poly) -> None:
    degree = max(sum(abs(power) for _, power in monomial) for monomial in size.terms)
    if len(size.terms) > MAX_TERMS or degree > MAX_POWER:
        raise Fault(Code.NUMBER_LIMIT, f"a symbolic size has at most {MAX_TERMS} terms of degree {MAX_POWER}")
    if any(abs(Fraction(c)) > MAX_MAGNITUDE for c in size.terms.values()):
        raise Fault(Code.NUMBER_LIMIT, "a number is at most 1e30 in magnitude, a factor here is larger")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return math.nan if isinstance(a, Poly) or isinstance(b, Poly) else a / b
    if isinstance(a, Poly) or isinstance(b, Poly):
        return dims.divide(a, b)
    return a // b if a % b == 0 else a / b


def _power(a: Any, b: Any) -> Any:
    if isinstance(b, Poly):
        raise Fault(Code.NO_RESULT, "an exponent must be a number", about=[b])
    if abs(b) > MAX_POWER:
        raise Fault(Code.NUMBER_LIMIT, f"an exponent is at most {MAX_POWER}, found {b}")
    if isinstance(a, Poly):
        return _symbolic_power(a, b) if isinstance(b, int) and b >= 0 else math.nan
    if abs(a) > MAX_MAGNITUDE:
        raise Fault(Code.NUMBER_LIMIT, "the base of a power is at most 1e30")
    if isinstance(a, int) and isinstance(b, int) and b >= 0:
        return _bounded_power(a, b)
    result = float(a) ** b
    if isinstance(result, complex):
        raise Fault(Code.NO_RESULT, f"{a} has no real power {b}")
    return result


def _symbolic_power(a: Poly, b: int) -> Any:
    if math.comb(len(a.terms) + b - 1, b) > MAX_TERMS:
        raise Fault(Code.NUMBER_LIMIT, f"a symbolic size has at most {MAX_TERMS} terms, `**` gives more")
    return a**b


def _bounded_power(a: int, b: int) -> int:
    if abs(a) > 1 and b * math.log10(abs(a)) > 30:
        raise Fault(Code.NUMBER_LIMIT, "a number is at most 1e30 in magnitude, `**` gives a larger one")
    return int(a**b)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``function``, where a float meeting a symbolic size gives a number not known yet."""

    def apply(a: Any, b: Any) -> Any:
        mixed = {type(a), type(b)} == {float, Poly}
        return math.nan if mixed else function(a, b)

    return apply


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*operands: Any) -> Any:
        return math.nan if any(isinstance(v, Poly) for v in operands) else function(*operands)

    return apply


def _compare(function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(a: Any, b: Any) -> bool:
        if isinstance(a, Poly) or isinstance(b, Poly):
            if a == b:
                return function(0, 0)
            raise Fault(Code.NO_RESULT, f"`{a}` and `{b}` cannot be compared while one is symbolic", about=[a, b])
        return function(a, b)

    return apply


OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": _arithmetic(lambda a, b: a + b),
    "-": _arithmetic(lambda a, b: a - b),
    "*": _arithmetic(lambda a, b: a * b),
    "/": _divide,
    "//": lambda a, b: dims.floordiv(a, b) if isinstance(a, Poly) or isinstance(b, Poly) else a // b,
    "%": _on_numbers(lambda a, b: a % b),
    "**": _power,
    "neg": lambda a: -a,
    "pos": lambda a: a,
    "not": lambda a: not _truth(a),
    "<": _compare(lambda a, b: a < b),
    "<=": _compare(lambda a, b: a <= b),
    ">": _compare(lambda a, b: a > b),
    ">=": _compare(lambda a, b: a >= b),
    "==": _compare(lambda a, b: a == b),
    "!=": _compare(lambda a, b: a != b),
    **{name: _on_numbers(f) for name, f in FUNCTIONS.items()},
}
