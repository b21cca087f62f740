"""The primitive ops by name: those of this package, and those that installed packages bring."""

from __future__ import annotations

from dsvgraph.ops import attention, interleaving, joined, pointwise, routing, sequence, weighted
from dsvgraph.ops.base import Op
from dsvgraph.ops.registry import Registry

__all__ = ["OPS", "Op"]


def _defined(module: object) -> list[type[Op]]:
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Op)]
    return [c for c in found if c.op and c.__module__ == module.__name__]  # type: ignore[attr-defined]


OPS = Registry()
for _module in (weighted, sequence, interleaving, attention, pointwise, joined, routing):
    OPS.register(*_defined(_module))
OPS.load()
