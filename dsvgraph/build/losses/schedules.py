"""What a formula may depend on while training goes on: where it has a value, and where it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from dsvgraph import expr
from dsvgraph.codes import Code
from dsvgraph.errors import Fault
from dsvgraph.expr import COMPARISONS, Expr, bounds

MOST_TOKENS = 10**15  # that a schedule must have a value for
MOST_ROWS = 2**26  # of a batch, and positions of a row
TIMES = frozenset(["tokens", "step"])  # what grows while training: tokens seen, steps taken
RANGES = {
    **dict.fromkeys(TIMES, (0, MOST_TOKENS)),
    "B": (1, MOST_ROWS),
    "T": (1, MOST_ROWS),
    "valid": (1, MOST_ROWS**2),
}
MAX_SAMPLES = 80
MAX_PARTS = 12  # of a formula, where the places without a value are looked for


def has_value(key: str, tree: Expr, depths: tuple[int, ...]) -> bool:
    """Return whether formula ``key`` of a loss is proved to have a value at every step of any training."""
    if not tree.names() - {"depth"}:
        return True  # it was evaluated for each depth
    if _is_truth(tree):
        return False
    found = bounds(tree, {**RANGES, "depth": (1, max(1, *depths))})
    return found is not None and (key != "divide" or found[0] > 0)


def _is_truth(tree: Expr) -> bool:
    """Return whether a formula gives true or false at some place, which is no number."""
    if tree.op == "if":
        return _is_truth(tree.args[0]) or _is_truth(tree.args[2])
    return tree.op in ("not", "and", "or", *COMPARISONS) or (tree.op == "number" and isinstance(tree.args[0], bool))


def samples(tree: Expr, name: str, at: Mapping[str, float]) -> list[int]:
    """Return numbers of tokens, or of steps (``name``), where a formula is most likely to have no value: round numbers,
    the constants that it speaks of, and where what it divides by, or takes a root of, changes sign."""
    constants = [int(c) for c in _constants(tree) if 0 <= c <= MOST_TOKENS]
    near = {n + d for n in constants for d in (-1, 0, 1) if 0 <= n + d <= MOST_TOKENS}
    grid = sorted({0, 1, 2, *(10**k for k in range(1, 16)), *sorted(near)[:MAX_SAMPLES]})
    found = set(grid)
    for part in list(_parts(tree, name))[:MAX_PARTS]:
        sign = _sign(part, name, at)
        signs = [sign(tokens) for tokens in grid]
        for i, (a, b) in enumerate(pairwise(signs)):
            if a is not None and b is not None and a != b:
                found.update(_crossing(sign, grid[i], grid[i + 1]))
    return sorted(found)


def _constants(tree: Expr) -> Iterator[float]:
    if tree.op == "number" and isinstance(tree.args[0], (int, float)):
        yield abs(tree.args[0])
    for inner in tree.args:
        if isinstance(inner, Expr):
            yield from _constants(inner)


def _parts(tree: Expr, name: str) -> Iterator[Expr]:
    """Yield what, with ``name`` in it, the formula divides by, or takes a root, a logarithm or a power of."""
    chosen = {"/": 1, "//": 1, "%": 1, "**": 0}.get(tree.op)
    if tree.op == "call" and tree.args[0] in ("sqrt", "log"):
        chosen = 1
    if chosen is not None and name in tree.args[chosen].names():
        yield tree.args[chosen]
    for inner in tree.args:
        if isinstance(inner, Expr):
            yield from _parts(inner, name)


def _sign(part: Expr, counted: str, at: Mapping[str, float]) -> Callable[[int], Any]:
    """Return the sign of a part at a number of tokens, or steps (``counted``); None where it has none."""

    def lookup(name: str, count: int) -> float:
        if name != counted and name not in at:
            raise Fault(Code.NO_VALUE, f"`{name}` is open")
        return count if name == counted else at[name]

    def sign(count: int) -> int | None:
        try:
            value = expr.evaluate(part, lambda name: lookup(name, count))
        except ValueError:
            return None
        return (value > 0) - (value < 0) if isinstance(value, (int, float)) else None

    return sign


def _crossing(sign: Callable[[int], Any], low: int, high: int) -> tuple[int, int]:
    """Two neighbours between which the sign changes."""
    first = sign(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sign(middle) == first else (low, middle)
    return low, high
