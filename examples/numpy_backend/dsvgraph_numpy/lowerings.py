"""One lowering for each op: the numpy expression of its output, from the expressions of its inputs and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Values = dict[str, str]
LOWERINGS: dict[str, Callable[[Any, Values], str]] = {}


def lowers(name: str) -> Callable[[Callable[[Any, Values], str]], Callable[[Any, Values], str]]:
    """Register a lowering of the op ``name``: called with the op and its inputs and weights by port."""

    def register(function: Callable[[Any, Values], str]) -> Callable[[Any, Values], str]:
        LOWERINGS[name] = function
        return function

    return register


@lowers("embedding")
def _embedding(op: Any, of: Values) -> str:
    return f"{of['weight']}[{of['x']}]"


@lowers("linear")
def _linear(op: Any, of: Values) -> str:
    flat = of["x"] if op.contract == 1 else f"flatten({of['x']}, {op.contract})"
    product = f"{flat} @ {of['weight']}.T" + (f" + {of['bias']}" if op.bias else "")
    return product if len(op.out) == 1 else f"unflatten({product}, {[*map(int, op.out)]})"


@lowers("rms_norm")
def _rms_norm(op: Any, of: Values) -> str:
    return f"rms_norm({of['x']}, {of['weight']}, {op.eps})"


@lowers("silu")
def _silu(op: Any, of: Values) -> str:
    return f"silu({of['x']})"


@lowers("add")
def _add(op: Any, of: Values) -> str:
    return " + ".join(of.values())


@lowers("mul")
def _mul(op: Any, of: Values) -> str:
    return " * ".join(of.values())


RUNTIME = '''
def flatten(x, axes):
    """Make one axis of the last ``axes``."""
    return x.reshape(*x.shape[:-axes], -1)


def unflatten(x, sizes):
    """Make axes of ``sizes`` of the last one."""
    return x.reshape(*x.shape[:-1], *sizes)


def rms_norm(x, weight, eps):
    """Scale each vector to unit root mean square, then by the gain."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def silu(x):
    """x * sigmoid(x)."""
    return x / (1 + np.exp(-x))
'''
